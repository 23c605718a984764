//! The steps of a run, one JSON object a line: what `train --metrics` writes and `report` reads.

mod file;
mod run_name;

use lengthwise_core::{Cluster, Plan, Seconds, Tokens};
use lengthwise_cost::format::{FormatVersion, StrategyRecord};
use serde::{Deserialize, Serialize};

pub use file::MetricsFile;
pub use run_name::run_name;

/// The version of the lines; a line that readers of this version would misunderstand has another.
pub const VERSION: u32 = FormatVersion::NUMBER;

/// A step. A figure that is no number is written as `null`; lines from before a key was written lack it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Of the format; lines without one are from before there was one, and lack keys only.
    pub version: Option<u32>,
    /// The run that the step is of, which is another each time that a run writes to the file; earlier lines lack it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Who planned.
    pub planner: Option<String>,
    /// Counted from 1.
    pub step: u64,
    /// Mean over all labels of the batch.
    pub loss: Option<f64>,
    /// Norm of the gradient before it is clipped.
    pub gradient_norm: Option<f64>,
    /// Of this step.
    pub learning_rate: Option<f64>,
    /// Of all sequences.
    pub tokens: u64,
    /// Tokens that are trained to predict the next; earlier lines lack it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<u64>,
    /// In the batch.
    pub sequences: u64,
    /// The degrees of the groups of each micro-batch.
    #[serde(default)]
    pub micro_batches: Vec<Vec<u32>>,
    /// What the step was predicted to take.
    pub predicted_s: f64,
    /// The part of it that comes on top of the micro-batches.
    #[serde(default)]
    pub predicted_step_overhead_s: f64,
    /// What the planner predicted, for ranks that are all busy: what `lower_bound_s` and `gap` are about.
    pub planned_s: Option<f64>,
    /// What the step took.
    pub measured_s: f64,
    /// The time by the clocks of an emulated cluster's devices, where there is one.
    pub emulated_s: Option<f64>,
    /// By what part of the measured time the predicted one exceeds it.
    pub prediction_error: Option<f64>,
    /// The median of its size in the last steps.
    pub recent_error: Option<f64>,
    /// How often measured steps had refined the costs that this one was planned with.
    pub costs_version: Option<u64>,
    /// Tokens by measured time.
    pub tokens_per_s: Option<f64>,
    /// How long the ranks waited for the plan.
    #[serde(default)]
    pub plan_wait_s: f64,
    /// No plan takes less.
    pub lower_bound_s: Option<f64>,
    /// (planned - bound) / bound.
    pub gap: Option<f64>,
    /// Why the planner stopped.
    pub stop_reason: Option<String>,
    /// What planning took.
    pub solve_s: Option<f64>,
    /// The most that any device was predicted to hold.
    pub predicted_peak_memory_bytes: Option<u64>,
    /// The most that any device held.
    pub measured_peak_memory_bytes: Option<u64>,
    /// The most that any device was predicted to hold on its host; left out where nothing was moved there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_peak_host_memory_bytes: Option<u64>,
    /// The most that any device held on its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured_peak_host_memory_bytes: Option<u64>,
    /// Groups that have been created so far.
    pub groups_created: Option<u64>,
    /// Passes over the corpus that were complete before this batch.
    pub epoch: Option<u64>,
    /// Sequences that are pieces of a split document.
    pub pieces: Option<u64>,
    /// Sequences that are the beginning of a truncated document.
    pub truncated: Option<u64>,
    /// Tokens that those documents lost.
    pub cut_tokens: Option<u64>,
    /// The loss of held-out data after the step, where it was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationMetrics>,
    /// How the batch was run.
    #[serde(default)]
    pub plan: Vec<MicroBatchMetrics>,
    /// What the time of each rank went into: its columns add up to `emulated_s`, or else to `measured_s`.
    #[serde(default)]
    pub ranks: RankMetrics,
}

/// The loss of held-out data, by forward passes alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ValidationMetrics {
    /// Mean over all labels.
    pub loss: Option<f64>,
    /// What it is a mean of.
    pub labels: u64,
    /// Of all sequences.
    pub tokens: u64,
    /// What it was predicted to take.
    pub predicted_s: f64,
    /// What it took, which is no part of the step's time; by the clocks of an emulated cluster's devices, where there is one.
    pub measured_s: f64,
}

/// A micro-batch of the plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MicroBatchMetrics {
    /// The time of its slowest group, and its overhead.
    pub predicted_s: f64,
    /// Its groups.
    pub groups: Vec<GroupMetrics>,
}

impl MicroBatchMetrics {
    /// The micro-batches of a plan, with what each of their groups was predicted to take, and every micro-batch beside
    /// them.
    pub fn of_plan(
        plan: &Plan,
        seq_lens: &[Tokens],
        predicted_groups: &[Vec<Seconds>],
        predicted_overhead: Seconds,
    ) -> Vec<Self> {
        let with_times = plan.micro_batches().iter().zip(predicted_groups);
        let metrics = with_times.map(|(micro_batch, times)| {
            let slowest = times.iter().copied().fold(Seconds::ZERO, Seconds::max);
            let groups = micro_batch.groups.iter().zip(times);
            let groups = groups.map(|(group, &time)| GroupMetrics {
                ranks: group.ranks.iter().map(|rank| rank.0).collect(),
                strategy: Some(StrategyRecord(group.strategy)),
                predicted_s: microseconds(time),
                seq_lens: (group.sequences.iter())
                    .filter_map(|sequence| seq_lens.get(sequence.index()))
                    .map(|seq_len| seq_len.0)
                    .collect(),
            });
            MicroBatchMetrics {
                predicted_s: microseconds(slowest + predicted_overhead),
                groups: groups.collect(),
            }
        });
        metrics.collect()
    }
}

