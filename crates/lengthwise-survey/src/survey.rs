//! Measurements so far, and the choice of the next one. Where every rank decides for itself, all decide the same
//! from times that they have agreed on.

use lengthwise_core::{Degree, Seconds, Strategy, Tokens};
use lengthwise_cost::fitting::{Drift, Fit, Observation, TimeTerms, non_negative};
use lengthwise_cost::{
    CostModel, FitReport, FittedModel, GroupShape, Measurement, Span, StepModel,
};

use crate::candidates::{self, Candidate, Knowledge, RunTerms, SHORT};
use crate::layout::Layout;
use crate::{MeasuredCosts, SurveyError, SurveyRule, Surveyed, Trial, held_out};

/// A run that is so far from what the fit says was probably disturbed by other work.
const DISTURBED: f64 = 0.25;

/// A micro-batch is measured so often at most for being disturbed.
const MOST_ROUNDS: u32 = 3;

/// Each held-out micro-batch is measured so often, as far as time allows.
const HELD_OUT_ROUNDS: u32 = 3;

/// The part of the time in which one micro-batch is run again and again, to see the machine's speed.
const REFERENCE_PART: f64 = 0.15;

/// A run of the reference takes no longer than this part of the time budget.
const REFERENCE_RUN: f64 = 1.0 / 150.0;

/// The part of the time for micro-batches that the fit does not see, if there are any.
const HELD_OUT_PART: f64 = 0.3;

/// By how much the formula is off from micro-batches that are measured exactly.
const FORMULA_ERROR: f64 = 0.03;

/// From one run to the next sequences may become that many times as long.
const GROWTH: u64 = 4;

/// Runs that take longer than this part of the longest one are typical of training.
const TYPICAL_PART: f64 = 1.0 / 8.0;

/// How much the errors of runs count that are too short to be of interest for themselves.
const SHORT_WEIGHT: f64 = 0.3;

/// The cost of even the shortest run, in seconds.
const LEAST_COST_S: f64 = 0.1;

/// A micro-batch to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A run that costs are fitted to, by its index.
    Fitted(usize),
    /// The one of these that shows the machine's speed.
    Reference(usize),
    /// A run that the fit does not see, by its index.
    HeldOut(usize),
}

/// Seconds that went into measuring each kind of subject, once the first are known.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    fitted: f64,
    reference: f64,
    held_out: f64,
}

/// The measurements so far. Runs of the reference and of held-out micro-batches are spread over all the time, so that
/// each is seen at every speed that the machine has.
pub struct Survey {
    surveyed: Surveyed,
    rule: SurveyRule,
    /// Where groups are measured; that of degree 1 is the first.
    layouts: Vec<Layout>,
    terms: TimeTerms,
    /// Runs that must be known before a fit makes sense, the last one first.
    first: Vec<Candidate>,
    candidates: Vec<Candidate>,
    /// Of each candidate.
    rows: Vec<RunTerms>,
    points: Vec<Point>,
    reference: Option<usize>,
    held_out: Vec<Trial>,
    spent: Spent,
    /// The run that is measured at present, and since when.
    present: Option<(Subject, f64)>,
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
    row: RunTerms,
}

impl Point {
    /// How often it was measured, each time with some runs.
    fn rounds(&self) -> u32 {
        self.trial.rounds.len() as u32
    }
}

impl Survey {
    /// Nothing is measured yet.
    pub fn new(surveyed: Surveyed, rule: SurveyRule) -> Self {
        let layouts = Layout::measured(
            &surveyed.space,
            &surveyed.activations(),
            &surveyed.cluster,
            rule.every_degree,
        );
        let shapes = shapes(&layouts, &surveyed);
        let mut survey = Survey {
            rule,
            terms: TimeTerms::shared(surveyed.num_heads, shapes).beside(&surveyed.known),
            layouts,
            surveyed,
            first: Vec::new(),
            candidates: Vec::new(),
            rows: Vec::new(),
            points: Vec::new(),
            reference: None,
            held_out: Vec::new(),
            spent: Spent::default(),
            present: None,
            expected_error: 1.0,
        };
        survey.first = survey.first();
        let most = |layout: usize| survey.surveyed.most_tokens(survey.layouts[layout].strategy);
        survey.candidates =
            candidates::candidates(&survey.layouts, survey.surveyed.context.0, most);
        let candidates = survey.candidates.iter();
        let rows = candidates.map(|one| survey.row(&survey.trial_of(one), one.layout));
        survey.rows = rows.collect();
        survey
    }

