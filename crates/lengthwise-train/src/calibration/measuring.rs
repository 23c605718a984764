//! Runs what tells most, until enough is known.

use std::time::Instant;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Bytes, Degree, Rank, Seconds, StrategySpace, Tokens};
use lengthwise_cost::fitting::{Fit, Observation, TimeTerms, Uncertainty, non_negative};
use lengthwise_cost::{
    CostModel, FitReport, FittedCosts, FittedModel, GroupShape, Span, StepModel,
};

use super::candidates::{self, Candidate, SHORT};
use super::layout::Layout;
use super::trial::Trial;
use super::{
    MeasuredCosts, MeasuringProgress, MeasuringRule, core_sharing, counted_memory, held_out,
};
use crate::executor::Executor;
use crate::{TrainError, TrainOptions, memory};

/// A run that takes so much longer than the fit says was probably disturbed by other work.
const DISTURBED: f64 = 0.25;

/// A micro-batch is measured so often at most for being disturbed.
const MOST_ROUNDS: u32 = 3;

/// From one run to the next sequences may become that many times as long.
const GROWTH: u64 = 4;

/// Hears how far measuring has come.
pub type Progress<'a> = &'a (dyn Fn(MeasuringProgress) + Sync);

/// One rank's part in measuring. Every rank takes the same decisions, from times that all have agreed on.
pub struct Measuring<'a, C: Communicator> {
    options: &'a TrainOptions,
    executor: Executor<C>,
    rule: MeasuringRule,
    device_memory: f64,
    /// What is known without measuring.
    counted: FittedCosts,
    degrees: Vec<Degree>,
    /// Where groups are measured; that of degree 1 is the first.
    layouts: Vec<Layout>,
    terms: TimeTerms,
    started: Instant,
    points: Vec<Point>,
}

