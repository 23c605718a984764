//! What a planner comes to in a setting, over several batches.

use lengthwise_core::{Degree, GlobalBatch, PlanRules, Seconds};
use lengthwise_inputs::Costs;
use lengthwise_plan::{PlanError, Planned, PlannerKind, PlannerOptions, Problem};
use lengthwise_sim::{Overlap, simulate};
use serde::Serialize;

use super::space_part::SpacePart;
use super::static_degree::static_degree;

/// Layers that a simulated step has where a profile doesn't say how many the model has. With measured costs the times
/// do not depend on it.
const SIMULATED_LAYERS: u32 = 4;

/// What a planner is in a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contender {
    pub(super) kind: PlannerKind,
    pub(super) options: PlannerOptions,
    /// The degrees it may use, where not all of the setting.
    pub(super) degrees: Option<Vec<Degree>>,
    /// The part of the setting's strategies that it may use, where not all.
    pub(super) part: Option<SpacePart>,
    /// What its plans have to keep.
    pub(super) rules: PlanRules,
}

/// What one planner made of one batch.
#[derive(Clone, Debug)]
pub(super) struct OfBatch {
    pub(super) tokens: f64,
    pub(super) predicted_s: f64,
    pub(super) simulated_s: f64,
    pub(super) communication_s: f64,
    pub(super) idle_s: f64,
    pub(super) device_s: f64,
    pub(super) gap: Option<f64>,
    pub(super) solve_s: f64,
    pub(super) num_micro_batches: usize,
    pub(super) num_stopped_milps: usize,
}

/// What one planner comes to in a setting: means over its batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    /// Of a step, by the cost model.
    pub(super) predicted_s: f64,
    /// Of the same step, simulated.
    pub(super) simulated_s: f64,
    pub(super) tokens_per_s_per_device: f64,
    /// The part of all device time in which ranks wait for what is on its way: exchanges, and, where bytes move over
    /// described links, gathers and scatters too.
    pub(super) communication_share: f64,
    /// The part of all device time in which ranks wait for others.
    pub(super) idle_share: f64,
    /// By how much the plans may at most exceed the best ones.
    pub(super) gap: Option<f64>,
    pub(super) solve_s: f64,
    pub(super) micro_batches: f64,
    /// Of all batches: MILPs that a limit stopped before their optimum was proven.
    #[serde(skip)]
    pub(super) num_stopped_milps: usize,
}

/// Why a planner has no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPlan {
    /// Some sequence, or the longest permitted, has no room.
    OutOfMemory(String),
    /// Anything else.
    Other(String),
}

impl NoPlan {
    /// The reason, to read.
    pub(super) fn reason(&self) -> &str {
        match self {
            NoPlan::OutOfMemory(reason) | NoPlan::Other(reason) => reason,
        }
    }
}

/// An error that has nothing to do with memory.
fn other(error: impl ToString) -> NoPlan {
    NoPlan::Other(error.to_string())
}

impl Contender {
    /// Plans a batch and simulates the step; or says why there is no plan.
    pub(super) fn figures(&self, costs: &Costs, batch: &GlobalBatch) -> Result<OfBatch, NoPlan> {
        let kind = match self.kind {
            PlannerKind::Static(None) => {
                PlannerKind::Static(Some(static_degree(costs).map_err(NoPlan::OutOfMemory)?))
            }
            kind => kind,
        };
        let degrees = self.degrees.as_ref();
        let restricted = degrees.map(|degrees| costs.space.restricted_to(degrees));
        let restricted = restricted.transpose().map_err(other)?;
        let space = restricted.as_ref().unwrap_or(&costs.space);
        let part = self.part.as_ref().map(|part| part.of(space));
        let part = part.transpose().map_err(other)?;
        let problem = Problem {
            batch,
            cluster: &costs.cluster,
            cost: &costs.model,
            space: part.as_ref().unwrap_or(space),
            rules: self.rules,
        };
        let planned =
            kind.planner_with(self.options)
                .plan(problem)
                .map_err(|error| match error {
                    PlanError::DoesNotFit { .. } => NoPlan::OutOfMemory(error.to_string()),
                    _ => other(error),
                })?;
        of_plan(&planned, costs, batch)
    }
}

fn of_plan(planned: &Planned, costs: &Costs, batch: &GlobalBatch) -> Result<OfBatch, NoPlan> {
    let num_layers = costs.num_layers.unwrap_or(SIMULATED_LAYERS);
    let step_costs = costs.step_costs(num_layers, Seconds::ZERO).map_err(other)?;
    let overlap = Overlap::default();
    let simulated = simulate(
        &planned.plan,
        batch,
        &costs.cluster,
        &step_costs,
        overlap,
        &mut (),
    )
    .map_err(other)?;
    let sum = |part: fn(&lengthwise_sim::Usage) -> Seconds| -> f64 {
        let parts = simulated.ranks.iter().map(|rank| part(&rank.usage).get());
        parts.sum()
    };
    Ok(OfBatch {
        tokens: batch.num_tokens().as_f64(),
        predicted_s: planned.report.predicted_step.get(),
        simulated_s: simulated.step.get(),
        communication_s: sum(|usage| usage.exposed_communication),
        idle_s: sum(|usage| usage.idle),
        device_s: sum(|usage| usage.total()),
        gap: planned.report.gap(),
        solve_s: planned.report.solve_time.get(),
        num_micro_batches: planned.plan.micro_batches().len(),
        num_stopped_milps: planned.report.tried.num_stopped_milps,
    })
}

impl Figures {
    /// The means over batches, of which there is at least one; times are simulated ones where shares are taken.
    pub(super) fn mean(batches: &[OfBatch], num_devices: u32) -> Self {
        let sum = |part: fn(&OfBatch) -> f64| batches.iter().map(part).sum::<f64>();
        let count = batches.len() as f64;
        let device_s = sum(|batch| batch.device_s);
        let share = |part: f64| if device_s > 0.0 { part / device_s } else { 0.0 };
        let simulated_s = sum(|batch| batch.simulated_s);
        let gaps: Option<Vec<f64>> = batches.iter().map(|batch| batch.gap).collect();
        Figures {
            predicted_s: sum(|batch| batch.predicted_s) / count,
            simulated_s: simulated_s / count,
            tokens_per_s_per_device: sum(|batch| batch.tokens)
                / simulated_s
                / f64::from(num_devices),
            communication_share: share(sum(|batch| batch.communication_s)),
            idle_share: share(sum(|batch| batch.idle_s)),
            gap: gaps.map(|gaps| gaps.iter().sum::<f64>() / count),
            solve_s: sum(|batch| batch.solve_s) / count,
            micro_batches: sum(|batch| batch.num_micro_batches as f64) / count,
            num_stopped_milps: batches.iter().map(|batch| batch.num_stopped_milps).sum(),
        }
    }
}
