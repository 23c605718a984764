//! The arguments and results of every planner.

use std::time::{Duration, Instant};

use lengthwise_certificate::Certificate;
use lengthwise_core::{Cluster, Degree, GlobalBatch, Plan, PlanRules, Seconds, StrategySpace};
use lengthwise_cost::{CostModel, predict_step};

use crate::PlanError;
use crate::bound::{Effort, LowerBound, lower_bound};
use crate::certificate::Certified;
use crate::draft::Draft;
use crate::instance::Instance;

/// All that a plan may depend on.
#[derive(Clone, Copy)]
pub struct Problem<'a> {
    /// The lengths to plan for.
    pub batch: &'a GlobalBatch,
    /// Where the step will run.
    pub cluster: &'a Cluster,
    /// The costs of sequences on it.
    pub cost: &'a dyn CostModel,
    /// The strategies to choose from.
    pub space: &'a StrategySpace,
    /// The rules of plans beyond memory.
    pub rules: PlanRules,
}

/// A way of choosing plans.
pub trait Planner: Send + Sync {
    /// The name it has on the command line and in reports.
    fn name(&self) -> &'static str;

    /// Chooses a plan that passes [`Plan::validate`] for this problem.
    ///
    /// # Errors
    ///
    /// The batch can't be planned: some sequence fits no group of the cluster.
    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError>;

    /// The same plan, with the certificate of its bound ([`Planned::certificate`]) where the planner keeps proofs.
    ///
    /// # Errors
    ///
    /// As [`Planner::plan`].
    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan(problem)
    }
}

/// A plan and what is known of it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The decision.
    pub plan: Plan,
    /// How good it is and how it came about.
    pub report: PlanReport,
    /// The rest of a certificate, if one was asked for.
    pub(crate) certified: Option<Box<Certified>>,
}

impl Planned {
    /// A finished draft, the best of `num_drafts`, with the figures of its plan and a bound that `effort` is spent on.
    pub(crate) fn of(
        draft: Draft,
        instance: &Instance<'_>,
        num_drafts: usize,
        effort: Effort,
        started: Instant,
    ) -> Self {
        let bound = |known| lower_bound(instance, known, effort);
        Self::with_bound(draft, instance, num_drafts, bound, started)
    }

    /// The same with a bound found otherwise, given the step time.
    pub(crate) fn with_bound(
        draft: Draft,
        instance: &Instance<'_>,
        num_drafts: usize,
        bound: impl FnOnce(f64) -> LowerBound,
        started: Instant,
    ) -> Self {
        let plan = draft.into_plan(instance);
        Self::of_plan(plan, instance, num_drafts, bound, started)
    }

    /// The same for a plan that is no draft.
    pub(crate) fn of_plan(
        plan: Plan,
        instance: &Instance<'_>,
        num_drafts: usize,
        bound: impl FnOnce(f64) -> LowerBound,
        started: Instant,
    ) -> Self {
        let Problem {
            batch,
            cluster,
            cost,
            ..
        } = instance.problem;
        let predicted_step = predict_step(&plan, batch, cluster, cost);
        let LowerBound {
            bound,
            num_bounds,
            proof,
        } = bound(predicted_step.get());
        let is_optimal = bound >= predicted_step.get() * (1.0 - OPTIMAL);
        Planned {
            plan,
            report: PlanReport {
                predicted_step,
                lower_bound: Seconds::new(bound).unwrap_or(Seconds::ZERO),
                bounded_degrees: None,
                stop_reason: if is_optimal {
                    StopReason::Optimal
                } else {
                    StopReason::Converged
                },
                solve_time: started.elapsed().into(),
                tried: Attempts {
                    num_drafts,
                    num_bounds,
                    ..Attempts::default()
                },
            },
            certified: proof.map(|proof| Box::new(Certified::new(instance, bound, proof))),
        }
    }

    /// The plan with its bound and why that holds, for [`lengthwise_certificate::verify`]; `None` unless it was planned by
    /// [`Planner::plan_certified`].
    ///
    /// The bound is the reported one. Only of plans that were found by enumeration, which is no proof that could be checked in
    /// less time, it may be lower.
    pub fn certificate(&self) -> Option<Certificate> {
        let certified = self.certified.as_ref()?;
        Some(certified.certificate(&self.plan, self.report.predicted_step))
    }
}

impl Planned {
    /// Takes the plan of another search if it is faster; the bound stays that of all plans.
    pub(crate) fn improve(&mut self, other: Planned) {
        self.report.tried.num_drafts += other.report.tried.num_drafts;
        self.report.tried.num_bounds += other.report.tried.num_bounds;
        self.take_if_faster(other.plan, other.report.predicted_step);
    }

