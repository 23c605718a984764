//! A setting of a comparison: one model on one cluster with one context and one source of lengths.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lengthwise_core::{GlobalBatch, Tokens};
use lengthwise_inputs::{Costs, Draw, LengthSource};

use super::figures::{Contender, Figures, NoPlan, OfBatch};
use super::progress::Progress;
use crate::failure::Failure;
use crate::output::Output;

/// One model on one cluster with one context and one source of lengths, and who plans there.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) costs: Costs,
    pub(super) lengths: LengthSource,
    /// Lengths are rounded up to a multiple of it.
    pub(super) multiple_of: Tokens,
    /// The longest that is drawn, where it is not the context.
    pub(super) longest: Option<Tokens>,
    pub(super) contenders: Vec<Contender>,
}

/// How batches are drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batches {
    pub(super) num_sequences: usize,
    pub(super) num_batches: u64,
    pub(super) first_seed: u64,
}

/// What every planner comes to in a setting, in their order; or why it has no plans.
pub(super) type Outcome = Vec<Result<Figures, NoPlan>>;

impl Setting {
    fn batch(&self, batches: Batches, index: u64) -> Result<GlobalBatch, Failure> {
        let lens = self.lengths.batch(Draw {
            num_sequences: batches.num_sequences,
            longest: self.longest.unwrap_or(self.costs.context),
            multiple_of: self.multiple_of,
            seed: batches.first_seed.wrapping_add(index),
        })?;
        GlobalBatch::new(lens).map_err(|error| Failure::input(error.to_string()))
    }
}

/// Plans all batches of all settings, as many at a time as there are processors. The outcomes do not depend on how many
/// that are, but where a planner's time is limited.
pub(super) fn outcomes(
    settings: &[Setting],
    batches: Batches,
    output: &Output<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let per_setting = batches.num_batches as usize;
    let num_tasks = settings.len() * per_setting;
    let progress = Progress::begin(num_tasks as u64, output);
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Task>>> = (0..num_tasks).map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let task = next.fetch_add(1, Ordering::Relaxed);
            if task >= num_tasks {
                return;
            }
            let setting = &settings[task / per_setting];
            let result = setting
                .batch(batches, (task % per_setting) as u64)
                .map(|batch| {
                    let contenders = setting.contenders.iter();
                    contenders
                        .map(|contender| contender.figures(&setting.costs, &batch))
                        .collect()
                });
            if result.is_err() {
                // The command ends with this failure: no more batches are needed.
                next.store(num_tasks, Ordering::Relaxed);
            }
            if let Ok(mut slot) = done[task].lock() {
                *slot = Some(result);
            }
            progress.one_done(&setting.costs.name);
        }
    };
    let num_threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 1..num_threads.min(num_tasks) {
            scope.spawn(work);
        }
        work();
    });
    progress.end();
    let mut tasks = Vec::with_capacity(num_tasks);
    for slot in done {
        match slot.into_inner() {
            Ok(Some(task)) => tasks.push(task?),
            // Only tasks after a failed one were left out, and that one is among these.
            Ok(None) => {}
            Err(_) => return Err(Failure::run("a planner broke down")),
        }
    }
    let of_settings = tasks.chunks(per_setting).zip(settings);
    Ok(of_settings
        .map(|(tasks, setting)| outcome(tasks, setting))
        .collect())
}

/// What the contenders made of one batch.
type Task = Result<Vec<Result<OfBatch, NoPlan>>, Failure>;

fn outcome(tasks: &[Vec<Result<OfBatch, NoPlan>>], setting: &Setting) -> Outcome {
    let of_contender = |index: usize| {
        let of_batches: Result<Vec<OfBatch>, NoPlan> =
            tasks.iter().map(|task| task[index].clone()).collect();
        of_batches.map(|batches| Figures::mean(&batches, setting.costs.num_devices()))
    };
    (0..setting.contenders.len()).map(of_contender).collect()
}
