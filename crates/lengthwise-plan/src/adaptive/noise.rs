//! Numbers without pattern.

/// Fixed sequences of numbers in 0..1 (xorshift), so that the same input gives the same plan.
pub(crate) struct Noise(u64);

impl Noise {
    /// The sequence of a member.
    pub(crate) fn new(member: usize) -> Self {
        Noise(0x9E37_79B9_7F4A_7C15_u64.rotate_left(member as u32))
    }

    /// The next number.
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
