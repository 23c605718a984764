//! The published FlexSP algorithm (arXiv 2412.01523), as a reference.

mod buckets;
mod milp;
mod programme;
mod solver;

use std::ops::Range;
use std::time::{Duration, Instant};

use lengthwise_core::Tokens;

use crate::balanced_cuts::balanced_cuts;
use crate::bound::{Effort, Keep, least_micro_batches};
use crate::deadline::Deadline;
use crate::draft::Draft;
use crate::homogeneous::pack_best;
use crate::instance::Instance;
use crate::load::Load;
use crate::rules::keeping_rules;
use crate::{PlanError, Planned, Planner, PlannerOptions, Problem};
use buckets::buckets;
use milp::MicroBatchMilp;
pub use solver::MilpSolver;

/// Distinct lengths that a micro-batch is simplified to.
const NUM_BUCKETS: usize = 16;

/// Numbers of micro-batches that are tried, from the least that memory allows.
const NUM_TRIED: usize = 5;

/// The published algorithm: token-balanced contiguous micro-batches, 16 length buckets, a MILP for each micro-batch.
///
/// It plans with the degrees it is given; the authors leave degree 1 out. Where a MILP runs into its limit of nodes, the
/// best assignment so far counts, or the best single degree that the solver started from.
///
/// It knows equal devices only: where they differ, each counts for the weakest. Where that fits no plan, it answers with
/// the best single degree, and where there is none either, with one sequence at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlexSp {
    options: PlannerOptions,
    solver: MilpSolver,
}

impl FlexSp {
    /// A planner with these options; a time budget is shared out among the MILPs, which else stop by nodes alone.
    pub const fn new(options: PlannerOptions) -> Self {
        FlexSp {
            options,
            solver: MilpSolver::Microlp,
        }
    }

    /// The same planner with another solver of its MILPs.
    #[must_use]
    pub const fn with_solver(mut self, solver: MilpSolver) -> Self {
        self.solver = solver;
        self
    }
}

impl Planner for FlexSp {
    fn name(&self) -> &'static str {
        "flexsp"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Bound)
    }

    fn plan_certified(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        self.plan_keeping(problem, Keep::Proof)
    }
}

impl FlexSp {
    fn plan_keeping(&self, problem: Problem<'_>, keep: Keep) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let deadline = Deadline::after(started, self.options.time_budget, 1.0);
        let (draft, num_stopped) = self.best_draft(&instance, deadline);
        let draft = draft
            .or_else(|| pack_best(&instance))
            .or_else(|| one_at_a_time(&instance))
            .ok_or_else(|| instance.does_not_fit_degree(instance.largest_degree()))?;
        let effort =
            Effort::until(Deadline::after(started, self.options.time_budget, 1.0)).keeping(keep);
        let mut planned = Planned::of(draft, &instance, NUM_TRIED, effort, started);
        planned.report.tried.num_stopped_milps = num_stopped;
        planned.report.note_time_budget(deadline.has_passed());
        planned.report.compare_with(self.options.time_budget);
        keeping_rules(planned, problem, self.name())
    }
}

impl FlexSp {
    /// The best draft over several numbers of micro-batches, `None` where the weakest device is too small; and how many
    /// MILPs were stopped.
    fn best_draft(&self, instance: &Instance<'_>, deadline: Deadline) -> (Option<Draft>, usize) {
        let Some(mut cutting) = Cutting::of(instance) else {
            return (None, 0);
        };
        let num_sequences = instance.num_sequences();
        let least = (least_micro_batches(instance) as usize).min(num_sequences);
        let num_milps: usize = (least..least + NUM_TRIED).sum();
        let share = self
            .options
            .time_budget
            .map(|budget| budget / num_milps as u32);
        let mut best: Option<(f64, Draft)> = None;
        let mut num = least;
        while num <= num_sequences {
            match best {
                // So many overheads alone take longer.
                Some((time, _)) if num as f64 * instance.overhead >= time => break,
                Some(_) if num >= least + NUM_TRIED || deadline.has_passed() => break,
                _ => {}
            }
            let time_limit = if deadline.has_passed() {
                Some(Duration::ZERO)
            } else {
                share
            };
            if let Some(draft) = cutting.draft(num, self.solver, time_limit) {
                let time = draft.step_time(instance);
                if best.as_ref().is_none_or(|&(least, _)| time < least) {
                    best = Some((time, draft));
                }
            }
            num += if best.is_none() && num + 1 >= least + NUM_TRIED {
                // With this many parts nothing fits. With as many as sequences all does: that is reached soon.
                num.min(num_sequences - num).max(1)
            } else {
                1
            };
        }
        (best.map(|(_, draft)| draft), cutting.num_stopped)
    }
}

