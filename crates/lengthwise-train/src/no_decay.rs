//! The parameters that weight decay leaves alone.

use crate::ParameterKind;

/// The kinds of parameters that weight decay leaves alone. All others decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDecay {
    /// Norm weights.
    pub norm: bool,
    /// Biases.
    pub bias: bool,
    /// The embedding table, also where it is the output projection.
    pub embedding: bool,
}

impl NoDecay {
    /// Norm weights and biases, as transformers (`get_decay_parameter_names`), nanoGPT and Megatron-LM have it.
    pub const USUAL: NoDecay = NoDecay {
        norm: true,
        bias: true,
        embedding: false,
    };

    /// Whether parameters of this kind are left alone.
    pub fn covers(self, kind: ParameterKind) -> bool {
        match kind {
            ParameterKind::Norm => self.norm,
            ParameterKind::Bias => self.bias,
            ParameterKind::Embedding => self.embedding,
            ParameterKind::Matrix | ParameterKind::ResidualMatrix => false,
        }
    }
}

impl Default for NoDecay {
    fn default() -> Self {
        NoDecay::USUAL
    }
}
