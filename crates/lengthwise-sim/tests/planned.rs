//! With costs as measured, planned steps take as long as their planners predict.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

use std::path::Path;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, Device, GlobalBatch, Plan, PlanRules, Seconds, Speed,
    StrategyKind, StrategySpace,
};
use lengthwise_cost::{CostModel, FittedCosts, FittedModel, GroupShape, KindCosts, Profile};
use lengthwise_plan::{PlannerKind, Problem};
use lengthwise_sim::{Overlap, SimulatedStep, StepCosts, simulate};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    batch: GlobalBatch,
    cluster: Cluster,
    cost: FittedModel,
    space: StrategySpace,
    num_layers: u32,
}

impl Case {
    fn plan(&self, kind: PlannerKind) -> Option<(Plan, Seconds)> {
        let problem = Problem {
            batch: &self.batch,
            cluster: &self.cluster,
            cost: &self.cost,
            space: &self.space,
            rules: PlanRules::default(),
        };
        let planned = kind.planner().plan(problem).ok()?;
        Some((planned.plan, planned.report.predicted_step))
    }

    fn simulate(&self, plan: &Plan) -> SimulatedStep {
        let costs = StepCosts::measured(&self.cost, self.num_layers, 1e5).unwrap();
        let overlap = Overlap::default();
        simulate(plan, &self.batch, &self.cluster, &costs, overlap, &mut ()).unwrap()
    }

    /// What the step takes when devices' speeds matter to computing alone: an exchange is as fast as links are.
    fn by_hand(&self, plan: &Plan) -> f64 {
        let micro_batches = plan.micro_batches().iter().map(|micro_batch| {
            let groups = micro_batch.groups.iter().map(|group| {
                let shape = GroupShape::of(group, &self.cluster);
                let speed = |rank: &_| self.cluster.device(*rank).unwrap().speed();
                let slowest = group.ranks.iter().map(speed).reduce(Speed::min).unwrap();
                let parts = group.sequences.iter().map(|&sequence| {
                    let seq_len = self.batch.seq_len(sequence).unwrap();
                    let parts = self.cost.time_parts(shape, seq_len);
                    ((parts.dense + parts.attention) / slowest + parts.exchange).get()
                });
                parts.sum::<f64>()
            });
            self.cost.micro_batch_overhead().get() + groups.fold(0.0, f64::max)
        });
        micro_batches.sum()
    }
}

/// Batches of a few sequences on up to 3 nodes of up to 4 devices, all of one speed or each of its own.
fn cases(has_equal_devices: bool) -> impl Strategy<Value = Case> {
    let speed = if has_equal_devices {
        Just(1.0).boxed()
    } else {
        (0.5f64..2.0).boxed()
    };
    let device = speed.prop_map(|speed| Device::new(Bytes(60_000), Speed::new(speed).unwrap()));
    let nodes = vec(vec(device, 1..=4), 1..=3);
    let cluster = nodes.prop_map(|nodes| Cluster::from_nodes(nodes).unwrap());
    let lens = vec(1u64..3000, 1..24);
    let costs = (
        0.0f64..1e-6,
        1e-5f64..1e-3,
        0.0f64..1e-3,
        0.0f64..1e-3,
        0.0f64..0.2,
    );
    (cluster, lens, costs, 1u32..9, 1u32..6).prop_map(
        |(cluster, lens, (quadratic, linear, exchange, across, overhead), heads, num_layers)| {
            let two = Degree::new(2).unwrap();
            let costs = FittedCosts {
                num_heads: Some(heads),
                fixed_memory_bytes: 5000.0,
                micro_batch_overhead_s: overhead,
                ..FittedCosts::of_kind(
                    StrategyKind::ulysses(Activations::Recompute),
                    KindCosts {
                        quadratic_s_per_token2: quadratic,
                        linear_s_per_token: linear,
                        exchange_s_per_token: vec![(two, exchange)],
                        many_nodes_exchange_s_per_token: vec![(two, exchange + across)],
                        memory_bytes_per_token: vec![(Degree::ONE, 20.0)],
                        ..KindCosts::default()
                    },
                )
            };
            Case {
                batch: GlobalBatch::from_lens(lens).unwrap(),
                space: StrategySpace::ulysses_up_to(heads, Activations::Recompute).unwrap(),
                cluster,
                cost: FittedModel::new(costs).unwrap(),
                num_layers,
            }
        },
    )
}

const PLANNERS: [PlannerKind; 3] = [
    PlannerKind::Adaptive,
    PlannerKind::Static(None),
    PlannerKind::BatchAdaptive,
];

fn assert_close(simulated: f64, expected: f64) -> Result<(), TestCaseError> {
    prop_assert!(
        (simulated - expected).abs() <= 1e-9 * expected,
        "{simulated} s simulated for {expected} s"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn on_equal_devices_plans_of_every_planner_take_what_was_predicted(case in cases(true)) {
        // Batches that do not fit are drawn again: every case has plans to compare.
        prop_assume!(case.plan(PlannerKind::Adaptive).is_some());
        for kind in PLANNERS {
            if let Some((plan, predicted)) = case.plan(kind) {
                let simulated = case.simulate(&plan).step.get();
                assert_close(simulated, predicted.get())?;
                assert_close(simulated, case.by_hand(&plan))?;
            }
        }
    }

    /// A planner counts a slow device's exchanges as slow, too.
    #[test]
    fn on_unequal_devices_only_computing_depends_on_their_speed(case in cases(false)) {
        prop_assume!(case.plan(PlannerKind::Adaptive).is_some());
        for kind in PLANNERS {
            if let Some((plan, _)) = case.plan(kind) {
                assert_close(case.simulate(&plan).step.get(), case.by_hand(&plan))?;
            }
        }
    }
}

/// The committed batches with the published costs of the models they were recorded for.
#[test]
fn reference_batches_take_what_was_predicted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut num_batches = 0;
    for entry in std::fs::read_dir(examples.join("batches")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.ends_with(".json") {
            continue;
        }
        num_batches += 1;
        let size = if name.contains("13b") { "13b" } else { "7b" };
        let profile = examples.join(format!("profiles/a100-gpt-{size}-384k.toml"));
        let profile = Profile::read(&profile).unwrap();
        let cluster = profile.cluster(None).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let lens = json["seq_lens_tokens"].as_array().unwrap().iter();
        let case = Case {
            batch: GlobalBatch::from_lens(lens.map(|len| len.as_u64().unwrap())).unwrap(),
            cost: profile.model(&cluster).unwrap(),
            space: profile.space(&cluster).unwrap(),
            cluster,
            num_layers: 32,
        };
        for kind in PLANNERS {
            let (plan, predicted) = case.plan(kind).unwrap_or_else(|| panic!("{name}: no plan"));
            let simulated = case.simulate(&plan).step.get();
            let apart = simulated / predicted.get() - 1.0;
            assert!(apart.abs() < 1e-9, "{name}, {kind}: {apart}");
        }
    }
    assert!(num_batches >= 6, "{num_batches}");
}
