//! The planner `megatron`: the recorded batches, what it can't plan, and what all its plans have in common.

mod common;

use std::num::NonZero;
use std::path::Path;

use common::recorded_lens;
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace, TokenCap, Tokens,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts, Profile};
use lengthwise_plan::{MegatronLimit, PlanError, Planned, PlannerKind, Problem};
use proptest::collection::vec;
use proptest::prelude::*;

/// Batch, model, the most tokens of a rank that memory allows, and the predicted step in seconds of the plans that
/// Megatron-Core's own function returns, under the published costs.
const BATCHES: [(&str, &str, u64, f64); 6] = [
    ("cc_synth_384k_7b_0", "gpt-7b", 6_407, 7.910),
    ("github_synth_384k_7b_0", "gpt-7b", 6_407, 14.995),
    ("wikipedia_384k_13b_0", "gpt-13b", 6_427, 5.596),
    ("wikipedia_384k_7b_0", "gpt-7b", 6_407, 3.234),
    ("wikipedia_384k_7b_1", "gpt-7b", 6_407, 7.674),
    ("wikipedia_384k_7b_2", "gpt-7b", 6_407, 3.528),
];

fn degree(degree: u32) -> Degree {
    Degree::new(degree).unwrap()
}

#[test]
fn recorded_batches_take_as_long_as_by_its_own_function() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let space = [1, 2, 4, 8, 16, 32, 64].map(degree);
    let space = StrategySpace::ulysses(&space, Activations::Recompute).unwrap();
    for (name, model, tokens_per_rank, expected_s) in BATCHES {
        let profile = examples.join(format!("profiles/a100-{model}-384k.toml"));
        let profile = Profile::read(&profile).unwrap();
        let cluster = profile.cluster(None).unwrap();
        let cost = profile.model(&cluster).unwrap();
        let batch = GlobalBatch::from_lens(recorded_lens(name)).unwrap();
        let with_cap = |token_cap| Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules: PlanRules {
                no_idle_ranks: true,
                aligned_powers_of_two: true,
                token_cap,
                ..PlanRules::default()
            },
        };
        let planner = PlannerKind::Megatron.planner();
        let by_memory = planner.plan(with_cap(None)).unwrap();
        let predicted_s = by_memory.report.predicted_step.get();
        assert!(
            (predicted_s - expected_s).abs() < 0.0005,
            "{name}: {predicted_s} s"
        );
        assert!(by_memory.report.lower_bound <= by_memory.report.predicted_step);
        for replaces_memory in [false, true] {
            let by_rule = planner.plan(with_cap(Some(TokenCap {
                tokens_per_rank: Tokens(tokens_per_rank),
                replaces_memory,
            })));
            assert_eq!(by_rule.unwrap().plan, by_memory.plan, "{name}");
        }
    }
}

/// A problem of token counts alone, on nodes of up to 8 devices of 1 MB; a token takes a byte.
#[derive(Clone, Debug)]
struct Case {
    lens: Vec<u64>,
    num_ranks: u32,
    degrees: Vec<u32>,
    rules: PlanRules,
}

impl Case {
    fn new(lens: &[u64], num_ranks: u32, tokens_per_rank: u64) -> Self {
        Case {
            lens: lens.to_vec(),
            num_ranks,
            degrees: (1..=num_ranks).collect(),
            rules: PlanRules {
                token_cap: Some(TokenCap {
                    tokens_per_rank: Tokens(tokens_per_rank),
                    replaces_memory: true,
                }),
                ..PlanRules::default()
            },
        }
    }

    fn with_min_degree(mut self, min_degree: u32) -> Self {
        self.rules.min_degree = degree(min_degree);
        self
    }

    fn with_multiple_of(mut self, multiple_of: u32) -> Self {
        self.rules.micro_batches_multiple_of = NonZero::new(multiple_of).unwrap();
        self
    }

    /// Its plan, held to all rules.
    fn plan(&self) -> Result<Planned, PlanError> {
        let batch = GlobalBatch::from_lens(self.lens.clone()).unwrap();
        let per_node = (1..=8).rev().find(|d| self.num_ranks.is_multiple_of(*d));
        let per_node = per_node.unwrap();
        let device = Device::new(Bytes(1_000_000), Speed::NOMINAL);
        let cluster = Cluster::uniform(self.num_ranks / per_node, per_node, device).unwrap();
        let degrees: Vec<Degree> = self.degrees.iter().copied().map(degree).collect();
        let space = StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap();
        let cost = FittedModel::new(FittedCosts {
            micro_batch_overhead_s: 0.01,
            ..FittedCosts::of_kind(
                StrategyKind::ulysses(Activations::Recompute),
                KindCosts {
                    quadratic_s_per_token2: 1e-9,
                    linear_s_per_token: 1e-6,
                    exchange_s_per_token: vec![(degree(2), 1e-6)],
                    memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
                    ..KindCosts::default()
                },
            )
        })
        .unwrap();
        let problem = Problem {
            batch: &batch,
            cluster: &cluster,
            cost: &cost,
            space: &space,
            rules: self.rules,
        };
        let planned = PlannerKind::Megatron.planner().plan(problem)?;
        let checked = planned
            .plan
            .validate(&batch, &cluster, &space, &cost, &self.rules);
        assert_eq!(checked, Ok(()));
        Ok(planned)
    }

    fn limit(&self) -> MegatronLimit {
        match self.plan().unwrap_err() {
            PlanError::Megatron(limit) => limit,
            error => panic!("{error}"),
        }
    }

