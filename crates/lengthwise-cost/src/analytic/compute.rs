//! How much a step computes.

use super::architecture::Architecture;

/// FLOP of a step, forward, backward and recomputation, counting a multiply-add as two.
///
/// | of each token | forward | backward | recomputed |
/// | --- | --- | --- | --- |
/// | matrices of `m` elements | `2 m` | `4 m`: gradients of inputs and of weights | `2 m` |
///
/// | of each token squared, for heads `a` wide together | forward | backward | recomputed |
/// | --- | --- | --- | --- |
/// | causal attention | `2 a`: two products, half of each masked | `5 a`: five products, as flash attention does | `2 a` |
///
/// Norms, activations, softmax and the lookup of embeddings are not counted: what they take is in the efficiency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatrixFlops {
    /// Of each token: projections, MLP and output.
    pub per_token: f64,
    /// Of each square of a sequence's tokens: attention.
    pub per_token2: f64,
}

impl MatrixFlops {
    /// All that `architecture` computes.
    pub fn of(architecture: &Architecture) -> Self {
        let (mlp, attention) = architecture.recomputation.shares(architecture.num_layers);
        Self::recomputing(architecture, mlp, attention)
    }

    /// The same as if nothing were recomputed.
    pub fn without_recomputation(architecture: &Architecture) -> Self {
        Self::recomputing(architecture, 0.0, 0.0)
    }

    fn recomputing(architecture: &Architecture, mlp: f64, attention: f64) -> Self {
        let layers = f64::from(architecture.num_layers);
        let per_layer = architecture.mlp_matrix() * (6.0 + 2.0 * mlp)
            + architecture.attention_matrix() * (6.0 + 2.0 * attention);
        MatrixFlops {
            per_token: layers * per_layer + 6.0 * architecture.output_matrix(),
            per_token2: layers * architecture.query_width() * (7.0 + 2.0 * attention),
        }
    }
}
