//! The bytes of tokens that travel, as far as a profile says.

use lengthwise_core::{Exchange, Strategy};

use super::Profile;
use crate::token_volume::num_passes;
use crate::{TokenBytes, TokenVolume};

/// A profile lists what groups exchange for heads, and nothing of the rest.
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
        TokenBytes::exchanging(ulysses.next().map_or(0.0, of_pass))
    }
}