    /// An overhead, a slope, and each exchange; the last to be measured comes first.
    fn first(&self) -> Vec<Candidate> {
        let one = |layout, seq_len| Candidate {
            layout,
            seq_lens: vec![seq_len],
        };
        let mut first = vec![one(0, 1)];
        for (layout, Layout { strategy, .. }) in self.layouts.iter().enumerate() {
            let most = self
                .surveyed
                .most_tokens(*strategy)
                .min(self.surveyed.context.0);
            let degree = strategy.degree();
            let short = (SHORT * u64::from(degree.get())).min(most);
            first.push(one(layout, short));
            if degree == Degree::ONE || layout + 1 == self.layouts.len() {
                first.push(one(layout, (short * GROWTH).min(most)));
            }
        }
        first.reverse();
        first
    }

    /// The run to measure next, after so many seconds; `None` if enough is known or time is up.
    ///
    /// # Errors
    ///
    /// The recorded runs make no costs.
    pub fn next(&mut self, elapsed_s: f64) -> Result<Option<Subject>, SurveyError> {
        if let Some((subject, since_s)) = self.present.take() {
            let took = elapsed_s - since_s;
            match subject {
                Subject::Fitted(_) => self.spent.fitted += took,
                Subject::Reference(_) => self.spent.reference += took,
                Subject::HeldOut(_) => self.spent.held_out += took,
            }
        }
        if let Some(first) = self.first.pop() {
            return Ok(Some(Subject::Fitted(self.point(&first))));
        }
        let next = self.next_after_first(elapsed_s)?;
        self.present = next.map(|subject| (subject, elapsed_s));
        Ok(next)
    }

    fn next_after_first(&mut self, elapsed_s: f64) -> Result<Option<Subject>, SurveyError> {
        let time_is_up = elapsed_s >= self.rule.time_budget.as_secs_f64();
        let Spent {
            fitted,
            reference,
            held_out,
        } = self.spent;
        let spent = fitted + reference + held_out;
        if !time_is_up && reference <= REFERENCE_PART * spent {
            return Ok(Some(Subject::Reference(self.reference()?)));
        }
        if !time_is_up && held_out > HELD_OUT_PART * spent {
            return self.next_fitted();
        }
        match self.next_held_out(time_is_up)? {
            Some(next) => Ok(Some(next)),
            None if time_is_up => Ok(None),
            None => self.next_fitted(),
        }
    }

    /// The held-out micro-batch that was measured least, if it should be measured again.
    fn next_held_out(&mut self, time_is_up: bool) -> Result<Option<Subject>, SurveyError> {
        let index = self.held_out.len();
        if index < self.rule.num_held_out as usize && (index == 0 || !time_is_up) {
            let trial = self.mixed(index as u64)?;
            self.held_out.push(trial);
            return Ok(Some(Subject::HeldOut(index)));
        }
        let rounds = |index: &usize| self.held_out[*index].rounds.len();
        let least = (0..index)
            .min_by_key(rounds)
            .filter(|least| !time_is_up && rounds(least) < HELD_OUT_ROUNDS as usize);
        Ok(least.map(Subject::HeldOut))
    }

    /// What tells most of typical micro-batches, or was disturbed; once enough is known, what is left to hold out.
    fn next_fitted(&mut self) -> Result<Option<Subject>, SurveyError> {
        let drift = self.drift();
        let fit = self.fit(&drift)?;
        let errors = self.layout_errors(&fit, &drift);
        let Chosen { typical, allowed } = self.choice(&fit);
        let knowledge = self.knowledge(&fit, &errors);
        let typical_rows = typical.iter().map(|&index| &self.rows[index]);
        self.expected_error = knowledge.expected_error(typical_rows);
        let is_known = self.expected_error <= self.rule.target_error
            || self.num_rounds() >= self.rule.most_rounds;
        let next = if is_known {
            None
        } else {
            self.disturbed(&fit, &drift).or_else(|| {
                knowledge
                    .most_telling(&self.rows, &typical, &allowed, LEAST_COST_S)
                    .map(|index| self.candidates[index].clone())
            })
        };
        match next {
            Some(next) => Ok(Some(Subject::Fitted(self.point(&next)))),
            None => self.next_held_out(false),
        }
    }

