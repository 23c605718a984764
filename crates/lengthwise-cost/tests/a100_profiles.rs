//! The A100 profiles give the published figures of FlexSP's cost model.

use std::path::Path;

use lengthwise_core::{Activations, Bytes, Degree, MemoryModel, Strategy, Tokens};
use lengthwise_cost::{CostModel, GroupShape, Profile, Span};

/// Layers, hidden size, alpha1 (ms per token squared), alpha2 (ms per token), beta1 (ms), activation (MiB per token).
const MODELS: [(&str, [f64; 6]); 3] = [
    (
        "gpt-7b",
        [32.0, 4096.0, 5.128e-6, 0.1839576, 629.3563, 4.480441895],
    ),
    (
        "gpt-13b",
        [40.0, 5120.0, 9.2852e-6, 0.3060189, 1132.5632, 4.220439453],
    ),
    (
        "gpt-30b",
        [60.0, 6656.0, 15.4262e-6, 0.8035742, 2789.3644, 3.417381836],
    ),
];

/// 2^30 parameters with a context of 192k and of 384k tokens.
const PARAMETERS: [[f64; 2]; 3] = [
    [7.1174468994140625, 7.8498687744140625],
    [13.11605453491211, 14.03158187866211],
    [31.52513885498047, 32.71532440185547],
];

const BANDWIDTH: [(u32, f64); 6] = [
    (2, 119.54),
    (4, 104.07),
    (8, 96.5),
    (16, 10.33),
    (32, 5.94),
    (64, 4.87),
];

fn close(ours: f64, published: f64) {
    assert!(
        (ours - published).abs() <= 1e-9 * published,
        "{ours} is not {published}"
    );
}

#[test]
fn profiles_give_the_published_times_and_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/profiles");
    for ((name, figures), parameters) in MODELS.iter().zip(PARAMETERS) {
        let [layers, hidden, alpha1, alpha2, beta1, activation] = *figures;
        for (context, parameters) in ["192k", "384k"].iter().zip(parameters) {
            let profile =
                Profile::read(&folder.join(format!("a100-{name}-{context}.toml"))).unwrap();
            let cluster = profile.cluster(None).unwrap();
            let model = profile.model(&cluster).unwrap();
            assert_eq!(profile.context(), context.parse().unwrap());
            assert_eq!((cluster.num_devices(), cluster.num_nodes()), (64, 8));
            close(model.micro_batch_overhead().get(), beta1 / 1e3);
            let budget_mib = 30.0 * 1024.0 - 16.0 * parameters * 1024.0 / 64.0;
            let budget = model.budget(&cluster.devices()[0]).as_f64();
            assert!((budget - budget_mib * 1_048_576.0).abs() <= 1.0);
            for tokens in [1u64, 128, 1000, 6400, 131_072, 384_000] {
                let s = tokens as f64;
                let compute = alpha1 * s * s + alpha2 * s;
                let one = shape(1, Span::OneNode);
                close(
                    model.sequence_time(one, Tokens(tokens)).get(),
                    compute / 1e3,
                );
                for (degree, bandwidth) in BANDWIDTH {
                    let d = f64::from(degree);
                    let span = if degree <= 8 {
                        Span::OneNode
                    } else {
                        Span::ManyNodes
                    };
                    let shape = shape(degree, span);
                    let exchange = 16.0 * layers * hidden * s / (1_048_576.0 * d * bandwidth);
                    let ours = model.sequence_time(shape, Tokens(tokens));
                    close(ours.get(), (compute / d + exchange) / 1e3);
                    let memory = model.sequence_memory(shape.strategy, Tokens(tokens));
                    let published = (activation * s / d * 1_048_576.0).ceil();
                    assert!(
                        memory.0.abs_diff(published as u64) <= 1,
                        "{memory:?} {published}"
                    );
                }
            }
        }
    }
}

#[test]
fn groups_across_nodes_are_charged_for_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/profiles");
    let profile = Profile::read(&folder.join("a100-gpt-7b-384k.toml")).unwrap();
    let model = profile.model(&profile.cluster(None).unwrap()).unwrap();
    let time = |degree, span| model.sequence_time(shape(degree, span), Tokens(8192)).get();
    assert!(time(8, Span::ManyNodes) > time(8, Span::OneNode));
    // Degree 24 passes on what is halfway, in log2, between 16 and 32.
    let share = 1.5f64.log2();
    let bandwidth = (1.0 - share) * 10.33 + share * 5.94;
    let s = 8192.0;
    let compute = (5.128e-6 * s * s + 0.1839576 * s) / 24.0;
    let exchange = 16.0 * 32.0 * 4096.0 * s / (1_048_576.0 * 24.0 * bandwidth);
    close(time(24, Span::ManyNodes), (compute + exchange) / 1e3);
}

