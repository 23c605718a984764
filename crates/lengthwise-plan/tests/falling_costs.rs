//! Costs that fall with length are refused before anything rests on them.

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, MemoryModel, PlanRules, Seconds,
    Speed, Strategy, StrategySpace, Tokens,
};
use lengthwise_cost::{CostModel, GroupShape};
use lengthwise_plan::{PlanError, PlannerKind, Problem};

/// Costs as measured tables have them: at one degree some length takes less than a shorter one.
struct Measured {
    times: [f64; 4],
    memories: [u64; 4],
}

impl Measured {
    fn row(seq_len: Tokens) -> usize {
        (seq_len.0 / 100) as usize
    }
}

impl MemoryModel for Measured {
    fn sequence_memory(&self, strategy: Strategy, seq_len: Tokens) -> Bytes {
        let at_two = self.memories[Self::row(seq_len)];
        Bytes(if strategy.degree().get() == 2 {
            at_two
        } else {
            2
        })
    }

    fn budget(&self, device: &Device) -> Bytes {
        device.memory()
    }
}

impl CostModel for Measured {
    fn prices(&self, _: Strategy) -> bool {
        true
    }

    fn sequence_time(&self, shape: GroupShape, seq_len: Tokens) -> Seconds {
        let at_two = self.times[Self::row(seq_len)];
        let degree = shape.strategy.degree().get();
        Seconds::new(if degree == 2 { at_two } else { 1.0 }).unwrap()
    }

    fn micro_batch_overhead(&self) -> Seconds {
        Seconds::ZERO
    }
}

fn refusal(cost: &Measured, kind: PlannerKind) -> Option<PlanError> {
    let cluster = Cluster::uniform(1, 2, Device::new(Bytes(1000), Speed::NOMINAL)).unwrap();
    let degrees = [1, 2].map(|degree| Degree::new(degree).unwrap());
    let planner = kind.planner();
    let problem = Problem {
        batch: &GlobalBatch::from_lens([300, 100, 200]).unwrap(),
        cluster: &cluster,
        cost,
        space: &StrategySpace::ulysses(&degrees, Activations::Recompute).unwrap(),
        rules: PlanRules::default(),
    };
    planner.plan(problem).err()
}

#[test]
fn costs_that_fall_with_length_are_refused_with_degree_and_lengths() {
    let rising = Measured {
        times: [0.0, 1.0, 1.0, 2.0],
        memories: [0, 1, 1, 2],
    };
    let time_falls = Measured {
        times: [0.0, 1.0, 2.0, 1.5],
        ..rising
    };
    let memory_falls = Measured {
        memories: [0, 3, 2, 2],
        ..rising
    };
    for kind in [
        PlannerKind::Adaptive,
        PlannerKind::Static(None),
        PlannerKind::BatchAdaptive,
        PlannerKind::FlexSp,
        PlannerKind::Exhaustive,
    ] {
        assert_eq!(refusal(&rising, kind), None, "{kind}");
        let error = refusal(&time_falls, kind).unwrap();
        assert_eq!(
            error.to_string(),
            "the time of a sequence at degree 2 is less for 300 tokens than for 200; it must not fall with length"
        );
        assert!(error.hint().is_some());
        let error = refusal(&memory_falls, kind).unwrap();
        assert_eq!(
            error.to_string(),
            "the memory of a sequence at degree 2 is less for 200 tokens than for 100; it must not fall with length"
        );
    }
}
