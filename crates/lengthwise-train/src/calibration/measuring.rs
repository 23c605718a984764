//! Runs what tells most, until enough is known.

use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Bytes, Degree, Rank, Seconds, Strategy, StrategySpace, Tokens};
use lengthwise_cost::fitting::{Fit, Observation, TimeTerms, non_negative};
use lengthwise_cost::{
    CoreSharing, CostModel, FitReport, FittedCosts, FittedModel, GroupShape, Span, StepModel,
};

use super::candidates::{self, Candidate, Knowledge, RunTerms, SHORT};
use super::clock::Clock;
use super::layout::Layout;
use super::trial::Trial;
use super::{
    MeasuredCosts, MeasuringProgress, MeasuringRule, core_sharing, counted_memory, held_out,
};
use crate::executor::Executor;
use crate::timed::Timed;
use crate::timeline::Timeline;
use crate::{TrainError, TrainOptions, memory};

/// A run that takes so much longer than the fit says was probably disturbed by other work.
const DISTURBED: f64 = 0.25;

/// A micro-batch is measured so often at most for being disturbed.
const MOST_ROUNDS: u32 = 3;

/// Each held-out micro-batch is run so often, and the fastest run counts.
const HELD_OUT_ROUNDS: u32 = 2;

/// From one run to the next sequences may become that many times as long.
const GROWTH: u64 = 4;

/// Runs that take longer than this part of the longest one are typical of training.
const TYPICAL_PART: f64 = 1.0 / 8.0;

/// How much the errors of runs count that are too short to be of interest for themselves.
const SHORT_WEIGHT: f64 = 0.3;

/// What even the shortest run costs, in seconds.
const LEAST_COST_S: f64 = 0.1;

/// Hears how far measuring has come.
pub type Progress<'a> = &'a (dyn Fn(MeasuringProgress) + Sync);

/// One rank's part in measuring. Every rank takes the same decisions, from times that all have agreed on.
pub struct Measuring<'a, C: Communicator> {
    options: &'a TrainOptions,
    executor: Executor<Timed<C>>,
    rule: MeasuringRule,
    device_memory: f64,
    /// What is known without measuring.
    counted: FittedCosts,
    degrees: Vec<Degree>,
    /// Where groups are measured; that of degree 1 is the first.
    layouts: Vec<Layout>,
    terms: TimeTerms,
    /// How the clock sees ranks share cores.
    sharing: CoreSharing,
    started: Instant,
    points: Vec<Point>,
    /// Of typical micro-batches.
    expected_error: f64,
}

/// Indices of candidates.
struct Chosen {
    typical: Vec<usize>,
    allowed: Vec<usize>,
}

/// A measured micro-batch of equal groups.
struct Point {
    candidate: Candidate,
    trial: Trial,
    /// How often it was measured, each time with some runs.
    rounds: u32,
    row: RunTerms,
}

impl<'a, C: Communicator> Measuring<'a, C> {
    pub fn new(
        options: &'a TrainOptions,
        world: &C,
        space: &StrategySpace,
        device_memory: Bytes,
        rule: MeasuringRule,
    ) -> Result<Self, TrainError> {
        let started = Instant::now();
        let degrees: Vec<Degree> = space
            .degrees()
            .filter(|degree| degree.as_usize() <= world.size())
            .collect();
        let exchanging = if rule.every_degree {
            Layout::every(&degrees, &options.cluster)
        } else {
            Layout::exchanging(&degrees, &options.cluster)
        };
        let single = Layout::of(Degree::ONE, &options.cluster);
        let layouts: Vec<Layout> = std::iter::once(single).chain(exchanging).collect();
        // A rank with fewer heads leaves a shared core to the others.
        let is_shared = core_sharing(options).is_shared();
        let num_heads = (!is_shared).then_some(options.model.heads as u32);
        let activations = options.activations;
        let shapes = layouts.iter().map(|layout| GroupShape {
            strategy: Strategy::ulysses(layout.degree, activations),
            span: layout.span,
        });
        Ok(Measuring {
            executor: Executor::new(
                options.model.clone(),
                Timed::new(world.clone(), Timeline::default()),
                0,
            )?,
            rule,
            device_memory: device_memory.as_f64(),
            counted: counted_memory(options, degrees.iter().copied()),
            terms: TimeTerms::new(num_heads, shapes),
            sharing: match rule.clock {
                // It counts work, whoever does it meanwhile.
                Clock::Processor { .. } => CoreSharing::new(world.size() as u32, 1),
                Clock::Wall => core_sharing(options),
            },
            layouts,
            degrees,
            options,
            started,
            points: Vec::new(),
            expected_error: 1.0,
        })
    }

