//! Micro-batches that are run to be timed.

use lengthwise_core::{
    Cluster, GlobalBatch, Group, MicroBatch, Plan, Seconds, SequenceIndex, Speed, Tokens,
};
use lengthwise_cost::fitting::{Drift, Load, Repeat, Work};
use lengthwise_cost::format::StrategyRecord;
use lengthwise_cost::{
    CoreSharing, MeasuredGroup, MeasuredParts, Measurement, StepModel, slowest_speed,
};

use crate::SurveyError;
use crate::held_out::MixedGroup;
use crate::layout::Layout;

/// Runs shorter than this, in seconds, are repeated at once, and the median counts.
pub const REPEATED_BELOW_S: f64 = 0.3;

/// How often short runs are repeated.
pub const REPEATS: u32 = 3;

/// A micro-batch to time, and what came of it so far.
#[derive(Clone, Debug)]
pub struct Trial {
    plan: Plan,
    /// In the order of the plan.
    seq_lens: Vec<u64>,
    /// Ranks that have work.
    num_active: u32,
    /// How often it has run.
    runs: u32,
    /// The time of each measurement, on the slowest rank.
    pub(crate) rounds: Vec<Repeat>,
    /// The most that a device held, in bytes.
    peak_memory: f64,
    /// Of the run that `parts` is of.
    fastest_s: f64,
    parts: MeasuredParts,
}

impl Trial {
    /// Groups of these ranks with sequences of these lengths.
    pub(crate) fn new(groups: Vec<MixedGroup>) -> Self {
        let num_active = groups.iter().map(|(_, ranks, _)| ranks.len() as u32).sum();
        let mut all_lens = Vec::new();
        let mut planned = Vec::with_capacity(groups.len());
        for (strategy, ranks, seq_lens) in groups {
            let first = all_lens.len() as u32;
            all_lens.extend(&seq_lens);
            planned.push(Group {
                strategy,
                ranks,
                sequences: (first..all_lens.len() as u32).map(SequenceIndex).collect(),
            });
        }
        Trial {
            plan: Plan::new(vec![MicroBatch { groups: planned }]),
            seq_lens: all_lens,
            num_active,
            runs: 0,
            rounds: Vec::new(),
            peak_memory: 0.0,
            fastest_s: f64::INFINITY,
            parts: MeasuredParts::default(),
        }
    }

    /// The same sequences in each group of a layout.
    pub(crate) fn equal(layout: &Layout, seq_lens: &[u64]) -> Self {
        let groups = layout.groups.iter();
        let groups = groups.map(|ranks| (layout.strategy, ranks.clone(), seq_lens.to_vec()));
        Self::new(groups.collect())
    }

    /// The work of equal groups, at the pace of the slowest device.
    pub(crate) fn work(&self, layout: &Layout, sharing: CoreSharing, cluster: &Cluster) -> Work {
        let speeds = self.groups().map(|group| slowest_speed(group, cluster));
        let slowest = speeds.reduce(Speed::min).unwrap_or(Speed::NOMINAL);
        let first = self.groups().next();
        let seq_lens = first.into_iter().flat_map(|group| self.lens_of(group));
        Work {
            load: Load::new(layout.shape(), seq_lens.map(Tokens)),
            pace: sharing.pace(self.num_active) / slowest.get(),
        }
    }

