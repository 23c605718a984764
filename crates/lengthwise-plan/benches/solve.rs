//! How long planners take for 512 sequences on 64 devices: the recorded batches under the published costs.

#![allow(missing_docs, reason = "divan's macros make undocumented items")]

use std::fmt;
use std::path::Path;

use divan::Bencher;
use lengthwise_core::{Cluster, GlobalBatch, PlanRules, StrategySpace};
use lengthwise_cost::{FittedModel, Profile};
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
        let text = std::fs::read_to_string(examples.join(format!("batches/{batch}.json")))
            .expect("the batch is committed");
        Case {
            batch: GlobalBatch::from_lens(lens(&text)).expect("the batch has lengths"),
            cost: profile.model(&cluster).expect("the profile has costs"),
            space: profile.space(&cluster).expect("the profile has degrees"),
            cluster,
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

fn solve(bencher: Bencher, recorded: Recorded, kind: PlannerKind) {
    let case = Case::read(recorded);
    let planner = kind.planner();
    bencher.bench_local(|| planner.plan(case.problem()).expect("the batch fits"));
}

fn main() {
    divan::main();
}