    /// Measures equal groups, until the fit is as good as it should be or time is up.
    pub fn measure(&mut self, progress: Progress<'_>) -> Result<(), TrainError> {
        self.measure_first()?;
        let context = self.options.context.0;
        let most = |layout: usize| self.most_tokens(self.layouts[layout].degree);
        let all = candidates::candidates(&self.layouts, context, most);
        let rows: Result<Vec<RunTerms>, TrainError> = all
            .iter()
            .map(|one| Ok(self.row(&self.trial(one)?, one.layout)))
            .collect();
        let rows = rows?;
        loop {
            let fit = self.fit()?;
            let errors = self.layout_errors(&fit);
            let Chosen { typical, allowed } = self.choice(&fit, &all, &rows);
            let knowledge = self.knowledge(&fit, &errors);
            let expected_error =
                knowledge.expected_error(typical.iter().map(|&index| &rows[index]));
            self.expected_error = expected_error;
            let elapsed = self.elapsed()?;
            self.tell(progress, elapsed, expected_error)?;
            if expected_error <= self.rule.target_error
                || self.num_rounds() >= self.rule.most_rounds
                || elapsed >= self.rule.fitting_budget().as_secs_f64()
            {
                return Ok(());
            }
            let next = match self.disturbed(&fit) {
                Some(disturbed) => Some(disturbed),
                None => knowledge
                    .most_telling(&rows, &typical, &allowed, LEAST_COST_S)
                    .map(|index| all[index].clone()),
            };
            match next {
                Some(next) => self.run(&next)?,
                None => return Ok(()),
            }
        }
    }

    /// Which candidates are like what is run in training, and which may be run now.
    ///
    /// Training fills ranks as far as memory and time allow, so it is the longer runs that count. Sequences become longer
    /// by steps, as nothing is known yet of how their time grows.
    fn choice(&self, fit: &Fit, all: &[Candidate], rows: &[RunTerms]) -> Chosen {
        let measured = self
            .points
            .iter()
            .flat_map(|point| &point.candidate.seq_lens);
        let longest = GROWTH * measured.copied().max().unwrap_or(1);
        let longest_run = self.rule.longest_run.as_secs_f64();
        let seconds: Vec<f64> = rows.iter().map(|row| fit.seconds(&row.terms)).collect();
        let within = |index: &usize| seconds[*index] <= longest_run;
        let scale = (0..rows.len())
            .filter(within)
            .map(|index| seconds[index])
            .fold(0.0, f64::max);
        let indices = |part: f64| -> Vec<usize> {
            let long_enough = (0..rows.len()).filter(|&index| seconds[index] >= part * scale);
            long_enough.filter(within).collect()
        };
        let typical = indices(TYPICAL_PART);
        let mut allowed = indices(TYPICAL_PART / 4.0);
        allowed.retain(|&index| {
            all[index]
                .seq_lens
                .iter()
                .all(|&seq_len| seq_len <= longest)
        });
        Chosen { typical, allowed }
    }

    /// What must be known before a fit makes sense: an overhead, a slope, and each exchange.
    fn measure_first(&mut self) -> Result<(), TrainError> {
        let one = |layout, seq_len| Candidate {
            layout,
            seq_lens: vec![seq_len],
        };
        self.run(&one(0, 1))?;
        for layout in 0..self.layouts.len() {
            let degree = self.layouts[layout].degree;
            let most = self.most_tokens(degree).min(self.options.context.0);
            let short = (SHORT * u64::from(degree.get())).min(most);
            self.run(&one(layout, short))?;
            if layout == 0 || layout + 1 == self.layouts.len() {
                self.run(&one(layout, (short * GROWTH).min(most)))?;
            }
        }
        Ok(())
    }