/// A batch ready to be cut into micro-batches.
struct Cutting<'a> {
    instance: &'a Instance<'a>,
    /// The class of every sequence, increasing, and its length.
    classes: Vec<usize>,
    lens: Vec<Tokens>,
    shapes: Vec<usize>,
    /// Of the weakest devices.
    budget: u64,
    /// How many MILPs were stopped by a limit.
    num_stopped: usize,
}

impl<'a> Cutting<'a> {
    /// `None` where some sequence does not even fit the weakest devices alone.
    fn of(instance: &'a Instance<'a>) -> Option<Self> {
        let shapes = one_shape_for_each_strategy(instance);
        let budget = instance.weakest().memory;
        let fits = |class| {
            let mut memory = shapes
                .iter()
                .map(|&shape| instance.memory_on_weakest(shape, class));
            memory.any(|memory| memory <= budget)
        };
        if !(0..instance.num_classes()).all(fits) {
            return None;
        }
        let classes: Vec<usize> = (0..instance.num_classes())
            .flat_map(|class| std::iter::repeat_n(class, instance.members(class).len()))
            .collect();
        let lens = classes
            .iter()
            .map(|&class| instance.class_lens[class])
            .collect();
        Some(Cutting {
            instance,
            classes,
            lens,
            shapes,
            budget,
            num_stopped: 0,
        })
    }

    /// The draft with `num` micro-batches; `None` where they do not fit.
    fn draft(
        &mut self,
        num: usize,
        solver: MilpSolver,
        time_limit: Option<Duration>,
    ) -> Option<Draft> {
        let parts = balanced_cuts(&self.lens, num);
        parts.into_iter().try_fold(Draft::default(), |draft, part| {
            self.add_micro_batch(draft, part, solver, time_limit)
        })
    }

    /// The draft with one more micro-batch, of the given sequences.
    fn add_micro_batch(
        &mut self,
        mut draft: Draft,
        part: Range<usize>,
        solver: MilpSolver,
        time_limit: Option<Duration>,
    ) -> Option<Draft> {
        let instance = self.instance;
        let mut buckets = buckets(&self.classes[part], &instance.class_lens, NUM_BUCKETS);
        let milp = MicroBatchMilp {
            instance,
            buckets: &buckets,
            shapes: &self.shapes,
            budget: self.budget,
        };
        let (groups, is_stopped) = milp.solve(solver, time_limit);
        self.num_stopped += usize::from(is_stopped);
        let mut groups = groups?;
        groups.sort_by_key(|group| std::cmp::Reverse(instance.shapes[group.shape].degree));
        let micro_batch = draft.open_micro_batch(instance);
        // The weakest devices hold them, so that any will do.
        let nothing = Load::default();
        for group in groups {
            let strategy = instance.shapes[group.shape].strategy;
            let opened = draft.open_group(instance, micro_batch, strategy, nothing)?;
            for (bucket, count) in buckets.iter_mut().zip(group.counts) {
                let from = bucket.members.len().checked_sub(count)?;
                for class in bucket.members.split_off(from) {
                    draft.place(instance, class, opened);
                }
            }
        }
        Some(draft)
    }
}

/// Inside a node where one is large enough: the published costs know no other groups.
fn one_shape_for_each_strategy(instance: &Instance<'_>) -> Vec<usize> {
    let mut shapes: Vec<usize> = (0..instance.shapes.len()).collect();
    shapes.dedup_by_key(|shape| instance.shapes[*shape].strategy);
    shapes
}

/// A micro-batch for every sequence, which needs no more than that each fits alone.
fn one_at_a_time(instance: &Instance<'_>) -> Option<Draft> {
    let mut draft = Draft::default();
    for class in 0..instance.num_classes() {
        let mut fitting: Vec<usize> = (0..instance.shapes.len())
            .filter(|&shape| instance.fits(shape, class))
            .collect();
        fitting.sort_by(|&a, &b| instance.time(a, class).total_cmp(&instance.time(b, class)));
        for _ in instance.members(class) {
            let micro_batch = draft.open_micro_batch(instance);
            let group = fitting.iter().find_map(|&shape| {
                let strategy = instance.shapes[shape].strategy;
                let needed = instance.load(shape, class);
                draft.open_group(instance, micro_batch, strategy, needed)
            })?;
            draft.place(instance, class, group);
        }
    }
    Some(draft)
}
