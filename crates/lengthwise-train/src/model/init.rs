//! Initial parameters, the same for every number of ranks.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::parameters::{ParameterKind, UnitSpec};

/// Standard deviation of a matrix's initial elements (GPT-2).
const STANDARD_DEVIATION: f64 = 0.02;

/// The initial elements of a `range` of a unit's flat vector.
///
/// Element `i` depends on the seed, the unit and `i` alone: the generator is a counter that can start anywhere,
/// so no rank draws more than its own shard.
pub fn initial_elements(
    unit_index: usize,
    unit: &UnitSpec,
    layers: usize,
    seed: u64,
    range: Range<usize>,
) -> Vec<f32> {
    let mut elements = Vec::with_capacity(range.len());
    for (parameter, place) in unit.ranges() {
        let part = place.start.max(range.start)..place.end.min(range.end);
        if part.is_empty() {
            continue;
        }
        match parameter.kind {
            ParameterKind::Norm => elements.extend(part.map(|_| 1.0)),
            ParameterKind::Bias => elements.extend(part.map(|_| 0.0)),
            ParameterKind::Embedding | ParameterKind::Matrix => {
                normal(seed, unit_index, part, STANDARD_DEVIATION, &mut elements)
            }
            ParameterKind::ResidualMatrix => {
                let deviation = STANDARD_DEVIATION / (2.0 * layers as f64).sqrt();
                normal(seed, unit_index, part, deviation, &mut elements);
            }
        }
    }
    elements
}

/// Appends normally distributed elements by the Box-Muller transform, two words of the stream for each.
fn normal(seed: u64, stream: usize, range: Range<usize>, deviation: f64, elements: &mut Vec<f32>) {
    /// 32-bit words that one element takes from the stream.
    const WORDS: u128 = 2;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream as u64);
    random.set_word_pos(range.start as u128 * WORDS);
    elements.extend(range.map(|_| {
        let (a, b) = (
            unit_interval(random.next_u32()),
            unit_interval(random.next_u32()),
        );
        (deviation * (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
    }));
}

/// A number in (0, 1), never 0, so that its logarithm is finite.
fn unit_interval(word: u32) -> f64 {
    (f64::from(word) + 0.5) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, ModelConfig, ModelSpec, Rope};

    #[test]
    fn shards_of_any_size_join_to_the_same_parameters() {
        let config = ModelConfig {
            vocab: 50,
            hidden: 16,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            ffn: 24,
            head_dim: 8,
            rope: Rope::plain(1e4),
            norm_epsilon: 1e-5,
            tied_output: false,
            family: Family::LLAMA,
        };
        let spec = ModelSpec::new(&config);
        for (index, unit) in spec.units.iter().enumerate() {
            let all = 0..unit.num_elements();
            let whole = initial_elements(index, unit, 1, 7, all.clone());
            let cuts = [0, 1, all.end / 3, all.end / 2, all.end];
            let joined: Vec<f32> = cuts
                .windows(2)
                .flat_map(|cut| initial_elements(index, unit, 1, 7, cut[0]..cut[1]))
                .collect();
            assert_eq!(whole, joined);
            assert_ne!(whole, initial_elements(index, unit, 1, 8, all));
        }
    }

    #[test]
    fn matrices_start_with_the_stated_deviation() {
        let mut elements = Vec::new();
        normal(1, 0, 0..100_000, 0.02, &mut elements);
        let mean: f64 = elements.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let variance: f64 =
            elements.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 1e5 - mean * mean;
        assert!(mean.abs() < 3.0 * 0.02 / 1e5f64.sqrt(), "mean {mean}");
        assert!(
            (variance.sqrt() / 0.02 - 1.0).abs() < 0.01,
            "deviation {}",
            variance.sqrt()
        );
    }
}
