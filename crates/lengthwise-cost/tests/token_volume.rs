//! The bytes of tokens that travel, beside sums by hand.

use lengthwise_core::{Activations, Degree, Strategy};
use lengthwise_cost::{AnalyticModel, Hardware, ModelKind, TokenVolume};

/// Keys, or values, of a head in all of the model's 32 layers: 128 elements of two bytes.
const HEAD: f64 = 32.0 * 128.0 * 2.0;

/// 32 query heads, 8 key/value heads.
fn llama() -> AnalyticModel {
    let hardware = Hardware::named("h100-4x8").unwrap();
    AnalyticModel::new(ModelKind::Llama3With8B.architecture(65_536), hardware)
}

fn degree(degree: u32) -> Degree {
    Degree::new(degree).unwrap()
}

#[test]
fn key_value_heads_travel_once_for_each_rank_that_needs_one() {
    let model = llama();
    for activations in Activations::ALL {
        let heads = |of| {
            let strategy = Strategy::ulysses(degree(of), activations);
            model.token_bytes(strategy).heads
        };
        // Queries and output, keys and values.
        assert_eq!(heads(8), 2.0 * HEAD * (32.0 + 8.0));
        assert_eq!(heads(32), 2.0 * HEAD * (32.0 + 32.0));
        let blocks = |ulysses, ring| {
            let strategy = Strategy::new(degree(ulysses), degree(ring), activations);
            model.token_bytes(strategy.unwrap()).key_values
        };
        assert_eq!(blocks(1, 4), 2.0 * HEAD * 8.0);
        assert_eq!(blocks(16, 2), 2.0 * HEAD * 16.0);
    }
}

#[test]
fn the_sum_of_all_passes_is_what_costs_count() {
    let model = llama();
    let strategy = Strategy::ulysses(degree(4), Activations::Recompute);
    let bytes = model.token_bytes(strategy);
    let all = model.exchange_bytes_per_token(degree(4));
    assert!((3.0 * bytes.heads - all).abs() < 1e-6 * all);
    // 4096 elements of two bytes in each of 32 layers.
    assert_eq!(bytes.layer_inputs, 32.0 * 4096.0 * 2.0);
}