    /// Which candidates are like what is run in training, and which may be run now.
    ///
    /// Training fills ranks as far as memory and time allow, so it is the longer runs that count. Sequences become longer
    /// by steps, as nothing is known yet of how their time grows.
    fn choice(&self, fit: &Fit) -> Chosen {
        let measured = self
            .points
            .iter()
            .flat_map(|point| &point.candidate.seq_lens);
        let longest = GROWTH * measured.copied().max().unwrap_or(1);
        let longest_run = self.rule.longest_run.as_secs_f64();
        let seconds: Vec<f64> = self.rows.iter().map(|row| fit.seconds(&row.work)).collect();
        let within = |index: &usize| seconds[*index] <= longest_run;
        let scale = (0..self.rows.len())
            .filter(within)
            .map(|index| seconds[index])
            .fold(0.0, f64::max);
        let indices = |part: f64| -> Vec<usize> {
            let long_enough = (0..self.rows.len()).filter(|&index| seconds[index] >= part * scale);
            long_enough.filter(within).collect()
        };
        let typical = indices(TYPICAL_PART);
        let mut allowed = indices(TYPICAL_PART / 4.0);
        allowed.retain(|&index| {
            self.candidates[index]
                .seq_lens
                .iter()
                .all(|&seq_len| seq_len <= longest)
        });
        Chosen { typical, allowed }
    }

    /// The micro-batch that shows the machine's speed: the longest of groups of one that is short enough to be run often.
    fn reference(&mut self) -> Result<usize, SurveyError> {
        if let Some(reference) = self.reference {
            return Ok(reference);
        }
        let fit = self.fit(&Drift::default())?;
        let longest = REFERENCE_RUN * self.rule.time_budget.as_secs_f64();
        let seconds = |index: &usize| fit.seconds(&self.rows[*index].work);
        let alone = (0..self.rows.len()).filter(|&index| self.candidates[index].layout == 0);
        let (short, long): (Vec<usize>, Vec<usize>) =
            alone.partition(|index| seconds(index) <= longest);
        let by_time = |a: &usize, b: &usize| seconds(a).total_cmp(&seconds(b));
        let chosen = short.into_iter().max_by(by_time);
        let chosen = chosen.or_else(|| long.into_iter().min_by(by_time));
        let candidate = self.candidates[chosen.unwrap_or(0)].clone();
        let reference = self.point(&candidate);
        self.reference = Some(reference);
        Ok(reference)
    }

    /// Mixed groups, which hold about as much work as each other by what is known now.
    fn mixed(&self, index: u64) -> Result<Trial, SurveyError> {
        let model = self.model(&self.fit(&self.drift())?, Seconds::ZERO)?;
        let left = HELD_OUT_PART * self.rule.time_budget.as_secs_f64();
        let num_runs = self.rule.num_held_out * HELD_OUT_ROUNDS;
        let seconds = |strategy: Strategy, seq_len: u64| {
            let span = Span::OneNode;
            let shape = GroupShape { strategy, span };
            model.cost.sequence_time(shape, Tokens(seq_len)).get()
        };
        Ok(Trial::new(held_out::mixed_groups(
            index,
            &self.surveyed.space,
            &self.surveyed.cluster,
            self.surveyed.context.0,
            |strategy| self.surveyed.most_tokens(strategy),
            seconds,
            left / f64::from(num_runs.max(1)),
        )))
    }

    /// The subject of the survey.
    pub fn surveyed(&self) -> &Surveyed {
        &self.surveyed
    }

    /// The micro-batch that is meant.
    pub fn trial_mut(&mut self, subject: Subject) -> &mut Trial {
        match subject {
            Subject::Fitted(index) | Subject::Reference(index) => &mut self.points[index].trial,
            Subject::HeldOut(index) => &mut self.held_out[index],
        }
    }

    /// The shortest micro-batch, which was measured first.
    pub fn shortest(&self) -> Option<&Trial> {
        self.points.first().map(|point| &point.trial)
    }

    /// How many micro-batches were measured.
    pub fn num_trials(&self) -> usize {
        self.points.len()
    }

