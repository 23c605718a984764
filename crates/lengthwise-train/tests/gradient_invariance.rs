//! The gradient does not depend on the plan: every parameter's gradient against that of a single rank.

mod common;

use common::{batch, gradients, masked, one_group, plan, tiny_model, variants};
use lengthwise_core::{
    Activations, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy,
};
use lengthwise_data::TokenBatch;
use lengthwise_train::{ModelConfig, ModelSpec};
use proptest::prelude::*;
use proptest::strategy::Strategy as _;

/// Largest error of a parameter's gradient, relative to its norm.
const TOLERANCE: f64 = 1e-5;

/// The size that counts as zero, relative to the norm of the whole gradient: where all sequences have one token,
/// queries and keys have no effect, and their gradients are nothing but rounding.
const ZERO: f64 = 1e-8;

const SEQ_LENS: [u64; 7] = [1, 7, 33, 2, 64, 19, 5];

fn assert_same_gradients(config: &ModelConfig, num_ranks: usize, plan: &Plan, batch: &TokenBatch) {
    let all: Vec<u32> = (0..batch.sequences.len() as u32).collect();
    let control = gradients(
        config,
        1,
        &common::plan(&[&[(1, &all)]], Activations::Recompute),
        batch,
    );
    assert_close_to(&control, config, num_ranks, plan, batch);
}

fn assert_close_to(
    (control_loss, control): &(f64, Vec<Vec<f32>>),
    config: &ModelConfig,
    num_ranks: usize,
    plan: &Plan,
    batch: &TokenBatch,
) {
    let (loss, units) = gradients(config, num_ranks, plan, batch);
    assert!(
        (loss / control_loss - 1.0).abs() < TOLERANCE,
        "{plan}: loss {loss}, on one rank {control_loss}"
    );
    let squares = control.iter().flatten().map(|&x| f64::from(x).powi(2));
    let whole_norm = squares.sum::<f64>().sqrt();
    assert!(whole_norm > 0.0, "the gradient of a single rank is zero");
    let spec = ModelSpec::new(config);
    assert_eq!(units.len(), spec.units.len());
    for (unit, (gradient, control)) in spec.units.iter().zip(units.iter().zip(control)) {
        assert_eq!(gradient.len(), unit.num_elements());
        for (parameter, range) in unit.ranges() {
            let pairs = gradient[range.clone()].iter().zip(&control[range]);
            let error: f64 = pairs
                .clone()
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum();
            let norm: f64 = pairs.map(|(_, &b)| f64::from(b).powi(2)).sum();
            let (error, norm) = (error.sqrt(), norm.sqrt());
            assert!(
                error <= (TOLERANCE * norm).max(ZERO * whole_norm),
                "{plan} on {num_ranks} ranks: {} is off by {error:.1e}, its norm is {norm:.1e}",
                parameter.name,
            );
        }
    }
}

#[test]
fn chosen_plans_on_2_to_8_ranks_give_the_single_rank_gradient() {
    // Micro-batches of (degree, sequences); the seven sequences are 1, 7, 33, 2, 64, 19 and 5 tokens long.
    type Groups = &'static [(u32, &'static [u32])];
    let plans: &[(usize, &[Groups])] = &[
        (1, &[&[(1, &[4, 2])], &[(1, &[0, 1, 3, 5, 6])]]),
        // One degree for all.
        (2, &[&[(2, &[0, 1, 2, 3, 4, 5, 6])]]),
        (2, &[&[(1, &[0, 1, 2]), (1, &[3, 4, 5, 6])]]),
        (3, &[&[(3, &[4, 2, 0])], &[(3, &[6, 5, 3, 1])]]),
        (4, &[&[(4, &[0, 1, 2, 3, 4, 5, 6])]]),
        (4, &[&[(2, &[4]), (2, &[0, 1, 2, 3, 5, 6])]]),
        (6, &[&[(6, &[0, 1, 2, 3, 4, 5, 6])]]),
        (8, &[&[(8, &[4])], &[(8, &[0, 1, 2, 3, 5, 6])]]),
        // Mixed degrees.
        (3, &[&[(2, &[4, 2]), (1, &[0, 1, 3, 5, 6])]]),
        (4, &[&[(2, &[4]), (1, &[2, 0]), (1, &[1, 3, 5, 6])]]),
        (6, &[&[(3, &[4, 2]), (2, &[5, 0]), (1, &[1, 3, 6])]]),
        (
            8,
            &[
                &[(8, &[4])],
                &[(4, &[2]), (2, &[5]), (1, &[0, 1]), (1, &[3, 6])],
            ],
        ),
        (8, &[&[(5, &[4, 0]), (3, &[2, 1])], &[(7, &[5, 3, 6])]]),
        // Idle ranks.
        (2, &[&[(1, &[0, 1, 2, 3, 4, 5, 6])]]),
        (
            6,
            &[&[(4, &[4])], &[(1, &[0])], &[(3, &[1, 2]), (2, &[3, 5, 6])]],
        ),
        // A group with more ranks than tokens.
        (
            8,
            &[&[(8, &[0])], &[(6, &[3]), (2, &[1])], &[(8, &[2, 4, 5, 6])]],
        ),
    ];
    for (heads, kv_heads, tied_output) in [(8, 8, false), (8, 2, true), (12, 4, false)] {
        let config = tiny_model(heads, kv_heads, tied_output);
        let batch = batch(&SEQ_LENS, config.vocab);
        let all: Vec<u32> = (0..SEQ_LENS.len() as u32).collect();
        let control = gradients(
            &config,
            1,
            &plan(&[&[(1, &all)]], Activations::Recompute),
            &batch,
        );
        for (num_ranks, micro_batches) in plans {
            assert_close_to(
                &control,
                &config,
                *num_ranks,
                &plan(micro_batches, Activations::Recompute),
                &batch,
            );
        }
    }
}

