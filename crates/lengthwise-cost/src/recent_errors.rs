//! The errors of recent predictions.

use std::collections::VecDeque;

/// So many steps are recent.
const MOST: usize = 16;

/// The relative errors of the last predictions.
#[derive(Clone, Debug, Default)]
pub struct RecentErrors(VecDeque<f64>);

impl RecentErrors {
    /// Adds an error; the median of the sizes of all recent ones.
    pub fn add(&mut self, error: f64) -> f64 {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(error.abs());
        let mut sorted: Vec<f64> = self.0.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_errors_count_and_none_outweighs_the_others() {
        let mut errors = RecentErrors::default();
        assert_eq!(errors.add(-0.5), 0.5);
        assert_eq!(errors.add(0.1), 0.3);
        assert_eq!(errors.add(1e9), 0.5);
        let medians: Vec<f64> = (0..MOST).map(|_| errors.add(0.02)).collect();
        assert_eq!(medians.last(), Some(&0.02));
    }
}
