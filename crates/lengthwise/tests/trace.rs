//! `lengthwise train --trace`: what it writes, and what it refuses.

mod session;

use std::fs;

use lengthwise_sim::{TraceSource, TraceSummary, check_chrome_trace};
use session::Session;

const SETTINGS: &str = r#"
[model]
hidden = 16
layers = 2
heads = 4
ffn = 32
context = 64

[data]
paths = ["corpus"]

[batch]
sequences = 6

[cluster]
ranks = 3

[train]
steps = 5
"#;

fn session() -> Session {
    let session = Session::new();
    for (index, len) in [5, 60, 17, 33, 9, 48].into_iter().enumerate() {
        let text: String = ('a'..='z').cycle().skip(index).take(len).collect();
        session.file(&format!("corpus/{index}.txt"), text);
    }
    session.file("run.toml", SETTINGS);
    session
}

fn traced(session: &Session, command: &str) -> (TraceSummary, String) {
    let output = session.output(command, b"");
    let notes = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{notes}");
    let trace = fs::read(session.directory().join("trace.json")).unwrap();
    (check_chrome_trace(&trace[..]).unwrap(), notes)
}

#[test]
fn traces_keep_the_schema_that_simulated_ones_have() {
    let session = session();
    let (summary, notes) = traced(&session, "train run.toml --trace trace.json");
    assert_eq!(summary.source, TraceSource::Measured);
    assert_eq!((summary.num_processes, summary.num_threads), (1, 3));
    assert_eq!(summary.num_steps, 3);
    for activity in [
        "embedding",
        "dense",
        "attention",
        "output",
        "optimizer",
        "scatter gradients",
        "wait",
    ] {
        assert!(summary.num_events.contains_key(activity), "{activity}");
    }
    assert!(notes.contains("trace      steps 2, 3, 4 in "), "{notes}");
}

#[test]
fn chosen_steps_are_traced_and_a_run_of_one_step_is() {
    let session = session();
    let command = "train run.toml --trace trace.json --trace-steps 5,1 --planner static:3";
    let (summary, notes) = traced(&session, command);
    assert_eq!(summary.num_steps, 2);
    assert!(summary.num_events["exchange"] > 0);
    assert!(notes.contains("trace      steps 1, 5 in "), "{notes}");
    let (summary, _) = traced(&session, "train run.toml --trace trace.json --steps 1");
    assert_eq!(summary.num_steps, 1);
}

/// On nodes of an emulated cluster, times are those of its devices.
#[test]
fn emulated_steps_are_traced_by_the_clocks_of_their_devices() {
    let session = session();
    session.file("cluster.toml", CLUSTER);
    let command = "train run.toml --trace trace.json --trace-steps 3 --emulate cluster.toml \
                   --planner static:4 --ranks 4";
    let (summary, _) = traced(&session, command);
    assert_eq!((summary.num_processes, summary.num_threads), (2, 4));
    // Every exchange leaves its node, and pays 5 ms: 4 forward, 4 recomputed and 4 backward in each of two layers.
    assert!(summary.end_us >= 24.0 * 5e3, "{}", summary.end_us);
}

const CLUSTER: &str = r#"
name = "slow network"
num_nodes = 2
devices_per_node = 2

[device]
peak_flops_per_s = 1e9
memory_gib = 1.0
core_fraction = 0.25

[device_link]
bandwidth_bytes_per_s = 1e9

[nic]
per_node = 1
bandwidth_bytes_per_s = 1e9
latency_s = 5e-3
"#;

#[test]
fn what_cannot_be_traced_is_told() {
    let mut session = session();
    for more in [
        "--trace-steps 2",
        "--trace trace.json --trace-steps 0",
        "--trace trace.json --trace-steps 2,6",
        "--trace trace.json --trace-steps=",
        "--trace trace.json --trace-steps two",
        "--trace nowhere/trace.json",
    ] {
        session.run(&format!("train run.toml {more}"));
    }
    insta::assert_snapshot!(session.transcript());
}