/// Seconds to the microsecond: clocks say no more, and files of long runs stay smaller.
pub fn microseconds(time: Seconds) -> f64 {
    (time.get() * 1e6).round() / 1e6
}

/// A group, with the lengths of its sequences: those of all groups are the batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupMetrics {
    /// Its members.
    pub ranks: Vec<u32>,
    /// How they share sequences.
    pub strategy: Option<StrategyRecord>,
    /// What it was predicted to take.
    pub predicted_s: f64,
    /// In tokens.
    pub seq_lens: Vec<u64>,
}

/// What every rank's time went into, by rank.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RankMetrics {
    /// Computing.
    pub compute_s: Vec<f64>,
    /// Exchanging within groups.
    pub exchange_s: Vec<f64>,
    /// Waiting for others.
    pub wait_s: Vec<f64>,
}

impl StepMetrics {
    /// What it took: by the devices' clocks where they are emulated, since the machine may be late.
    pub fn took_s(&self) -> f64 {
        self.emulated_s.unwrap_or(self.measured_s)
    }

    /// The rule that some figure breaks.
    pub fn check(&self) -> Result<(), String> {
        let groups = || self.plan.iter().flat_map(|micro_batch| &micro_batch.groups);
        let named = [
            ("predicted_s", self.predicted_s),
            ("measured_s", self.measured_s),
            ("emulated_s", self.emulated_s.unwrap_or(0.0)),
            ("planned_s", self.planned_s.unwrap_or(0.0)),
            ("predicted_step_overhead_s", self.predicted_step_overhead_s),
            ("plan_wait_s", self.plan_wait_s),
            ("lower_bound_s", self.lower_bound_s.unwrap_or(0.0)),
        ];
        let planned = self.plan.iter().map(|micro_batch| micro_batch.predicted_s);
        let planned = planned.chain(groups().map(|group| group.predicted_s));
        let validation = self.validation.iter();
        let validation = validation.flat_map(|one| {
            [
                ("validation.predicted_s", one.predicted_s),
                ("validation.measured_s", one.measured_s),
            ]
        });
        let times = named.into_iter().chain(validation);
        let times = times.chain(planned.map(|time| ("plan: predicted_s", time)));
        let ranks = &self.ranks;
        let columns = [
            ("ranks.compute_s", &ranks.compute_s),
            ("ranks.exchange_s", &ranks.exchange_s),
            ("ranks.wait_s", &ranks.wait_s),
        ];
        let by_rank = columns
            .into_iter()
            .flat_map(|(key, column)| column.iter().map(move |&time| (key, time)));
        if let Some((key, time)) = times.chain(by_rank).find(|&(_, time)| time < 0.0) {
            return Err(format!("{key} is {time}; times must not be negative"));
        }
        if columns
            .iter()
            .any(|(_, column)| column.len() != ranks.compute_s.len())
        {
            return Err(
                "the lists of ranks differ in length; each must have a figure for every rank"
                    .to_owned(),
            );
        }
        let beyond = |&rank: &u32| rank >= Cluster::MAX_DEVICES;
        let all_ranks = groups().flat_map(|group| &group.ranks).copied();
        if let Some(rank) = all_ranks.clone().find(beyond) {
            let most = Cluster::MAX_DEVICES;
            return Err(format!("plan: rank {rank} must be below {most}"));
        }
        if groups().any(|group| group.ranks.is_empty()) {
            return Err("plan: a group has no ranks; it must have at least one".to_owned());
        }
        self.check_plan()
    }

    /// The rule that the plan breaks by itself, or against the batch's own figures.
    fn check_plan(&self) -> Result<(), String> {
        if self.plan.is_empty() {
            return Ok(());
        }
        for micro_batch in &self.plan {
            let mut ranks: Vec<u32> = Vec::new();
            ranks.extend(micro_batch.groups.iter().flat_map(|group| &group.ranks));
            ranks.sort_unstable();
            if let Some(twice) = ranks.windows(2).find(|pair| pair[0] == pair[1]) {
                let rank = twice[0];
                return Err(format!(
                    "plan: rank {rank} is in a micro-batch twice; groups must be disjoint"
                ));
            }
        }
        let groups = self.plan.iter().flat_map(|micro_batch| &micro_batch.groups);
        let seq_lens = groups.flat_map(|group| &group.seq_lens);
        let (num, sum) = seq_lens.fold((0u64, 0u64), |(num, sum), &seq_len| {
            (num + 1, sum.saturating_add(seq_len))
        });
        for (key, value, of_groups) in [
            ("sequences", self.sequences, num),
            ("tokens", self.tokens, sum),
        ] {
            if value != of_groups {
                return Err(format!(
                    "{key} is {value}, and the plan's groups have {of_groups}; they must be the same"
                ));
            }
        }
        Ok(())
    }
}