#[test]
fn keeping_activations_gives_the_gradient_of_recomputing_them() {
    let config = tiny_model(8, 4, false);
    let batch = batch(&SEQ_LENS, config.vocab);
    let micro_batches: [&[(u32, &[u32])]; 2] =
        [&[(3, &[4, 0]), (1, &[1])], &[(2, &[2, 3]), (2, &[5, 6])]];
    assert_same_gradients(&config, 4, &plan(&micro_batches, Activations::Keep), &batch);
}

#[test]
fn the_gradient_of_every_family_does_not_depend_on_the_plan() {
    for (name, config) in variants() {
        let batch = batch(&SEQ_LENS, config.vocab);
        for (num_ranks, micro_batches) in [
            (2, &[&[(2, &[0, 1, 2, 3, 4, 5, 6][..])][..]][..]),
            (3, &[&[(3, &[4, 0])], &[(2, &[1, 2]), (1, &[3, 5, 6])]]),
            (4, &[&[(4, &[2, 4])], &[(1, &[6]), (3, &[0, 1, 3, 5])]]),
        ] {
            for activations in Activations::ALL {
                let plan = plan(micro_batches, activations);
                std::panic::catch_unwind(|| {
                    assert_same_gradients(&config, num_ranks, &plan, &batch)
                })
                .unwrap_or_else(|_| panic!("of {name}"));
            }
        }
    }
}

#[test]
fn the_order_in_which_a_plan_lists_ranks_does_not_matter() {
    let config = tiny_model(8, 4, false);
    let batch = batch(&SEQ_LENS, config.vocab);
    let sorted = plan(
        &[&[(3, &[4, 0, 1]), (1, &[2, 3, 5, 6])]],
        Activations::Recompute,
    );
    let mut micro_batches = sorted.micro_batches().to_vec();
    micro_batches[0].groups[0].ranks.rotate_left(1);
    assert_same_gradients(&config, 4, &Plan::new(micro_batches), &batch);
}

#[test]
fn labels_of_some_tokens_give_the_gradient_of_a_single_rank() {
    for tied_output in [true, false] {
        let config = tiny_model(8, 4, tied_output);
        let batch = batch(&SEQ_LENS, config.vocab);
        // Sequences without labels, down to one that has three in all: whole groups and micro-batches have none.
        for sequences in [&[0, 1, 2, 3, 4, 5, 6][..], &[2, 4], &[1], &[6]] {
            let masked = masked(&batch, sequences);
            assert!(masked.num_labels() > 0);
            for (num_ranks, micro_batches) in [
                (1, &[&[(1, &[4, 2][..])][..], &[(1, &[0, 1, 3, 5, 6])]][..]),
                (3, &[&[(3, &[4, 2, 0, 1, 3, 5, 6])]]),
                (4, &[&[(2, &[4]), (1, &[2, 0]), (1, &[1, 3, 5, 6])]]),
                (8, &[&[(5, &[4, 0]), (3, &[2, 1])], &[(7, &[5, 3, 6])]]),
            ] {
                for activations in [Activations::Recompute, Activations::Keep] {
                    let plan = plan(micro_batches, activations);
                    assert_same_gradients(&config, num_ranks, &plan, &masked);
                }
            }
        }
    }
}

