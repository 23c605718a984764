//! The shape of the decoder.

use std::collections::BTreeSet;
use std::num::NonZero;

use thiserror::Error;

use super::Rope;

/// The shape of a LLaMA-style decoder: RMSNorm, RoPE, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Ids the embedding knows.
    pub vocab: usize,
    /// Features of a token between layers.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, each shared by `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features of a head; most models have `hidden / heads`.
    pub head_dim: usize,
    /// Features inside the MLP.
    pub ffn: usize,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Added to the mean square under the root of RMSNorm.
    pub norm_epsilon: f64,
    /// Whether the output projection is the embedding table.
    pub tied_output: bool,
    /// Differences from a plain LLaMA.
    pub family: Family,
}

/// The published families of decoders, by what sets each apart from a plain LLaMA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    /// LLaMA 2 and 3, SmolLM2.
    Llama {
        /// Whether all four linear maps of attention have biases.
        attention_bias: bool,
        /// Whether all three linear maps of the MLP have biases.
        mlp_bias: bool,
    },
    /// Mistral.
    Mistral {
        /// The window of every layer's attention, in tokens; `None` to attend to all tokens before.
        window: Option<NonZero<u32>>,
    },
    /// Qwen2 and Qwen2.5: queries, keys and values have biases.
    Qwen2 {
        /// Layers with windows.
        window: Option<SlidingWindow>,
    },
    /// Qwen3: each head's queries and keys have a norm.
    Qwen3 {
        /// Whether all four linear maps of attention have biases.
        attention_bias: bool,
        /// Layers with windows.
        window: Option<SlidingWindow>,
    },
}

/// Layers in which a token attends only to the nearest tokens before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// The tokens attended to, the token itself included.
    pub tokens: NonZero<u32>,
    /// The layers, counted from 0.
    pub layers: BTreeSet<usize>,
}

impl Family {
    /// A plain LLaMA.
    pub const LLAMA: Family = Family::Llama {
        attention_bias: false,
        mlp_bias: false,
    };
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
    #[error("a head of width {head_dim} is odd; rotary embedding needs an even width")]
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
        value: f64,
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
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
        ];
        if let Some(&(key, _)) = sizes.iter().find(|&&(_, value)| value == 0) {
            return Err(ModelError::Zero { key });
        }
        multiple("heads", self.heads, "kv_heads", self.kv_heads)?;
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::OddHead {
                head_dim: self.head_dim,
            });
        }
        for (key, value) in [
            ("rope_theta", self.rope.theta),
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

    /// The features that each of `heads` gets of `hidden`.
    ///
    /// # Errors
    ///
    /// They can't be shared out equally.
    pub fn divided_head_dim(hidden: usize, heads: usize) -> Result<usize, ModelError> {
        if heads == 0 {
            return Err(ModelError::Zero { key: "heads" });
        }
        multiple("hidden", hidden, "heads", heads)?;
        Ok(hidden / heads)
    }

    /// Features of all query heads together.
    pub fn query_features(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of all keys, or of all values.
    pub fn kv_features(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Whether the maps to queries, keys and values have biases.
    pub fn has_qkv_biases(&self) -> bool {
        matches!(self.family, Family::Qwen2 { .. }) || self.has_attention_output_bias()
    }

    /// Whether the map behind attention has a bias.
    pub fn has_attention_output_bias(&self) -> bool {
        match self.family {
            Family::Llama { attention_bias, .. } | Family::Qwen3 { attention_bias, .. } => {
                attention_bias
            }
            Family::Mistral { .. } | Family::Qwen2 { .. } => false,
        }
    }

    /// Whether the maps of the MLP have biases.
    pub fn has_mlp_biases(&self) -> bool {
        matches!(self.family, Family::Llama { mlp_bias: true, .. })
    }

    /// Whether each head's queries and keys have a norm.
    pub fn has_qk_norms(&self) -> bool {
        matches!(self.family, Family::Qwen3 { .. })
    }

    /// The number of tokens that a token of `layer` attends to, itself included; `None` for all before it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let tokens = match &self.family {
            Family::Llama { .. } => None,
            Family::Mistral { window } => *window,
            Family::Qwen2 { window } | Family::Qwen3 { window, .. } => window
                .as_ref()
                .filter(|window| window.layers.contains(&layer))
                .map(|window| window.tokens),
        };
        tokens.map(|tokens| tokens.get() as usize)
    }
}

fn multiple(
    key: &'static str,
    value: usize,
    divisor_key: &'static str,
    divisor: usize,
) -> Result<(), ModelError> {
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
            head_dim: 8,
            rope: Rope::plain(1e4),
            norm_epsilon: 1e-5,
            tied_output: false,
            family: Family::LLAMA,
        }
    }

    #[test]
    fn a_shape_that_no_decoder_can_have_is_named() {
        assert_eq!(config().check(), Ok(()));
        let messages = [
            ModelConfig { ffn: 0, ..config() },
            ModelConfig {
                kv_heads: 3,
                ..config()
            },
            ModelConfig {
                head_dim: 1,
                ..config()
            },
            ModelConfig {
                rope: Rope::plain(f64::NAN),
                ..config()
            },
            ModelConfig {
                vocab: 1 << 30,
                ..config()
            },
        ]
        .map(|config| config.check().unwrap_err().to_string());
        let undivided = ModelConfig::divided_head_dim(60, 8).unwrap_err();
        assert_eq!(
            undivided.to_string(),
            "hidden = 60 is not a multiple of heads = 8"
        );
        insta::assert_snapshot!(messages.join("\n"), @r"
        ffn is 0; it must be at least 1
        heads = 8 is not a multiple of kv_heads = 3
        a head of width 1 is odd; rotary embedding needs an even width
        rope_theta = NaN must be a finite number above 0
        the model has too many parameters to count; the largest size is vocab = 1073741824
        ");
    }
}
