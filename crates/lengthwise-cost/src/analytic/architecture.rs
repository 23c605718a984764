//! The dimensions of a decoder.

use std::path::Path;

use serde::Deserialize;

use crate::HardwareError;
use crate::text_file::read_text;

/// The type that activations and parameters are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// 16 bits, with optimiser state and a copy of the parameters in single precision.
    #[default]
    Bf16,
    /// Single precision throughout.
    Fp32,
}

impl DataType {
    /// Bytes of a number.
    pub const fn bytes(self) -> f64 {
        match self {
            DataType::Bf16 => 2.0,
            DataType::Fp32 => 4.0,
        }
    }
}

/// The activations that are computed again in the backward instead of kept.
///
/// A layer consists of two modules, attention and MLP, each with the norm before it. A module that is recomputed keeps
/// its input only, and runs its forward twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recomputation {
    /// Everything is kept.
    None,
    /// These modules are recomputed, each in so many of the layers.
    Selective {
        /// Layers whose MLP is recomputed.
        mlp_layers: u32,
        /// Layers whose attention is recomputed.
        attention_layers: u32,
    },
    /// Whole layers: each keeps its input only.
    #[default]
    Full,
}

impl Recomputation {
    /// The part of the layers whose MLP is recomputed, and the part whose attention is.
    pub(super) fn shares(self, num_layers: u32) -> (f64, f64) {
        let share = |layers: u32| f64::from(layers.min(num_layers)) / f64::from(num_layers);
        match self {
            Recomputation::None => (0.0, 0.0),
            Recomputation::Selective {
                mlp_layers,
                attention_layers,
            } => (share(mlp_layers), share(attention_layers)),
            Recomputation::Full => (1.0, 1.0),
        }
    }
}

/// The dimensions of a decoder, as far as its costs depend on them.
///
/// A file may leave out `head_dim` (hidden / num_heads), `gated` (true), `tied_embeddings` (false), `biases` (`"none"`;
/// `"qkv"`, `"all"`), `qk_norm` (false; true where each head's queries and keys have a norm), `learned_positions` (0),
/// `dropout` (false), `data_type` (`"bf16"`; `"fp32"`) and `recomputation` (`"full"`; `"none"`, or selective as below).
///
/// ```
/// let architecture = lengthwise_cost::Architecture::from_toml(r#"
///     name = "mine"
///     num_layers = 24
///     hidden = 2048
///     num_heads = 16
///     num_kv_heads = 4             # num_heads, if left out
///     ffn = 5632
///     vocabulary = 32000
///     recomputation = { selective = { mlp_layers = 24, attention_layers = 0 } }
/// "#)?;
/// assert_eq!(architecture.head_dim(), 128);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    pub(super) name: String,
    pub(super) num_layers: u32,
    pub(super) hidden: u32,
    pub(super) num_heads: u32,
    pub(super) num_kv_heads: u32,
    pub(super) head_dim: u32,
    pub(super) ffn: u32,
    pub(super) vocabulary: u32,
    pub(super) gated: bool,
    pub(super) tied_embeddings: bool,
    pub(super) biases: Biases,
    pub(super) qk_norm: bool,
    pub(super) learned_positions: u64,
    pub(super) dropout: bool,
    pub(super) data_type: DataType,
    pub(super) recomputation: Recomputation,
}

/// Which products add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Biases {
    /// None, and norms have none either.
    #[default]
    None,
    /// Queries, keys and values.
    Qkv,
    /// All of a layer, and its norms.
    All,
}

/// An architecture as it is written, before its values are checked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArchitectureFile {
    name: String,
    num_layers: u32,
    hidden: u32,
    num_heads: u32,
    num_kv_heads: Option<u32>,
    head_dim: Option<u32>,
    ffn: u32,
    vocabulary: u32,
    #[serde(default = "yes")]
    gated: bool,
    #[serde(default)]
    tied_embeddings: bool,
    #[serde(default)]
    biases: Biases,
    #[serde(default)]
    qk_norm: bool,
    #[serde(default)]
    learned_positions: u64,
    #[serde(default)]
    dropout: bool,
    #[serde(default)]
    data_type: DataType,
    #[serde(default)]
    recomputation: Recomputation,
}

fn yes() -> bool {
    true
}

impl Architecture {
    /// Reads a model file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no TOML, lacks or misspells a key, or a value breaks a rule.
    pub fn read(path: &Path) -> Result<Self, HardwareError> {
        let text = read_text(path).map_err(|source| HardwareError::UnreadableModel {
            path: path.to_owned(),
            source,
        })?;
        Self::from_toml(&text)
    }

    /// Reads an architecture from the text of its file.
    ///
    /// # Errors
    ///
    /// The text is no TOML, lacks or misspells a key, or a value breaks a rule.
    pub fn from_toml(text: &str) -> Result<Self, HardwareError> {
        let file: ArchitectureFile = toml::from_str(text).map_err(HardwareError::ModelSyntax)?;
        let architecture = Architecture {
            name: file.name,
            num_layers: file.num_layers,
            hidden: file.hidden,
            num_heads: file.num_heads,
            num_kv_heads: file.num_kv_heads.unwrap_or(file.num_heads),
            head_dim: match file.head_dim {
                Some(head_dim) => head_dim,
                None => divided(file.hidden, file.num_heads)?,
            },
            ffn: file.ffn,
            vocabulary: file.vocabulary,
            gated: file.gated,
            tied_embeddings: file.tied_embeddings,
            biases: file.biases,
            qk_norm: file.qk_norm,
            learned_positions: file.learned_positions,
            dropout: file.dropout,
            data_type: file.data_type,
            recomputation: file.recomputation,
        };
        architecture.checked()
    }

