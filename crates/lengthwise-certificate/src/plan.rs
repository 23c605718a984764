//! The plan of a certificate: that it is one, and what it takes.
//!
//! A plan that keeps all rules takes no less than the best one, so that the best one is between the bound and its time. It is
//! checked and timed by the same sums as every plan, with the tables as costs.

use lengthwise_core::{Bytes, Device, MemoryModel, Seconds, Strategy, StrategySpace, Tokens};
use lengthwise_cost::{CostModel, GroupShape, predict_step};

use crate::format::Certificate;
use crate::tables::{Shape, Tables};
use crate::{Refusal, TOLERANCE};

/// The time of the plan, which is the one that is claimed.
pub(crate) fn check(certificate: &Certificate, tables: &Tables) -> Result<Seconds, Refusal> {
    let plan = certificate.plan.plan();
    let space = StrategySpace::new(tables.strategies()).map_err(|error| Refusal::Impossible {
        key: "shapes",
        error,
    })?;
    let Tables {
        batch,
        cluster,
        rules,
        ..
    } = tables;
    plan.validate(batch, cluster, &space, tables, rules)
        .map_err(Refusal::BadPlan)?;
    let recomputed = predict_step(&plan, batch, cluster, tables);
    let claimed = certificate.plan_step_s;
    let is_same = (claimed - recomputed.get()).abs() <= TOLERANCE * recomputed.get();
    if !is_same {
        let recomputed = recomputed.get();
        return Err(Refusal::OtherPlanTime {
            claimed,
            recomputed,
        });
    }
    Ok(recomputed)
}

impl Tables {
    fn class(&self, seq_len: Tokens) -> Option<usize> {
        self.lens.binary_search(&seq_len.0).ok()
    }
}

/// Valid plans have only strategies and lengths of the tables; what others take is of no account.
impl MemoryModel for Tables {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        // The memory of a strategy does not depend on where its ranks are; if the tables say otherwise, the larger counts.
        let shapes = self
            .shapes
            .iter()
            .filter(|shape| shape.strategy == strategy);
        let class = self.class(seq_len);
        let bytes = shapes.filter_map(|shape| shape.bytes.get(class?).copied());
        Bytes(bytes.max().unwrap_or(u64::MAX))
    }

    fn budget(&self, device: &Device) -> Bytes {
        device.memory()
    }
}

impl CostModel for Tables {
    fn prices(&self, strategy: Strategy) -> bool {
        self.shapes.iter().any(|shape| shape.strategy == strategy)
    }

    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds {
        let is_it = |of: &&Shape| (of.strategy, of.span) == (shape.strategy, shape.span);
        let costs = self.shapes.iter().find(is_it);
        let seconds = costs
            .zip(self.class(seq_len))
            .map(|(costs, class)| costs.seconds[class]);
        seconds
            .and_then(|seconds| Seconds::new(seconds).ok())
            .unwrap_or_default()
    }

    fn micro_batch_overhead(&self) -> Seconds {
        Seconds::new(self.overhead).unwrap_or_default()
    }
}
