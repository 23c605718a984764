//! Pseudo-random numbers.

/// Xorshift generators of fixed seeds, so that the same input gives the same plan.
pub(crate) struct Random(u64);

impl Random {
    /// The generator of a member of the portfolio.
    pub(crate) fn new(member: usize) -> Self {
        Random(0x9E37_79B9_7F4A_7C15_u64.rotate_left(member as u32))
    }

    /// The next number in 0..1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of `0..num`, which is at least 1.
    pub(crate) fn below(&mut self, num: usize) -> usize {
        ((self.next() * num as f64) as usize).min(num - 1)
    }
}
