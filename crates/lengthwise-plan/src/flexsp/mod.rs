//! The published FlexSP algorithm (arXiv 2412.01523), as a reference.

mod buckets;
mod milp;

use std::time::{Duration, Instant};

use lengthwise_core::Tokens;

use crate::branch::Effort;
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::instance::Instance;
use crate::least_micro_batches::least_micro_batches;
use crate::{PlanError, Planned, Planner, PlannerOptions, Problem, StopReason};
use buckets::{balanced_cuts, buckets};

/// Distinct lengths that a micro-batch is simplified to.
const NUM_BUCKETS: usize = 16;

/// Numbers of micro-batches that are tried, from the least that memory allows.
const NUM_TRIED: usize = 5;

/// How long a MILP may take where nothing else is said.
const MILP_TIME_LIMIT: Duration = Duration::from_secs(2);

/// The published algorithm: token-balanced contiguous micro-batches, 16 length buckets, a MILP for each micro-batch.
///
/// It plans with the degrees it is given; the authors leave degree 1 out. Where a MILP runs into its time limit, the
/// best assignment so far counts, or the best single degree that the solver started from.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlexSp {
    options: PlannerOptions,
}

impl FlexSp {
    /// A planner with these options; a time budget is shared out among the MILPs.
    pub const fn new(options: PlannerOptions) -> Self {
        FlexSp { options }
    }
}

impl Planner for FlexSp {
    fn name(&self) -> &'static str {
        "flexsp"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let shapes = one_shape_for_each_degree(&instance);
        let least = least_micro_batches(&instance) as usize;
        let classes: Vec<usize> = (0..instance.num_classes())
            .flat_map(|class| std::iter::repeat_n(class, instance.members(class).len()))
            .collect();
        let lens: Vec<Tokens> = classes
            .iter()
            .map(|&class| instance.class_lens[class])
            .collect();
        let mut best: Option<(f64, Draft)> = None;
        let mut num = least;
        let num_milps: usize = (least..least + NUM_TRIED).sum();
        let limit = self
            .options
            .time_budget
            .map_or(MILP_TIME_LIMIT, |budget| budget / num_milps as u32);
        // More micro-batches than sequences can't be; with fewer than fit, more are tried.
        while num < least + NUM_TRIED || best.is_none() && num <= classes.len() {
            let parts = balanced_cuts(&lens, num);
            let drafted = parts.into_iter().try_fold(Draft::default(), |draft, part| {
                add_micro_batch(&instance, draft, &classes[part], &shapes, limit)
            });
            if let Some(draft) = drafted {
                let time = draft.step_time(&instance);
                if best.as_ref().is_none_or(|&(least, _)| time < least) {
                    best = Some((time, draft));
                }
            }
            num += 1;
        }
        let (_, draft) =
            best.ok_or_else(|| instance.does_not_fit_degree(instance.largest_degree()))?;
        let effort = Effort::for_size(instance.num_sequences(), Deadline::default());
        let mut planned = Planned::of(draft, &instance, effort, started);
        if planned.report.stop_reason != StopReason::Optimal
            && self
                .options
                .time_budget
                .is_some_and(|budget| started.elapsed() >= budget)
        {
            planned.report.stop_reason = StopReason::TimeBudget;
        }
        Ok(planned)
    }
}

/// Inside a node where one is large enough: the published costs know no other groups.
fn one_shape_for_each_degree(instance: &Instance<'_>) -> Vec<usize> {
    let mut shapes: Vec<usize> = (0..instance.shapes.len()).collect();
    shapes.dedup_by_key(|shape| instance.shapes[*shape].degree);
    shapes
}

/// The draft with one more micro-batch, of the given classes; `None` where they do not fit.
fn add_micro_batch(
    instance: &Instance<'_>,
    mut draft: Draft,
    classes: &[usize],
    shapes: &[usize],
    limit: Duration,
) -> Option<Draft> {
    let budget = instance.smallest_budget();
    let mut buckets = buckets(classes, &instance.class_lens, NUM_BUCKETS);
    let mut groups = milp::solve(instance, &buckets, shapes, budget, limit)?;
    groups.sort_by_key(|group| std::cmp::Reverse(instance.shapes[group.shape].degree));
    let micro_batch = draft.open_micro_batch(instance);
    for group in groups {
        let strategy = instance.shapes[group.shape].strategy;
        let opened = draft.open_group(instance, micro_batch, strategy, budget)?;
        for (bucket, count) in buckets.iter_mut().zip(group.counts) {
            let from = bucket.members.len().checked_sub(count)?;
            for class in bucket.members.split_off(from) {
                draft.place(instance, class, opened);
            }
        }
    }
    Some(draft)
}