    /// The model that was fitted, how good it is, and all that it was fitted to or held against.
    pub fn finish(mut self, progress: Progress<'_>) -> Result<MeasuredCosts, TrainError> {
        let cluster = &self.options.cluster;
        let fit = self.fit()?;
        let model = StepModel {
            cost: FittedModel::new(fit.costs(&self.counted))?,
            step_overhead: Seconds::new(self.step_rest()?)?,
            sharing: core_sharing(self.options),
        };
        // What the clock should have shown.
        let by_clock = StepModel {
            sharing: self.sharing,
            ..model.clone()
        };
        let mut measurements = Vec::new();
        for point in &self.points {
            measurements.push(point.trial.measurement(&by_clock, cluster, false)?);
        }
        let fitted_error = mean(measurements.iter().map(relative_error)).unwrap_or(0.0);
        let held_out = self.held_out(&by_clock, progress)?;
        let (bytes_per_local_token, bytes_per_sequence) = self.measured_memory()?;
        let report = FitReport {
            fitted_error,
            held_out_error: mean(held_out.iter().map(relative_error)),
            held_out_worst_error: held_out.iter().map(relative_error).reduce(f64::max),
            expected_error: self.expected_error,
            measuring_s: self.elapsed()?,
        };
        measurements.extend(held_out);
        Ok(MeasuredCosts {
            model,
            report,
            measurements,
            bytes_per_local_token,
            bytes_per_sequence,
        })
    }

    /// Mixed micro-batches, which the fit has not seen, as far as time allows.
    fn held_out(
        &mut self,
        model: &StepModel,
        progress: Progress<'_>,
    ) -> Result<Vec<lengthwise_cost::Measurement>, TrainError> {
        let cluster = &self.options.cluster;
        let (context, activations) = (self.options.context.0, self.options.activations);
        let budget = self.rule.time_budget;
        let left = (budget - self.rule.fitting_budget()).as_secs_f64();
        let num_runs = self.rule.num_held_out * HELD_OUT_ROUNDS;
        let longest = left / f64::from(num_runs.max(1));
        let mut measured = Vec::new();
        for index in 0..self.rule.num_held_out {
            let seconds = |degree: Degree, seq_len: u64| {
                let strategy = Strategy::ulysses(degree, activations);
                let span = Span::OneNode;
                let shape = GroupShape { strategy, span };
                model.cost.sequence_time(shape, Tokens(seq_len)).get()
            };
            let groups: Vec<(Vec<Rank>, Vec<u64>)> = held_out::mixed_groups(
                u64::from(index),
                &self.degrees,
                cluster,
                context,
                |degree| self.most_tokens(degree),
                seconds,
                longest,
            );
            let mut trial = Trial::new(groups, activations)?;
            for _ in 0..HELD_OUT_ROUNDS {
                trial.run(&mut self.executor, self.rule.clock)?;
            }
            measured.push(trial.measurement(model, cluster, true)?);
            let elapsed = self.elapsed()?;
            self.tell(progress, elapsed, self.expected_error)?;
            if elapsed >= budget.as_secs_f64() {
                break;
            }
        }
        Ok(measured)
    }

    fn trial(&self, candidate: &Candidate) -> Result<Trial, TrainError> {
        let layout = &self.layouts[candidate.layout];
        Trial::equal(layout, &candidate.seq_lens, self.options.activations)
    }

    fn row(&self, trial: &Trial, layout: usize) -> RunTerms {
        RunTerms {
            terms: trial.terms(&self.terms, self.sharing, &self.options.cluster),
            longest: trial.longest(),
            local_tokens: trial.fullest().0,
            layout,
        }
    }

    /// Measures a micro-batch, perhaps once more.
    fn run(&mut self, candidate: &Candidate) -> Result<(), TrainError> {
        let known = self
            .points
            .iter()
            .position(|point| point.candidate == *candidate);
        let index = match known {
            Some(index) => index,
            None => {
                let trial = self.trial(candidate)?;
                self.points.push(Point {
                    candidate: candidate.clone(),
                    row: self.row(&trial, candidate.layout),
                    trial,
                    rounds: 0,
                });
                self.points.len() - 1
            }
        };
        let point = &mut self.points[index];
        point.rounds += 1;
        point.trial.run(&mut self.executor, self.rule.clock)
    }

