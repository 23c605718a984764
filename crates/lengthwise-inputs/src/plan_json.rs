//! The keys of a plan as JSON.

use lengthwise_certificate::RulesRecord;
use lengthwise_core::{
    Activations, Bytes, Degree, Group, MicroBatch, Plan, Rank, Seconds, SequenceIndex, Strategy,
};
use lengthwise_cost::format::{ActivationsName, FormatVersion};
use serde::{Deserialize, Serialize};

use crate::{GroupPrediction, InputError, MicroBatchPrediction, PlanFile, PlanPredictions};

/// A plan and its predictions.
#[derive(Serialize, Deserialize)]
#[serde(expecting = "a plan")]
pub(crate) struct PlanJson {
    pub(crate) version: Option<u32>,
    #[serde(default)]
    pub(crate) planner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rules: Option<RulesRecord>,
    predicted_step_s: Option<f64>,
    lower_bound_s: Option<f64>,
    gap: Option<f64>,
    solve_s: Option<f64>,
    stop_reason: Option<String>,
    micro_batches: Vec<MicroBatchJson>,
    pub(crate) seq_lens_tokens: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a micro-batch")]
struct MicroBatchJson {
    predicted_s: Option<f64>,
    groups: Vec<GroupJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a group")]
struct GroupJson {
    /// For those who read it; it must be the strategy's.
    degree: Option<u32>,
    ranks: Vec<u32>,
    strategy: StrategyJson,
    predicted_s: Option<f64>,
    memory_bytes: Option<u64>,
    /// Left out where nothing is moved to hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    host_memory_bytes: Option<u64>,
    sequences: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
#[serde(expecting = "a strategy")]
struct StrategyJson {
    ulysses: u32,
    #[serde(default = "one")]
    ring: u32,
    activations: Option<ActivationsName>,
    /// The key of activations before plans had versions.
    #[serde(skip_serializing)]
    recompute: Option<bool>,
}

fn one() -> u32 {
    1
}

impl PlanJson {
    pub(crate) fn new(file: &PlanFile) -> Self {
        let predictions = file.predictions.as_ref();
        let micro_batches = file.plan.micro_batches().iter().enumerate();
        let micro_batches = micro_batches.map(|(at, micro_batch)| {
            let predicted = predictions.and_then(|predictions| predictions.micro_batches.get(at));
            MicroBatchJson::new(micro_batch, predicted)
        });
        let lower_bound = predictions.and_then(|predictions| predictions.lower_bound);
        let solve_time = predictions.and_then(|predictions| predictions.solve_time);
        PlanJson {
            version: Some(FormatVersion::NUMBER),
            planner: file.planner.clone(),
            rules: RulesRecord::of(file.rules),
            predicted_step_s: predictions.map(|predictions| predictions.predicted_step.get()),
            lower_bound_s: lower_bound.map(Seconds::get),
            gap: predictions.and_then(|predictions| predictions.gap),
            solve_s: solve_time.map(Seconds::get),
            stop_reason: predictions.and_then(|predictions| predictions.stop_reason.clone()),
            micro_batches: micro_batches.collect(),
            seq_lens_tokens: file.lengths.seq_lens().iter().map(|len| len.0).collect(),
        }
    }

    /// The plan; `name` is what errors call it.
    pub(crate) fn plan(&self, name: &str) -> Result<Plan, InputError> {
        let mut micro_batches = Vec::with_capacity(self.micro_batches.len());
        for (index, micro_batch) in self.micro_batches.iter().enumerate() {
            let groups = micro_batch.groups.iter().enumerate().map(|(at, group)| {
                group.group().map_err(|rule| InputError::BadGroup {
                    name: name.to_owned(),
                    micro_batch: index,
                    group: at,
                    rule,
                })
            });
            let groups = groups.collect::<Result<_, _>>()?;
            micro_batches.push(MicroBatch { groups });
        }
        Ok(Plan::new(micro_batches))
    }

