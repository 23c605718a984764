//! `lengthwise profile`, and what is done with what it writes.

mod session;

use std::fs;

use serde_json::Value;
use session::Session;

const SETTINGS: &str = r#"
[model]
hidden = 16
layers = 1
heads = 2
context = 128

[data]
paths = ["corpus"]

[batch]
tokens = 256

[cluster]
ranks = 2
device_memory_mib = 16

[train]
steps = 4
"#;

/// A session with settings of a tiny model and a corpus for it.
fn session() -> Session {
    let session = Session::new();
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(8);
    session.file("corpus/b.txt", &text);
    session.file("corpus/c.txt", &text[..70]);
    session.file("run.toml", SETTINGS);
    session
}

/// What a command prints to stdout, if it succeeds.
fn printed(session: &Session, line: &str) -> String {
    let output = session.output(line, b"");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_profile_is_measured_and_plans_and_trainings_go_by_it() {
    let session = session();
    let report = printed(
        &session,
        "profile run.toml -o machine.toml --time-budget 500ms",
    );
    for said in [
        "compute    ",
        "overhead   ",
        "exchange   ",
        "memory     ",
        "degree 2",
        "micro-batches it has not seen",
    ] {
        assert!(report.contains(said), "{said:?} is not in:\n{report}");
    }
    let text = fs::read_to_string(session.directory().join("machine.toml")).unwrap();
    let profile = lengthwise_cost::Profile::from_toml(&text).unwrap();
    assert_eq!(profile.name, "machine");
    // Which of its terms a tiny model's noisy times are laid to differs from run to run.
    let (costs, overhead) = (&profile.costs[0], &profile.overhead);
    let a_token = costs.linear_s_per_token + costs.quadratic_s_per_token2 + overhead.micro_batch_s;
    assert!(a_token > 0.0 && overhead.step_s >= 0.0, "{profile:?}");
    assert!(
        profile
            .measurements
            .iter()
            .any(|measured| measured.held_out)
    );
    assert!(profile.fit.unwrap().held_out_error.is_some());
    for measured in &profile.measurements {
        assert!(measured.measured_s > 0.0 && measured.predicted_s > 0.0 && measured.runs > 0);
    }

    session.file("lengths.txt", "100\n60\n7\n");
    let plan = printed(
        &session,
        "plan --lengths lengths.txt --profile machine.toml --json",
    );
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let planned = plan["predicted_step_s"].as_f64().unwrap();
    assert!(planned > 0.0);

    // What is planned without refinement is planned alike each time, whatever the machine is busy with.
    let plans = |metrics: &str| {
        let line =
            format!("train run.toml --profile machine.toml --refine false --metrics {metrics}");
        printed(&session, &line);
        let metrics = fs::read_to_string(session.directory().join(metrics)).unwrap();
        let steps = metrics
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        steps.collect::<Vec<Value>>()
    };
    let (once, again) = (plans("once.jsonl"), plans("again.jsonl"));
    assert_eq!(once.len(), 4);
    for (once, again) in once.iter().zip(&again) {
        for key in [
            "loss",
            "predicted_s",
            "planned_s",
            "micro_batches",
            "costs_version",
        ] {
            assert_eq!(once[key], again[key], "{key}");
        }
        assert_eq!(once["costs_version"], 0);
        let off = once["predicted_s"].as_f64().unwrap() / once["measured_s"].as_f64().unwrap();
        let error = once["prediction_error"].as_f64().unwrap();
        assert!((off - 1.0 - error).abs() < 1e-9, "{once}");
    }
}

#[test]
fn refined_costs_plan_later_steps_and_change_no_loss() {
    let session = session();
    printed(
        &session,
        "profile run.toml -o machine.toml --time-budget 200ms",
    );
    let losses = |refine: bool| {
        let line = format!(
            "train run.toml --profile machine.toml --steps 12 --planner static:2 --refine {refine} \
             --metrics {refine}.jsonl"
        );
        printed(&session, &line);
        let metrics = session.directory().join(format!("{refine}.jsonl"));
        let metrics = fs::read_to_string(metrics).unwrap();
        let steps = metrics
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let steps: Vec<Value> = steps.collect();
        let version = &steps[11]["costs_version"];
        assert_eq!(version.as_u64().unwrap() > 0, refine, "{version}");
        steps
            .iter()
            .map(|step| step["loss"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(losses(true), losses(false));
}

/// A profile that suits the settings, written by hand.
const PROFILE: &str = r#"
name = "machine"
context_tokens = 128

[cluster]
num_devices = 2
devices_per_node = 2
memory_gib = 0.015625
num_cores = 2

[model]
num_heads = 2
recompute = true

[time]
quadratic_s_per_token2 = 1e-9
linear_s_per_token = 1e-6
micro_batch_overhead_s = 1e-3
step_overhead_s = 1e-4

[exchange]
bytes_per_token = 768.0
one_node_bandwidth_bytes_per_s = { 2 = 1e9 }

[memory]
activation_bytes_per_token = 1000.0
sharded_bytes = 1e5

[measured_for]
ranks = 2
devices_per_node = 2
vocab = 257
hidden = 16
layers = 1
heads = 2
kv_heads = 2
ffn = 48
tied_output = true
recompute = true
data_type = "f32"
emulated = "none"
"#;

#[cfg(unix)] // The system's own texts are in the messages.
#[test]
fn profiles_that_can_not_be_or_are_of_another_model_are_refused_by_key_value_and_rule() {
    let mut session = session();
    session.file("lengths.txt", "100");
    session.file("machine.toml", PROFILE);
    // The profile itself is fine.
    printed(&session, "train run.toml --profile machine.toml");
    for (written, instead) in [
        ("linear_s_per_token = 1e-6", "linear_s_per_token = -1e-6"),
        (
            "quadratic_s_per_token2 = 1e-9",
            "quadratic_s_per_token2 = nan",
        ),
        (
            "micro_batch_overhead_s = 1e-3",
            "micro_batch_overhead_s = inf",
        ),
        ("step_overhead_s = 1e-4", "step_overhead_s = -1"),
        ("sharded_bytes = 1e5", "sharded_bytes = -1e5"),
        ("{ 2 = 1e9 }", "{ 2 = 0.0 }"),
        ("{ 2 = 1e9 }", "{ two = 1e9 }"),
        ("{ 2 = 1e9 }", "{}"),
        ("{ 2 = 1e9 }", "{ 3 = 1e9 }"),
        ("linear_s_per_token = 1e-6", "linear_per_token = 1e-6"),
        ("memory_gib = 0.015625", "memory_gib = -1.0"),
    ] {
        assert!(PROFILE.contains(written), "{written}");
        session.note(instead);
        session.file("machine.toml", PROFILE.replace(written, instead));
        session.run("train run.toml --profile machine.toml");
        session.run("plan --lengths lengths.txt --profile machine.toml");
    }
    // These are of something else: planning for it is fine, training by it is not.
    for (written, instead) in [
        ("hidden = 16", "hidden = 32"),
        ("ranks = 2", "ranks = 4"),
        ("data_type = \"f32\"", "data_type = \"bf16\""),
        ("emulated = \"none\"", "emulated = \"another cluster\""),
        ("[measured_for]", "[measured]"),
    ] {
        assert!(PROFILE.contains(written), "{written}");
        session.note(instead);
        session.file("machine.toml", PROFILE.replace(written, instead));
        session.run("train run.toml --profile machine.toml");
    }
    session.note("without measured_for");
    let published = PROFILE.split("[measured_for]").next().unwrap();
    session.file("machine.toml", published);
    session.run("train run.toml --profile machine.toml");
    session.note("nowhere");
    session.run("train run.toml --profile nowhere.toml");
    session.run("train run.toml --refine perhaps");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn what_can_not_be_measured_is_refused_before_any_work() {
    let mut session = session();
    for options in [
        "",
        "-o missing/machine.toml",
        "-o corpus",
        "-o machine.toml --time-budget 10",
        "-o machine.toml --clock sundial",
        "-o machine.toml --ranks 1 --clock processor",
        "-o machine.toml --device-memory-mib 0",
    ] {
        session.run(format!("profile run.toml {options}").trim_end());
    }
    let transcript = session.transcript().lines();
    // How many cores there are differs from machine to machine.
    let transcript: Vec<&str> = transcript
        .map(|line| line.split(" do not take turns").next().unwrap_or(line))
        .collect();
    insta::assert_snapshot!(transcript.join("\n"));
}