#[test]
fn batches_of_single_tokens_have_gradients_too() {
    let config = tiny_model(4, 1, false);
    let batch = batch(&[1, 1, 1], config.vocab);
    assert_same_gradients(
        &config,
        4,
        &plan(&[&[(4, &[0, 1, 2])]], Activations::Recompute),
        &batch,
    );
    assert_same_gradients(
        &config,
        3,
        &plan(
            &[&[(1, &[0]), (1, &[2]), (1, &[1])]],
            Activations::Recompute,
        ),
        &batch,
    );
}

fn ring_plan(ulysses: u32, ring: u32, activations: Activations) -> Plan {
    let [ulysses, ring] = [ulysses, ring].map(|part| Degree::new(part).unwrap());
    let strategy = Strategy::new(ulysses, ring, activations).unwrap();
    one_group(strategy, SEQ_LENS.len())
}

#[test]
fn rings_of_every_kind_give_the_single_rank_gradient() {
    for (heads, kv_heads) in [(4, 2), (3, 1), (2, 2)] {
        let config = tiny_model(heads, kv_heads, false);
        let batch = batch(&SEQ_LENS, config.vocab);
        for (ulysses, ring) in [
            (1, 2),
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (2, 2),
            (2, 3),
            (2, 4),
            (3, 2),
            (3, 3),
            (4, 2),
        ] {
            if ulysses as usize <= heads {
                let plan = ring_plan(ulysses, ring, Activations::Keep);
                assert_same_gradients(&config, (ulysses * ring) as usize, &plan, &batch);
            }
        }
    }
}

#[test]
fn rings_give_the_gradient_of_every_family() {
    for (name, config) in variants() {
        let batch = batch(&SEQ_LENS, config.vocab);
        for (ulysses, ring) in [(1, 2), (1, 4), (2, 2), (3, 2), (2, 3)] {
            let plan = ring_plan(ulysses, ring, Activations::Recompute);
            let num_ranks = (ulysses * ring) as usize;
            std::panic::catch_unwind(|| assert_same_gradients(&config, num_ranks, &plan, &batch))
                .unwrap_or_else(|_| panic!("of {name}"));
        }
    }
}

