//! The parameters: their names and shapes, and the units in which they are gathered and scattered.
//!
//! ```text
//! embedding   table
//! layer 0..   wq wk wv wo gate up down | attention_norm mlp_norm, and norms of heads and biases where there are some
//! output      projection (unless tied) | norm
//! ```
//!
//! A unit is one flat vector, its matrices before the bar and its norm weights and biases behind it, so that what
//! decays alike lies together.

use std::ops::Range;

use lengthwise_tensor::{Backend, TensorError};

use super::ModelConfig;

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name, as in Hugging Face's LLaMA checkpoints.
    pub name: String,
    /// Rows: output features of a matrix, elements of a norm weight or bias.
    pub rows: usize,
    /// Columns: input features of a matrix, 1 for a norm weight or bias.
    pub cols: usize,
    /// Its use, which decides its first values and its weight decay.
    pub kind: ParameterKind,
}

/// The use of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// The embedding table, which may be the output projection too: starts normal.
    Embedding,
    /// A matrix that reads from the residual stream: starts normal.
    Matrix,
    /// A matrix that writes to the residual stream: starts normal, narrower with depth (GPT-2).
    ResidualMatrix,
    /// A norm weight: starts at one.
    Norm,
    /// A bias: starts at zero.
    Bias,
}

impl ParameterKind {
    /// Whether weight decay never tells it from another kind.
    fn decays_as(self, other: ParameterKind) -> bool {
        use ParameterKind::{Matrix, ResidualMatrix};
        self == other
            || matches!(
                (self, other),
                (Matrix | ResidualMatrix, Matrix | ResidualMatrix)
            )
    }

    /// Whether it is stored with two dimensions; with one otherwise.
    pub fn is_matrix(self) -> bool {
        match self {
            ParameterKind::Embedding | ParameterKind::Matrix | ParameterKind::ResidualMatrix => {
                true
            }
            ParameterKind::Norm | ParameterKind::Bias => false,
        }
    }
}

impl ParameterSpec {
    fn new(name: String, rows: usize, cols: usize, kind: ParameterKind) -> Self {
        ParameterSpec {
            name,
            rows,
            cols,
            kind,
        }
    }

    /// The number of its elements.
    pub fn num_elements(&self) -> usize {
        self.rows * self.cols
    }

    /// The dimensions it is stored with.
    pub fn shape(&self) -> Vec<usize> {
        if self.kind.is_matrix() {
            vec![self.rows, self.cols]
        } else {
            vec![self.rows]
        }
    }
}

/// Parameters that are gathered at once, as one flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// In the order of the flat vector.
    pub parameters: Vec<ParameterSpec>,
}

impl UnitSpec {
    /// The number of elements of the flat vector.
    pub fn num_elements(&self) -> usize {
        self.parameters
            .iter()
            .map(ParameterSpec::num_elements)
            .sum()
    }

    /// The runs of the flat vector that weight decay treats alike whatever it leaves alone, in order, each with the kind of
    /// its first parameter.
    pub fn decay_runs(&self) -> Vec<(ParameterKind, Range<usize>)> {
        let mut runs: Vec<(ParameterKind, Range<usize>)> = Vec::new();
        for (parameter, range) in self.ranges() {
            match runs.last_mut() {
                Some((kind, run)) if kind.decays_as(parameter.kind) => run.end = range.end,
                _ => runs.push((parameter.kind, range)),
            }
        }
        runs
    }

    /// Every parameter with its range in the flat vector.
    pub fn ranges(&self) -> impl Iterator<Item = (&ParameterSpec, Range<usize>)> {
        self.parameters.iter().scan(0, |offset, parameter| {
            let start = *offset;
            *offset += parameter.num_elements();
            Some((parameter, start..*offset))
        })
    }

    /// The parameters as views of the gathered flat vector, in order.
    pub fn views<B: Backend>(&self, backend: &B, flat: &B::Tensor) -> Vec<B::Tensor> {
        self.ranges()
            .map(|(parameter, range)| {
                backend.view(flat, range.start, parameter.rows, parameter.cols)
            })
            .collect()
    }
}

/// The units of a model in the order of its forward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// Embedding, layers, output.
    pub units: Vec<UnitSpec>,
}

impl ModelSpec {
    /// The units of a model of this shape.
    pub fn new(config: &ModelConfig) -> Self {
        use ParameterKind::{Embedding, Matrix, Norm};
        let spec = ParameterSpec::new;
        let hidden = config.hidden;

        let table = spec(
            "model.embed_tokens.weight".to_owned(),
            config.vocab,
            hidden,
            Embedding,
        );
        let mut units = vec![UnitSpec {
            parameters: vec![table],
        }];
        for layer in 0..config.layers {
            let parameters = LayerParameters::specs(config, layer).into_parts();
            units.push(UnitSpec { parameters });
        }
        let mut output = Vec::new();
        if !config.tied_output {
            output.push(spec(
                "lm_head.weight".to_owned(),
                config.vocab,
                hidden,
                Matrix,
            ));
        }
        output.push(spec("model.norm.weight".to_owned(), hidden, 1, Norm));
        units.push(UnitSpec { parameters: output });
        ModelSpec { units }
    }

    /// The unit of the embedding table.
    pub const EMBEDDING: usize = 0;

    /// The unit of a decoder layer.
    pub fn layer(layer: usize) -> usize {
        layer + 1
    }

    /// The unit of the final norm and the output projection.
    pub fn output(&self) -> usize {
        self.units.len() - 1
    }

    /// All parameters of the model.
    pub fn num_parameters(&self) -> usize {
        self.units.iter().map(UnitSpec::num_elements).sum()
    }
}

