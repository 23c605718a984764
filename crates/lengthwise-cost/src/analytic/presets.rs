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
/// | `llama-3.1-8b` | as `llama-3-8b` | all | of meta-llama/Llama-3.1-8B |
/// | `llama-3.1-70b` | as `llama-3-70b` | all | of meta-llama/Llama-3.1-70B |
/// | `qwen2.5-7b` | 28, 3584, 28 / 4, 18944, 152064 | all | of Qwen/Qwen2.5-7B |
/// | `qwen2.5-32b` | 64, 5120, 40 / 8, 27648, 152064 | all | of Qwen/Qwen2.5-32B |
/// | `qwen3-8b` | 36, 4096, 32 / 8, 12288, 151936 | all | of Qwen/Qwen3-8B |
/// | `qwen3-32b` | 64, 5120, 64 / 8, 25600, 151936 | all | of Qwen/Qwen3-32B |
/// | `mistral-7b` | 32, 4096, 32 / 8, 14336, 32768 | all | of mistralai/Mistral-7B-v0.3 |
/// | `smollm2-135m` | 30, 576, 9 / 3, 1536, 49152 | all | of HuggingFaceTB/SmolLM2-135M |
/// | `smollm2-360m` | 32, 960, 15 / 5, 2560, 49152 | all | of HuggingFaceTB/SmolLM2-360M |
/// | `smollm2-1.7b` | 24, 2048, 32 / 32, 8192, 49152 | all | of HuggingFaceTB/SmolLM2-1.7B |
///
/// The three GPTs have dropout, biases, and a table of as many positions as the context is long. Qwen2.5 has biases of
/// queries, keys and values; Qwen3 norms queries and keys in heads 128 wide, and SmolLM2 ties its embeddings. Attention
/// is over the whole sequence in all of them: Mistral 7B had a window of 4,096 tokens until v0.2.
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
    /// Llama 3.1, 8B.
    Llama31With8B,
    /// Llama 3.1, 70B.
    Llama31With70B,
    /// Qwen2.5, 7B.
    Qwen25With7B,
    /// Qwen2.5, 32B.
    Qwen25With32B,
    /// Qwen3, 8B.
    Qwen3With8B,
    /// Qwen3, 32B.
    Qwen3With32B,
    /// Mistral 7B.
    Mistral7B,
    /// SmolLM2, 135M.
    SmolLm2With135M,
    /// SmolLM2, 360M.
    SmolLm2With360M,
    /// SmolLM2, 1.7B.
    SmolLm2With1700M,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [ModelKind; 17] = [
        ModelKind::Gpt7B,
        ModelKind::Gpt13B,
        ModelKind::Gpt30B,
        ModelKind::Llama2With7B,
        ModelKind::Llama2With13B,
        ModelKind::Llama3With8B,
        ModelKind::Llama3With70B,
        ModelKind::Llama31With8B,
        ModelKind::Llama31With70B,
        ModelKind::Qwen25With7B,
        ModelKind::Qwen25With32B,
        ModelKind::Qwen3With8B,
        ModelKind::Qwen3With32B,
        ModelKind::Mistral7B,
        ModelKind::SmolLm2With135M,
        ModelKind::SmolLm2With360M,
        ModelKind::SmolLm2With1700M,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            ModelKind::Gpt7B => "gpt-7b",
            ModelKind::Gpt13B => "gpt-13b",
            ModelKind::Gpt30B => "gpt-30b",
            ModelKind::Llama2With7B => "llama-2-7b",
            ModelKind::Llama2With13B => "llama-2-13b",
            ModelKind::Llama3With8B => "llama-3-8b",
            ModelKind::Llama3With70B => "llama-3-70b",
            ModelKind::Llama31With8B => "llama-3.1-8b",
            ModelKind::Llama31With70B => "llama-3.1-70b",
            ModelKind::Qwen25With7B => "qwen2.5-7b",
            ModelKind::Qwen25With32B => "qwen2.5-32b",
            ModelKind::Qwen3With8B => "qwen3-8b",
            ModelKind::Qwen3With32B => "qwen3-32b",
            ModelKind::Mistral7B => "mistral-7b",
            ModelKind::SmolLm2With135M => "smollm2-135m",
            ModelKind::SmolLm2With360M => "smollm2-360m",
            ModelKind::SmolLm2With1700M => "smollm2-1.7b",
        }
    }

    /// The names of all, as a list to read.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its dimensions, for sequences up to `context` tokens.
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
            qk_norm: false,
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
            qk_norm: false,
            learned_positions: 0,
            dropout: false,
            data_type: DataType::Bf16,
            recomputation: Recomputation::Full,
        };
        let qwen25 = |llama: Architecture| Architecture {
            biases: Biases::Qkv,
            ..llama
        };
        let qwen3 = |llama: Architecture| Architecture {
            head_dim: 128,
            qk_norm: true,
            ..llama
        };
        let smollm2 = |llama: Architecture| Architecture {
            tied_embeddings: true,
            ..llama
        };
        match self {
            ModelKind::Gpt7B => gpt(32, 4096, 12, 0),
            ModelKind::Gpt13B => gpt(40, 5120, 40, 0),
            ModelKind::Gpt30B => gpt(60, 6656, 60, 48),
            ModelKind::Llama2With7B => llama(32, 4096, (32, 32), 11008, 32000),
            ModelKind::Llama2With13B => llama(40, 5120, (40, 40), 13824, 32000),
            ModelKind::Llama3With8B | ModelKind::Llama31With8B => {
                llama(32, 4096, (32, 8), 14336, 128_256)
            }
            ModelKind::Llama3With70B | ModelKind::Llama31With70B => {
                llama(80, 8192, (64, 8), 28672, 128_256)
            }
            ModelKind::Qwen25With7B => qwen25(llama(28, 3584, (28, 4), 18944, 152_064)),
            ModelKind::Qwen25With32B => qwen25(llama(64, 5120, (40, 8), 27648, 152_064)),
            ModelKind::Qwen3With8B => qwen3(llama(36, 4096, (32, 8), 12288, 151_936)),
            ModelKind::Qwen3With32B => qwen3(llama(64, 5120, (64, 8), 25600, 151_936)),
            ModelKind::Mistral7B => llama(32, 4096, (32, 8), 14336, 32768),
            ModelKind::SmolLm2With135M => smollm2(llama(30, 576, (9, 3), 1536, 49152)),
            ModelKind::SmolLm2With360M => smollm2(llama(32, 960, (15, 5), 2560, 49152)),
            ModelKind::SmolLm2With1700M => smollm2(llama(24, 2048, (32, 32), 8192, 49152)),
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
            (ModelKind::Llama31With8B, 131_072, 8_030_261_248.0),
            (ModelKind::Llama31With70B, 131_072, 70_553_706_496.0),
            (ModelKind::Qwen3With8B, 40960, 8_190_735_360.0),
            (ModelKind::Qwen3With32B, 40960, 32_762_123_264.0),
            (ModelKind::Mistral7B, 32768, 7_248_023_552.0),
            (ModelKind::SmolLm2With135M, 8192, 134_515_008.0),
            (ModelKind::SmolLm2With360M, 8192, 361_821_120.0),
            (ModelKind::SmolLm2With1700M, 8192, 1_711_376_384.0),
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

    #[test]
    fn a_file_can_describe_every_part_of_a_known_model() {
        let file = r#"
            name = "qwen3-32b"
            num_layers = 64
            hidden = 5120
            num_heads = 64
            num_kv_heads = 8
            head_dim = 128
            ffn = 25600
            vocabulary = 151936
            qk_norm = true
        "#;
        let qwen3 = ModelKind::Qwen3With32B.architecture(40960);
        assert_eq!(Architecture::from_toml(file).unwrap(), qwen3);
    }
}
