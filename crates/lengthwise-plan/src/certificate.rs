//! Instances as certificates have them.

use lengthwise_certificate::{
    Certificate, DeviceRun, NodeRun, PlanRecord, Problem, Proof, RulesRecord, ShapeCosts,
};
use lengthwise_core::{Device, Plan, Seconds, Tokens};
use lengthwise_cost::format::{FormatVersion, StrategyRecord};

use crate::instance::{Instance, Shape};

/// The part of a certificate beyond the plan.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    problem: Problem,
    seq_lens: Vec<Tokens>,
    bound: f64,
    proof: Proof,
}

impl Certified {
    /// The claims proven of an instance.
    pub(crate) fn new(instance: &Instance<'_>, bound: f64, proof: Proof) -> Self {
        Certified {
            problem: problem(instance),
            seq_lens: instance.problem.batch.seq_lens().to_vec(),
            bound: bound.max(0.0),
            proof,
        }
    }

    /// The certificate of a plan of the instance.
    pub(crate) fn certificate(&self, plan: &Plan, plan_step: Seconds) -> Certificate {
        Certificate {
            version: FormatVersion,
            problem: self.problem.clone(),
            plan: PlanRecord::new(plan, &self.seq_lens),
            plan_step_s: plan_step.get(),
            bound_s: self.bound,
            proof: self.proof.clone(),
        }
    }
}

fn problem(instance: &Instance<'_>) -> Problem {
    let shapes = instance.shapes.iter().enumerate();
    let of_shape = |shape: &Shape, time: &[f64], memory: &[u64]| ShapeCosts {
        strategy: StrategyRecord(shape.strategy),
        span: shape.span.into(),
        seconds: time.to_vec(),
        bytes: if instance.problem.rules.limits_memory() {
            memory.to_vec()
        } else {
            Vec::new()
        },
    };
    let shapes = shapes
        .map(|(index, shape)| of_shape(shape, instance.times(index), instance.memories(index)));
    // Decisions count the shapes that searches know of, so these come first.
    let outdone = instance.outdone.iter();
    let outdone = outdone.map(|outdone| of_shape(&outdone.shape, &outdone.time, &outdone.memory));
    Problem {
        nodes: nodes(instance),
        micro_batch_overhead_s: instance.overhead,
        rules: RulesRecord::of(instance.problem.rules).unwrap_or_default(),
        lengths_tokens: instance.class_lens.iter().map(|len| len.0).collect(),
        shapes: shapes.chain(outdone).collect(),
    }
}

fn nodes(instance: &Instance<'_>) -> Vec<NodeRun> {
    let (cluster, cost) = (instance.problem.cluster, instance.problem.cost);
    let mut runs: Vec<NodeRun> = Vec::new();
    for ranks in (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node)) {
        let devices = &cluster.devices()[ranks.start as usize..ranks.end as usize];
        let alike = devices.chunk_by(|a, b| a == b);
        let devices = alike.map(|alike: &[Device]| DeviceRun {
            count: alike.len() as u32,
            budget_bytes: cost.budget(&alike[0]).0,
            speed: alike[0].speed().get(),
        });
        let devices: Vec<DeviceRun> = devices.collect();
        match runs.last_mut() {
            Some(run) if run.devices == devices => run.count += 1,
            _ => runs.push(NodeRun { count: 1, devices }),
        }
    }
    runs
}
