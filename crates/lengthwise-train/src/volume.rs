//! The communication volume of a run: bytes of every micro-batch, and bytes of every token.

use lengthwise_core::{Activations, Bytes};

use crate::executor::{forward_stages, stages};
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

/// Bytes of a token's keys and values in all layers, as they go around a ring; their gradients are as large.
pub fn key_value_bytes_per_token(config: &ModelConfig) -> f64 {
    (ELEMENT * config.layers * 2 * config.kv_heads * config.head_dim) as f64
}

/// Bytes of a token's inputs of all layers, of which those of all but the last may go to host memory and back.
pub fn layer_input_bytes_per_token(config: &ModelConfig) -> f64 {
    (ELEMENT * config.layers * config.hidden) as f64
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
        // 4 elements each of keys and values a layer; 8 of its input.
        assert_eq!(key_value_bytes_per_token(&config), 4.0 * 2.0 * 8.0);
        assert_eq!(layer_input_bytes_per_token(&config), 4.0 * 2.0 * 8.0);
    }
}
