//! Which limit of groups binds first, and rules that no plan can keep.

use lengthwise_core::{Degree, PlanRules};

use crate::bound::{micro_batches_by, usable_devices};
use crate::instance::{Instance, Limit};
use crate::{PlanError, Problem};

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
                IDLE,
                format!("{num_ranks} ranks are no sum of degrees out of {degrees}"),
            ));
        }
        groups_needed = least_groups(instance, num_ranks);
        if groups_needed as usize > num_sequences {
            return Err(cannot_be_kept(
                IDLE,
                format!(
                    "{num_ranks} ranks make at least {groups_needed} groups of degrees out of {degrees}, and the batch \
                     has {num_sequences} sequences"
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
            MULTIPLE,
            format!(
                "{multiple_of} micro-batches{idle} need {needed} sequences, and the batch has {num_sequences}"
            ),
        ));
    }
    Ok(())
}

/// Refuses rules that allow no degree there is.
pub(crate) fn check_degrees(problem: Problem<'_>) -> Result<(), PlanError> {
    let allowed = |degree: &Degree| problem.rules.allows_degree(*degree);
    if problem.space.degrees().any(|degree| allowed(&degree)) && problem.rules.min_degree.get() == 1
    {
        return Ok(());
    }
    let degrees: Vec<String> = problem.space.degrees().map(|d| d.to_string()).collect();
    Err(cannot_be_kept(
        DEGREES,
        format!(
            "groups may have only {}, and the degrees for {} ranks are {}",
            problem.rules.allowed_degrees(),
            problem.cluster.num_devices(),
            degrees.join(", ")
        ),
    ))
}

/// The error for a sequence of `class` that has more tokens than even a group of `shape` may have.
pub(crate) fn too_many_tokens(instance: &Instance<'_>, shape: usize, class: usize) -> PlanError {
    let figures = &instance.shapes[shape];
    let tokens_per_rank = figures.most_tokens / u64::from(figures.degree);
    cannot_be_kept(
        TOKENS,
        format!(
            "sequence {} has {} tokens; at {tokens_per_rank} a rank, degree {}, the largest there is, holds {}",
            instance.members(class)[0],
            instance.class_lens[class],
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

const IDLE: &str = "no idle rank";
const DEGREES: &str = "allowed degrees";
const TOKENS: &str = "tokens a rank";
const MULTIPLE: &str = "a multiple of micro-batches";

fn cannot_be_kept(rule: &'static str, reason: String) -> PlanError {
    PlanError::RuleCannotBeKept { rule, reason }
}

/// The error where drafts were made and none of them could be changed to keep the rules.
pub(crate) fn no_plan_found(instance: &Instance<'_>) -> PlanError {
    PlanError::NoPlanKeepsRules {
        rules: in_words(&instance.problem.rules),
        num_sequences: instance.num_sequences(),
        num_ranks: instance.problem.cluster.num_devices(),
    }
}

/// The rules of a problem that say something, as a list to read.
pub(crate) fn in_words(rules: &PlanRules) -> String {
    let mut words = Vec::new();
    if rules.no_idle_ranks {
        words.push(IDLE.to_owned());
    }
    if rules.aligned_powers_of_two || rules.min_degree.get() > 1 {
        words.push(rules.allowed_degrees());
    }
    if let Some(cap) = rules.token_cap {
        words.push(format!("at most {} tokens a rank", cap.tokens_per_rank));
    }
    if rules.micro_batches_multiple_of.get() > 1 {
        words.push(format!(
            "micro-batches in multiples of {}",
            rules.micro_batches_multiple_of
        ));
    }
    if let Some(most) = rules.max_sequences_per_group {
        words.push(format!("at most {most} sequences a group"));
    }
    words.join(", ")
}
