//! Freed memory, kept for the next tensor of its size.
//!
//! A training step asks for the same sizes again and again. Fresh pages cost more time than most element-wise
//! operations take to fill them.

use std::collections::VecDeque;

/// Below this many elements the allocator of the process is as fast.
pub(super) const SMALLEST: usize = 4096;

/// Freed allocations, the oldest first.
#[derive(Debug, Default)]
pub(super) struct FreeList {
    freed: VecDeque<Vec<f32>>,
    bytes: u64,
}

impl FreeList {
    pub(super) fn put(&mut self, freed: Vec<f32>) {
        self.bytes += bytes(&freed);
        self.freed.push_back(freed);
    }

    /// The most recent allocation of `len` elements or up to a sixteenth more.
    pub(super) fn take(&mut self, len: usize) -> Option<Vec<f32>> {
        let fits = |freed: &Vec<f32>| (len..=len + len / 16).contains(&freed.len());
        let index = self.freed.iter().rposition(fits)?;
        let taken = self.freed.remove(index)?;
        self.bytes -= bytes(&taken);
        Some(taken)
    }

    /// Gives the oldest back to the system until at most `limit` bytes are kept.
    pub(super) fn shrink_to(&mut self, limit: u64) {
        while self.bytes > limit {
            let Some(oldest) = self.freed.pop_front() else {
                return;
            };
            self.bytes -= bytes(&oldest);
        }
    }
}

fn bytes(allocation: &[f32]) -> u64 {
    size_of_val(allocation) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_allocation_that_nearly_fits_is_taken() {
        let mut list = FreeList::default();
        list.put(vec![1.0; 1600]);
        assert!(list.take(1601).is_none());
        assert!(list.take(1500).is_none());
        assert_eq!(list.take(1550).map(|taken| taken.len()), Some(1600));
        assert!(list.take(1600).is_none());
        assert_eq!(list.bytes, 0);
    }

    #[test]
    fn the_oldest_go_first() {
        let mut list = FreeList::default();
        for len in [100, 200, 300] {
            list.put(vec![0.0; len]);
        }
        list.shrink_to(4 * 500);
        assert!(list.take(100).is_none());
        assert!(list.take(200).is_some());
        list.shrink_to(0);
        assert!(list.take(300).is_none());
    }
}
