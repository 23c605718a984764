//! Whose logits a device holds at once.

use std::fmt;
use std::str::FromStr;

use super::architecture::{Architecture, DataType};
use crate::HardwareError;

/// The tokens of a chunk: those whose logits `lengthwise.torch` holds at once. Liger Kernel's chunks grow with the batch
/// instead, up to as many numbers as the hidden states have.
const CHUNK_TOKENS: u32 = 1024;

/// Whose logits a device holds at once, while the loss and its gradient are computed.
///
/// | | logits, softmax and gradient of | as |
/// | --- | --- | --- |
/// | `whole` | all tokens of the device | a cross-entropy behind the model's output |
/// | `chunked` | 1,024 tokens, whatever the device has | a loss fused with the output's product, as Liger Kernel (arXiv 2410.10989) |
///
/// The same time is predicted for both: as in Liger Kernel, the gradient of a chunk is computed right behind its loss, and
/// nothing twice. `lengthwise.torch` computes a chunk's logits again in the backward, which is not counted.
///
/// ```
/// use lengthwise_cost::Logits;
///
/// assert_eq!("chunked".parse::<Logits>()?, Logits::Chunked);
/// assert_eq!(Logits::default().to_string(), "whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// Those of all its tokens.
    #[default]
    Whole,
    /// Those of a chunk of 1,024 tokens.
    Chunked,
}

impl Logits {
    /// Both.
    pub const ALL: [Self; 2] = [Logits::Whole, Logits::Chunked];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Logits::Whole => "whole",
            Logits::Chunked => "chunked",
        }
    }

    /// Bytes that the output holds for each token of a device.
    ///
    /// In chunks it is the normed input of the output's product and its gradient, which exist for all tokens.
    pub(super) fn bytes_per_token(self, architecture: &Architecture) -> f64 {
        match self {
            Logits::Whole => of_token(architecture),
            Logits::Chunked => {
                2.0 * architecture.data_type.bytes() * f64::from(architecture.hidden)
            }
        }
    }

    /// Bytes that the output holds whatever the tokens of a device; of fewer tokens than a chunk has it is less, which is
    /// not counted.
    pub(super) fn fixed_bytes(self, architecture: &Architecture) -> f64 {
        match self {
            Logits::Whole => 0.0,
            Logits::Chunked => f64::from(CHUNK_TOKENS) * of_token(architecture),
        }
    }
}

/// Bytes of the logits of a token with their softmax and gradient.
fn of_token(architecture: &Architecture) -> f64 {
    let of_each = match architecture.data_type {
        DataType::Bf16 => 16.0,
        DataType::Fp32 => 12.0,
    };
    of_each * f64::from(architecture.vocabulary)
}

impl fmt::Display for Logits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Logits {
    type Err = HardwareError;

    fn from_str(name: &str) -> Result<Self, HardwareError> {
        let known = Self::ALL.into_iter().find(|logits| logits.name() == name);
        known.ok_or_else(|| {
            HardwareError::bad("logits", format!("{name:?}"), "it must be whole or chunked")
        })
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, StrategyKind};

    use super::*;
    use crate::{AnalyticModel, FittedCosts, Hardware, ModelKind, ModelShare};

    /// The costs of Llama 3 8B: 32 layers, hidden 4096, 32 heads of 128, 8 of keys, FFN 14,336, vocabulary 128,256.
    fn costs(logits: Logits, share: ModelShare) -> FittedCosts {
        let architecture = ModelKind::Llama3With8B.architecture(65_536);
        let model = AnalyticModel::new(architecture, Hardware::named("h100-1x8").unwrap());
        model.with_share(share).unwrap().with_logits(logits).costs()
    }

    fn bytes_per_token(costs: &FittedCosts, activations: Activations) -> f64 {
        costs.kinds[&StrategyKind::ulysses(activations)].memory_bytes_per_token[0].1
    }

    #[test]
    fn memory_of_logits_is_what_a_count_by_hand_says() {
        let [whole, chunked] = Logits::ALL.map(|logits| costs(logits, ModelShare::default()));
        let inputs = 32.0 * 2.0 * 4096.0;
        let mlp = 2.0 * (2.0 * 4096.0 + 3.0 * 14_336.0);
        let attention = 2.0 * (2.0 * 4096.0 + 3.0 * 4096.0 + 2.0 * 1024.0) + 4.0 * 32.0;
        let layer = mlp + attention;
        let of_recomputed = |costs| bytes_per_token(costs, Activations::Recompute);
        assert_eq!(of_recomputed(&whole), inputs + 16.0 * 128_256.0);
        assert_eq!(of_recomputed(&chunked), inputs + layer);
        // No layer is computed again, so what is left of the output is the fullest moment.
        let kept = bytes_per_token(&chunked, Activations::Keep);
        assert_eq!(kept, 32.0 * layer + 2.0 * 2.0 * 4096.0);
        let chunk = chunked.fixed_memory_bytes - whole.fixed_memory_bytes;
        assert_eq!(chunk, 1024.0 * 16.0 * 128_256.0);
    }

    #[test]
    fn neighbours_that_share_every_layer_share_a_chunk() {
        let share = ModelShare::new(4, 1).unwrap();
        let [whole, chunked] = Logits::ALL.map(|logits| costs(logits, share));
        let chunk = chunked.fixed_memory_bytes - whole.fixed_memory_bytes;
        assert_eq!(chunk, 256.0 * 16.0 * 128_256.0);
    }

    #[test]
    fn only_memory_depends_on_logits() {
        let [whole, chunked] = Logits::ALL.map(|logits| costs(logits, ModelShare::default()));
        for (kind, of_whole) in &whole.kinds {
            let mut of_chunked = chunked.kinds[kind].clone();
            of_chunked.memory_bytes_per_token = of_whole.memory_bytes_per_token.clone();
            assert_eq!(&of_chunked, of_whole);
        }
        assert_eq!(chunked.micro_batch_overhead_s, whole.micro_batch_overhead_s);
    }

    #[test]
    fn names_survive_a_round_trip() {
        for logits in Logits::ALL {
            assert_eq!(logits.to_string().parse::<Logits>().unwrap(), logits);
        }
        let error = "fused".parse::<Logits>().unwrap_err();
        assert!(error.to_string().contains("whole or chunked"), "{error}");
    }
}