    fn fit(&self) -> Result<Fit, TrainError> {
        let longest = self
            .points
            .iter()
            .map(|point| point.trial.seconds)
            .fold(0.0, f64::max);
        let observation = |point: &Point| Observation {
            terms: point.row.terms.clone(),
            seconds: point.trial.seconds,
            weight: if point.trial.seconds < TYPICAL_PART / 4.0 * longest {
                SHORT_WEIGHT
            } else {
                1.0
            },
        };
        let observations: Vec<Observation> = self.points.iter().map(observation).collect();
        Ok(Fit::new(self.terms.clone(), &observations)?)
    }

    /// Root of the mean squared relative error of what was measured on each layout.
    fn layout_errors(&self, fit: &Fit) -> Vec<f64> {
        let squares = |layout: Option<usize>| {
            let points = self.points.iter();
            let points =
                points.filter(|point| layout.is_none_or(|of| point.candidate.layout == of));
            mean(points.map(|point| fit.error(&point.row.terms, point.trial.seconds).powi(2)))
        };
        let overall = squares(None).unwrap_or(1.0);
        let layouts = 0..self.layouts.len();
        layouts
            // A layout with few points is fitted better than it is known.
            .map(|layout| {
                squares(Some(layout))
                    .unwrap_or(overall)
                    .max(overall / 4.0)
                    .sqrt()
            })
            .collect()
    }

    fn knowledge<'b>(&self, fit: &'b Fit, layout_errors: &'b [f64]) -> Knowledge<'b> {
        let runs = self.points.iter().map(|point| (&point.row, point.rounds));
        Knowledge::of(fit, layout_errors, runs)
    }

    /// What took much longer than the fit says, and may do better.
    fn disturbed(&self, fit: &Fit) -> Option<Candidate> {
        let slower = |point: &Point| point.trial.seconds / fit.seconds(&point.row.terms) - 1.0;
        let points = self
            .points
            .iter()
            .filter(|point| point.rounds < MOST_ROUNDS);
        let slowest = points.max_by(|a, b| slower(a).total_cmp(&slower(b)))?;
        (slower(slowest) > DISTURBED).then(|| slowest.candidate.clone())
    }

    /// What a step takes beside its micro-batches.
    fn step_rest(&mut self) -> Result<f64, TrainError> {
        match self.points.first() {
            Some(point) => point
                .trial
                .step_rest(&mut self.executor, &self.options.optimizer),
            None => Ok(0.0),
        }
    }

    /// Bytes that devices held for each of their tokens and each sequence, by least squares of relative errors.
    fn measured_memory(&self) -> Result<(f64, f64), TrainError> {
        let points = self.points.iter().map(|point| &point.trial);
        let (rows, values): (Vec<Vec<f64>>, Vec<f64>) = points
            .map(|trial| {
                let (tokens, sequences) = trial.fullest();
                let peak = trial.peak_memory.max(1.0);
                (vec![1.0 / peak, tokens / peak, sequences / peak], 1.0)
            })
            .unzip();
        let fitted = non_negative(&rows, &values)?;
        match fitted[..] {
            [_, per_token, per_sequence] => Ok((per_token, per_sequence)),
            _ => Ok((0.0, 0.0)),
        }
    }

    /// How often something was measured.
    fn num_rounds(&self) -> u32 {
        self.points.iter().map(|point| point.rounds).sum()
    }

    /// Tokens that a group of `degree` has room for.
    fn most_tokens(&self, degree: Degree) -> u64 {
        let TrainOptions {
            model, activations, ..
        } = self.options;
        let per_token = memory::bytes_per_token(model, degree, *activations);
        let room = self.device_memory - self.counted.fixed_memory_bytes;
        ((room / per_token) as u64).max(1)
    }

    /// Seconds since the beginning, agreed on by all ranks.
    fn elapsed(&self) -> Result<f64, TrainError> {
        let elapsed = self.started.elapsed().as_secs_f64();
        Ok(self
            .executor
            .world()
            .all_reduce_values(&[elapsed], ReduceOp::Max)?[0])
    }

    fn tell(&self, progress: Progress<'_>, elapsed: f64, expected: f64) -> Result<(), TrainError> {
        if self.executor.world().rank() == Rank(0) {
            progress(MeasuringProgress {
                elapsed: Seconds::new(elapsed)?,
                time_budget: self.rule.time_budget.into(),
                num_trials: self.points.len(),
                expected_error: expected,
            });
        }
        Ok(())
    }
}

fn relative_error(measurement: &lengthwise_cost::Measurement) -> f64 {
    (measurement.predicted_s / measurement.measured_s - 1.0).abs()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
