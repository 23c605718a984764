//! Saves the state of a run: each rank copies its shard, and a thread writes all of them while training goes on; or the
//! thread writes what is not copied, while training waits.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lengthwise_core::Seconds;
use lengthwise_data::Position;
use lengthwise_outputs::{DirectorySeries, WholeDirectory};

use super::CostsRecord;
use super::record::{CheckpointFile, TrainerRecord};
use super::shard_file::{write_bytes, write_shard};
use super::{CheckpointError, RECORD_FILE, SaveOptions, UnitState, name_of, steps_in};
use crate::TrainOptions;
use crate::companions::Companions;
use crate::model::ModelSpec;

/// Where a run is when its state is saved; the same on every rank.
#[derive(Clone, Debug)]
pub struct SaveMoment {
    /// Steps that were trained.
    pub step: u64,
    /// Where the batch of the last one ended.
    pub position: Position,
    /// The costs of steps, if this rank knows them.
    pub costs: Option<CostsRecord>,
}

/// A checkpoint that has been written, or could not be.
#[derive(Debug)]
pub struct SavedCheckpoint {
    /// The step behind which the run goes on from it.
    pub step: u64,
    /// Where it is, or was to be.
    pub path: PathBuf,
    /// Why it is not there.
    pub saved: io::Result<()>,
    /// Its size.
    pub num_bytes: u64,
    /// The time that writing took.
    pub took: Seconds,
}

/// Writes checkpoints, one at a time.
pub struct Saver<'a> {
    options: &'a TrainOptions,
    save: &'a SaveOptions,
    spec: ModelSpec,
    series: DirectorySeries,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The shards of the state that is being gathered, by rank.
    shards: Vec<Option<Vec<UnitState>>>,
    moment: Option<SaveMoment>,
    /// All shards are there, and are written now.
    is_writing: bool,
    is_closed: bool,
}

impl<'a> Saver<'a> {
    /// Claims the directory of a run's checkpoints, if it saves any, and checks that none of its steps is there already.
    ///
    /// # Errors
    ///
    /// It can't be written, has no room for a checkpoint, or holds checkpoints of steps that are yet to come.
    pub fn claim(
        options: &'a TrainOptions,
        spec: &ModelSpec,
    ) -> Result<Option<Self>, CheckpointError> {
        let Some(save) = &options.persistence.save else {
            return Ok(None);
        };
        let num_bytes = SaveOptions::BYTES_OF_PARAMETER * spec.num_parameters() as u64;
        let series = DirectorySeries::claim("checkpoints", &save.directory, num_bytes)?;
        let resume = options.persistence.resume.as_ref();
        let after = resume.map_or(0, |checkpoint| checkpoint.record().step);
        if let Some(&newest) = steps_in(&save.directory)?.last()
            && newest > after
        {
            return Err(CheckpointError::Later {
                directory: save.directory.clone(),
                newest,
                after,
            });
        }
        let num_ranks = options.cluster.num_devices() as usize;
        Ok(Some(Saver {
            options,
            save,
            spec: spec.clone(),
            series,
            state: Mutex::new(State {
                shards: (0..num_ranks).map(|_| None).collect(),
                ..State::default()
            }),
            changed: Condvar::new(),
        }))
    }

    /// A warning if nothing keeps two runs from writing to it at once.
    pub fn unlocked(&self) -> Option<String> {
        self.series.unlocked()
    }

    /// Whether the state is saved behind a step anyway.
    pub fn is_due(&self, step: u64) -> bool {
        step.is_multiple_of(self.save.every.get()) || step == self.options.steps
    }

    /// Hands a rank's shard over, which `take` takes once the state before is written; every rank calls it at the same step.
    pub fn save(&self, rank: usize, moment: SaveMoment, take: impl FnOnce() -> Vec<UnitState>) {
        // Of two states, one would have to be dropped.
        self.wait();
        let shard = take();
        let mut state = self.lock();
        state.shards[rank] = Some(shard);
        if state
            .moment
            .as_ref()
            .is_none_or(|known| known.costs.is_none())
        {
            state.moment = Some(moment);
        }
        if state.shards.iter().all(Option::is_some) {
            state.is_writing = true;
            self.changed.notify_all();
        }
    }

    /// Whether training goes on while a state is written.
    pub fn is_async(&self) -> bool {
        self.save.is_async
    }