    /// Its groups.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.plan
            .micro_batches()
            .iter()
            .flat_map(|micro_batch| &micro_batch.groups)
    }

    fn lens_of<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = u64> + 'a {
        group
            .sequences
            .iter()
            .map(|index| self.seq_lens[index.index()])
    }

    /// A model's prediction of it, in seconds.
    pub(crate) fn predicted(
        &self,
        model: &StepModel,
        cluster: &Cluster,
    ) -> Result<f64, SurveyError> {
        let batch = GlobalBatch::from_lens(self.seq_lens.iter().copied())?;
        let micro_batches = self.plan.micro_batches().iter();
        let predicted = micro_batches
            .map(|micro_batch| model.predict_micro_batch(micro_batch, &batch, cluster));
        Ok(predicted.map(|seconds| seconds.get()).sum())
    }

    /// How it is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The lengths of its sequences in tokens, in the order of the plan.
    pub fn seq_lens(&self) -> &[u64] {
        &self.seq_lens
    }

    /// Ranks that have work.
    pub fn num_active(&self) -> u32 {
        self.num_active
    }

    /// Notes that it took so many seconds each time it ran, around this time since measuring began.
    ///
    /// # Errors
    ///
    /// A time is negative or no number.
    pub fn record(&mut self, at_s: f64, all_seconds: &[f64]) -> Result<(), SurveyError> {
        let mut sorted = all_seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        if let Some(&median) = sorted.get(sorted.len().saturating_sub(1) / 2) {
            self.runs += sorted.len() as u32;
            self.rounds.push(Repeat {
                at: Seconds::new(at_s)?,
                took: Seconds::new(median)?,
            });
        }
        Ok(())
    }

    /// Notes what a device held at most, in bytes.
    pub fn record_peak_memory(&mut self, bytes: f64) {
        self.peak_memory = self.peak_memory.max(bytes);
    }

    /// The most that a device held, in bytes.
    pub(crate) fn peak_memory(&self) -> f64 {
        self.peak_memory
    }

    /// Notes what the time of a run of so many seconds went into; that of its fastest run counts.
    pub fn record_parts(&mut self, parts: MeasuredParts, seconds: f64) {
        if seconds < self.fastest_s {
            self.fastest_s = seconds;
            self.parts = parts;
        }
    }

    /// Seconds it takes at the machine's median speed; infinite if it has not run.
    pub(crate) fn seconds(&self, drift: &Drift) -> f64 {
        let typical = drift.typical(&self.rounds);
        typical.map_or(f64::INFINITY, Seconds::get)
    }

    /// The tokens of the longest sequence.
    pub(crate) fn longest(&self) -> f64 {
        self.seq_lens.iter().copied().max().unwrap_or(0) as f64
    }

    /// Tokens that the fullest rank holds, and the sequences of its group.
    pub fn fullest(&self) -> (f64, f64) {
        let held = self.groups().map(|group| {
            let tokens: u64 = self.lens_of(group).sum();
            (
                tokens as f64 / group.ranks.len() as f64,
                group.sequences.len() as f64,
            )
        });
        held.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
    }

    /// As a profile records it.
    pub(crate) fn measurement(
        &self,
        model: &StepModel,
        cluster: &Cluster,
        drift: &Drift,
        held_out: bool,
    ) -> Result<Measurement, SurveyError> {
        let mut groups: Vec<MeasuredGroup> = Vec::new();
        for group in self.groups() {
            let seq_lens_tokens: Vec<u64> = self.lens_of(group).collect();
            let measured = MeasuredGroup {
                count: 1,
                strategy: StrategyRecord(group.strategy),
                crosses_nodes: cluster.crosses_nodes(&group.ranks),
                seq_lens_tokens,
            };
            let alike = groups.iter_mut().find(|other| {
                let count = other.count;
                **other
                    == MeasuredGroup {
                        count,
                        ..measured.clone()
                    }
            });
            match alike {
                Some(other) => other.count += 1,
                None => groups.push(measured),
            }
        }
        Ok(Measurement {
            held_out,
            runs: self.runs,
            measured_s: self.seconds(drift),
            predicted_s: self.predicted(model, cluster)?,
            peak_memory_bytes: self.peak_memory as u64,
            parts: self.parts,
            groups,
        })
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_core::{Activations, Bytes, Degree, Device, Strategy};
    use lengthwise_cost::fitting::{Fit, Observation, TimeTerms};
    use lengthwise_cost::{FittedCosts, FittedModel};

    use super::*;

    /// A node of devices for each of these speeds.
    fn cluster(speeds: &[&[f64]]) -> Cluster {
        let device = |&speed: &f64| Device::new(Bytes::from_mib(64), Speed::new(speed).unwrap());
        let nodes = speeds.iter().map(|node| node.iter().map(device).collect());
        Cluster::from_nodes(nodes.collect()).unwrap()
    }

    #[test]
    fn what_is_fitted_to_devices_of_unequal_speed_predicts_what_they_took() {
        // The time of a device of nominal speed; a micro-batch lasts until its slowest device is done.
        let (linear, quadratic, overhead) = (1e-5, 1e-9, 2e-3);
        for cluster in [
            cluster(&[&[1.0, 1.0]]),
            cluster(&[&[1.0, 0.5]]),
            cluster(&[&[1.0, 1.0], &[0.5, 0.5]]),
            cluster(&[&[0.25; 4]]),
        ] {
            let slowest = (cluster.devices().iter())
                .map(|device| device.speed().get())
                .fold(f64::INFINITY, f64::min);
            let sharing = CoreSharing::apart(cluster.num_devices());
            let alone = Strategy::ulysses(Degree::ONE, Activations::Keep);
            let layout = Layout::of(alone, &cluster);
            let terms = TimeTerms::new(None, [layout.shape()]);
            let trials: Vec<(Trial, f64)> = [1, 500, 2000, 8000]
                .map(|seq_len| {
                    let tokens = seq_len as f64;
                    let nominal = linear * tokens + quadratic * tokens * tokens;
                    let trial = Trial::equal(&layout, &[seq_len]);
                    (trial, overhead + nominal / slowest)
                })
                .into();
            let observations: Vec<Observation> = (trials.iter())
                .map(|(trial, seconds)| Observation {
                    work: trial.work(&layout, sharing, &cluster),
                    seconds: *seconds,
                    weight: 1.0,
                })
                .collect();
            let fit = Fit::new(terms, &observations).unwrap();
            let costs = fit.costs(&FittedCosts::default());
            assert!(
                (costs.kinds[&alone.kind()].linear_s_per_token / linear - 1.0).abs() < 1e-3,
                "{costs:?}"
            );
            let model = StepModel {
                cost: FittedModel::new(costs).unwrap(),
                step_overhead: Seconds::ZERO,
                sharing,
            };
            for (trial, seconds) in &trials {
                let error = trial.predicted(&model, &cluster).unwrap() / seconds - 1.0;
                assert!(error.abs() < 1e-3, "{error} of {seconds} s on {cluster:?}");
            }
        }
    }
}