    /// Degrees and sequences of every group.
    fn groups(&self) -> Vec<Vec<(u32, Vec<u32>)>> {
        let planned = self.plan().unwrap();
        let micro_batches = planned.plan.micro_batches().iter();
        micro_batches
            .map(|micro_batch| {
                let groups = micro_batch.groups.iter();
                groups
                    .map(|group| {
                        let sequences = group.sequences.iter().map(|sequence| sequence.0);
                        (group.degree().get(), sequences.collect())
                    })
                    .collect()
            })
            .collect()
    }
}

#[test]
fn what_it_cannot_plan_is_said_with_what_would_help() {
    let capped_sequences = |mut case: Case| {
        case.rules.max_sequences_per_group = NonZero::new(1);
        case
    };
    let beyond_memory = |mut case: Case| {
        case.rules.token_cap = case.rules.token_cap.map(|cap| TokenCap {
            replaces_memory: false,
            ..cap
        });
        case
    };
    let powers = |mut case: Case| {
        case.rules.aligned_powers_of_two = true;
        case
    };
    let without_degree = |mut case: Case, degree| {
        case.degrees.retain(|&of| of != degree);
        case
    };
    let cases = [
        Case::new(&[50, 1_000], 6, 200),
        Case::new(&[200, 200, 200], 7, 100),
        Case::new(&[10, 10, 10], 6, 100)
            .with_min_degree(2)
            .with_multiple_of(2),
        Case::new(&[800, 800, 1], 4, 200).with_multiple_of(2),
        Case::new(&[400, 100], 10, 100)
            .with_min_degree(3)
            .with_multiple_of(2),
        without_degree(Case::new(&[300], 4, 200), 4),
        powers(Case::new(&[100], 3, 100)),
        capped_sequences(Case::new(&[10; 5], 4, 100)),
        beyond_memory(Case::new(&[2_000_000; 5], 4, 2_000_000)),
    ];
    let told: Vec<String> = cases
        .iter()
        .map(|case| {
            let error = case.plan().unwrap_err();
            format!("{error}\nhint: {}\n", error.hint().unwrap())
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn ranks_are_left_over_where_it_would_never_end() {
    // One of the halves is a group of 4 of 6 ranks, which its own function tries to double for ever.
    let case = Case::new(&[10, 10, 10], 6, 100).with_min_degree(2);
    assert_eq!(case.groups().len(), 1);
    assert!(matches!(
        case.with_multiple_of(2).limit(),
        MegatronLimit::RanksLeftOver { num_ranks: 6, .. }
    ));
}

#[test]
fn micro_batches_are_cut_at_the_middle_of_the_ranks() {
    let case = Case::new(&[10, 10, 10, 10], 4, 100);
    let alone = |sequence| (1, vec![sequence]);
    assert_eq!(
        case.groups(),
        [[alone(0), alone(1), alone(2), alone(3)].to_vec()]
    );
    let (two, other) = ([(2, vec![2]), (2, vec![3])], [(2, vec![0]), (2, vec![1])]);
    assert_eq!(
        case.clone().with_multiple_of(2).groups(),
        [two.to_vec(), other.to_vec()]
    );
    assert_eq!(case.with_multiple_of(4).groups().len(), 4);
}

fn cases() -> impl Strategy<Value = Case> {
    let lens = vec(
        prop_oneof![
            1u64..100,
            1u64..2_000,
            (0.0..12.0).prop_map(|log: f64| log.exp2() as u64)
        ],
        1..80,
    );
    let tokens = prop_oneof![1u64..64, 64u64..3_000];
    (lens, 1u32..=64, tokens, 0u32..3, 1u32..=4).prop_map(
        |(lens, num_ranks, tokens, log_min, multiple_of)| {
            Case::new(&lens, num_ranks, tokens)
                .with_min_degree(1 << log_min)
                .with_multiple_of(multiple_of)
        },
    )
}

/// The same on a power of two of ranks, with as many tokens as the longest sequence needs.
fn usual_cases() -> impl Strategy<Value = Case> {
    (cases(), 2u32..=6).prop_map(|(mut case, log)| {
        case.num_ranks = 1 << log;
        case.degrees = (0..=log).map(|log| 1 << log).collect();
        case.rules.micro_batches_multiple_of = NonZero::<u32>::MIN;
        case.rules.aligned_powers_of_two = true;
        case.rules.no_idle_ranks = true;
        let longest = case.lens.iter().copied().max().unwrap();
        let needed = longest.div_ceil(case.num_ranks.into());
        if let Some(cap) = &mut case.rules.token_cap {
            cap.tokens_per_rank.0 = cap.tokens_per_rank.0.max(needed);
        }
        case
    })
}

proptest! {
    /// `plan` checks that every sequence is in one group, and that caps, least degrees and multiples are kept.
    #[test]
    fn a_plan_keeps_every_rule_or_there_is_one_error(case in cases()) {
        match case.plan() {
            Ok(planned) => {
                let micro_batches = planned.plan.micro_batches();
                for micro_batch in micro_batches {
                    let ranks = micro_batch.groups.iter().flat_map(|group| &group.ranks);
                    let ranks: Vec<u32> = ranks.map(|rank| rank.0).collect();
                    let all: Vec<u32> = (0..case.num_ranks).collect();
                    prop_assert_eq!(ranks, all, "ranks idle, or groups are no runs");
                }
                prop_assert!(planned.report.lower_bound <= planned.report.predicted_step);
                prop_assert_eq!(case.plan().unwrap().plan, planned.plan);
            }
            Err(error) => prop_assert!(error.hint().is_some()),
        }
    }

    #[test]
    fn powers_of_two_of_ranks_have_an_aligned_plan_wherever_each_sequence_fits(case in usual_cases()) {
        prop_assert!(case.plan().is_ok(), "{:?}", case.plan());
    }
}
