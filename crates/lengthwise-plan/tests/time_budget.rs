//! Time budgets are kept, and a plan is there soon.

mod common;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, PlanRules, Speed, StrategyKind,
    StrategySpace,
};
use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
use lengthwise_plan::{PlannerKind, PlannerOptions, StopReason};

use common::Case;

/// Beyond a tenth of the budget, planning may take this part of the time that it takes without one: the clock is asked
/// between pieces of work, not within. With the largest budget this is still far from no budget at all.
const ALLOWANCE: f64 = 0.05;

/// A budget counts as kept if any of so many attempts keeps it: others share the processor.
const NUM_ATTEMPTS: usize = 25;

/// Held while a test measures, as tests that run at once slow each other.
static PROCESSOR: Mutex<()> = Mutex::new(());

/// Long-tailed lengths on nodes of 8 equal devices.
fn case(num_sequences: u64, num_devices: u32) -> Case {
    // The low-discrepancy sequence of the golden ratio, through the inverse of a Pareto distribution.
    let lens = (1..=num_sequences).map(|index| {
        let share = (index as f64 * 0.618_033_988_749_894_9).fract();
        (400.0 * (1.0 - share).powf(-0.9)).min(200_000.0) as u64
    });
    let degree = |degree| Degree::new(degree).unwrap();
    let degrees = [1, 2, 4, 8, 16, 32, 64].map(degree);
    let device = Device::new(Bytes(30 << 30), Speed::NOMINAL);
    Case {
        batch: GlobalBatch::from_lens(lens).unwrap(),
        cluster: Cluster::uniform(num_devices / 8, 8, device).unwrap(),
        cost: FittedModel::new(FittedCosts {
            fixed_memory_bytes: 2e9,
            micro_batch_overhead_s: 0.6,
            ..FittedCosts::of_kind(
                StrategyKind::ulysses(Activations::Recompute),
                KindCosts {
                    quadratic_s_per_token2: 5e-9,
                    linear_s_per_token: 1.8e-4,
                    exchange_s_per_token: vec![(degree(2), 1.7e-5), (degree(8), 2e-5)],
                    many_nodes_exchange_s_per_token: vec![(degree(16), 2e-4), (degree(64), 4e-4)],
                    memory_bytes_per_token: vec![(Degree::ONE, 4.7e6)],
                    ..KindCosts::default()
                },
            )
        })
        .unwrap(),
        space: StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
        rules: PlanRules::default(),
    }
}

/// Plans with these options: how long that took, and why it stopped. The plan must be valid.
fn timed(case: &Case, options: PlannerOptions) -> (Duration, StopReason) {
    let planner = PlannerKind::Adaptive.planner_with(options);
    let started = Instant::now();
    let planned = planner.plan(case.problem()).unwrap();
    let taken = started.elapsed();
    let valid = case.validate(&planned.plan);
    assert_eq!(valid, Ok(()));
    (taken, planned.report.stop_reason)
}

/// How planning stopped with this share of the time as budget that it takes without one.
///
/// Each attempt takes that time anew, before and after: a processor that others slow down slows all three.
///
/// # Panics
///
/// No attempt kept its budget.
fn stop_within(case: &Case, share: f64) -> StopReason {
    let _alone = PROCESSOR.lock().unwrap_or_else(PoisonError::into_inner);
    let unlimited = || timed(case, PlannerOptions::default()).0;
    let mut before = unlimited();
    let mut attempts = Vec::new();
    for _ in 0..NUM_ATTEMPTS {
        let budget = before.mul_f64(share);
        let options = PlannerOptions::default().with_time_budget(budget);
        let (taken, reason) = timed(case, options);
        let after = unlimited();
        if taken <= budget.mul_f64(1.1) + before.min(after).mul_f64(ALLOWANCE) {
            return reason;
        }
        attempts.push((taken, budget, before, after));
        before = after;
    }
    panic!("{share} of the time: none of these kept its budget: {attempts:?}");
}

#[test]
fn a_budget_is_kept_within_a_tenth() {
    for (num_sequences, num_devices) in [(60, 8), (512, 64), (2048, 256)] {
        let case = case(num_sequences, num_devices);
        for share in [0.1, 0.3, 0.7] {
            let reason = stop_within(&case, share);
            // A tenth of the time is a plan, and one that says what it lacks.
            let size = format!("{num_sequences} sequences on {num_devices} devices");
            assert!(share > 0.2 || reason != StopReason::Converged, "{size}");
        }
    }
}

#[test]
fn tiny_batches_keep_budgets_too() {
    // Unlike devices make the enumeration of 7 sequences take as long as it may.
    let devices = (0..8).map(|index| {
        Device::new(
            Bytes(30 << 30),
            Speed::new(1.0 + 0.01 * f64::from(index / 4)).unwrap(),
        )
    });
    let tiny = Case {
        batch: GlobalBatch::from_lens([9000, 5100, 4100, 3300, 2700, 1900, 1300]).unwrap(),
        cluster: Cluster::from_nodes(vec![devices.collect()]).unwrap(),
        ..case(8, 8)
    };
    let (_, reason) = timed(&tiny, PlannerOptions::default());
    assert_eq!(reason, StopReason::Optimal);
    assert_ne!(stop_within(&tiny, 0.25), StopReason::OverBudget);
}

#[test]
fn a_budget_that_no_draft_keeps_is_said_to_be_exceeded() {
    let options = PlannerOptions::default().with_time_budget(Duration::from_micros(1));
    let (_, reason) = timed(&case(2048, 256), options);
    assert_eq!(reason, StopReason::OverBudget);
}