#[test]
fn profiles_survive_a_round_trip_and_say_what_is_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/profiles");
    let profile = Profile::read(&folder.join("a100-gpt-13b-192k.toml")).unwrap();
    let text = profile.to_toml().unwrap();
    assert_eq!(Profile::from_toml(&text).unwrap(), profile);
    assert_eq!(profile.cluster(Some(20)).unwrap().num_nodes(), 3);
    for (from, to, complaint) in [
        (
            "linear_s_per_token = ",
            "linear_s_per_tokn = ",
            "linear_s_per_tokn",
        ),
        (
            "linear_s_per_token = ",
            "linear_s_per_token = -",
            "linear_s_per_token is -",
        ),
        ("num_devices = 64", "num_devices = 0", "at least one device"),
        ("16 = ", "x16 = ", "\"x16\" is not a degree"),
    ] {
        let error = Profile::from_toml(&text.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let missing = Profile::read(Path::new("no-such-profile.toml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "profile no-such-profile.toml can't be read"
    );
    assert_eq!(model_memory(&profile, 1), Bytes(4_425_452));
}

fn model_memory(profile: &Profile, tokens: u64) -> Bytes {
    let model = profile.model(&profile.cluster(None).unwrap()).unwrap();
    model.sequence_memory(shape(1, Span::OneNode).strategy, Tokens(tokens))
}

fn shape(degree: u32, span: Span) -> GroupShape {
    let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute);
    GroupShape { strategy, span }
}

/// A profile as it was written before there were versions.
const UNVERSIONED: &str = r#"
name = "toy"
context_tokens = 4096

[cluster]
num_devices = 4
devices_per_node = 4
memory_gib = 1.0

[model]
num_heads = 8
recompute = true

[time]
quadratic_s_per_token2 = 1e-9
linear_s_per_token = 1e-6
micro_batch_overhead_s = 0.01
step_overhead_s = 0.02

[exchange]
bytes_per_token = 65536
one_node_bandwidth_bytes_per_s = { 2 = 8e9, 4 = 6e9 }

[memory]
activation_bytes_per_token = 20000
sharded_bytes = 1e9

[measured_for]
ranks = 4
devices_per_node = 4
vocab = 256
hidden = 64
layers = 2
heads = 8
kv_heads = 8
ffn = 256
tied_output = true
recompute = true
data_type = "f32"
emulated = "none"

[[measurements]]
runs = 3
measured_s = 0.5
predicted_s = 0.5
peak_memory_bytes = 1000

[measurements.parts]
forward_s = 0.1
backward_s = 0.1
exchange_s = 0.1
ends_s = 0.1
gather_s = 0.1
scatter_s = 0.1

[[measurements.groups]]
count = 2
degree = 2
seq_lens_tokens = [100]
"#;

#[test]
fn profiles_without_a_version_are_read_and_written_with_one() {
    let profile = Profile::from_toml(UNVERSIONED).unwrap();
    let shape = GroupShape {
        strategy: Strategy::ulysses(Degree::new(2).unwrap(), Activations::Recompute),
        span: Span::OneNode,
    };
    let cluster = profile.cluster(None).unwrap();
    let model = profile.model(&cluster).unwrap();
    let time = model.sequence_time(shape, Tokens(1000)).get();
    close(time, (1e-3 + 1e-3) / 2.0 + 65_536e3 / 16e9);
    assert_eq!(model.micro_batch_overhead().get(), 0.01);
    assert_eq!(profile.overhead.step_s, 0.02);
    assert_eq!(profile.measurements[0].groups[0].strategy.0, shape.strategy);
    let text = profile.to_toml().unwrap();
    assert!(text.starts_with("version = 1\n"), "{text}");
    assert_eq!(Profile::from_toml(&text).unwrap(), profile);
}

#[test]
fn profiles_that_contradict_themselves_or_are_of_a_later_version_are_refused() {
    let contradiction = UNVERSIONED.replace("num_heads = 8\nrecompute = true", "num_heads = 8");
    assert_eq!(
        Profile::from_toml(&contradiction).unwrap_err().to_string(),
        "model.recompute is false, but measured_for.recompute is true; costs hold for one of them"
    );
    let later = format!("version = 2\n{UNVERSIONED}");
    assert_eq!(
        Profile::from_toml(&later).unwrap_err().to_string(),
        "version is 2; this build reads version 1, and files from before there were versions"
    );
    let current = Profile::from_toml(UNVERSIONED).unwrap().to_toml().unwrap();
    for (from, to, complaint) in [
        (
            "\"ulysses\"",
            "\"rings\"",
            "exchange is \"rings\"; it can be \"ulysses\", \"ring\"",
        ),
        ("\"recompute\"", "\"offload\"", "\"offload\" is no choice"),
        ("\"recompute\"", "\"host\"", "and host is missing"),
        ("version = 1\n", "", "version is missing"),
    ] {
        let error = Profile::from_toml(&current.replacen(from, to, 1)).unwrap_err();
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let start = current.find("[[costs]]").unwrap();
    let end = current.find("[measured_for]").unwrap();
    let twice = format!("{}{}", &current[..end], &current[start..]);
    assert_eq!(
        Profile::from_toml(&twice).unwrap_err().to_string(),
        "costs has two entries for ulysses, activations recompute; one is the rule"
    );
}
