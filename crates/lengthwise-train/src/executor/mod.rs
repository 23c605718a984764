//! Runs plans on one rank: parameters come and go unit by unit (ZeRO-3), groups change from micro-batch to micro-batch.

mod evaluate;
mod gather;
mod group_run;
mod micro_batch_time;
mod offload;
mod shard;
mod stage;
mod work;

use std::ops::Range;

use lengthwise_comm::{Communicator, Pending, ReduceOp};
use lengthwise_core::{Activity, Group, GroupLoad, MicroBatch, Plan, Rank, Tokens};
use lengthwise_outputs::{NewDirectory, Saved};
use lengthwise_tensor::{AdamW, Backend};

use crate::checkpoint::{Checkpoint, StateKind, UnitState};
use crate::companions::Companions;
use crate::export::{ExportError, ExportWriter, WeightType};
use crate::hugging_face::PretrainedModel;
use crate::model::init::initial_elements;
use crate::model::{ModelConfig, ModelSpec, UnitSpec};
use crate::stopwatch::Stopwatch;
use crate::timeline::Timeline;
use crate::{OptimizerConfig, TrainError, schedule};
use gather::Gathers;
use group_run::{GroupRun, Purpose};
use lengthwise_data::TokenBatch;
pub use micro_batch_time::MicroBatchTime;
use shard::ShardedParameters;
pub(crate) use stage::{ScheduledStage, forward_stages, stages};
use work::{RankWork, neighbours};

/// One rank's executor: its shard of the model, and its place in the world.
///
/// Every rank must be given the same plans of the same batches, in the same order.
pub struct Executor<C: Communicator> {
    config: ModelConfig,
    world: C,
    parameters: ShardedParameters<C::Backend>,
    stages: Vec<ScheduledStage>,
    num_updates: u64,
    micro_batch_times: Vec<MicroBatchTime>,
    timeline: Timeline,
}

/// The result of a step, which the ranks found together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean loss of a label of the global batch, in nats; `None` where no token has one.
    pub loss: Option<f64>,
    /// Norm of the gradient over all parameters, before clipping.
    pub gradient_norm: f64,
}

impl<C: Communicator> Executor<C> {
    /// The executor of this rank with the initial parameters of `seed`.
    ///
    /// # Errors
    ///
    /// The shard does not fit the device.
    pub fn new(config: ModelConfig, world: C, seed: u64) -> Result<Self, TrainError> {
        let layers = config.layers;
        Self::with_elements(config, world, |index, unit, range| {
            Ok(initial_elements(index, unit, layers, seed, range))
        })
    }

    /// The executor of this rank with the parameters of a model that is read; the rank reads its shard of them.
    ///
    /// # Errors
    ///
    /// The shard can't be read any more, or does not fit the device.
    pub fn pretrained(model: &PretrainedModel, world: C) -> Result<Self, TrainError> {
        let config = model.config().model.clone();
        Self::with_elements(config, world, |_, unit, range| {
            Ok(model.elements(unit, range)?)
        })
    }

    /// The executor of this rank with the state of a checkpoint, of which the rank reads its shard.
    ///
    /// # Errors
    ///
    /// The shard can't be read any more, or does not fit the device.
    pub fn resumed(checkpoint: &Checkpoint, world: C) -> Result<Self, TrainError> {
        let config = checkpoint.model().clone();
        let mut executor = Self::with_elements(config, world, |_, unit, range| {
            Ok(checkpoint.elements(StateKind::Weight, unit, range)?)
        })?;
        executor
            .parameters
            .restore_moments(|kind, unit, range| Ok(checkpoint.elements(kind, unit, range)?))?;
        executor.num_updates = checkpoint.record().step;
        Ok(executor)
    }

