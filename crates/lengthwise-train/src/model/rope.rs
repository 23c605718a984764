//! Rotary position embedding, plain or scaled for longer contexts, as transformers computes it.

use std::f64::consts::TAU;

use lengthwise_tensor::Rotation;

/// The frequencies by which positions turn pairs of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Their change for contexts longer than those of the first training.
    pub scaling: RopeScaling,
}

/// The change of wavelengths for contexts longer than those of the first training.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by a factor (Chen et al., 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Long wavelengths grow by a factor, short ones stay, those in between are blended (Llama 3.1).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above the original context divided by this grow.
        low_freq_factor: f64,
        /// Wavelengths below the original context divided by this stay.
        high_freq_factor: f64,
        /// The context of the first training, in tokens.
        original_context: f64,
    },
    /// YaRN (Peng et al., 2023): the same by pairs of features, with sharper attention.
    Yarn {
        /// The factor.
        factor: f64,
        /// Factor on turned queries and keys.
        attention_factor: f64,
        /// Turns within the original context from which on a pair stays as it is.
        beta_fast: f64,
        /// Turns within the original context up to which a pair slows down by the whole factor.
        beta_slow: f64,
        /// The context of the first training, in tokens.
        original_context: f64,
        /// Whether the blend begins and ends at whole pairs.
        truncate: bool,
    },
}

impl Rope {
    /// Without scaling.
    pub const fn plain(theta: f64) -> Self {
        Rope {
            theta,
            scaling: RopeScaling::None,
        }
    }

    /// The rotation of heads with `head_dim` features.
    pub fn rotation(&self, head_dim: usize) -> Rotation {
        let mut rotation = Rotation::plain(head_dim, self.theta);
        match self.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => {
                for frequency in &mut rotation.frequencies {
                    *frequency /= factor;
                }
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                for frequency in &mut rotation.frequencies {
                    let turns = original_context * *frequency / TAU;
                    let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    *frequency = blend(*frequency, factor, kept.clamp(0.0, 1.0));
                }
            }
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_context,
                truncate,
            } => {
                let dim = head_dim as f64;
                // The pair that turns so often within the original context.
                let pair = |turns: f64| {
                    dim * (original_context / (turns * TAU)).ln() / (2.0 * self.theta.ln())
                };
                let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
                if low == high {
                    high += 0.001;
                }
                for (index, frequency) in rotation.frequencies.iter_mut().enumerate() {
                    let slowed = ((index as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency = blend(*frequency, factor, 1.0 - slowed);
                }
                rotation.scale = attention_factor;
            }
        }
        rotation
    }
}

/// A frequency of which the part `kept` stays, and the rest is divided by `factor`.
fn blend(frequency: f64, factor: f64, kept: f64) -> f64 {
    frequency * (kept + (1.0 - kept) / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_changes_the_slow_pairs_and_keeps_the_fast_ones() {
        let plain = Rope::plain(500_000.0).rotation(128);
        for scaling in [
            RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 8192.0,
            },
            RopeScaling::Yarn {
                factor: 8.0,
                attention_factor: 1.2,
                beta_fast: 32.0,
                beta_slow: 1.0,
                original_context: 8192.0,
                truncate: true,
            },
        ] {
            let theta = 500_000.0;
            let scaled = Rope { theta, scaling }.rotation(128);
            let ratios: Vec<f64> = plain
                .frequencies
                .iter()
                .zip(&scaled.frequencies)
                .map(|(plain, scaled)| plain / scaled)
                .collect();
            assert_eq!(ratios[0], 1.0);
            assert!((ratios[63] - 8.0).abs() < 1e-12);
            assert!(ratios.is_sorted(), "{ratios:?}");
            assert!(ratios.iter().any(|&ratio| ratio > 1.1 && ratio < 7.9));
        }
    }
}
