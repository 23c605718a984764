//! A simulated step beside its prediction, as `lengthwise simulate --json` prints it.

use std::collections::BTreeMap;

use lengthwise_core::{Activity, Cluster, Seconds};
use lengthwise_cost::{predict_micro_batch, predict_step};
use lengthwise_sim::{LinkPlace, SimulatedStep, Usage};
use serde::Serialize;

use super::scenario::Scenario;
use crate::failure::Failure;

/// A simulated step; its fields are the keys of the JSON output.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) planner: String,
    /// Whose costs these are.
    pub(super) costs: String,
    pub(super) num_sequences: usize,
    pub(super) num_tokens: u64,
    pub(super) num_nodes: usize,
    pub(super) simulated_step_s: f64,
    /// By the cost model, for the cluster that was planned with.
    pub(super) predicted_step_s: f64,
    /// Over all ranks, the step's time adds up to their number times its length.
    pub(super) usage: UsageReport,
    /// The same by what ranks do.
    pub(super) activities_s: BTreeMap<&'static str, f64>,
    pub(super) micro_batches: Vec<MicroBatchReport>,
    pub(super) ranks: Vec<RankReport>,
    /// None where exchanges take their measured times.
    pub(super) links: Vec<LinkReport>,
    pub(super) num_events: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct UsageReport {
    pub(super) compute_s: f64,
    pub(super) exposed_communication_s: f64,
    pub(super) overhead_s: f64,
    pub(super) idle_s: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct MicroBatchReport {
    pub(super) simulated_s: f64,
    pub(super) predicted_s: f64,
    pub(super) num_groups: usize,
    pub(super) usage: UsageReport,
}

#[derive(Debug, Serialize)]
pub(super) struct RankReport {
    pub(super) rank: u32,
    pub(super) node: usize,
    pub(super) usage: UsageReport,
    pub(super) peak_memory_bytes: u64,
    /// What its device lends.
    pub(super) memory_bytes: u64,
    /// Of its host, if something is moved there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_host_memory_bytes: Option<u64>,
    /// Its share of its host, where that is limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_memory_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct LinkReport {
    #[serde(flatten)]
    pub(super) place: PlaceReport,
    pub(super) bandwidth_bytes_per_s: f64,
    pub(super) bytes: f64,
    pub(super) utilisation: f64,
    pub(super) peak_load: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum PlaceReport {
    DeviceLink { rank: u32 },
    Nic { node: usize, nic: u32 },
}

impl Report {
    /// What came of a scenario on the cluster as it turned out.
    pub(super) fn new(
        scenario: &Scenario,
        cluster: &Cluster,
        simulated: &SimulatedStep,
        activities: &BTreeMap<Activity, Seconds>,
    ) -> Self {
        let problem = &scenario.problem;
        let planned = (&problem.batch, &problem.costs.cluster, &problem.costs.model);
        let micro_batches = simulated
            .micro_batches
            .iter()
            .zip(scenario.plan.micro_batches());
        let micro_batches = micro_batches.map(|(simulated, micro_batch)| {
            let predicted = predict_micro_batch(micro_batch, planned.0, planned.1, planned.2);
            MicroBatchReport {
                simulated_s: simulated.makespan.get(),
                predicted_s: predicted.get(),
                num_groups: micro_batch.groups.len(),
                usage: simulated.usage.into(),
            }
        });
        let mut all = Usage::default();
        for rank in &simulated.ranks {
            all += rank.usage;
        }
        let ranks = cluster.ranks().zip(&simulated.ranks).zip(cluster.devices());
        let ranks = ranks.map(|((rank, simulated), device)| RankReport {
            rank: rank.0,
            node: cluster.node_of(rank).unwrap_or(0),
            usage: simulated.usage.into(),
            peak_memory_bytes: simulated.peak_memory.0,
            memory_bytes: device.memory().0,
            peak_host_memory_bytes: Some(simulated.peak_host_memory.0).filter(|&bytes| bytes > 0),
            host_memory_bytes: device.limited_host_memory().map(|memory| memory.0),
        });
        let links = simulated.links.iter().map(|link| LinkReport {
            place: link.place.into(),
            bandwidth_bytes_per_s: link.bandwidth_bytes_per_s,
            // Links carry parts of bytes; what they have carried in the end is whole.
            bytes: link.bytes.round(),
            utilisation: link.utilisation,
            peak_load: link.peak_load,
        });
        Report {
            planner: scenario.planner.clone(),
            costs: scenario.source.clone(),
            num_sequences: problem.batch.num_sequences(),
            num_tokens: problem.batch.num_tokens().0,
            num_nodes: cluster.num_nodes(),
            simulated_step_s: simulated.step.get(),
            predicted_step_s: predict_step(&scenario.plan, planned.0, planned.1, planned.2).get(),
            usage: all.into(),
            activities_s: activities
                .iter()
                .map(|(activity, time)| (activity.name(), time.get()))
                .collect(),
            micro_batches: micro_batches.collect(),
            ranks: ranks.collect(),
            links: links.collect(),
            num_events: simulated.num_events,
        }
    }

    /// By how much the simulated step is longer than the predicted one, as a part of that.
    pub(super) fn difference(&self) -> f64 {
        difference(self.simulated_step_s, self.predicted_step_s)
    }

    pub(super) fn to_json(&self) -> Result<String, Failure> {
        serde_json::to_string(self)
            .map_err(|error| Failure::run(format!("the step can't be written as JSON: {error}")))
    }
}

/// `(simulated - predicted) / predicted`; 0 of nothing.
pub(super) fn difference(simulated: f64, predicted: f64) -> f64 {
    if predicted > 0.0 {
        simulated / predicted - 1.0
    } else {
        0.0
    }
}

impl UsageReport {
    pub(super) fn total(&self) -> f64 {
        self.compute_s + self.exposed_communication_s + self.overhead_s + self.idle_s
    }

    pub(super) fn add(&mut self, other: &UsageReport) {
        self.compute_s += other.compute_s;
        self.exposed_communication_s += other.exposed_communication_s;
        self.overhead_s += other.overhead_s;
        self.idle_s += other.idle_s;
    }

    /// The parts in the order they are shown, each of the total.
    pub(super) fn shares(&self) -> [f64; 4] {
        let total = self.total();
        let part = |time: f64| if total > 0.0 { time / total } else { 0.0 };
        [
            part(self.compute_s),
            part(self.exposed_communication_s),
            part(self.overhead_s),
            part(self.idle_s),
        ]
    }
}

impl From<Usage> for UsageReport {
    fn from(usage: Usage) -> Self {
        UsageReport {
            compute_s: usage.compute.get(),
            exposed_communication_s: usage.exposed_communication.get(),
            overhead_s: usage.overhead.get(),
            idle_s: usage.idle.get(),
        }
    }
}

impl From<LinkPlace> for PlaceReport {
    fn from(place: LinkPlace) -> Self {
        match place {
            LinkPlace::Device { rank } => PlaceReport::DeviceLink { rank: rank.0 },
            LinkPlace::Nic { node, nic } => PlaceReport::Nic { node, nic },
        }
    }
}