/// The parameters of a decoder layer, or their gradients.
#[derive(Clone, Debug)]
pub struct LayerParameters<T> {
    /// `[heads x head_dim, hidden]`
    pub wq: T,
    /// `[kv_heads x head_dim, hidden]`
    pub wk: T,
    /// `[kv_heads x head_dim, hidden]`
    pub wv: T,
    /// `[hidden, heads x head_dim]`
    pub wo: T,
    /// `[ffn, hidden]`
    pub gate: T,
    /// `[ffn, hidden]`
    pub up: T,
    /// `[hidden, ffn]`
    pub down: T,
    /// `[hidden, 1]`
    pub attention_norm: T,
    /// `[hidden, 1]`
    pub mlp_norm: T,
    /// Of each head's queries and keys, `[head_dim, 1]`.
    pub qk_norms: Option<[T; 2]>,
    /// Of queries, keys and values, `[features, 1]`.
    pub qkv_biases: Option<[T; 3]>,
    /// Behind attention, `[hidden, 1]`.
    pub wo_bias: Option<T>,
    /// Of gate and up, `[ffn, 1]`, and of down, `[hidden, 1]`.
    pub mlp_biases: Option<[T; 3]>,
}

impl LayerParameters<ParameterSpec> {
    /// Those that a layer has.
    fn specs(config: &ModelConfig, layer: usize) -> Self {
        use ParameterKind::{Bias, Matrix, Norm, ResidualMatrix};
        let (hidden, ffn) = (config.hidden, config.ffn);
        let (queries, kv) = (config.query_features(), config.kv_features());
        let spec = |part: &str, rows, cols, kind| {
            let name = format!("model.layers.{layer}.{part}.weight");
            ParameterSpec::new(name, rows, cols, kind)
        };
        let bias = |part: &str, rows| {
            let name = format!("model.layers.{layer}.{part}.bias");
            ParameterSpec::new(name, rows, 1, Bias)
        };
        LayerParameters {
            wq: spec("self_attn.q_proj", queries, hidden, Matrix),
            wk: spec("self_attn.k_proj", kv, hidden, Matrix),
            wv: spec("self_attn.v_proj", kv, hidden, Matrix),
            wo: spec("self_attn.o_proj", hidden, queries, ResidualMatrix),
            gate: spec("mlp.gate_proj", ffn, hidden, Matrix),
            up: spec("mlp.up_proj", ffn, hidden, Matrix),
            down: spec("mlp.down_proj", hidden, ffn, ResidualMatrix),
            attention_norm: spec("input_layernorm", hidden, 1, Norm),
            mlp_norm: spec("post_attention_layernorm", hidden, 1, Norm),
            qk_norms: config.has_qk_norms().then(|| {
                ["self_attn.q_norm", "self_attn.k_norm"]
                    .map(|part| spec(part, config.head_dim, 1, Norm))
            }),
            qkv_biases: config.has_qkv_biases().then(|| {
                [
                    bias("self_attn.q_proj", queries),
                    bias("self_attn.k_proj", kv),
                    bias("self_attn.v_proj", kv),
                ]
            }),
            wo_bias: config
                .has_attention_output_bias()
                .then(|| bias("self_attn.o_proj", hidden)),
            mlp_biases: config.has_mlp_biases().then(|| {
                [
                    bias("mlp.gate_proj", ffn),
                    bias("mlp.up_proj", ffn),
                    bias("mlp.down_proj", hidden),
                ]
            }),
        }
    }
}

impl<T> LayerParameters<T> {
    /// All of them, in the order of the unit.
    fn into_parts(self) -> Vec<T> {
        let LayerParameters {
            wq,
            wk,
            wv,
            wo,
            gate,
            up,
            down,
            attention_norm,
            mlp_norm,
            qk_norms,
            qkv_biases,
            wo_bias,
            mlp_biases,
        } = self;
        let mut parts = vec![wq, wk, wv, wo, gate, up, down, attention_norm, mlp_norm];
        parts.extend(qk_norms.into_iter().flatten());
        parts.extend(qkv_biases.into_iter().flatten());
        parts.extend(wo_bias);
        parts.extend(mlp_biases.into_iter().flatten());
        parts
    }

    /// From all of them, in the order of the unit.
    fn from_parts(config: &ModelConfig, parts: impl IntoIterator<Item = T>) -> Self {
        let mut parts = parts.into_iter();
        let mut next = || {
            let part = parts.next();
            part.unwrap_or_else(|| unreachable!("a layer's unit has what its config says"))
        };
        LayerParameters {
            wq: next(),
            wk: next(),
            wv: next(),
            wo: next(),
            gate: next(),
            up: next(),
            down: next(),
            attention_norm: next(),
            mlp_norm: next(),
            qk_norms: config.has_qk_norms().then(|| [next(), next()]),
            qkv_biases: config.has_qkv_biases().then(|| [next(), next(), next()]),
            wo_bias: config.has_attention_output_bias().then(&mut next),
            mlp_biases: config.has_mlp_biases().then(|| [next(), next(), next()]),
        }
    }

    /// The parameters of a layer's unit as views of its gathered flat vector.
    pub fn from_flat<B: Backend<Tensor = T>>(
        backend: &B,
        config: &ModelConfig,
        unit: &UnitSpec,
        flat: &T,
    ) -> Self {
        Self::from_parts(config, unit.views(backend, flat))
    }

    /// One flat vector in the order of the unit.
    pub fn into_flat<B: Backend<Tensor = T>>(self, backend: &B) -> Result<T, TensorError> {
        backend.concat_flat(&self.into_parts())
    }
}