    fn with_elements(
        config: ModelConfig,
        world: C,
        elements: impl Fn(usize, &UnitSpec, Range<usize>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Self, TrainError> {
        let spec = ModelSpec::new(&config);
        let stages = stages(&spec, config.tied_output);
        let parameters = ShardedParameters::new(
            world.backend().clone(),
            spec,
            world.rank().index(),
            world.size(),
            elements,
        )?;
        Ok(Executor {
            config,
            world,
            parameters,
            stages,
            num_updates: 0,
            micro_batch_times: Vec::new(),
            timeline: Timeline::default(),
        })
    }

    /// The same executor, which says on `timeline` what it turns to.
    pub(crate) fn with_timeline(mut self, timeline: Timeline) -> Self {
        self.timeline = timeline;
        self
    }

    /// Adds the gradient of the mean loss of a label of `batch` to the shards, by running `plan`.
    ///
    /// Returns the loss summed over the labels that this rank has seen. The plan must be valid for the batch
    /// and the world ([`Plan::validate`]).
    ///
    /// # Errors
    ///
    /// The device runs out of memory, or another rank has failed.
    pub fn accumulate_gradients(
        &mut self,
        plan: &Plan,
        batch: &TokenBatch,
    ) -> Result<f64, TrainError> {
        // Without a label all gradients are 0, whatever they are divided by.
        let scale = 1.0 / batch.num_labels().max(1) as f32;
        let mut loss_sum = 0.0;
        self.micro_batch_times.clear();
        for (index, micro_batch) in (0..).zip(plan.micro_batches()) {
            self.enter(index, micro_batch, batch);
            loss_sum += self.micro_batch(micro_batch, batch, scale)?;
        }
        Ok(loss_sum)
    }

    /// A whole optimiser step: gradients, clipping, AdamW on the shards.
    ///
    /// `steps` is the length of the run, by which the learning rate decays. A batch without any label leaves parameters and
    /// moments as they are, and is counted as a step.
    ///
    /// # Errors
    ///
    /// As [`Executor::accumulate_gradients`].
    pub fn step(
        &mut self,
        plan: &Plan,
        batch: &TokenBatch,
        optimizer: &OptimizerConfig,
        steps: u64,
    ) -> Result<StepOutcome, TrainError> {
        let loss_sum = self.accumulate_gradients(plan, batch)?;
        self.timeline.enter(Activity::Optimizer, None, None);
        let num_labels = batch.num_labels();
        let local = [loss_sum, self.parameters.gradient_sum_of_squares()];
        let sums = self.world.all_reduce_values(&local, ReduceOp::Sum)?;
        let outcome = StepOutcome {
            loss: (num_labels > 0).then(|| sums[0] / num_labels as f64),
            gradient_norm: sums[1].sqrt(),
        };
        let loss = outcome.loss.unwrap_or(0.0);
        if !(loss.is_finite() && outcome.gradient_norm.is_finite()) {
            return Err(TrainError::Diverged {
                step: self.num_updates + 1,
                loss,
                gradient_norm: outcome.gradient_norm,
            });
        }
        self.num_updates += 1;
        if num_labels == 0 {
            // AdamW moves and decays parameters by a gradient of 0 too.
            self.parameters.discard_gradients();
            return Ok(outcome);
        }
        let update = AdamW {
            learning_rate: schedule::learning_rate(optimizer, self.num_updates, steps) as f32,
            beta1: optimizer.beta1 as f32,
            beta2: optimizer.beta2 as f32,
            epsilon: optimizer.epsilon as f32,
            weight_decay: optimizer.weight_decay as f32,
            step: self.num_updates,
            gradient_scale: schedule::clip_scale(outcome.gradient_norm, optimizer.clip_norm) as f32,
        };
        self.parameters.update(&update, optimizer.no_decay)?;
        Ok(outcome)
    }

    /// The gradient of every unit, gathered from all ranks; empty before the first micro-batch.
    ///
    /// # Errors
    ///
    /// As [`Executor::accumulate_gradients`].
    pub fn gathered_gradients(&self) -> Result<Vec<Vec<f32>>, TrainError> {
        let units = 0..self.parameters.spec().units.len();
        let shards = units.map_while(|unit| self.parameters.gradient(unit));
        shards
            .map(|shard| {
                let gathered = self.world.all_gather_v(shard.clone())?;
                Ok(self.world.backend().to_vec(&gathered))
            })
            .collect()
    }

    /// Whether all parameters of all ranks are finite numbers; a collective of all ranks.
    ///
    /// # Errors
    ///
    /// Another rank has failed.
    pub fn is_finite(&self) -> Result<bool, TrainError> {
        let num_bad = if self.parameters.is_finite() {
            0.0
        } else {
            1.0
        };
        let sums = self.world.all_reduce_values(&[num_bad], ReduceOp::Sum)?;
        Ok(sums[0] == 0.0)
    }

    /// Writes the model on the rank that has claimed a directory for it, by [`ExportWriter::claim`]; a collective of all
    /// ranks. The rank that writes is told what became of it.
    ///
    /// # Errors
    ///
    /// As [`Executor::accumulate_gradients`].
    pub fn write_model(
        &self,
        claimed: Option<NewDirectory>,
        context: u64,
    ) -> Result<Option<Result<Saved, ExportError>>, TrainError> {
        self.export(claimed, context, WeightType::F32, Companions::default())
    }

    /// The same with weights of a type, and with the config and the tokenizer of the model that training went on from.
    ///
    /// # Errors
    ///
    /// As [`Executor::write_model`].
    pub fn export(
        &self,
        claimed: Option<NewDirectory>,
        context: u64,
        weights: WeightType,
        companions: Companions<'_>,
    ) -> Result<Option<Result<Saved, ExportError>>, TrainError> {
        let mut writer =
            claimed.map(|claimed| ExportWriter::new(claimed, self.spec().clone(), weights));
        let mut failed = None;
        for unit in 0..self.spec().units.len() {
            let gather = self
                .world
                .start_all_gather_v(self.parameters.piece(unit)?)?;
            // After a failure too, other ranks wait for this one to take part.
            let gathered = gather.wait()?;
            if let Some(writing) = &mut writer
                && let Err(error) = writing.add_unit(self.world.backend().to_vec(&gathered))
            {
                (writer, failed) = (None, Some(error));
            }
        }
        let written = writer.map(|writer| writer.finish(&self.config, context, companions));
        self.world.barrier()?;
        Ok(failed.map(Err).or(written))
    }

    /// A copy of this rank's shard of the state.
    pub(crate) fn state(&self) -> Vec<UnitState> {
        self.parameters.state()
    }

    /// The same where it is, to be dropped before the next step.
    pub(crate) fn state_in_place(&self) -> Vec<UnitState> {
        self.parameters.state_in_place()
    }

    /// The parts of this rank's time, for each micro-batch of the last plan that was run.
    pub fn micro_batch_times(&self) -> &[MicroBatchTime] {
        &self.micro_batch_times
    }

    /// Forgets the gradients gathered so far.
    pub fn discard_gradients(&mut self) {
        self.parameters.discard_gradients();
    }

    /// The shape of the model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The units of the model.
    pub fn spec(&self) -> &ModelSpec {
        self.parameters.spec()
    }

    /// All ranks.
    pub fn world(&self) -> &C {
        &self.world
    }

    /// Says on the timeline that a micro-batch begins, and what the rank's group works on.
    fn enter(&self, index: u32, micro_batch: &MicroBatch, batch: &TokenBatch) {
        if !self.timeline.is_on() {
            return;
        }
        let group = micro_batch.group_of(self.world.rank());
        let load = group.map(|(group, _)| {
            let sequences = group.sequences.iter();
            let lens = sequences.map(|&index| batch.sequences[index.index()].inputs().len());
            GroupLoad {
                degree: group.degree(),
                num_sequences: group.sequences.len() as u32,
                num_tokens: Tokens(lens.sum::<usize>() as u64),
            }
        });
        self.timeline.enter(Activity::Overhead, Some(index), load);
    }

    /// The ranks that this one exchanges tokens for heads with, and those of its ring.
    fn neighbours(&self, group: &Group, group_rank: Rank) -> Result<(C, Option<C>), TrainError> {
        let (at_place, ring) = neighbours(group, group_rank);
        let ring = ring.map(|ring| self.world.group(&ring)).transpose()?;
        Ok((self.world.group(&at_place)?, ring))
    }

    fn micro_batch(
        &mut self,
        micro_batch: &MicroBatch,
        batch: &TokenBatch,
        scale: f32,
    ) -> Result<f64, TrainError> {
        let began = Stopwatch::start(&self.world);
        let mut time = MicroBatchTime::default();
        let rank: Rank = self.world.rank();
        let spec = self.parameters.spec().clone();
        let mut run = match micro_batch.group_of(rank) {
            Some((group, group_rank)) => {
                let work = RankWork::new(&self.config, group, group_rank, batch);
                let (at_place, ring) = self.neighbours(group, group_rank)?;
                Some(GroupRun::new(
                    &self.config,
                    &spec,
                    at_place,
                    ring,
                    &self.timeline,
                    work,
                    Purpose::Train { scale },
                ))
            }
            None => None,
        };
        let mut gathers = Gathers::start(&self.world, &self.stages, &self.parameters)?;
        for ScheduledStage {
            stage,
            gathers: gathered,
            scatters,
        } in &self.stages
        {
            // A rank that idles only comes to the calls of all.
            let (activity, pass, layer) = stage.place();
            let activity = run.as_ref().map_or(Activity::Overhead, |_| activity);
            self.timeline.enter_part(activity, pass, layer);
            let start = Stopwatch::start(&self.world);
            let mut parameters = Vec::with_capacity(gathered.len());
            for _ in gathered {
                parameters.extend(gathers.next(&self.parameters, run.is_some())?);
            }
            time.gather += start.elapsed(&self.world);
            let start = Stopwatch::start(&self.world);
            let gradients = match &mut run {
                Some(run) => run.run(*stage, parameters)?,
                None => scatters
                    .iter()
                    .map(|&unit| self.parameters.no_gradient(unit))
                    .collect::<Result<_, _>>()?,
            };
            time.add(*stage, start.elapsed(&self.world));
            let start = Stopwatch::start(&self.world);
            for (&unit, gradient) in scatters.iter().zip(gradients) {
                let shard = self
                    .world
                    .reduce_scatter_v(gradient, &self.parameters.row_counts(unit))?;
                self.parameters.accumulate(unit, shard)?;
            }
            time.scatter += start.elapsed(&self.world);
        }
        time.whole = began.elapsed(&self.world);
        self.micro_batch_times.push(time);
        Ok(run.map_or(0.0, |run| run.loss_sum()))
    }
}
