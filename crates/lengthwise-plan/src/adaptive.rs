//! The planner that mixes degrees inside every micro-batch.

use std::time::Instant;

use crate::draft::{Draft, DraftMicroBatch};
use crate::instance::Instance;
use crate::placement::FreeDevices;
use crate::{PlanError, Planned, Planner, Problem, StopReason};

/// Chooses micro-batches, groups and assignment together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Adaptive;

/// How many makespans are aimed at, between the shortest that any plan could have and the whole step in one.
const NUM_TARGETS: usize = 24;

impl Planner for Adaptive {
    fn name(&self) -> &'static str {
        "adaptive"
    }

    fn plan(&self, problem: Problem<'_>) -> Result<Planned, PlanError> {
        let started = Instant::now();
        let instance = Instance::new(problem)?;
        let longest = instance.num_classes() - 1;
        let fastest = (0..instance.shapes.len())
            .filter(|&shape| instance.fits(shape, longest))
            .map(|shape| instance.time(shape, longest))
            .fold(f64::INFINITY, f64::min);
        let bound = crate::bound::lower_bound(&instance);
        let high = bound.max(fastest) * 2.0;
        let low = (fastest * 0.9).max(high * 1e-3);
        let mut best: Option<(f64, Draft)> = None;
        for target in 0..NUM_TARGETS {
            let share = target as f64 / (NUM_TARGETS - 1) as f64;
            let draft = fill(&instance, low * (high / low).powf(share));
            let time = draft.step_time(&instance);
            if best.as_ref().is_none_or(|(least, _)| time < *least) {
                best = Some((time, draft));
            }
        }
        let (_, draft) = best.unwrap_or_else(|| (0.0, fill(&instance, high)));
        Ok(Planned::of(
            draft,
            &instance,
            StopReason::Converged,
            started,
        ))
    }
}

/// Fills groups up to `target` seconds: sequences go from long to short to the open group that they cost the fewest
/// device-seconds in, else to a new group of their cheapest shape.
fn fill(instance: &Instance<'_>, target: f64) -> Draft {
    let all = FreeDevices::all(instance.problem);
    let mut draft = Draft::default();
    for class in (0..instance.num_classes()).rev() {
        let mut cheapest: Vec<usize> = (0..instance.shapes.len())
            .filter(|&shape| instance.fits(shape, class))
            .collect();
        cheapest.sort_by(|&a, &b| {
            let over = |shape| instance.time(shape, class) > target;
            let work = |shape: usize| {
                instance.time(shape, class) * f64::from(instance.shapes[shape].degree)
            };
            over(a).cmp(&over(b)).then(work(a).total_cmp(&work(b)))
        });
        for _ in instance.members(class) {
            place(instance, &mut draft, &all, class, &cheapest, target);
        }
    }
    draft
}

fn place(
    instance: &Instance<'_>,
    draft: &mut Draft,
    all: &FreeDevices,
    class: usize,
    cheapest: &[usize],
    target: f64,
) {
    let mut best: Option<(f64, f64, usize, usize)> = None;
    for (m, micro_batch) in draft.micro_batches.iter().enumerate() {
        for (g, group) in micro_batch.groups.iter().enumerate() {
            let Some(time) = group
                .time_with(instance, class)
                .filter(|&time| time <= target)
            else {
                continue;
            };
            let work = (time - group.time) * f64::from(instance.shapes[group.shape].degree);
            if best.is_none_or(|(least, at, ..)| (work, time) < (least, at)) {
                best = Some((work, time, m, g));
            }
        }
    }
    let work_of =
        |shape: usize| instance.time(shape, class) * f64::from(instance.shapes[shape].degree);
    let last = draft.micro_batches.len().saturating_sub(1);
    for &shape in cheapest {
        if best.is_some_and(|(work, ..)| work <= work_of(shape)) {
            break;
        }
        let Some(micro_batch) = draft.micro_batches.get_mut(last) else {
            break;
        };
        let strategy = instance.shapes[shape].strategy;
        if let Some(group) = micro_batch.open(instance, strategy, instance.memory(shape, class)) {
            group.push(instance, class);
            return;
        }
    }
    if let Some((_, _, m, g)) = best {
        draft.micro_batches[m].groups[g].push(instance, class);
        return;
    }
    let mut micro_batch = DraftMicroBatch::new(all.clone());
    for &shape in cheapest {
        let strategy = instance.shapes[shape].strategy;
        if let Some(group) = micro_batch.open(instance, strategy, instance.memory(shape, class)) {
            group.push(instance, class);
            break;
        }
    }
    draft.micro_batches.push(micro_batch);
}