    /// The relative error that is to be expected of typical micro-batches.
    pub fn expected_error(&self) -> f64 {
        self.expected_error
    }

    fn model(&self, fit: &Fit, step_overhead: Seconds) -> Result<StepModel, SurveyError> {
        Ok(StepModel {
            cost: FittedModel::new(fit.costs(&self.surveyed.known))?,
            step_overhead,
            sharing: self.surveyed.sharing,
        })
    }

    /// The model that was fitted, how good it is, and all that it was fitted to or held against; where a step takes
    /// `step_overhead` beside its micro-batches, and measuring took `elapsed_s` seconds.
    ///
    /// # Errors
    ///
    /// The recorded runs make no costs.
    pub fn finish(
        self,
        step_overhead: Seconds,
        elapsed_s: f64,
    ) -> Result<MeasuredCosts, SurveyError> {
        let drift = self.drift();
        let model = self.model(&self.fit(&drift)?, step_overhead)?;
        // The time that the clock should have shown.
        let by_clock = StepModel {
            sharing: self.surveyed.sharing_by_clock,
            ..model.clone()
        };
        let measured = |trials: &mut dyn Iterator<Item = &Trial>, held_out: bool| {
            trials
                .map(|trial| trial.measurement(&by_clock, &self.surveyed.cluster, &drift, held_out))
                .collect::<Result<Vec<Measurement>, SurveyError>>()
        };
        let mut measurements = measured(&mut self.points.iter().map(|point| &point.trial), false)?;
        let held_out = measured(&mut self.held_out.iter(), true)?;
        let measured_memory = self.measured_memory()?;
        let report = FitReport {
            fitted_error: mean(measurements.iter().map(relative_error)).unwrap_or(0.0),
            held_out_error: mean(held_out.iter().map(relative_error)),
            held_out_worst_error: held_out.iter().map(relative_error).reduce(f64::max),
            expected_error: self.expected_error,
            noise: drift.noise(),
            // Of few runs, each is predicted worse from the others than it is by the median of all.
            noise_without_drift: drift
                .noise_left()
                .zip(drift.noise())
                .map(|(left, noise)| left.min(noise)),
            measuring_s: elapsed_s,
        };
        measurements.extend(held_out);
        Ok(MeasuredCosts {
            surveyed: self.surveyed,
            model,
            report,
            measurements,
            bytes_per_local_token: measured_memory.map(|(per_token, _)| per_token),
            bytes_per_sequence: measured_memory.map(|(_, per_sequence)| per_sequence),
        })
    }

    fn trial_of(&self, candidate: &Candidate) -> Trial {
        Trial::equal(&self.layouts[candidate.layout], &candidate.seq_lens)
    }

    fn row(&self, trial: &Trial, layout: usize) -> RunTerms {
        RunTerms {
            work: trial.work(
                &self.layouts[layout],
                self.surveyed.sharing_by_clock,
                &self.surveyed.cluster,
            ),
            longest: trial.longest(),
            local_tokens: trial.fullest().0,
            layout,
        }
    }

    /// The point of a candidate, perhaps a new one.
    fn point(&mut self, candidate: &Candidate) -> usize {
        let mut points = self.points.iter();
        if let Some(index) = points.position(|point| point.candidate == *candidate) {
            return index;
        }
        let trial = self.trial_of(candidate);
        self.points.push(Point {
            candidate: candidate.clone(),
            row: self.row(&trial, candidate.layout),
            trial,
        });
        self.points.len() - 1
    }

    fn drift(&self) -> Drift {
        let reference = self.reference.map(|index| &self.points[index].trial);
        reference.map_or_else(Drift::default, |trial| Drift::of(&trial.rounds))
    }

    fn fit(&self, drift: &Drift) -> Result<Fit, SurveyError> {
        let measured = self.points.iter().filter(|point| point.rounds() > 0);
        let measured: Vec<(&Point, f64)> = measured
            .map(|point| (point, point.trial.seconds(drift)))
            .collect();
        let longest = measured.iter().map(|&(_, s)| s).fold(0.0, f64::max);
        let noise = drift.noise_left().unwrap_or(0.0);
        let observation = |&(point, seconds): &(&Point, f64)| {
            let variance = FORMULA_ERROR.powi(2) + noise.powi(2) / f64::from(point.rounds());
            let relevance = if seconds < TYPICAL_PART / 4.0 * longest {
                SHORT_WEIGHT
            } else {
                1.0
            };
            Observation {
                work: point.row.work,
                seconds,
                weight: relevance * FORMULA_ERROR / variance.sqrt(),
            }
        };
        let observations: Vec<Observation> = measured.iter().map(observation).collect();
        Ok(Fit::new(self.terms.clone(), &observations)?)
    }

