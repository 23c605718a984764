//! The bytes of tokens that travel on a described cluster, as the costs count them.

use lengthwise_core::Strategy;

use super::AnalyticModel;
use super::memory::layer_input_bytes_per_token;
use super::ring::{block_bytes_per_token, recomputed};
use crate::token_volume::num_passes;
use crate::{TokenBytes, TokenVolume};

/// Where only some layers recompute attention, what their recomputation passes on is spread over all passes: a step's sum is
/// that of its costs.
impl TokenVolume for AnalyticModel {
    fn token_bytes(&self, strategy: Strategy) -> TokenBytes {
        let doing = self.doing(strategy.activations());
        let (architecture, share) = (&doing.architecture, doing.share);
        let passes = num_passes(strategy);
        let ulysses = strategy.ulysses_degree();
        let blocks = block_bytes_per_token(architecture, share, ulysses);
        // A pass each forward, and of a block and its gradients backward.
        let hops = (3.0 + recomputed(architecture)) / (passes + 1.0);
        TokenBytes {
            heads: doing.exchange_bytes_per_token(ulysses) / passes,
            key_values: blocks * hops,
            layer_inputs: layer_input_bytes_per_token(architecture, share),
        }
    }
}
