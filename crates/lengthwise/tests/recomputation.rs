//! A plan's JSON beside the published formulas, written here once more: they must predict the same.
//!
//! Nothing of Lengthwise is used but the binary. The constants are those that FlexSP's authors published with their
//! code (arXiv 2412.01523), in their units: milliseconds, MiB, and "GB/s" of 1000 x 2^20 bytes.

mod session;

use std::collections::BTreeSet;

use serde_json::Value;
use session::{Session, example};

struct Model {
    layers: f64,
    hidden: f64,
    alpha1_ms_per_token2: f64,
    alpha2_ms_per_token: f64,
    beta1_ms: f64,
    activation_mib_per_token: f64,
    /// 2^30 parameters.
    params_b: f64,
}

const GPT_7B_384K: Model = Model {
    layers: 32.0,
    hidden: 4096.0,
    alpha1_ms_per_token2: 5.128e-6,
    alpha2_ms_per_token: 0.1839576,
    beta1_ms: 629.3563,
    activation_mib_per_token: 4.480441895,
    params_b: 7.8498687744140625,
};

const GPT_13B_384K: Model = Model {
    layers: 40.0,
    hidden: 5120.0,
    alpha1_ms_per_token2: 9.2852e-6,
    alpha2_ms_per_token: 0.3060189,
    beta1_ms: 1132.5632,
    activation_mib_per_token: 4.220439453,
    params_b: 14.03158187866211,
};

const GPT_30B_192K: Model = Model {
    layers: 60.0,
    hidden: 6656.0,
    alpha1_ms_per_token2: 15.4262e-6,
    alpha2_ms_per_token: 0.8035742,
    beta1_ms: 2789.3644,
    activation_mib_per_token: 3.417381836,
    params_b: 31.52513885498047,
};

const MIB: f64 = 1048576.0;

/// GB/s by degree; up to 8 devices are on one node.
fn bandwidth(degree: u64) -> f64 {
    match degree {
        2 => 119.54,
        4 => 104.07,
        8 => 96.5,
        16 => 10.33,
        32 => 5.94,
        64 => 4.87,
        _ => panic!("degree {degree} has no published bandwidth"),
    }
}

impl Model {
    fn group_ms(&self, degree: u64, lens: &[f64]) -> f64 {
        let d = degree as f64;
        let tokens: f64 = lens.iter().sum();
        let squares: f64 = lens.iter().map(|s| s * s).sum();
        let compute = (self.alpha1_ms_per_token2 * squares + self.alpha2_ms_per_token * tokens) / d;
        let all_to_all = if degree == 1 {
            0.0
        } else {
            16.0 * self.layers * self.hidden * tokens / (MIB * d * bandwidth(degree))
        };
        compute + all_to_all
    }

    fn activations_mib(&self, degree: u64, lens: &[f64]) -> f64 {
        self.activation_mib_per_token * lens.iter().sum::<f64>() / degree as f64
    }

    fn parameters_mib(&self, num_devices: u64) -> f64 {
        16.0 * self.params_b * 1024.0 / num_devices as f64
    }
}

fn numbers(list: &Value) -> Vec<u64> {
    let list = list.as_array().unwrap();
    list.iter().map(|number| number.as_u64().unwrap()).collect()
}

fn assert_close(ours: &Value, formula: f64, what: &str) {
    let ours = ours.as_f64().unwrap();
    assert!(
        (ours - formula).abs() <= 1e-6 * formula.abs(),
        "{what}: the JSON says {ours}, the formula {formula}"
    );
}