    /// Root of the mean squared relative error of what was measured on each layout.
    fn layout_errors(&self, fit: &Fit, drift: &Drift) -> Vec<f64> {
        let squares = |layout: Option<usize>| {
            let points = self.points.iter();
            let points =
                points.filter(|point| layout.is_none_or(|of| point.candidate.layout == of));
            mean(points.map(|point| {
                fit.error(&point.row.work, point.trial.seconds(drift))
                    .powi(2)
            }))
        };
        let overall = squares(None).unwrap_or(1.0);
        // Nor is a run better known than it repeats itself.
        let noise = drift.noise_left().unwrap_or(0.0);
        let layouts = 0..self.layouts.len();
        layouts
            // A layout with few points is fitted better than it is known.
            .map(|layout| {
                squares(Some(layout))
                    .unwrap_or(overall)
                    .max(overall / 4.0)
                    .sqrt()
                    .max(noise)
            })
            .collect()
    }

    fn knowledge<'b>(&self, fit: &'b Fit, layout_errors: &'b [f64]) -> Knowledge<'b> {
        let runs = self.points.iter().map(|point| (&point.row, point.rounds()));
        Knowledge::of(fit, layout_errors, runs)
    }

    /// The run that is furthest from the fit, and may do better.
    fn disturbed(&self, fit: &Fit, drift: &Drift) -> Option<Candidate> {
        let off = |point: &Point| fit.error(&point.row.work, point.trial.seconds(drift)).abs();
        let points = self
            .points
            .iter()
            .filter(|point| point.rounds() < MOST_ROUNDS);
        let furthest = points.max_by(|a, b| off(a).total_cmp(&off(b)))?;
        (off(furthest) > DISTURBED).then(|| furthest.candidate.clone())
    }

    /// Bytes that devices held for each of their tokens and each sequence, by least squares of relative errors; `None`
    /// where no device tells what it holds.
    fn measured_memory(&self) -> Result<Option<(f64, f64)>, SurveyError> {
        // What is held differs with what is done with activations, and by the blocks of a ring.
        let usual = self.layouts[0].strategy.kind();
        let points = self
            .points
            .iter()
            .filter(|point| self.layouts[point.candidate.layout].strategy.kind() == usual);
        let points = points.map(|point| &point.trial);
        if points.clone().all(|trial| trial.peak_memory() == 0.0) {
            return Ok(None);
        }
        let (rows, values): (Vec<Vec<f64>>, Vec<f64>) = points
            .map(|trial| {
                let (tokens, sequences) = trial.fullest();
                let peak = trial.peak_memory().max(1.0);
                (vec![1.0 / peak, tokens / peak, sequences / peak], 1.0)
            })
            .unzip();
        let fitted = non_negative(&rows, &values)?;
        match fitted[..] {
            [_, per_token, per_sequence] => Ok(Some((per_token, per_sequence))),
            _ => Ok(None),
        }
    }

    /// How often something was measured for its own sake.
    fn num_rounds(&self) -> u32 {
        let points = self.points.iter().enumerate();
        let points = points.filter(|&(index, _)| Some(index) != self.reference);
        points.map(|(_, point)| point.rounds()).sum()
    }
}

/// The shapes of all that is to be known: of every kind of strategy, the exchanges that its way is measured with.
fn shapes(layouts: &[Layout], surveyed: &Surveyed) -> Vec<GroupShape> {
    let kinds = surveyed.kinds().into_iter();
    let measured = kinds.flat_map(|kind| {
        let of_way = layouts
            .iter()
            .filter(move |layout| layout.strategy.kind().exchange == kind.exchange);
        of_way.map(move |layout| GroupShape {
            strategy: layout.strategy.with_activations(kind.activations),
            span: layout.span,
        })
    });
    measured.collect()
}

fn relative_error(measurement: &Measurement) -> f64 {
    (measurement.predicted_s / measurement.measured_s - 1.0).abs()
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests;
