//! The bytes of tokens that travel in a step.

use lengthwise_core::Strategy;

/// The bytes of a token that travel, over all layers and the ranks of its group together: each rank passes on those of the
/// tokens that it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenBytes {
    /// Queries, keys and values that are exchanged for heads, and attention's output that is exchanged back, in each pass:
    /// the forward, the recomputation where there is one, and the backward.
    pub heads: f64,
    /// Keys and values that go around a ring in each pass; the backward sends gradients of the same size behind them.
    pub key_values: f64,
    /// Inputs of layers that go to host memory and come back.
    pub layer_inputs: f64,
}

impl TokenBytes {
    /// Where all that is known is what is exchanged for heads in a pass: keys and values are half of that, as where each query
    /// head has its own, and layer inputs a quarter.
    pub fn exchanging(heads: f64) -> Self {
        TokenBytes {
            heads,
            key_values: heads / 2.0,
            layer_inputs: heads / 4.0,
        }
    }
}

/// How many bytes of a token travel in groups of each strategy.
pub trait TokenVolume {
    /// The bytes of a token in a group of this strategy.
    fn token_bytes(&self, strategy: Strategy) -> TokenBytes;
}

/// The same whatever the strategy.
impl TokenVolume for TokenBytes {
    fn token_bytes(&self, _strategy: Strategy) -> TokenBytes {
        *self
    }
}

/// The passes of a step over each layer.
pub(crate) fn num_passes(strategy: Strategy) -> f64 {
    if strategy.activations().recomputes() {
        3.0
    } else {
        2.0
    }
}
