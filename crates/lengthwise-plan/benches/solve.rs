//! How long planners take for 512 sequences on 64 devices: the recorded batches under the published costs, with all strategies
//! on described devices, too.

#![allow(missing_docs, reason = "divan's macros make undocumented items")]

use std::fmt;
use std::path::Path;

use divan::Bencher;
use lengthwise_core::{
    Activations, Cluster, Degree, GlobalBatch, PlanRules, StrategyFamily, StrategySpace,
};
use lengthwise_cost::{AnalyticModel, FittedModel, Hardware, ModelKind, Profile};
use lengthwise_plan::{PlannerKind, Problem};

/// A recorded batch and the model it was recorded for.
#[derive(Clone, Copy)]
struct Recorded(&'static str, &'static str);

const BATCHES: [Recorded; 6] = [
    Recorded("wikipedia_384k_7b_0", "gpt-7b"),
    Recorded("wikipedia_384k_7b_1", "gpt-7b"),
    Recorded("wikipedia_384k_7b_2", "gpt-7b"),
    Recorded("wikipedia_384k_13b_0", "gpt-13b"),
    Recorded("github_synth_384k_7b_0", "gpt-7b"),
    Recorded("cc_synth_384k_7b_0", "gpt-7b"),
];

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

struct Case {
    batch: GlobalBatch,
    cluster: Cluster,
    cost: FittedModel,
    space: StrategySpace,
}

impl Case {
    fn read(Recorded(batch, model): Recorded) -> Self {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
        let profile = Profile::read(&examples.join(format!("profiles/a100-{model}-384k.toml")))
            .expect("the profile is committed");
        let cluster = profile.cluster(None).expect("the profile has one");
        Case {
            batch: recorded(batch),
            cost: profile.model(&cluster).expect("the profile has costs"),
            space: profile.space(&cluster).expect("the profile has degrees"),
            cluster,
        }
    }

    /// A model on described devices, with all strategies of these degrees, or of all degrees.
    fn described(batch: &str, kind: ModelKind, cluster: &str, degrees: Option<&[Degree]>) -> Self {
        let hardware = Hardware::named(cluster).expect("the devices are known");
        let analytic = AnalyticModel::new(kind.architecture(384 << 10), hardware);
        let (families, activations) = (&StrategyFamily::ALL, &Activations::ALL);
        let space = analytic.space_of(families, activations, degrees);
        Case {
            batch: recorded(batch),
            cluster: analytic.cluster().expect("the devices are a cluster"),
            cost: analytic.model().expect("the costs are numbers"),
            space: space.expect("there are degrees"),
        }
    }

    fn problem(&self) -> Problem<'_> {
        Problem {
            batch: &self.batch,
            cluster: &self.cluster,
            cost: &self.cost,
            space: &self.space,
            rules: PlanRules::default(),
        }
    }
}

fn recorded(batch: &str) -> GlobalBatch {
    let batches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/batches");
    let text = std::fs::read_to_string(batches.join(format!("{batch}.json")))
        .expect("the batch is committed");
    GlobalBatch::from_lens(lens(&text)).expect("the batch has lengths")
}

/// The numbers of a recorded batch.
fn lens(text: &str) -> Vec<u64> {
    let (_, list) = text
        .split_once("\"seq_lens_tokens\": [")
        .expect("batches hold lengths");
    let (list, _) = list.split_once(']').expect("lists end");
    list.split(',')
        .map(|len| len.trim().parse().expect("lengths are numbers"))
        .collect()
}

#[divan::bench(args = BATCHES)]
fn adaptive(bencher: Bencher, recorded: Recorded) {
    solve(bencher, recorded, PlannerKind::Adaptive);
}

#[divan::bench(args = BATCHES)]
fn batch_adaptive(bencher: Bencher, recorded: Recorded) {
    solve(bencher, recorded, PlannerKind::BatchAdaptive);
}

#[divan::bench(args = BATCHES)]
fn megatron(bencher: Bencher, recorded: Recorded) {
    solve(bencher, recorded, PlannerKind::Megatron);
}

const MODELS: [ModelKind; 3] = [
    ModelKind::Gpt7B,
    ModelKind::Llama3With8B,
    ModelKind::Qwen3With32B,
];
const DESCRIBED: [&str; 2] = ["h100-8x8", "a100-40-8x8"];

/// Three batches for three models on two clusters: each sample plans all 18.
#[divan::bench(sample_size = 1, sample_count = 5)]
fn all_strategies_of_all_degrees(bencher: Bencher) {
    solve_described(bencher, None);
}

/// The same with degrees that are powers of two: about nine strategies for each.
#[divan::bench(sample_size = 1, sample_count = 5)]
fn all_strategies_of_powers_of_two(bencher: Bencher) {
    let degrees = [1, 2, 4, 8, 16, 32, 64].map(|degree| Degree::new(degree).expect("not 0"));
    solve_described(bencher, Some(&degrees));
}

fn solve_described(bencher: Bencher, degrees: Option<&[Degree]>) {
    let batches = [BATCHES[0], BATCHES[4], BATCHES[5]].into_iter();
    let cases: Vec<Case> = batches
        .flat_map(|Recorded(batch, _)| MODELS.map(|kind| (batch, kind)))
        .flat_map(|(batch, kind)| DESCRIBED.map(|cluster| (batch, kind, cluster)))
        .map(|(batch, kind, cluster)| Case::described(batch, kind, cluster, degrees))
        .collect();
    let planner = PlannerKind::Adaptive.planner();
    bencher.bench_local(|| {
        for case in &cases {
            planner.plan(case.problem()).expect("the batch fits");
        }
    });
}

fn solve(bencher: Bencher, recorded: Recorded, kind: PlannerKind) {
    let case = Case::read(recorded);
    let planner = kind.planner();
    bencher.bench_local(|| planner.plan(case.problem()).expect("the batch fits"));
}

fn main() {
    divan::main();
}
