//! Explanations say what planners do.

mod common;

use common::{Case, Size, cases, sample};
use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, Strategy,
    StrategyKind, StrategySpace, TokenCap, Tokens,
};
use lengthwise_cost::{FittedCosts, FittedModel, HostCosts, KindCosts};
use lengthwise_plan::{Adaptive, Choice, Obstacle, PlanError, Planner, PlannerOptions};
use lengthwise_plan::{Setting, Static, TokenLimit};

const SIZE: Size = Size {
    num_nodes: 3,
    devices_per_node: 4,
    num_sequences: 6,
    seq_len: 60_000,
};

fn setting(case: &Case, rules: PlanRules) -> Setting<'_> {
    Setting {
        cluster: &case.cluster,
        cost: &case.cost,
        space: &case.space,
        rules,
    }
}

/// The same problem with only one sequence.
fn alone(case: &Case, seq_len: Tokens) -> Case {
    Case {
        batch: GlobalBatch::new(vec![seq_len]).unwrap(),
        ..case.clone()
    }
}

fn is_possible(choice: &&Choice) -> bool {
    choice.obstacle.is_none()
}

fn degree(degree: u32) -> Degree {
    Degree::new(degree).unwrap()
}

#[test]
fn a_length_has_a_choice_if_it_can_be_planned_and_needs_the_degree_that_static_plans_take() {
    let (mut planned, mut refused) = (0, 0);
    for case in sample(cases(SIZE), 31, 150) {
        for &seq_len in case.batch.seq_lens() {
            let choices = setting(&case, PlanRules::default()).choices(seq_len);
            let needed = choices.iter().find(is_possible);
            let alone = alone(&case, seq_len);
            let plan = Adaptive::new(PlannerOptions::default()).plan(alone.problem());
            let Some(needed) = needed else {
                let is_refused = matches!(
                    plan,
                    Err(PlanError::DoesNotFit { .. } | PlanError::NoDegreeFits { .. })
                );
                assert!(is_refused, "{plan:?}");
                refused += 1;
                continue;
            };
            assert!(plan.is_ok(), "{plan:?} though {needed:?}");
            let plan = Static::longest_decides()
                .plan(alone.problem())
                .unwrap()
                .plan;
            let least = plan.degrees()[0][0];
            assert_eq!(least, needed.strategy.degree());
            planned += 1;
        }
    }
    assert!(planned > 100 && refused > 20, "{planned} {refused}");
}

#[test]
fn a_group_holds_its_token_budget_and_not_a_token_more() {
    let mut bounded = 0;
    for case in sample(cases(SIZE), 32, 100) {
        let setting = setting(&case, PlanRules::default());
        for degree in setting.degrees() {
            let budget = setting.token_budget(degree).unwrap();
            if budget.limit != Some(TokenLimit::Memory) || budget.tokens_per_group == Tokens(0) {
                continue;
            }
            let fits = |tokens: u64| {
                let alone = alone(&case, Tokens(tokens));
                let devices = case.cluster.devices().iter();
                let smallest = devices.map(|device| setting.cost.budget(device)).min();
                let needed = setting
                    .cost
                    .sequence_memory(budget.strategy, alone.batch.seq_lens()[0]);
                // Wherever there is more memory, more would fit.
                needed <= smallest.unwrap()
            };
            let tokens = budget.tokens_per_group.0;
            assert!(fits(tokens) && !fits(tokens + 1));
            let plan = Static::with_degree(degree).plan(alone(&case, Tokens(tokens)).problem());
            assert!(plan.is_ok(), "{plan:?}");
            let share = budget.tokens_per_device().0 * u64::from(degree.get());
            assert!(share <= tokens && tokens - share < u64::from(degree.get()));
            bounded += 1;
        }
    }
    assert!(bounded > 100, "{bounded}");
}

#[test]
fn rules_take_choices_away_and_say_why() {
    let case = sample(cases(SIZE), 33, 50)
        .find(|case| case.cluster.num_devices() >= 6 && case.space.degrees().count() >= 4)
        .unwrap();
    let rules = PlanRules {
        aligned_powers_of_two: true,
        min_degree: degree(2),
        token_cap: Some(TokenCap {
            tokens_per_rank: Tokens(100),
            replaces_memory: true,
        }),
        ..PlanRules::default()
    };
    let setting = setting(&case, rules);
    for choice in setting.choices(Tokens(250)) {
        let degree = choice.strategy.degree().get();
        let told = choice.obstacle.as_ref().map(Obstacle::to_string);
        let expected = match degree {
            2 => Some("250 tokens are more than the 200 that the rules allow"),
            degree if degree >= 2 && degree.is_power_of_two() => None,
            _ => Some("the rules allow only powers of two from 2 on"),
        };
        assert_eq!(told.as_deref(), expected, "degree {degree}");
    }
    for allowed in setting.degrees() {
        let budget = setting.token_budget(allowed).unwrap();
        assert_eq!(budget.tokens_per_device(), Tokens(100));
        assert_eq!(budget.limit, Some(TokenLimit::Rules));
    }
    let error = setting.token_budget(degree(3)).unwrap_err();
    assert!(
        matches!(error, PlanError::DegreeNotAvailable { degree: 3, .. }),
        "{error}"
    );
}

