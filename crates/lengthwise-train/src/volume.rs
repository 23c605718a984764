//! The communication volume of a run: bytes of every micro-batch, and bytes of every token.

use lengthwise_core::{Activations, Bytes, Strategy};
use lengthwise_cost::TokenBytes;

use crate::executor::{forward_stages, stages};
use crate::model::exchange::Shards;
use crate::model::{ModelConfig, ModelSpec};

/// Bytes of an element.
const ELEMENT: usize = 4;

/// Bytes of the parameters that all ranks gather in a micro-batch, counting a unit as often as it is gathered.
pub fn gathered_bytes(config: &ModelConfig) -> Bytes {
    unit_bytes(config, |stage| &stage.gathers)
}

/// Bytes of the parameters that all ranks gather in a micro-batch that is evaluated only.
pub(crate) fn forward_gathered_bytes(config: &ModelConfig) -> Bytes {
    let spec = ModelSpec::new(config);
    let stages = forward_stages(&spec, config.tied_output);
    bytes_of(&spec, stages.iter().flat_map(|stage| &stage.gathers))
}

/// Bytes of the gradients that all ranks scatter in a micro-batch, counting a unit as often as it is scattered.
pub fn scattered_bytes(config: &ModelConfig) -> Bytes {
    unit_bytes(config, |stage| &stage.scatters)
}

/// Bytes that the exchanges of a micro-batch pass on for each token, over all layers and the group's ranks together: in
/// each pass queries, keys and values to heads and the output of attention back, or their gradients the other way.
///
/// A key/value head that several ranks read is counted once.
pub fn exchanged_bytes_per_token(config: &ModelConfig, activations: Activations) -> f64 {
    let heads = 2 * config.heads + 2 * config.kv_heads;
    let passes = if activations.recomputes() { 3 } else { 2 };
    (ELEMENT * passes * config.layers * heads * config.head_dim) as f64
}

/// Bytes of a token that travel in groups of this strategy, over all layers.
///
/// A key/value head that several ranks of a place read goes to each of them, and around the ring from each.
pub fn token_bytes(config: &ModelConfig, strategy: Strategy) -> TokenBytes {
    let ranks = strategy.ulysses_degree().as_usize();
    let shards = Shards::new(config, ranks, ranks);
    let kv_heads: usize = (0..ranks).map(|rank| shards.num_kv_heads(rank)).sum();
    let of = |elements: usize| (ELEMENT * config.layers * elements) as f64;
    TokenBytes {
        heads: of(2 * (config.heads + kv_heads) * config.head_dim),
        key_values: of(2 * kv_heads * config.head_dim),
        layer_inputs: of(config.hidden),
    }
}

fn unit_bytes(
    config: &ModelConfig,
    units: impl Fn(&crate::executor::ScheduledStage) -> &Vec<usize>,
) -> Bytes {
    let spec = ModelSpec::new(config);
    let stages = stages(&spec, config.tied_output);
    bytes_of(&spec, stages.iter().flat_map(units))
}

fn bytes_of<'a>(spec: &ModelSpec, units: impl Iterator<Item = &'a usize>) -> Bytes {
    let elements: usize = units.map(|&unit| spec.units[unit].num_elements()).sum();
    Bytes((ELEMENT * elements) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Rope};
    use lengthwise_core::Degree;

    #[test]
    fn units_count_as_often_as_they_travel() {
        let config = ModelConfig {
            vocab: 10,
            hidden: 8,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            ffn: 3,
            head_dim: 4,
            rope: Rope::plain(1e4),
            norm_epsilon: 1e-5,
            tied_output: true,
            family: Family::LLAMA,
        };
        // Queries and output 8 x 8, keys and values 8 x 4, three of 8 x 3, two norms.
        let layer = 2 * 64 + 2 * 32 + 3 * 24 + 2 * 8;
        // The first layer twice; the table for the tokens and the output; the norm.
        assert_eq!(gathered_bytes(&config), Bytes(4 * (3 * layer + 2 * 80 + 8)));
        assert_eq!(
            forward_gathered_bytes(&config),
            Bytes(4 * (2 * layer + 2 * 80 + 8))
        );
        assert_eq!(
            scattered_bytes(&config),
            Bytes(4 * (2 * layer + 2 * 80 + 8))
        );
        // 8 + 4 + 4 + 8 elements a layer and pass.
        assert_eq!(
            exchanged_bytes_per_token(&config, Activations::Recompute),
            4.0 * 2.0 * 3.0 * 24.0
        );
        assert_eq!(
            exchanged_bytes_per_token(&config, Activations::Keep),
            4.0 * 2.0 * 2.0 * 24.0
        );
        let bytes = |ulysses, ring| {
            let [ulysses, ring] = [ulysses, ring].map(|part| Degree::new(part).unwrap());
            let strategy = Strategy::new(ulysses, ring, Activations::Keep).unwrap();
            token_bytes(&config, strategy)
        };
        for ring in [1, 3] {
            // 8 + 4 + 4 + 8 elements a layer, 4 each of keys and values, 8 of its input.
            let alone = TokenBytes {
                heads: 4.0 * 2.0 * 24.0,
                key_values: 4.0 * 2.0 * 8.0,
                layer_inputs: 4.0 * 2.0 * 8.0,
            };
            assert_eq!(bytes(1, ring), alone);
            // Two ranks read the same key/value head.
            let together = TokenBytes {
                heads: 4.0 * 2.0 * 32.0,
                key_values: 4.0 * 2.0 * 16.0,
                ..alone
            };
            assert_eq!(bytes(2, ring), together);
        }
    }
}
