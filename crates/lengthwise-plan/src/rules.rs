//! The limit of groups that binds first, and rules that no plan can keep.

use lengthwise_core::words::counted;
use lengthwise_core::{Degree, PlanRules, StrategySpace};

use crate::bound::{micro_batches_by, usable_devices};
use crate::instance::{Instance, Limit};
use crate::{PlanError, Planned, Problem, Rule};

/// The limit that asks for the most micro-batches; memory where none asks for more.
pub(crate) fn tightest_limit(instance: &Instance<'_>) -> Limit {
    let rules = &instance.problem.rules;
    let mut tightest = (Limit::Memory, f64::NEG_INFINITY);
    if rules.limits_memory() {
        tightest.1 = micro_batches_by(instance, Limit::Memory);
    }
    let others = [
        (rules.token_cap.is_some(), Limit::Tokens),
        (rules.max_sequences_per_group.is_some(), Limit::Sequences),
    ];
    for (is_limited, limit) in others {
        if is_limited {
            let num = micro_batches_by(instance, limit);
            if num > tightest.1 {
                tightest = (limit, num);
            }
        }
    }
    tightest.0
}

/// Refuses rules that no plan of the batch can keep, as far as that can be told without looking for one.
pub(crate) fn check_rules(instance: &Instance<'_>) -> Result<(), PlanError> {
    let rules = &instance.problem.rules;
    let num_ranks = instance.problem.cluster.num_devices();
    let num_sequences = instance.num_sequences();
    let multiple_of = rules.micro_batches_multiple_of.get();
    let mut groups_needed = 1;
    if rules.no_idle_ranks {
        let degrees = instance.available_degrees();
        let usable = usable_devices(instance);
        if usable[num_ranks as usize] < num_ranks {
            return Err(cannot_be_kept(
                Rule::NoIdleRanks,
                format!("{num_ranks} ranks are no sum of degrees out of {degrees}"),
            ));
        }
        groups_needed = least_groups(instance, num_ranks);
        if groups_needed as usize > num_sequences {
            return Err(cannot_be_kept(
                Rule::NoIdleRanks,
                format!(
                    "{num_ranks} ranks make at least {groups_needed} groups of degrees out of {degrees}, and the batch \
                     has {}",
                    counted(num_sequences as u64, "sequence")
                ),
            ));
        }
    }
    let needed = u64::from(multiple_of) * u64::from(groups_needed);
    if needed > num_sequences as u64 {
        let idle = if groups_needed > 1 {
            format!(", each of at least {groups_needed} groups so that no rank idles")
        } else {
            String::new()
        };
        return Err(cannot_be_kept(
            Rule::MicroBatchesMultipleOf,
            format!(
                "{}{idle} need {}, and the batch has {num_sequences}",
                counted(multiple_of, "micro-batch"),
                counted(needed, "sequence")
            ),
        ));
    }
    Ok(())
}

/// The strategies that the rules allow.
///
/// # Errors
///
/// There is none.
pub(crate) fn allowed_strategies(problem: Problem<'_>) -> Result<StrategySpace, PlanError> {
    check_degrees(problem)?;
    let degrees = problem.space.degrees();
    let allowed: Vec<Degree> = degrees
        .filter(|&d| problem.rules.allows_degree(d))
        .collect();
    let space = problem.space.restricted_to(&allowed);
    space.map_err(|error| cannot_be_kept(Rule::Degrees, error.to_string()))
}

/// Refuses rules that allow no degree there is.
pub(crate) fn check_degrees(problem: Problem<'_>) -> Result<(), PlanError> {
    let num_ranks = problem.cluster.num_devices();
    let mut degrees = problem.space.degrees();
    if degrees.any(|degree| problem.rules.allows_degree(degree) && degree.get() <= num_ranks) {
        return Ok(());
    }
    // Without rules, it is the cluster that is too small.
    if problem.rules.allowed_degrees() == PlanRules::default().allowed_degrees() {
        return Ok(());
    }
    let degrees: Vec<String> = problem.space.degrees().map(|d| d.to_string()).collect();
    Err(cannot_be_kept(
        Rule::Degrees,
        format!(
            "groups may have only {}, and the degrees for {} are {}",
            problem.rules.allowed_degrees(),
            counted(num_ranks, "rank"),
            degrees.join(", ")
        ),
    ))
}