/// A measured micro-batch of equal groups.
struct Point {
    candidate: Candidate,
    trial: Trial,
    /// How often it was measured, each time with some runs.
    rounds: u32,
    row: Vec<f64>,
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
        let spans = layouts.iter().map(|layout| (layout.degree, layout.span));
        Ok(Measuring {
            executor: Executor::new(options.model.clone(), world.clone(), 0)?,
            rule,
            device_memory: device_memory.as_f64(),
            counted: counted_memory(options, degrees.iter().copied()),
            terms: TimeTerms::new(num_heads, spans),
            layouts,
            degrees,
            options,
            started,
            points: Vec::new(),
        })
    }

    /// Measures equal groups, until the fit is as good as it should be or time is up.
    pub fn measure(&mut self, progress: Progress<'_>) -> Result<(), TrainError> {
        self.measure_first()?;
        let context = self.options.context.0;
        let most = |layout: usize| self.most_tokens(self.layouts[layout].degree);
        let all = candidates::candidates(&self.layouts, context, most);
        let tokens = |candidate: &Candidate| candidate.seq_lens.iter().sum::<u64>();
        let typical: Vec<usize> = (0..all.len())
            .filter(|&index| 8 * tokens(&all[index]) >= most(all[index].layout))
            .collect();
        let rows: Result<Vec<_>, _> = all
            .iter()
            .map(|one| Ok(self.row(&self.trial(one)?)))
            .collect();
        let rows = rows.map_err(|error: TrainError| error)?;
        loop {
            let fit = self.fit()?;
            let errors = self.layout_errors(&fit);
            let uncertainty = self.uncertainty(&fit, &errors);
            let expected_error = candidates::expected_error(&fit, &uncertainty, &rows, &typical);
            let elapsed = self.elapsed()?;
            self.tell(progress, elapsed, expected_error)?;
            if expected_error <= self.rule.target_error
                || self.points.len() >= self.rule.most_trials
                || elapsed >= self.rule.fitting_budget().as_secs_f64()
            {
                return Ok(());
            }
            if let Some(disturbed) = self.disturbed(&fit) {
                self.run(&disturbed)?;
                continue;
            }
            let measured = self
                .points
                .iter()
                .flat_map(|point| &point.candidate.seq_lens);
            let longest = GROWTH * measured.copied().max().unwrap_or(1);
            let longest_run = self.rule.longest_run.as_secs_f64();
            let is_allowed = |index: usize, seconds: f64| {
                let seq_lens = &all[index].seq_lens;
                seconds <= longest_run && seq_lens.iter().all(|&seq_len| seq_len <= longest)
            };
            let error_of = |index: usize| errors[all[index].layout];
            let chosen =
                candidates::most_telling(&fit, &uncertainty, &rows, error_of, &typical, is_allowed);
            match chosen {
                Some(chosen) => self.run(&all[chosen])?,
                None => return Ok(()),
            }
        }
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
        let errors = self.layout_errors(&fit);
        let uncertainty = self.uncertainty(&fit, &errors);
        let expected: Vec<f64> = self
            .points
            .iter()
            .map(|point| uncertainty.variance(&fit.shares(&point.row)))
            .collect();
        let model = StepModel {
            cost: FittedModel::new(fit.costs(&self.counted))?,
            step_overhead: Seconds::new(self.step_rest()?)?,
            sharing: core_sharing(self.options),
        };
        let mut measurements = Vec::new();
        for point in &self.points {
            measurements.push(point.trial.measurement(&model, cluster, false)?);
        }
        let fitted_error = mean(measurements.iter().map(relative_error)).unwrap_or(0.0);
        let expected_error = mean(expected.into_iter()).unwrap_or(0.0).sqrt();
        let held_out = self.held_out(&model, progress, expected_error)?;
        let (bytes_per_local_token, bytes_per_sequence) = self.measured_memory()?;
        let report = FitReport {
            fitted_error,
            held_out_error: mean(held_out.iter().map(relative_error)),
            held_out_worst_error: held_out.iter().map(relative_error).reduce(f64::max),
            expected_error,
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
        expected_error: f64,
    ) -> Result<Vec<lengthwise_cost::Measurement>, TrainError> {
        let cluster = &self.options.cluster;
        let (context, recompute) = (self.options.context.0, self.options.recompute);
        let budget = self.rule.time_budget;
        let left = (budget - self.rule.fitting_budget()).as_secs_f64();
        // Each is run three times, if it is short.
        let longest = left / (3.0 * f64::from(self.rule.num_held_out.max(1)));
        let mut measured = Vec::new();
        for index in 0..self.rule.num_held_out {
            let seconds = |degree: Degree, seq_len: u64| {
                let strategy = lengthwise_core::Strategy::ulysses(degree, recompute);
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
            let mut trial = Trial::new(groups, recompute)?;
            trial.run(&mut self.executor)?;
            measured.push(trial.measurement(model, cluster, true)?);
            let elapsed = self.elapsed()?;
            self.tell(progress, elapsed, expected_error)?;
            if elapsed >= budget.as_secs_f64() {
                break;
            }
        }
        Ok(measured)
    }

    fn trial(&self, candidate: &Candidate) -> Result<Trial, TrainError> {
        let layout = &self.layouts[candidate.layout];
        Trial::equal(layout, &candidate.seq_lens, self.options.recompute)
    }

    fn row(&self, trial: &Trial) -> Vec<f64> {
        let sharing = core_sharing(self.options);
        trial.terms(&self.terms, sharing, &self.options.cluster)
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
                    row: self.row(&trial),
                    trial,
                    rounds: 0,
                });
                self.points.len() - 1
            }
        };
        let point = &mut self.points[index];
        point.rounds += 1;
        point.trial.run(&mut self.executor)
    }

    fn fit(&self) -> Result<Fit, TrainError> {
        let observations: Vec<Observation> = self.points.iter().map(Point::observation).collect();
        Ok(Fit::new(self.terms.clone(), &observations)?)
    }

    /// Root of the mean squared relative error of what was measured on each layout.
    fn layout_errors(&self, fit: &Fit) -> Vec<f64> {
        let squares = |layout: Option<usize>| {
            let points = self.points.iter();
            let points =
                points.filter(|point| layout.is_none_or(|of| point.candidate.layout == of));
            mean(points.map(|point| fit.error(&point.observation()).powi(2)))
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

    fn uncertainty(&self, fit: &Fit, layout_errors: &[f64]) -> Uncertainty {
        let runs = self.points.iter().map(|point| {
            let error = layout_errors[point.candidate.layout] / f64::from(point.rounds).sqrt();
            (&point.row, error)
        });
        candidates::learn(fit, runs)
    }

    /// What took much longer than the fit says, and may do better.
    fn disturbed(&self, fit: &Fit) -> Option<Candidate> {
        let slower = |point: &Point| point.trial.seconds / fit.seconds(&point.row) - 1.0;
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

    /// Tokens that a group of `degree` has room for.
    fn most_tokens(&self, degree: Degree) -> u64 {
        let TrainOptions {
            model, recompute, ..
        } = self.options;
        let per_token = memory::bytes_per_token(model, degree, *recompute);
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

impl Point {
    fn observation(&self) -> Observation {
        Observation {
            terms: self.row.clone(),
            seconds: self.trial.seconds,
        }
    }
}

fn relative_error(measurement: &lengthwise_cost::Measurement) -> f64 {
    (measurement.predicted_s / measurement.measured_s - 1.0).abs()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}
