//! A whole run: calibration, planning in the background, every rank's steps.
//!
//! ```text
//! strategies  what the options leave to choose from, if they make a run at all
//! costs       what steps cost: measured here, or by a profile
//! longest     whether the longest sequence can be planned at all
//! world       a thread for each device, and the failure that ends them all
//! run         the steps of each rank
//! persistence how a run goes on from a state, and how its state is saved
//! predictions what a step should take and hold
//! step_times  what a step took, the same on every rank
//! validating  the loss of held-out batches
//! reporter    the observer, and the summary of all steps
//! ```

mod costs;
mod longest;
mod persistence;
mod predictions;
mod reporter;
mod run;
mod step_times;
mod strategies;
mod validating;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use lengthwise_core::Seconds;
use lengthwise_cost::Refinement;
use lengthwise_outputs::NewDirectory;
use lengthwise_plan::Planner;

use crate::checkpoint::Saver;
use crate::export::ExportWriter;
use crate::feed::{PlanFeed, Planning};
use crate::forward_costs::forward_costs;
use crate::model::ModelSpec;
use crate::timeline::RankNotes;
use crate::{MeasuringRule, TrainError, TrainObserver, TrainOptions, TrainSummary};
use costs::measure;
use lengthwise_data::{DataError, TokenBatch};
use persistence::{KnownCosts, first_step};
use reporter::Reporter;
use run::{Run, lock};
use validating::Validating;
use world::{backends, run_world};

pub use costs::{measure_costs, profiled_costs};
pub use longest::check_longest;
pub use strategies::allowed_strategies;

/// Threads that draw up plans while the ranks compute.
const NUM_PLANNING_THREADS: usize = 2;

/// Trains on `batches` with one thread of this process for each device of the cluster.
///
/// First measures what sequences cost here, then plans in the background while the ranks train. The observer hears
/// of every step.
///
/// # Errors
///
/// The options are impossible, before any work starts; a batch can't be read or planned; a device runs out of
/// memory; a rank fails: always the one error that all else follows from. A model that can't be written in the end is no
/// error, since all else has been done: [`TrainSummary::export`] says what became of it.
pub fn train(
    options: &TrainOptions,
    planner: Arc<dyn Planner>,
    batches: impl Iterator<Item = Result<TokenBatch, DataError>> + Send,
    observer: &mut dyn TrainObserver,
) -> Result<TrainSummary, TrainError> {
    let space = allowed_strategies(options)?;
    let spec = ModelSpec::new(&options.model);
    let claim = |directory: &PathBuf| ExportWriter::claim(directory, &spec);
    let claimed = options.export.as_ref().map(claim).transpose()?;
    if let Some(warning) = claimed.as_ref().and_then(NewDirectory::unlocked) {
        observer.warned(&warning);
    }
    let saver = Saver::claim(options, &spec)?;
    if let Some(warning) = saver.as_ref().and_then(Saver::unlocked) {
        observer.warned(&warning);
    }
    let behind = first_step(options)?;
    let known = KnownCosts::of(options, &space);
    if let Some(warning) = &known.warning {
        observer.warned(warning);
    }
    let num_ranks = options.cluster.num_devices() as usize;
    let backends = backends(options);

    let start = Instant::now();
    let costs = match &known.first {
        Some(costs) => costs.clone(),
        None => {
            let brief = MeasuringRule::BRIEF;
            measure(options, &space, backends.clone(), &brief, &|_| {})?.model
        }
    };
    if options.costs.is_none() && known.first.is_some() {
        observer.costs_resumed();
    }
    let calibration = Seconds::from(start.elapsed());
    observer.calibrated(calibration);

    let refinement = known.refinement(options, &costs);
    let refined = refinement.as_ref().map(Refinement::model);
    let validating = options.validation.as_ref().map(|validation| {
        Ok::<_, TrainError>(Validating {
            validation,
            planner: Arc::clone(&planner),
            cluster: &options.cluster,
            space: space.clone(),
            costs: forward_costs(&costs, &options.model)?,
            is_over: AtomicBool::new(false),
            planned: OnceLock::new(),
        })
    });
    let validating = validating.transpose()?;

    let planning = Planning {
        planner,
        cluster: options.cluster.clone(),
        costs: refined.unwrap_or(&costs).clone(),
        space: space.clone(),
    };
    let feed = PlanFeed::new(
        planning,
        batches,
        num_ranks,
        options.steps,
        options.plan_ahead as u64,
    )
    .behind(behind);
    let num_parameters = spec.num_parameters() as u64;
    let summary = TrainSummary {
        num_parameters,
        calibration,
        ..TrainSummary::default()
    };
    let reporter = Mutex::new(Reporter { observer, summary });
    let run = Run {
        options,
        behind,
        space,
        costs,
        refinement,
        saver,
        feed,
        validating,
        epoch: Instant::now(),
        claimed: Mutex::new(claimed),
        notes: Mutex::new(vec![RankNotes::default(); num_ranks]),
    };
    thread::scope(|scope| {
        for _ in 0..NUM_PLANNING_THREADS {
            scope.spawn(|| run.feed.work());
        }
        if let Some(saver) = &run.saver {
            let report = |saved| lock(&reporter).observer.saved(&saved);
            scope.spawn(move || saver.work(report));
        }
        if let Some(validating) = &run.validating {
            // Ahead of the first evaluation; what is wrong with it is said there.
            scope.spawn(|| validating.planned().is_ok());
        }
        let result = run_world(options, backends, |world| run.rank(world, &reporter));
        run.feed.close();
        if let Some(saver) = &run.saver {
            saver.close();
        }
        if let Some(validating) = &run.validating {
            validating.is_over.store(true, Ordering::Relaxed);
        }
        result
    })?;
    Ok(reporter
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .summary)
}