    /// Takes a plan that came about otherwise if it is faster.
    pub(crate) fn improve_by(&mut self, plan: Plan, problem: Problem<'_>) {
        let predicted_step = predict_step(&plan, problem.batch, problem.cluster, problem.cost);
        self.take_if_faster(plan, predicted_step);
    }

    fn take_if_faster(&mut self, plan: Plan, predicted_step: Seconds) {
        if predicted_step >= self.report.predicted_step {
            return;
        }
        self.plan = plan;
        self.report.predicted_step = predicted_step;
        if self.report.lower_bound.get() >= self.report.predicted_step.get() * (1.0 - OPTIMAL) {
            self.report.stop_reason = StopReason::Optimal;
        }
    }
}

/// A plan within this part of its bound counts as optimal: sums differ in their last digits.
const OPTIMAL: f64 = 1e-9;

/// How good a plan is and how it came about.
#[derive(Clone, Debug)]
pub struct PlanReport {
    /// The step's time by the cost model.
    pub predicted_step: Seconds,
    /// No plan of the strategy space, or of `bounded_degrees`, can be predicted to take less.
    pub lower_bound: Seconds,
    /// The degrees of the plans that the bound holds for, where a bound on communicators leaves some out.
    pub bounded_degrees: Option<Vec<Degree>>,
    /// Why the planner returned when it did.
    pub stop_reason: StopReason,
    /// How long planning took.
    pub solve_time: Seconds,
    /// The attempts behind it.
    pub tried: Attempts,
}

/// The attempts of a planner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Plans that were drawn up, at least in outline.
    pub num_drafts: usize,
    /// Sets of plans that were bounded, each by prices of its own or of the set it is a part of.
    pub num_bounds: usize,
    /// MILPs that a limit stopped before their optimum was proven.
    pub num_stopped_milps: usize,
}

impl PlanReport {
    /// By how much the plan may at most exceed the best one: `(predicted - bound) / bound`; `None` for a bound of 0.
    pub fn gap(&self) -> Option<f64> {
        let slack = self.predicted_step - self.lower_bound;
        (self.lower_bound > Seconds::ZERO).then(|| slack / self.lower_bound)
    }

    /// Says so where planning ended for lack of time.
    pub(crate) fn note_time_budget(&mut self, out_of_time: bool) {
        if out_of_time && self.stop_reason == StopReason::Converged {
            self.stop_reason = StopReason::TimeBudget;
        }
    }

    /// Says so where even the least that there must be took more than the time budget, and a tenth.
    pub(crate) fn compare_with(&mut self, time_budget: Option<Duration>) {
        let is_over = time_budget.is_some_and(|budget| {
            self.solve_time.get() > budget.as_secs_f64() * (1.0 + BUDGET_TOLERANCE)
        });
        if is_over && self.stop_reason != StopReason::Optimal {
            self.stop_reason = StopReason::OverBudget;
        }
    }
}

/// Time budgets are kept within this part of them, or the time of one draft if that is longer.
const BUDGET_TOLERANCE: f64 = 0.1;

/// Why a planner returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The plan meets the bound: no other can be better.
    Optimal,
    /// Nothing the planner tries improves the plan further.
    Converged,
    /// The time budget was used up.
    TimeBudget,
    /// One draft and its bound alone took more than the time budget, and a tenth.
    OverBudget,
}

impl StopReason {
    /// Its name in plans and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            StopReason::Optimal => "optimal",
            StopReason::Converged => "converged",
            StopReason::TimeBudget => "time_budget",
            StopReason::OverBudget => "over_time_budget",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_are_passed_by_more_than_a_tenth_are_reported() {
        let second = Some(Duration::from_secs(1));
        let compared = |solve_time, stop_reason, budget| {
            let mut report = PlanReport {
                predicted_step: Seconds::ZERO,
                lower_bound: Seconds::ZERO,
                bounded_degrees: None,
                stop_reason,
                solve_time: Seconds::new(solve_time).unwrap(),
                tried: Attempts::default(),
            };
            report.compare_with(budget);
            report.stop_reason
        };
        let converged = StopReason::Converged;
        assert_eq!(
            compared(1.0 + BUDGET_TOLERANCE, converged, second),
            converged
        );
        assert_eq!(compared(1.11, converged, second), StopReason::OverBudget);
        assert_eq!(
            compared(1.11, StopReason::Optimal, second),
            StopReason::Optimal
        );
        assert_eq!(compared(1.11, converged, None), converged);
    }
}
