//! How fast rotary position embedding turns each pair of features.

/// How fast rotary position embedding turns each pair of a head's features, and what it multiplies them by.
///
/// Features `i` and `i + head_dim / 2` form pair `i`, as in the Hugging Face LLaMA layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    /// Radians by which the next position turns each pair further; half as many as a head has features.
    pub frequencies: Vec<f64>,
    /// Factor on what has been turned: 1, unless scaled positions sharpen attention (YaRN).
    pub scale: f64,
}

impl Rotation {
    /// The rotation of the original method (Su et al., 2021): `theta^(-2 i / head_dim)` for pair `i`.
    pub fn plain(head_dim: usize, theta: f64) -> Self {
        let frequency = |i: usize| theta.powf(-2.0 * i as f64 / head_dim as f64);
        Rotation {
            frequencies: (0..head_dim / 2).map(frequency).collect(),
            scale: 1.0,
        }
    }

    /// The features of a head.
    pub fn head_dim(&self) -> usize {
        2 * self.frequencies.len()
    }
}