/// Checks a plan for 64 devices or more, 8 a node.
fn check(json: &Value, lens: &[u64], model: &Model, num_devices: u64, what: &str) {
    let mut planned: Vec<u64> = Vec::new();
    let mut step_ms = 0.0;
    for micro_batch in json["micro_batches"].as_array().unwrap() {
        let mut busy = BTreeSet::new();
        let mut slowest_ms = 0.0f64;
        for group in micro_batch["groups"].as_array().unwrap() {
            let degree = group["degree"].as_u64().unwrap();
            let ranks = numbers(&group["ranks"]);
            let sequences = numbers(&group["sequences"]);
            let strategy = &group["strategy"];
            assert_eq!(ranks.len() as u64, degree, "{what}");
            assert_eq!(strategy["ulysses"], degree, "{what}");
            assert_eq!(strategy["ring"], 1, "{what}");
            assert!(
                ranks
                    .iter()
                    .all(|&rank| rank < num_devices && busy.insert(rank))
            );
            let nodes: BTreeSet<u64> = ranks.iter().map(|rank| rank / 8).collect();
            assert!(
                degree > 8 || nodes.len() == 1,
                "{what}: {ranks:?} are on several nodes without need"
            );
            let group_lens: Vec<f64> = sequences
                .iter()
                .map(|&sequence| lens[sequence as usize] as f64)
                .collect();
            let group_ms = model.group_ms(degree, &group_lens);
            assert_close(&group["predicted_s"], group_ms / 1e3, what);
            let mib = model.activations_mib(degree, &group_lens);
            assert_close(&group["memory_bytes"], mib * MIB, what);
            assert!(
                mib + model.parameters_mib(num_devices) <= 30.0 * 1024.0,
                "{what}"
            );
            slowest_ms = slowest_ms.max(group_ms);
            planned.extend(sequences);
        }
        let micro_batch_ms = model.beta1_ms + slowest_ms;
        assert_close(&micro_batch["predicted_s"], micro_batch_ms / 1e3, what);
        step_ms += micro_batch_ms;
    }
    planned.sort_unstable();
    assert!(planned.into_iter().eq(0..lens.len() as u64), "{what}");
    assert_close(&json["predicted_step_s"], step_ms / 1e3, what);
    let bound = json["lower_bound_s"].as_f64().unwrap();
    assert!(
        bound > 0.0 && bound <= step_ms / 1e3 * (1.0 + 1e-9),
        "{what}"
    );
    assert_close(&json["gap"], (step_ms / 1e3 - bound) / bound, what);
}

fn lens(batch: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(example(&format!("batches/{batch}.json"))).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    numbers(&json["seq_lens_tokens"])
}

fn plan(batch: &str, profile: &str, more: &str) -> Value {
    let line = format!(
        "plan --lengths {} --profile {} --json {more}",
        example(&format!("batches/{batch}.json")).display(),
        example(&format!("profiles/a100-{profile}.toml")).display(),
    );
    let output = Session::new().output(&line, b"");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_published_formulas_predict_the_same_for_every_recorded_batch() {
    for batch in [
        "wikipedia_384k_7b_0",
        "wikipedia_384k_7b_1",
        "wikipedia_384k_7b_2",
        "wikipedia_384k_13b_0",
        "github_synth_384k_7b_0",
        "cc_synth_384k_7b_0",
    ] {
        let (model, profile) = if batch.contains("13b") {
            (GPT_13B_384K, "gpt-13b-384k")
        } else {
            (GPT_7B_384K, "gpt-7b-384k")
        };
        for more in [
            "--planner adaptive",
            "--planner batch-adaptive",
            "--planner static",
            "--planner static:64",
            "--planner adaptive --degrees 8,64",
            "--planner flexsp --time-budget 200ms",
        ] {
            let json = plan(batch, profile, more);
            check(&json, &lens(batch), &model, 64, &format!("{batch} {more}"));
        }
    }
}

#[test]
fn the_published_formulas_predict_the_same_on_other_clusters() {
    let batch = "wikipedia_384k_13b_0";
    for num_devices in [96, 128, 1024] {
        let more = format!("--devices {num_devices} --context 384k");
        let json = plan(batch, "gpt-30b-192k", &more);
        check(&json, &lens(batch), &GPT_30B_192K, num_devices, &more);
    }
}
