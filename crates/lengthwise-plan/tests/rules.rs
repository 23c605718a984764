//! Plans of problems with rules, too large to enumerate: they keep the rules, and no bound exceeds another's plan.

mod common;

use common::{Case, Size, cases_with_rules, sample};
use lengthwise_core::{PlanRules, TokenCap, Tokens};
use lengthwise_plan::{Adaptive, PlanError, Planned, Planner, PlannerKind};

const SIZE: Size = Size {
    num_nodes: 5,
    devices_per_node: 8,
    num_sequences: 120,
    seq_len: 60_000,
};

const MANY: Size = Size {
    num_nodes: 2,
    devices_per_node: 4,
    num_sequences: 1500,
    seq_len: 20_000,
};

fn plan(planner: &dyn Planner, case: &Case) -> Result<Planned, PlanError> {
    let planned = planner.plan(case.problem())?;
    let valid = case.validate(&planned.plan);
    assert_eq!(valid, Ok(()), "{} on {case:?}", planner.name());
    Ok(planned)
}

/// How many of the problems the adaptive planner has plans for, and some other planner only.
fn count(cases: impl Iterator<Item = Case>) -> (usize, usize) {
    let (mut num_planned, mut num_missed) = (0, 0);
    for case in cases {
        let adaptive = plan(&Adaptive::default(), &case);
        let names = ["static", "batch-adaptive", "megatron"];
        let others = names.map(|name| {
            let planner: PlannerKind = name.parse().unwrap();
            plan(planner.planner().as_ref(), &case)
        });
        let others: Vec<Planned> = others.into_iter().flatten().collect();
        match adaptive {
            Ok(adaptive) => {
                num_planned += 1;
                let bound = adaptive.report.lower_bound.get();
                let time = adaptive.report.predicted_step.get();
                for other in &others {
                    let other_time = other.report.predicted_step.get();
                    assert!(bound <= other_time * (1.0 + 1e-9), "{case:?}");
                    assert!(
                        other.report.lower_bound.get() <= time * (1.0 + 1e-9),
                        "{case:?}"
                    );
                }
                let megatron = others.iter().filter(|_| case.rules.aligned_powers_of_two);
                let fastest = megatron.map(|other| other.report.predicted_step.get());
                let fastest = fastest.fold(f64::INFINITY, f64::min);
                assert!(
                    time <= fastest * (1.0 + 1e-9),
                    "{time} is above {fastest}: {case:?}"
                );
            }
            Err(_) => num_missed += usize::from(!others.is_empty()),
        }
    }
    (num_planned, num_missed)
}

#[test]
fn plans_keep_their_rules_and_are_no_slower_than_megatrons() {
    let (num_planned, num_missed) = count(sample(cases_with_rules(SIZE), 21, 400));
    assert!(num_planned > 100, "{num_planned}");
    assert_eq!(num_missed, 0);
}

#[test]
fn batches_of_many_micro_batches_keep_their_rules_too() {
    let (num_planned, num_missed) = count(sample(cases_with_rules(MANY), 22, 40));
    assert!(num_planned > 10, "{num_planned}");
    assert_eq!(num_missed, 0);
}

#[test]
fn a_cap_on_tokens_that_replaces_memory_frees_plans_from_it() {
    let (mut num_planned, mut num_freed) = (0, 0);
    for case in sample(cases_with_rules(SIZE), 23, 60) {
        let case = Case {
            rules: PlanRules::default(),
            ..case
        };
        let Ok(by_memory) = plan(&Adaptive::default(), &case) else {
            continue;
        };
        let cap = TokenCap {
            tokens_per_rank: Tokens(u64::MAX),
            replaces_memory: true,
        };
        let freed = Case {
            rules: PlanRules {
                token_cap: Some(cap),
                ..PlanRules::default()
            },
            ..case
        };
        let free = plan(&Adaptive::default(), &freed).unwrap();
        // Whether it would have been forbidden: what memory holds back is faster without.
        let by_memory_alone = free.plan.validate(
            &freed.batch,
            &freed.cluster,
            &freed.space,
            &freed.cost,
            &PlanRules::default(),
        );
        num_planned += 1;
        num_freed += usize::from(by_memory_alone.is_err());
        let (by_memory, free) = (by_memory.report, free.report);
        assert!(free.lower_bound <= by_memory.predicted_step);
        assert!(free.predicted_step.get() <= by_memory.predicted_step.get() * (1.0 + 1e-9));
    }
    assert!(
        num_planned > 20 && num_freed * 4 > num_planned,
        "{num_freed} of {num_planned} plans need more memory than there is"
    );
}