/// The error for a sequence of `class` that has more tokens than even a group of `shape` may have.
pub(crate) fn too_many_tokens(instance: &Instance<'_>, shape: usize, class: usize) -> PlanError {
    let figures = &instance.shapes[shape];
    let tokens_per_rank = figures.most_tokens / u64::from(figures.degree);
    cannot_be_kept(
        Rule::TokensPerRank,
        format!(
            "sequence {} has {}; at {tokens_per_rank} a rank, degree {}, the largest there is, holds {}",
            instance.members(class)[0],
            counted(instance.class_lens[class].0, "token"),
            figures.degree,
            figures.most_tokens
        ),
    )
}

/// The least number of groups that have all ranks, given that some do.
fn least_groups(instance: &Instance<'_>, num_ranks: u32) -> u32 {
    let mut degrees: Vec<u32> = instance.shapes.iter().map(|shape| shape.degree).collect();
    degrees.dedup();
    let mut least = vec![u32::MAX; num_ranks as usize + 1];
    least[0] = 0;
    for ranks in 1..=num_ranks as usize {
        let smaller = degrees.iter().filter(|&&degree| degree as usize <= ranks);
        let groups = smaller.map(|&degree| least[ranks - degree as usize].saturating_add(1));
        least[ranks] = groups.min().unwrap_or(u32::MAX);
    }
    least[num_ranks as usize]
}

fn cannot_be_kept(rule: Rule, reason: String) -> PlanError {
    PlanError::RuleCannotBeKept { rule, reason }
}

/// The error where drafts were made and none of them could be changed to keep the rules.
pub(crate) fn no_plan_found(instance: &Instance<'_>) -> PlanError {
    PlanError::NoPlanKeepsRules {
        rules: instance.problem.rules,
        num_sequences: instance.num_sequences(),
        num_ranks: instance.problem.cluster.num_devices(),
    }
}

