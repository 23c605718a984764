//! The shape of the decoder.

use thiserror::Error;

/// The shape of a LLaMA-style decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Ids the embedding knows.
    pub vocab: usize,
    /// Features of a token between layers.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads; each has `hidden / heads` features.
    pub heads: usize,
    /// Key/value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features inside the MLP.
    pub ffn: usize,
    /// Base of the rotary position embedding's wavelengths.
    pub rope_theta: f32,
    /// Added to the mean square under the root of RMSNorm.
    pub norm_epsilon: f32,
    /// Whether the output projection is the embedding table.
    pub tied_output: bool,
}

/// A shape no decoder can have.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A size of zero.
    #[error("{key} is 0; it must be at least 1")]
    Zero {
        /// The field.
        key: &'static str,
    },
    /// Features that can't be shared out equally.
    #[error("{key} = {value} is not a multiple of {divisor_key} = {divisor}")]
    NotAMultiple {
        /// The field to divide.
        key: &'static str,
        /// Its value.
        value: usize,
        /// The field to divide by.
        divisor_key: &'static str,
        /// Its value.
        divisor: usize,
    },
    /// Rotary embedding pairs features.
    #[error(
        "hidden / heads = {head_dim} features a head is odd; rotary embedding needs an even number"
    )]
    OddHead {
        /// Features of a head.
        head_dim: usize,
    },
    /// A constant that must be positive.
    #[error("{key} = {value} must be a finite number above 0")]
    NotPositive {
        /// The field.
        key: &'static str,
        /// Its value.
        value: f32,
    },
    /// More parameters than can be counted.
    #[error("the model has too many parameters to count; the largest size is {key} = {value}")]
    TooLarge {
        /// The largest field.
        key: &'static str,
        /// Its value.
        value: usize,
    },
}

impl ModelConfig {
    /// Checks that the shape is one a decoder can have.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, naming the fields.
    pub fn check(&self) -> Result<(), ModelError> {
        let sizes = [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("ffn", self.ffn),
        ];
        if let Some(&(key, _)) = sizes.iter().find(|&&(_, value)| value == 0) {
            return Err(ModelError::Zero { key });
        }
        let multiple = |key, value: usize, divisor_key, divisor: usize| {
            if value.is_multiple_of(divisor) {
                Ok(())
            } else {
                Err(ModelError::NotAMultiple {
                    key,
                    value,
                    divisor_key,
                    divisor,
                })
            }
        };
        multiple("hidden", self.hidden, "heads", self.heads)?;
        multiple("heads", self.heads, "kv_heads", self.kv_heads)?;
        if !self.head_dim().is_multiple_of(2) {
            return Err(ModelError::OddHead {
                head_dim: self.head_dim(),
            });
        }
        for (key, value) in [
            ("rope_theta", self.rope_theta),
            ("norm_epsilon", self.norm_epsilon),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::NotPositive { key, value });
            }
        }
        // Byte counts are products of at most three sizes and small factors.
        const LARGEST: usize = 1 << 20;
        match sizes.iter().max_by_key(|&&(_, value)| value) {
            Some(&(key, value)) if value > LARGEST => Err(ModelError::TooLarge { key, value }),
            _ => Ok(()),
        }
    }

    /// Features of a head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ModelConfig {
        ModelConfig {
            vocab: 257,
            hidden: 64,
            layers: 2,
            heads: 8,
            kv_heads: 4,
            ffn: 96,
            rope_theta: 1e4,
            norm_epsilon: 1e-5,
            tied_output: false,
        }
    }

    #[test]
    fn a_shape_that_no_decoder_can_have_is_named() {
        assert_eq!(config().check(), Ok(()));
        let messages = [
            ModelConfig { ffn: 0, ..config() },
            ModelConfig {
                hidden: 60,
                ..config()
            },
            ModelConfig {
                kv_heads: 3,
                ..config()
            },
            ModelConfig {
                hidden: 8,
                ..config()
            },
            ModelConfig {
                rope_theta: f32::NAN,
                ..config()
            },
            ModelConfig {
                vocab: 1 << 30,
                ..config()
            },
        ]
        .map(|config| config.check().unwrap_err().to_string());
        insta::assert_snapshot!(messages.join("\n"), @r"
        ffn is 0; it must be at least 1
        hidden = 60 is not a multiple of heads = 8
        heads = 8 is not a multiple of kv_heads = 3
        hidden / heads = 1 features a head is odd; rotary embedding needs an even number
        rope_theta = NaN must be a finite number above 0
        the model has too many parameters to count; the largest size is vocab = 1073741824
        ");
    }
}