/// Groups of one micro-batch: ranks of both parts of the degree, what is done with activations, and sequences.
type Groups<'a> = &'a [(u32, u32, Activations, &'a [u32])];

fn mixed_plan(micro_batches: &[Groups<'_>]) -> Plan {
    let micro_batches = micro_batches.iter().map(|groups| {
        let mut ranks = (0..).map(Rank);
        let groups = groups
            .iter()
            .map(|&(ulysses, ring, activations, sequences)| {
                let part = |part| Degree::new(part).unwrap();
                let strategy = Strategy::new(part(ulysses), part(ring), activations).unwrap();
                let degree = strategy.degree().as_usize();
                Group {
                    strategy,
                    ranks: ranks.by_ref().take(degree).collect(),
                    sequences: sequences.iter().copied().map(SequenceIndex).collect(),
                }
            });
        MicroBatch {
            groups: groups.collect(),
        }
    });
    Plan::new(micro_batches.collect())
}

#[test]
fn groups_of_one_micro_batch_may_keep_recompute_and_use_the_host() {
    let (keep, recompute, host) = (Activations::Keep, Activations::Recompute, Activations::Host);
    let plans: &[(usize, &[Groups<'_>])] = &[
        (
            3,
            &[&[
                (1, 1, host, &[4, 0]),
                (1, 1, keep, &[1, 2]),
                (1, 1, recompute, &[3, 5, 6]),
            ]],
        ),
        (
            9,
            &[&[
                (3, 2, host, &[4, 0, 3]),
                (2, 1, keep, &[2, 1]),
                (1, 1, recompute, &[5, 6]),
            ]],
        ),
        (
            7,
            &[
                &[(1, 5, host, &[4, 2]), (2, 1, recompute, &[0, 1])],
                &[(1, 7, host, &[3, 5, 6])],
            ],
        ),
        (
            8,
            &[&[
                (2, 2, host, &[4]),
                (1, 3, keep, &[2, 3]),
                (1, 1, host, &[0, 1, 5, 6]),
            ]],
        ),
        // Fewer tokens than ranks.
        (
            9,
            &[
                &[(3, 3, host, &[0])],
                &[(1, 9, host, &[3])],
                &[(4, 2, host, &[1, 2, 4, 5, 6])],
            ],
        ),
    ];
    for layers in [1, 2, 5] {
        let config = ModelConfig {
            layers,
            ..tiny_model(4, 2, true)
        };
        let batch = batch(&SEQ_LENS, config.vocab);
        for (num_ranks, micro_batches) in plans {
            assert_same_gradients(&config, *num_ranks, &mixed_plan(micro_batches), &batch);
        }
    }
}

/// A world size, sequence lengths, and a plan that puts every sequence somewhere, with any strategy that leaves each rank one
/// of so many heads.
fn any_plan(heads: usize) -> impl proptest::strategy::Strategy<Value = (usize, Vec<u64>, Plan)> {
    let seq_len = prop_oneof![1..4u64, 1..40u64, 40..90u64];
    let parts = (
        1..=9usize,
        prop::collection::vec(seq_len, 1..10),
        any::<u64>(),
    );
    parts.prop_map(move |(num_ranks, seq_lens, seed)| {
        let mut random = seed;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % limit
        };
        let mut micro_batches: Vec<Vec<Group>> = vec![Vec::new(); 1 + below(3)];
        let mut free: Vec<Vec<u32>> =
            vec![(0..num_ranks as u32).rev().collect(); micro_batches.len()];
        for sequence in 0..seq_lens.len() as u32 {
            let index = below(micro_batches.len());
            let (groups, free) = (&mut micro_batches[index], &mut free[index]);
            if free.is_empty() || (!groups.is_empty() && below(2) == 0) {
                let group = below(groups.len());
                groups[group].sequences.push(SequenceIndex(sequence));
                continue;
            }
            let degree = 1 + below(free.len());
            let ranks = free
                .split_off(free.len() - degree)
                .into_iter()
                .map(Rank)
                .collect();
            let ulysses = (1..=heads.min(degree)).filter(|ulysses| degree % ulysses == 0);
            let ulysses: Vec<usize> = ulysses.collect();
            let ulysses = ulysses[below(ulysses.len())];
            let [ulysses, ring] =
                [ulysses, degree / ulysses].map(|part| Degree::new(part as u32).unwrap());
            let activations = Activations::ALL[below(3)];
            let strategy = Strategy::new(ulysses, ring, activations).unwrap();
            groups.push(Group {
                strategy,
                ranks,
                sequences: vec![SequenceIndex(sequence)],
            });
        }
        micro_batches.retain(|groups| !groups.is_empty());
        let plan = Plan::new(
            micro_batches
                .into_iter()
                .map(|groups| MicroBatch { groups })
                .collect(),
        );
        (num_ranks, seq_lens, plan)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_plan_gives_the_single_rank_gradient(
        (num_ranks, seq_lens, plan) in any_plan(8),
        kv_heads in prop::sample::select(vec![1usize, 2, 4, 8]),
    ) {
        let config = tiny_model(8, kv_heads, false);
        assert_same_gradients(&config, num_ranks, &plan, &batch(&seq_lens, config.vocab));
    }

    #[test]
    fn any_plan_of_any_family_and_any_labels_gives_the_single_rank_gradient(
        (num_ranks, seq_lens, plan) in any_plan(6),
        (family, layers) in (any::<prop::sample::Index>(), 1..=4usize),
        labelled in any::<u16>(),
    ) {
        let families = variants();
        let (_, config) = family.get(&families);
        // Windows name layers.
        let config = ModelConfig { layers: layers.max(config.layers), ..config.clone() };
        let whole = batch(&seq_lens, config.vocab);
        let labelled: Vec<usize> = (0..seq_lens.len()).filter(|index| labelled >> index & 1 == 1).collect();
        let masked = masked(&whole, &labelled);
        let has_labels = masked.num_labels() > 0;
        let batch = if has_labels { &masked } else { &whole };
        assert_same_gradients(&config, num_ranks, &plan, batch);
    }

    #[test]
    fn degrees_above_the_heads_give_the_single_rank_gradient(
        (num_ranks, seq_lens, plan) in any_plan(2),
    ) {
        let config = ModelConfig { layers: 3, ..tiny_model(2, 1, true) };
        assert_same_gradients(&config, num_ranks, &plan, &batch(&seq_lens, config.vocab));
    }
}