    /// The prediction, if nothing of it is missing.
    pub(crate) fn predictions(&self, name: &str) -> Result<Option<PlanPredictions>, InputError> {
        let time = |key: &'static str, time: Option<f64>| {
            let bad = |error| InputError::BadPrediction {
                name: name.to_owned(),
                key,
                error,
            };
            time.map(|time| Seconds::new(time).map_err(bad)).transpose()
        };
        let mut micro_batches = Vec::with_capacity(self.micro_batches.len());
        for micro_batch in &self.micro_batches {
            let mut groups = Vec::with_capacity(micro_batch.groups.len());
            for group in &micro_batch.groups {
                let predicted = time("predicted_s", group.predicted_s)?.zip(group.memory_bytes);
                groups.extend(predicted.map(|(predicted_time, memory)| GroupPrediction {
                    predicted_time,
                    predicted_memory: Bytes(memory),
                    predicted_host_memory: Bytes(group.host_memory_bytes.unwrap_or(0)),
                }));
            }
            let is_complete = groups.len() == micro_batch.groups.len();
            let makespan = time("predicted_s", micro_batch.predicted_s)?.filter(|_| is_complete);
            micro_batches.extend(makespan.map(|predicted_makespan| MicroBatchPrediction {
                predicted_makespan,
                groups,
            }));
        }
        let is_complete = micro_batches.len() == self.micro_batches.len();
        let step = time("predicted_step_s", self.predicted_step_s)?.filter(|_| is_complete);
        let lower_bound = time("lower_bound_s", self.lower_bound_s)?;
        let solve_time = time("solve_s", self.solve_s)?;
        Ok(step.map(|predicted_step| PlanPredictions {
            predicted_step,
            lower_bound,
            gap: self.gap,
            solve_time,
            stop_reason: self.stop_reason.clone(),
            micro_batches,
        }))
    }
}

impl MicroBatchJson {
    fn new(micro_batch: &MicroBatch, predicted: Option<&MicroBatchPrediction>) -> Self {
        let groups = micro_batch.groups.iter().enumerate().map(|(at, group)| {
            GroupJson::new(
                group,
                predicted.and_then(|predicted| predicted.groups.get(at)),
            )
        });
        MicroBatchJson {
            predicted_s: predicted.map(|predicted| predicted.predicted_makespan.get()),
            groups: groups.collect(),
        }
    }
}

impl GroupJson {
    fn new(group: &Group, predicted: Option<&GroupPrediction>) -> Self {
        let strategy = group.strategy;
        GroupJson {
            degree: Some(strategy.degree().get()),
            ranks: group.ranks.iter().map(|rank| rank.0).collect(),
            strategy: StrategyJson {
                ulysses: strategy.ulysses_degree().get(),
                ring: strategy.ring_degree().get(),
                activations: Some(ActivationsName(strategy.activations())),
                recompute: None,
            },
            predicted_s: predicted.map(|predicted| predicted.predicted_time.get()),
            memory_bytes: predicted.map(|predicted| predicted.predicted_memory.0),
            host_memory_bytes: predicted
                .map(|predicted| predicted.predicted_host_memory.0)
                .filter(|&bytes| bytes > 0),
            sequences: group.sequences.iter().map(|sequence| sequence.0).collect(),
        }
    }

    fn group(&self) -> Result<Group, String> {
        let strategy = self.strategy.strategy()?;
        let of_strategy = strategy.degree().get();
        if let Some(degree) = self.degree.filter(|&degree| degree != of_strategy) {
            return Err(format!(
                "degree is {degree}, and the strategy's is {of_strategy}; they must be the same"
            ));
        }
        Ok(Group {
            strategy,
            ranks: self.ranks.iter().copied().map(Rank).collect(),
            sequences: self.sequences.iter().copied().map(SequenceIndex).collect(),
        })
    }
}

impl StrategyJson {
    fn strategy(&self) -> Result<Strategy, String> {
        let ulysses =
            Degree::new(self.ulysses).map_err(|error| format!("strategy.ulysses: {error}"))?;
        let ring = Degree::new(self.ring).map_err(|error| format!("strategy.ring: {error}"))?;
        let activations = match (self.activations, self.recompute) {
            (Some(ActivationsName(activations)), None) => activations,
            (None, Some(true)) => Activations::Recompute,
            (None, Some(false)) => Activations::Keep,
            (Some(_), Some(_)) => {
                let rule = "strategy.activations and strategy.recompute are both given; leave the second out";
                return Err(rule.to_owned());
            }
            (None, None) => return Err("strategy.activations is missing".to_owned()),
        };
        Strategy::new(ulysses, ring, activations).map_err(|error| format!("strategy: {error}"))
    }
}
