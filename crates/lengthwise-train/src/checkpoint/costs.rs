//! The costs of steps, as `trainer.json` holds them: for a run that goes on where it was measured.

use std::collections::BTreeMap;

use lengthwise_core::{Degree, Seconds};
use lengthwise_cost::{CoreSharing, FittedCosts, FittedModel, KindCosts, Refinement, StepModel};

use super::record::{ClusterRecord, CostsRecord};
use crate::TrainOptions;

fn table(of: &[(Degree, f64)]) -> Vec<(u32, f64)> {
    of.iter()
        .map(|&(degree, value)| (degree.get(), value))
        .collect()
}

fn degrees(of: &[(u32, f64)]) -> Option<Vec<(Degree, f64)>> {
    let degrees = of.iter();
    let degrees = degrees.map(|&(degree, value)| Some((Degree::new(degree).ok()?, value)));
    degrees.collect()
}

impl CostsRecord {
    /// The costs of a run, with what steps have refined; `None` where they are of a form that is not kept.
    pub(crate) fn new(
        options: &TrainOptions,
        first: &StepModel,
        refinement: Option<&Refinement>,
    ) -> Option<Self> {
        let costs = first.cost.costs();
        let kind = costs.kinds.get(&options.strategy_kind())?;
        if options.space.is_some()
            || costs.kinds.len() != 1
            || kind.ring.is_some()
            || kind.host.is_some()
        {
            return None;
        }
        Some(CostsRecord {
            cluster: ClusterRecord::new(&options.cluster, options.emulation.as_ref()),
            activations: options.activations.name().to_owned(),
            context: options.context.0,
            degrees: allowed(options),
            num_heads: costs.num_heads,
            fixed_memory_bytes: costs.fixed_memory_bytes,
            micro_batch_overhead_s: costs.micro_batch_overhead_s,
            quadratic_s_per_token2: kind.quadratic_s_per_token2,
            linear_s_per_token: kind.linear_s_per_token,
            exchange_s_per_token: table(&kind.exchange_s_per_token),
            many_nodes_exchange_s_per_token: table(&kind.many_nodes_exchange_s_per_token),
            memory_bytes_per_token: table(&kind.memory_bytes_per_token),
            step_overhead_s: first.step_overhead.get(),
            num_cores: first.sharing.num_cores(),
            factors: refinement.map(|refinement| refinement.factors().to_vec()),
            step_overhead_factor: refinement.map_or(1.0, Refinement::step_overhead_factor),
        })
    }

    /// Whether a run with these options has the devices and the choices that they were measured for. One whose groups are
    /// of several kinds has not: costs of one kind alone are kept.
    pub(crate) fn hold_for(&self, options: &TrainOptions) -> bool {
        options.space.is_none()
            && self.cluster == ClusterRecord::new(&options.cluster, options.emulation.as_ref())
            && self.activations == options.activations.name()
            && self.context == options.context.0
            && self.degrees == allowed(options)
    }

    /// The costs as they were measured; `None` if they are no costs.
    pub(crate) fn model(&self, options: &TrainOptions) -> Option<StepModel> {
        let kind = KindCosts {
            quadratic_s_per_token2: self.quadratic_s_per_token2,
            linear_s_per_token: self.linear_s_per_token,
            exchange_s_per_token: degrees(&self.exchange_s_per_token)?,
            many_nodes_exchange_s_per_token: degrees(&self.many_nodes_exchange_s_per_token)?,
            memory_bytes_per_token: degrees(&self.memory_bytes_per_token)?,
            ..KindCosts::default()
        };
        let costs = FittedCosts {
            num_heads: self.num_heads,
            fixed_memory_bytes: self.fixed_memory_bytes,
            micro_batch_overhead_s: self.micro_batch_overhead_s,
            kinds: BTreeMap::from([(options.strategy_kind(), kind)]),
        };
        costs.check_reach(options.context).ok()?;
        Some(StepModel {
            cost: FittedModel::new(costs).ok()?,
            step_overhead: Seconds::new(self.step_overhead_s).ok()?,
            sharing: CoreSharing::new(options.cluster.num_devices(), self.num_cores),
        })
    }
}

fn allowed(options: &TrainOptions) -> Option<Vec<u32>> {
    let degrees = options.degrees.as_ref()?;
    Some(degrees.iter().map(|degree| degree.get()).collect())
}
