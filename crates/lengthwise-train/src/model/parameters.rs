//! The parameters: their names and shapes, and the units in which they are gathered and scattered.
//!
//! ```text
//! embedding   table
//! layer 0..   wq wk wv wo gate up down | attention_norm mlp_norm
//! output      projection (unless tied) | norm
//! ```
//!
//! A unit is one flat vector, its matrices before the bar and its norm weights behind it, so that what decays
//! is a prefix.

use std::ops::Range;

use lengthwise_tensor::{Backend, TensorError};

use super::ModelConfig;

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Its name, as in Hugging Face's LLaMA checkpoints.
    pub name: String,
    /// Rows: output features of a matrix, elements of a norm weight.
    pub rows: usize,
    /// Columns: input features of a matrix, 1 for a norm weight.
    pub cols: usize,
    /// How it starts, and whether it decays.
    pub kind: ParameterKind,
}

/// What a parameter is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A matrix that reads from the residual stream: starts normal, decays.
    Matrix,
    /// A matrix that writes to the residual stream: starts normal, narrower with depth (GPT-2), decays.
    ResidualMatrix,
    /// A norm weight: starts at one, never decays.
    Norm,
}

impl ParameterKind {
    /// Whether weight decay applies.
    pub fn decays(self) -> bool {
        self != ParameterKind::Norm
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

    /// How many elements it has.
    pub fn num_elements(&self) -> usize {
        self.rows * self.cols
    }
}

/// Parameters that are gathered at once, as one flat vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSpec {
    /// In the order of the flat vector: those that decay first.
    pub parameters: Vec<ParameterSpec>,
}

impl UnitSpec {
    /// How many elements the flat vector has.
    pub fn num_elements(&self) -> usize {
        self.parameters
            .iter()
            .map(ParameterSpec::num_elements)
            .sum()
    }

    /// How many of them, from the first on, decay.
    pub fn num_decaying(&self) -> usize {
        let decaying = self
            .parameters
            .iter()
            .filter(|parameter| parameter.kind.decays());
        decaying.map(ParameterSpec::num_elements).sum()
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
        use ParameterKind::{Matrix, Norm, ResidualMatrix};
        let spec = ParameterSpec::new;
        let (hidden, ffn) = (config.hidden, config.ffn);
        let kv = config.kv_heads * config.head_dim();

        let table = spec(
            "model.embed_tokens.weight".to_owned(),
            config.vocab,
            hidden,
            Matrix,
        );
        let mut units = vec![UnitSpec {
            parameters: vec![table],
        }];
        for layer in 0..config.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            units.push(UnitSpec {
                parameters: vec![
                    spec(name("self_attn.q_proj"), hidden, hidden, Matrix),
                    spec(name("self_attn.k_proj"), kv, hidden, Matrix),
                    spec(name("self_attn.v_proj"), kv, hidden, Matrix),
                    spec(name("self_attn.o_proj"), hidden, hidden, ResidualMatrix),
                    spec(name("mlp.gate_proj"), ffn, hidden, Matrix),
                    spec(name("mlp.up_proj"), ffn, hidden, Matrix),
                    spec(name("mlp.down_proj"), hidden, ffn, ResidualMatrix),
                    spec(name("input_layernorm"), hidden, 1, Norm),
                    spec(name("post_attention_layernorm"), hidden, 1, Norm),
                ],
            });
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

    /// Elements of the largest unit: what a gather holds at most.
    pub fn largest_unit(&self) -> usize {
        self.units
            .iter()
            .map(UnitSpec::num_elements)
            .max()
            .unwrap_or(0)
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
}

impl<T: Clone> LayerParameters<T> {
    /// The parameters of a layer's unit as views of its gathered flat vector.
    pub fn from_flat<B: Backend<Tensor = T>>(backend: &B, unit: &UnitSpec, flat: &T) -> Self {
        let views = unit.views(backend, flat);
        let [wq, wk, wv, wo, gate, up, down, attention_norm, mlp_norm] = <[T; 9]>::try_from(views)
            .unwrap_or_else(|_| unreachable!("a layer's unit has nine parameters"));
        LayerParameters {
            wq,
            wk,
            wv,
            wo,
            gate,
            up,
            down,
            attention_norm,
            mlp_norm,
        }
    }

    /// One flat vector in the order of the unit.
    pub fn into_flat<B: Backend<Tensor = T>>(self, backend: &B) -> Result<T, TensorError> {
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
        } = self;
        backend.concat_flat(&[wq, wk, wv, wo, gate, up, down, attention_norm, mlp_norm])
    }
}
