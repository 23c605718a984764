//! `lengthwise simulate` as users and programs call it.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;

use lengthwise_sim::{TraceSource, check_chrome_trace};
use serde_json::Value;
use session::{Session, example};

/// A session with a profile of 4 devices, and a description of 4 others on two nodes; figures are easy to reckon with.
fn session() -> Session {
    let session = Session::new();
    session.file("profile.toml", PROFILE);
    session.file("cluster.toml", CLUSTER);
    session.file("lengths.txt", "3000\n2000\n1000\n1000\n");
    session
}

const PROFILE: &str = r#"
name = "easy"
context_tokens = 100000

[cluster]
num_devices = 4
devices_per_node = 2
memory_gib = 1.0

[model]
num_heads = 8
recompute = true

[time]
quadratic_s_per_token2 = 1e-8
linear_s_per_token = 1e-4
micro_batch_overhead_s = 0.05

[exchange]
bytes_per_token = 1e6
one_node_bandwidth_bytes_per_s = { 2 = 1e10 }
many_nodes_bandwidth_bytes_per_s = { 2 = 1e9 }

[memory]
activation_bytes_per_token = 65536
sharded_bytes = 1e9
"#;

const CLUSTER: &str = r#"
name = "four"
num_nodes = 2
devices_per_node = 2

[device]
peak_flops_per_s = 1e13
memory_gib = 1.0

[device_link]
bandwidth_bytes_per_s = 2e10

[nic]
per_node = 1
bandwidth_bytes_per_s = 2e9
"#;

const NODE: &str = r#"
name = "node"
num_nodes = 1
devices_per_node = 8

[device]
kind = "h100-80"
"#;

const SIMULATE: &str = "simulate --lengths lengths.txt --profile profile.toml";

#[test]
fn tables_show_what_ranks_links_and_micro_batches_did() {
    let mut session = session();
    session.run(&format!("{SIMULATE} --planner static:2"));
    session.run(&format!("{SIMULATE} --planner static:2 --slow 1=2"));
    let on_links = format!("{SIMULATE} --planner static:2 --cluster cluster.toml --layers 4");
    session.run(&on_links);
    session.run(&format!("{on_links} --no-prefetch --overhead 50ms"));
    session.run(&format!("{on_links} --overlap-scatters --slow 0=1.5,3=2"));
    session.file("node.toml", NODE);
    session.run(
        "simulate --lengths lengths.txt --cluster node.toml --model gpt-7b --planner static:4",
    );
    insta::assert_snapshot!(session.transcript());
}

/// Numbers of columns are those of the longest lines that examples give.
#[test]
fn no_line_is_wider_than_a_terminal() {
    let session = session();
    let (batch, profile) = (
        example("batches/wikipedia_384k_7b_0.json"),
        example("profiles/a100-gpt-7b-384k.toml"),
    );
    let start = format!("simulate --lengths {}", batch.display());
    for costs in [
        format!("--profile {}", profile.display()),
        format!(
            "--profile {} --cluster {}",
            profile.display(),
            example("clusters/a100-8x8.toml").display()
        ),
        "--cluster h100-128x8 --model llama-3.1-70b --context 384k".to_owned(),
    ] {
        let output = session.output(&format!("{start} --planner batch-adaptive {costs}"), b"");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{costs}: {errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{costs}");
    }
}

#[test]
fn json_is_what_is_documented_and_nothing_else_is_on_stdout() {
    let session = session();
    let command = format!("{SIMULATE} --planner static:2 --cluster cluster.toml --layers 1 --json");
    let output = session.output(&command, b"");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn a_plan_is_simulated_the_same_from_a_file_from_stdin_and_made_here() {
    let session = session();
    let plan = session.output(
        "plan --lengths lengths.txt --profile profile.toml --planner static:2 --json",
        b"",
    );
    session.file("plan.json", &plan.stdout);
    let here = session.output(&format!("{SIMULATE} --planner static:2 --json"), b"");
    for command in [
        "simulate plan.json --profile profile.toml --json",
        "simulate - --profile profile.toml --json",
    ] {
        let output = session.output(command, &plan.stdout);
        assert_eq!(output.stdout, here.stdout, "{command}");
    }
    let json: Value = serde_json::from_slice(&here.stdout).unwrap();
    let planned: Value = serde_json::from_slice(&plan.stdout).unwrap();
    // With measured costs and the devices that were planned with, the prediction comes true.
    for simulated in [&json["simulated_step_s"], &json["predicted_step_s"]] {
        let (simulated, predicted) = (
            simulated.as_f64().unwrap(),
            planned["predicted_step_s"].as_f64().unwrap(),
        );
        assert!((simulated - predicted).abs() < 1e-9 * predicted);
    }
}

#[test]
fn bad_input_is_one_error_that_says_what_to_write() {
    let mut session = session();
    let plan = session.output(
        "plan --lengths lengths.txt --profile profile.toml --planner static:4 --json",
        b"",
    );
    session.file("plan.json", &plan.stdout);
    session.file("torn.json", &plan.stdout[..100]);
    let text = String::from_utf8(plan.stdout).unwrap();
    session.file("twice.json", text.replace("[0,1,2,3]", "[0,1,1,3]"));
    session.file("slow.toml", format!("{CLUSTER}latency_s = -1\n"));
    for command in [
        "simulate",
        "simulate plan.json",
        "simulate plan.json --profile profile.toml --lengths lengths.txt",
        "simulate plan.json --profile profile.toml --planner static",
        "simulate plan.json --profile profile.toml --model gpt-7b",
        "simulate plan.json --profile profile.toml --no-prefetch",
        "simulate plan.json --cluster cluster.toml",
        "simulate plan.json --cluster cluster.toml --model gtp-7b",
        "simulate plan.json --cluster slow.toml --model gpt-7b",
        "simulate nowhere.json --profile profile.toml",
        "simulate torn.json --profile profile.toml",
        "simulate lengths.txt --profile profile.toml",
        "simulate twice.json --profile profile.toml",
        "simulate plan.json --profile profile.toml --devices 2",
        "simulate plan.json --profile profile.toml --slow 4=2",
        "simulate plan.json --profile profile.toml --slow 1=2,1=3",
        "simulate plan.json --profile profile.toml --slow 1",
        "simulate plan.json --profile profile.toml --slow 1=0",
        "simulate plan.json --profile profile.toml --layers 0",
        "simulate plan.json --profile profile.toml --trace nowhere/trace.json",
    ] {
        session.run(command);
    }
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn traces_keep_the_schema_and_end_with_the_step() {
    let session = session();
    for more in ["", "--cluster cluster.toml --slow 2=3"] {
        let command = format!("{SIMULATE} --planner static:2 --trace trace.json --json {more}");
        let output = session.output(&command, b"");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let trace = fs::read(session.directory().join("trace.json")).unwrap();
        let summary = check_chrome_trace(&trace[..]).unwrap();
        assert_eq!(summary.source, TraceSource::Simulated);
        assert_eq!((summary.num_processes, summary.num_threads), (2, 4));
        let step_us = json["simulated_step_s"].as_f64().unwrap() * 1e6;
        assert!((summary.end_us - step_us).abs() < 1e-2, "{more}");
        for activity in ["dense", "attention", "exchange"] {
            assert!(summary.num_events[activity] > 0, "{activity} {more}");
        }
    }
}
