//! Memory asked for before it is read.

/// How many rows ahead a loop over rows asks for memory.
pub(super) const ROWS_AHEAD: usize = 8;

/// Elements of a cache line.
const LINE: usize = 64 / size_of::<f32>();

/// Asks for the `len` elements from `start` on, as far as there are so many.
///
/// Processors foresee a walk through adjacent memory. Heads of a tensor that has several are read in short runs with gaps
/// between, each of which would wait for memory: packing them took a fifth of attention's time in short blocks.
#[inline(always)]
pub(super) fn prefetch(elements: &[f32], start: usize, len: usize) {
    let Some(run) = elements.get(start..start + len) else {
        return;
    };
    #[cfg(target_arch = "x86_64")]
    for line in run.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor of this architecture has the instruction, and the address is one of a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (run, LINE);
}