    /// Waits until what all ranks have handed over is written.
    pub fn wait(&self) {
        drop(self.wait_while(self.lock(), |state| state.is_writing));
    }

    /// Writes what is handed over until the saver is closed; `report` hears of each. It runs on a thread of its own, which
    /// gives way to ranks that train meanwhile.
    pub fn work(&self, report: impl Fn(SavedCheckpoint)) {
        if self.is_async() {
            give_way();
        }
        loop {
            let state = self.lock();
            let mut state = self.wait_while(state, |state| !state.is_writing && !state.is_closed);
            if !state.is_writing {
                return;
            }
            let shards: Vec<_> = state.shards.iter_mut().filter_map(Option::take).collect();
            let moment = state.moment.take();
            drop(state);
            if let Some(moment) = moment {
                let start = Instant::now();
                let written = self.write(&moment, shards, start);
                let num_bytes = *written.as_ref().unwrap_or(&0);
                report(SavedCheckpoint {
                    step: moment.step,
                    path: self.save.directory.join(name_of(moment.step)),
                    saved: written.map(drop),
                    num_bytes,
                    took: start.elapsed().into(),
                });
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Ends the writer, behind what it is writing.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Writes a checkpoint; gives its size in bytes.
    fn write(
        &self,
        moment: &SaveMoment,
        shards: Vec<Vec<UnitState>>,
        start: Instant,
    ) -> io::Result<u64> {
        let directory = self.series.begin(&name_of(moment.step))?;
        let mut files = self.write_model(&directory)?;
        let num_ranks = shards.len();
        for (rank, shard) in shards.into_iter().enumerate() {
            files.extend(write_shard(&directory, &self.spec, rank, &shard)?);
        }
        let notes = &self.save.notes;
        let record = TrainerRecord {
            version: TrainerRecord::VERSION,
            program: notes.program.clone(),
            run: notes.run.clone(),
            step: moment.step,
            steps: self.options.steps,
            epoch: moment.position.epoch,
            num_drawn: moment.position.num_drawn,
            data: notes.data.clone(),
            seed: self.options.seed,
            num_ranks,
            optimizer: self.options.optimizer.clone(),
            costs: moment.costs.clone(),
            settings: notes.settings.clone(),
            save_s: start.elapsed().as_secs_f64(),
            files,
        };
        let num_bytes = record.num_bytes();
        let text = record.to_json()?;
        write_bytes(&directory, RECORD_FILE, text.as_bytes())?;
        directory.publish()?;
        self.remove_older(moment.step);
        Ok(num_bytes)
    }

    /// The model's config, and the files that go with it.
    fn write_model(&self, directory: &WholeDirectory) -> io::Result<Vec<CheckpointFile>> {
        let options = self.options;
        let companions = Companions::of_run(options);
        let mut files = Vec::new();
        for (from, name) in companions.files() {
            match fs::read(from) {
                Ok(bytes) => files.push(write_bytes(directory, name, &bytes)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let keys = companions.config(&options.model, options.context.0, "float32");
        let text = format!("{:#}\n", serde_json::Value::Object(keys));
        files.push(write_bytes(directory, "config.json", text.as_bytes())?);
        Ok(files)
    }

    /// Removes all but the newest ones. What can't be removed stays.
    fn remove_older(&self, step: u64) {
        let steps = steps_in(&self.save.directory).unwrap_or_default();
        // A directory of such a name without a record is somebody else's.
        let is_ours = |&one: &u64| {
            one <= step
                && self
                    .save
                    .directory
                    .join(name_of(one))
                    .join(RECORD_FILE)
                    .is_file()
        };
        let steps: Vec<u64> = steps.into_iter().filter(is_ours).collect();
        let num_older = steps.len().saturating_sub(self.save.keep.get());
        for &step in &steps[..num_older] {
            let _ = self.series.remove(&name_of(step));
        }
    }

    fn wait_while<'b>(
        &'b self,
        state: MutexGuard<'b, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'b, State> {
        self.changed
            .wait_while(state, condition)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lowers the priority of this thread: beside a rank on the same core, it gets a tenth of it.
fn give_way() {
    // Elsewhere than on Linux, a priority is that of the whole process.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::setpriority_process;
        use rustix::thread::gettid;
        // Where it may not be lowered, writing takes from training what it did.
        let _ = setpriority_process(Some(gettid()), 10);
    }
}