    fn checked(self) -> Result<Self, HardwareError> {
        for (key, value) in [
            ("num_layers", self.num_layers),
            ("hidden", self.hidden),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("vocabulary", self.vocabulary),
        ] {
            if value == 0 {
                return Err(HardwareError::bad(key, value, "it must be at least 1"));
            }
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let rule = format!("it must divide num_heads = {}", self.num_heads);
            return Err(HardwareError::bad("num_kv_heads", self.num_kv_heads, rule));
        }
        if let Recomputation::Selective {
            mlp_layers,
            attention_layers,
        } = self.recomputation
        {
            for (key, value) in [
                ("mlp_layers", mlp_layers),
                ("attention_layers", attention_layers),
            ] {
                if value > self.num_layers {
                    let rule = format!("there are {} layers", self.num_layers);
                    let key = format!("recomputation.selective.{key}");
                    return Err(HardwareError::bad(key, value, rule));
                }
            }
        }
        Ok(self)
    }

    /// The same architecture with another choice of what is recomputed.
    ///
    /// # Errors
    ///
    /// More layers are to be recomputed than there are.
    pub fn with_recomputation(
        mut self,
        recomputation: Recomputation,
    ) -> Result<Self, HardwareError> {
        self.recomputation = recomputation;
        self.checked()
    }

    /// The same architecture for sequences up to `context`, where it has a table of positions.
    #[must_use]
    pub fn with_context(mut self, context: u64) -> Self {
        if self.learned_positions > 0 {
            self.learned_positions = context;
        }
        self
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Decoder layers.
    pub const fn num_layers(&self) -> u32 {
        self.num_layers
    }

    /// Query heads: the largest degree that groups can have that exchange tokens for heads.
    pub const fn num_heads(&self) -> u32 {
        self.num_heads
    }

    /// The width of a head.
    pub const fn head_dim(&self) -> u32 {
        self.head_dim
    }

    /// The activations that are computed again in the backward.
    pub const fn recomputation(&self) -> Recomputation {
        self.recomputation
    }

    /// The width of all query heads together.
    pub(super) fn query_width(&self) -> f64 {
        f64::from(self.num_heads) * f64::from(self.head_dim)
    }

    /// The width of all keys, or of all values.
    pub(super) fn key_width(&self) -> f64 {
        f64::from(self.num_kv_heads) * f64::from(self.head_dim)
    }

    /// Elements of the matrices of a layer's attention.
    pub(super) fn attention_matrix(&self) -> f64 {
        let hidden = f64::from(self.hidden);
        hidden * (self.query_width() + 2.0 * self.key_width()) + self.query_width() * hidden
    }

    /// Elements of the matrices of a layer's MLP.
    pub(super) fn mlp_matrix(&self) -> f64 {
        let matrices = if self.gated { 3.0 } else { 2.0 };
        matrices * f64::from(self.hidden) * f64::from(self.ffn)
    }

    /// Elements of the output's matrix.
    pub(super) fn output_matrix(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.hidden)
    }

    /// Parameters of a layer.
    pub fn layer_parameters(&self) -> f64 {
        let hidden = f64::from(self.hidden);
        let qkv_bias = self.query_width() + 2.0 * self.key_width();
        let up = if self.gated { 2.0 } else { 1.0 };
        let biases = match self.biases {
            Biases::None => 0.0,
            Biases::Qkv => qkv_bias,
            Biases::All => qkv_bias + hidden + up * f64::from(self.ffn) + hidden + 2.0 * hidden,
        };
        // One weight for each place in a head, which all heads share.
        let qk_norms = if self.qk_norm { 2.0 } else { 0.0 };
        let norms = 2.0 * hidden + qk_norms * f64::from(self.head_dim);
        self.attention_matrix() + self.mlp_matrix() + norms + biases
    }

    /// Parameters in front of the first layer.
    pub(super) fn input_parameters(&self) -> f64 {
        self.output_matrix() + self.learned_positions as f64 * f64::from(self.hidden)
    }

    /// Parameters behind the last layer, where they are not on the same devices as those in front of the first.
    pub(super) fn output_parameters(&self) -> f64 {
        let last_norm = if self.biases == Biases::All { 2.0 } else { 1.0 };
        self.output_matrix() + last_norm * f64::from(self.hidden)
    }

    /// All parameters: layers, embedding, output, positions, and the last norm.
    pub fn num_parameters(&self) -> f64 {
        let hidden = f64::from(self.hidden);
        let embeddings = if self.tied_embeddings { 1.0 } else { 2.0 };
        let last_norm = if self.biases == Biases::All { 2.0 } else { 1.0 };
        f64::from(self.num_layers) * self.layer_parameters()
            + embeddings * self.output_matrix()
            + self.learned_positions as f64 * hidden
            + last_norm * hidden
    }
}

fn divided(hidden: u32, num_heads: u32) -> Result<u32, HardwareError> {
    match hidden.checked_div(num_heads) {
        None => Err(HardwareError::bad(
            "num_heads",
            num_heads,
            "it must be at least 1",
        )),
        Some(head_dim) if head_dim * num_heads == hidden => Ok(head_dim),
        Some(_) => Err(HardwareError::missing(
            "head_dim",
            format!("{num_heads} heads do not divide hidden = {hidden}"),
        )),
    }
}
