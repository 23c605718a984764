//! The bytes of tokens that travel, as far as a profile says.

use lengthwise_core::{Exchange, Strategy};

use super::Profile;
use crate::token_volume::num_passes;
use crate::{TokenBytes, TokenVolume};

/// Of heads, what a profile lists for groups that exchange for them. It says nothing of the rest: keys and values are taken to
/// be half of that, as where each query head has its own, and layer inputs a quarter.
impl TokenVolume for Profile {
    fn token_bytes(&self, strategy: Strategy) -> TokenBytes {
        let of_pass = |costs: &crate::KindProfile| {
            let listed = Strategy::ulysses(strategy.degree(), costs.kind().activations);
            costs.exchanged_bytes_per_token / num_passes(listed)
        };
        let mut ulysses = self
            .costs
            .iter()
            .filter(|costs| costs.kind().exchange == Exchange::Ulysses);
        let heads = ulysses.next().map_or(0.0, of_pass);
        TokenBytes {
            heads,
            key_values: heads / 2.0,
            layer_inputs: heads / 4.0,
        }
    }
}