#[test]
fn a_token_cap_beside_memory_leaves_the_smaller_of_both() {
    let mut seen = std::collections::HashSet::new();
    for case in sample(cases(SIZE), 34, 100) {
        for tokens_per_rank in [10, 100_000_000].map(Tokens) {
            let without = setting(&case, PlanRules::default());
            let with = setting(
                &case,
                PlanRules {
                    token_cap: Some(TokenCap {
                        tokens_per_rank,
                        replaces_memory: false,
                    }),
                    ..PlanRules::default()
                },
            );
            for degree in with.degrees() {
                let by_memory = without.token_budget(degree).unwrap().tokens_per_group;
                let by_rules = tokens_per_rank.0 * u64::from(degree.get());
                let budget = with.token_budget(degree).unwrap();
                assert_eq!(budget.tokens_per_group, by_memory.min(Tokens(by_rules)));
                seen.insert(format!("{:?}", budget.limit));
            }
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

/// 2 bytes a token on devices that have 1,000, and 1 byte on hosts of which each device has as much as is said.
fn on_hosts(activations: &[Activations], host_memory: u64, seq_len: u64) -> Case {
    let costs = |&activations: &Activations| {
        let is_on_host = activations == Activations::Host;
        let costs = KindCosts {
            linear_s_per_token: 1e-3,
            memory_bytes_per_token: vec![(degree(1), if is_on_host { 2.0 } else { 20.0 })],
            host: is_on_host.then_some(HostCosts {
                forward_share: 0.25,
                copy_s_per_token: 1e-5,
                bytes_per_token: 1.0,
            }),
            ..KindCosts::default()
        };
        (StrategyKind::ulysses(activations), costs)
    };
    let device = Device::new(Bytes(1000), Speed::NOMINAL).with_host_memory(Bytes(host_memory));
    let strategies = [1, 2].map(degree).into_iter().flat_map(|degree| {
        let activations = activations.iter();
        activations.map(move |&activations| Strategy::ulysses(degree, activations))
    });
    Case {
        batch: GlobalBatch::new(vec![Tokens(seq_len)]).unwrap(),
        cluster: Cluster::uniform(1, 2, device).unwrap(),
        cost: FittedModel::new(FittedCosts {
            kinds: activations.iter().map(costs).collect(),
            ..FittedCosts::default()
        })
        .unwrap(),
        space: StrategySpace::new(strategies).unwrap(),
        rules: PlanRules::default(),
    }
}

#[test]
fn a_host_without_memory_takes_choices_away_and_says_why() {
    let only_host = [Activations::Host];
    let told = |case: &Case| {
        let choices = setting(case, PlanRules::default()).choices(case.batch.seq_lens()[0]);
        let told = choices.iter().map(|choice| choice.obstacle.as_ref());
        told.map(|obstacle| obstacle.map(Obstacle::to_string))
            .collect::<Vec<_>>()
    };
    let refused = |case: &Case| {
        let planned = Adaptive::new(PlannerOptions::default()).plan(case.problem());
        planned
            .err()
            .map(|error| format!("{error}; {}", error.hint().unwrap()))
    };
    let case = on_hosts(&only_host, 100, 150);
    assert_eq!(
        told(&case),
        [
            Some(
                "150 B of host memory for each device are more than the 100 B that it has of its host"
                    .to_owned()
            ),
            None
        ]
    );
    assert_eq!(refused(&case), None);
    let case = on_hosts(&only_host, 100, 250);
    assert!(told(&case).iter().all(Option::is_some));
    assert_eq!(
        refused(&case).unwrap(),
        "sequence 0 of 250 tokens needs 125 B of host memory for each device even at degree 2, the best there is; \
         the budget is 100 B; leave 125 B of hosts for each device to sequences (25 B more), or shorten the context"
    );
    // Recomputing alone lacks more.
    let both = [Activations::Recompute, Activations::Host];
    assert_eq!(refused(&on_hosts(&both, 100, 250)), refused(&case));
    let refusal = refused(&on_hosts(&both[..1], 100, 250)).unwrap();
    assert!(
        refusal.starts_with("sequence 0 of 250 tokens needs 2.44 KiB on each device"),
        "{refusal}"
    );
}