/// A plan of a planner that does not heed all rules, if it keeps them.
///
/// # Errors
///
/// The rule that it breaks.
pub(crate) fn keeping_rules(
    planned: Planned,
    problem: Problem<'_>,
    planner: &'static str,
) -> Result<Planned, PlanError> {
    let checked = problem
        .rules
        .check(&planned.plan, problem.batch, problem.cluster);
    checked.map_err(|violation| PlanError::BreaksRule { planner, violation })?;
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;

    use lengthwise_core::{
        Activations, Bytes, Cluster, Device, GlobalBatch, Speed, StrategyKind, TokenCap, Tokens,
    };
    use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};

    use super::*;
    use crate::common::Case;

    /// So many sequences of 10 tokens, a byte each, on one node of so many devices.
    fn case(num_sequences: usize, num_devices: u32, degrees: &[u32], rules: PlanRules) -> Case {
        let costs = KindCosts {
            linear_s_per_token: 1e-6,
            memory_bytes_per_token: vec![(Degree::ONE, 1.0)],
            ..KindCosts::default()
        };
        let kind = StrategyKind::ulysses(Activations::Recompute);
        let degrees: Vec<Degree> = degrees.iter().map(|&d| Degree::new(d).unwrap()).collect();
        let device = Device::new(Bytes(100), Speed::NOMINAL);
        Case {
            batch: GlobalBatch::from_lens(vec![10; num_sequences]).unwrap(),
            cluster: Cluster::uniform(1, num_devices, device).unwrap(),
            cost: FittedModel::new(FittedCosts::of_kind(kind, costs)).unwrap(),
            space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
            rules,
        }
    }

    fn refusal(case: &Case) -> Option<String> {
        Instance::new(case.problem())
            .err()
            .map(|error| error.to_string())
    }

    fn rules(no_idle_ranks: bool, multiple: u32) -> PlanRules {
        PlanRules {
            no_idle_ranks,
            micro_batches_multiple_of: NonZero::new(multiple).unwrap(),
            ..PlanRules::default()
        }
    }

    #[test]
    fn batches_of_too_few_sequences_for_busy_ranks_are_refused() {
        // Seven ranks are 4 + 2 + 1 at the least.
        for num_devices in 1..=12u32 {
            let needed = num_devices / 4 + (num_devices % 4).count_ones();
            for num_sequences in 1..=8 {
                let case = case(num_sequences, num_devices, &[1, 2, 4], rules(true, 1));
                let refusal = refusal(&case);
                let is_refused = (num_sequences as u32) < needed;
                assert_eq!(
                    refusal.is_some(),
                    is_refused,
                    "{num_sequences} on {num_devices}"
                );
                if let Some(refusal) = refusal {
                    let groups = format!("{num_devices} ranks make at least {needed} groups");
                    assert!(refusal.contains(&groups), "{refusal}");
                }
            }
        }
    }

    #[test]
    fn ranks_that_no_degrees_add_up_to_are_refused() {
        for (num_devices, degrees, is_sum) in [
            (6, &[4][..], false),
            (8, &[4], true),
            (7, &[2, 4], false),
            (7, &[2, 3], true),
            (1, &[1], true),
        ] {
            let [busy, idle] =
                [true, false].map(|busy| refusal(&case(8, num_devices, degrees, rules(busy, 1))));
            assert_eq!(busy.is_none(), is_sum, "{num_devices}: {busy:?}");
            assert_eq!(idle, None);
        }
    }

    #[test]
    fn each_of_the_micro_batches_asked_for_needs_its_groups() {
        for (multiple, num_devices, groups) in [(2, 4, 1), (3, 4, 1), (2, 7, 3), (3, 6, 2)] {
            let needed = multiple as usize * groups;
            for (busy, needed) in [(true, needed), (false, multiple as usize)] {
                let of = |num| case(num, num_devices, &[1, 2, 4], rules(busy, multiple));
                assert_eq!(refusal(&of(needed)), None);
                let refusal = refusal(&of(needed - 1)).expect("one is missing");
                let need = format!("need {needed} sequences");
                let idle = format!("each of at least {groups} groups");
                // Fewer than one micro-batch needs are refused for their ranks.
                if !busy || needed > groups {
                    assert!(refusal.contains(&need), "{refusal}");
                    assert_eq!(refusal.contains(&idle), busy && groups > 1, "{refusal}");
                }
            }
        }
    }

    #[test]
    fn the_limit_that_asks_for_the_most_micro_batches_is_the_tightest() {
        let capped = |tokens, replaces_memory| PlanRules {
            token_cap: Some(TokenCap {
                tokens_per_rank: Tokens(tokens),
                replaces_memory,
            }),
            ..PlanRules::default()
        };
        let most = |num| PlanRules {
            max_sequences_per_group: NonZero::new(num),
            ..PlanRules::default()
        };
        let both = PlanRules {
            max_sequences_per_group: NonZero::new(2),
            ..capped(50, false)
        };
        // Memory holds ten sequences of each rank.
        for (rules, limit) in [
            (PlanRules::default(), Limit::Memory),
            (capped(50, false), Limit::Tokens),
            (capped(5000, false), Limit::Memory),
            (capped(5000, true), Limit::Tokens),
            (most(3), Limit::Sequences),
            (most(1000), Limit::Memory),
            (both, Limit::Sequences),
        ] {
            let case = case(100, 4, &[1, 2, 4], rules);
            let instance = Instance::new(case.problem()).unwrap();
            assert_eq!(tightest_limit(&instance), limit, "{rules:?}");
        }
    }
}
