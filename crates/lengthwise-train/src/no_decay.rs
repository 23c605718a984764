//! The parameters that weight decay leaves alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParameterKind;

/// The kinds of parameters that weight decay leaves alone. All others decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// As settings write it: `["norm", "bias"]`.
impl fmt::Display for NoDecay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (self.norm, "norm"),
            (self.bias, "bias"),
            (self.embedding, "embedding"),
        ];
        let kinds = kinds.iter().filter(|(is_covered, _)| *is_covered);
        f.debug_list().entries(kinds.map(|(_, kind)| kind)).finish()
    }
}

impl Default for NoDecay {
    fn default() -> Self {
        NoDecay::USUAL
    }
}
