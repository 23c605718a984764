//! Models known by name.

use std::fmt;
use std::str::FromStr;

use super::architecture::{Architecture, Biases, DataType, Recomputation};
use crate::HardwareError;

/// Models known by name.
///
/// | name | layers, hidden, heads / KV heads, FFN, vocabulary | recomputed | source |
/// | --- | --- | --- | --- |
/// | `gpt-7b` | 32, 4096, 64 / 64, 16384, 50257 | MLP of 12 layers | FlexSP's code, as run on 64 devices |
/// | `gpt-13b` | 40, 5120, 64 / 64, 20480, 50257 | all MLPs | the same |
/// | `gpt-30b` | 60, 6656, 64 / 64, 26624, 50257 | all MLPs, attention of 48 layers | the same |
/// | `llama-2-7b` | 32, 4096, 32 / 32, 11008, 32000 | all | `config.json` of meta-llama/Llama-2-7b-hf |
/// | `llama-2-13b` | 40, 5120, 40 / 40, 13824, 32000 | all | of meta-llama/Llama-2-13b-hf |
/// | `llama-3-8b` | 32, 4096, 32 / 8, 14336, 128256 | all | of meta-llama/Meta-Llama-3-8B |
/// | `llama-3-70b` | 80, 8192, 64 / 8, 28672, 128256 | all | of meta-llama/Meta-Llama-3-70B |
/// | `qwen2.5-7b` | 28, 3584, 28 / 4, 18944, 152064 | all | of Qwen/Qwen2.5-7B |
/// | `qwen2.5-32b` | 64, 5120, 40 / 8, 27648, 152064 | all | of Qwen/Qwen2.5-32B |
///
/// The three GPTs have dropout, biases, and a table of as many positions as the context is long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelKind {
    /// GPT, 7B.
    Gpt7B,
    /// GPT, 13B.
    Gpt13B,
    /// GPT, 30B.
    Gpt30B,
    /// Llama 2, 7B.
    Llama2With7B,
    /// Llama 2, 13B.
    Llama2With13B,
    /// Llama 3, 8B.
    Llama3With8B,
    /// Llama 3, 70B.
    Llama3With70B,
    /// Qwen2.5, 7B.
    Qwen25With7B,
    /// Qwen2.5, 32B.
    Qwen25With32B,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 9] = [
        ModelKind::Gpt7B,
        ModelKind::Gpt13B,
        ModelKind::Gpt30B,
        ModelKind::Llama2With7B,
        ModelKind::Llama2With13B,
        ModelKind::Llama3With8B,
        ModelKind::Llama3With70B,
        ModelKind::Qwen25With7B,
        ModelKind::Qwen25With32B,
    ];

    /// What the command line calls it.
    pub const fn name(self) -> &'static str {
        match self {
            ModelKind::Gpt7B => "gpt-7b",
            ModelKind::Gpt13B => "gpt-13b",
            ModelKind::Gpt30B => "gpt-30b",
            ModelKind::Llama2With7B => "llama-2-7b",
            ModelKind::Llama2With13B => "llama-2-13b",
            ModelKind::Llama3With8B => "llama-3-8b",
            ModelKind::Llama3With70B => "llama-3-70b",
            ModelKind::Qwen25With7B => "qwen2.5-7b",
            ModelKind::Qwen25With32B => "qwen2.5-32b",
        }
    }

    /// The names of all, as a list to read.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// What it is made of, for sequences up to `context` tokens.
    pub fn architecture(self, context: u64) -> Architecture {
        let gpt = |num_layers, hidden: u32, mlp_layers, attention_layers| Architecture {
            name: self.name().to_owned(),
            num_layers,
            hidden,
            num_heads: 64,
            num_kv_heads: 64,
            head_dim: hidden / 64,
            ffn: 4 * hidden,
            vocabulary: 50257,
            gated: false,
            tied_embeddings: false,
            biases: Biases::All,
            learned_positions: context,
            dropout: true,
            data_type: DataType::Bf16,
            recomputation: Recomputation::Selective {
                mlp_layers,
                attention_layers,
            },
        };
        let llama = |num_layers, hidden, (num_heads, num_kv_heads), ffn, vocabulary| Architecture {
            name: self.name().to_owned(),
            num_layers,
            hidden,
            num_heads,
            num_kv_heads,
            head_dim: hidden / num_heads,
            ffn,
            vocabulary,
            gated: true,
            tied_embeddings: false,
            biases: Biases::None,
            learned_positions: 0,
            dropout: false,
            data_type: DataType::Bf16,
            recomputation: Recomputation::Full,
        };
        let qwen = |llama: Architecture| Architecture {
            biases: Biases::Qkv,
            ..llama
        };
        match self {
            ModelKind::Gpt7B => gpt(32, 4096, 12, 0),
            ModelKind::Gpt13B => gpt(40, 5120, 40, 0),
            ModelKind::Gpt30B => gpt(60, 6656, 60, 48),
            ModelKind::Llama2With7B => llama(32, 4096, (32, 32), 11008, 32000),
            ModelKind::Llama2With13B => llama(40, 5120, (40, 40), 13824, 32000),
            ModelKind::Llama3With8B => llama(32, 4096, (32, 8), 14336, 128_256),
            ModelKind::Llama3With70B => llama(80, 8192, (64, 8), 28672, 128_256),
            ModelKind::Qwen25With7B => qwen(llama(28, 3584, (28, 4), 18944, 152_064)),
            ModelKind::Qwen25With32B => qwen(llama(64, 5120, (40, 8), 27648, 152_064)),
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ModelKind {
    type Err = HardwareError;

    fn from_str(name: &str) -> Result<Self, HardwareError> {
        let kind = Self::ALL.into_iter().find(|kind| kind.name() == name);
        kind.ok_or_else(|| {
            let rule = format!("the models known by name are {}", Self::names());
            HardwareError::bad("model", format!("{name:?}"), rule)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for kind in ModelKind::ALL {
            assert_eq!(kind.to_string().parse::<ModelKind>().unwrap(), kind);
        }
        assert!("gpt-4".parse::<ModelKind>().is_err());
    }

    #[test]
    fn models_have_as_many_parameters_as_published() {
        // Model cards and safetensors indices; the GPTs' are those of FlexSP's code, in units of 2^30.
        for (kind, context, published) in [
            (ModelKind::Llama2With7B, 4096, 6_738_415_616.0),
            (ModelKind::Llama2With13B, 4096, 13_015_864_320.0),
            (ModelKind::Llama3With8B, 8192, 8_030_261_248.0),
            (ModelKind::Llama3With70B, 8192, 70_553_706_496.0),
            (ModelKind::Qwen25With7B, 32768, 7_615_616_512.0),
            (ModelKind::Qwen25With32B, 32768, 32_763_876_352.0),
        ] {
            let parameters = kind.architecture(context).num_parameters();
            assert_eq!(parameters, published, "{kind}");
        }
        for (kind, context, published) in [
            (ModelKind::Gpt7B, 192_000, 7.1174468994140625),
            (ModelKind::Gpt7B, 384_000, 7.8498687744140625),
            (ModelKind::Gpt13B, 192_000, 13.11605453491211),
            (ModelKind::Gpt13B, 384_000, 14.03158187866211),
            (ModelKind::Gpt30B, 192_000, 31.52513885498047),
            (ModelKind::Gpt30B, 384_000, 32.71532440185547),
        ] {
            let parameters = kind.architecture(context).num_parameters() / (1u64 << 30) as f64;
            assert!(
                (parameters / published - 1.0).abs() < 1e-9,
                "{kind} {parameters}"
            );
        }
    }
}
