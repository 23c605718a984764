//! Training on an emulated cluster: a whole run, and what is said of clusters that can't be emulated.

mod session;

use std::fs;

use session::{Session, example};

const CLUSTER: &str = "name = \"pair\"\nnum_nodes = 2\ndevices_per_node = 1\n\n\
    [device]\npeak_flops_per_s = 1e10\nmemory_gib = 0.0625\nmemory_fraction = 1.0\ncore_fraction = 0.25\n\n\
    [device_link]\nbandwidth_bytes_per_s = 1e9\n\n\
    [nic]\nper_node = 1\nbandwidth_bytes_per_s = 1e7\nlatency_s = 1e-4\n";

/// A run that would work, with something more.
fn settings(more: &str) -> String {
    format!(
        "[model]\nhidden = 16\nlayers = 1\nheads = 2\ncontext = 256\n[data]\npaths = [\"corpus\"]\n\
         [batch]\ntokens = 512\n[train]\nsteps = 2\n{more}"
    )
}

#[test]
fn a_run_keeps_the_pace_of_its_cluster() {
    let session = Session::new();
    session.file("corpus/b.txt", "the quick brown fox ".repeat(40));
    session.file("run.toml", settings(""));
    // 24 KB of parameters a gather; half of them come over a NIC of 200 KB/s.
    let slow = CLUSTER.replace("bandwidth_bytes_per_s = 1e7", "bandwidth_bytes_per_s = 2e5");
    session.file("slow.toml", slow);
    session.file("fast.toml", CLUSTER);
    let measured = |cluster: &str| {
        let line = format!("train run.toml --emulate {cluster} --metrics {cluster}.jsonl");
        let output = session.output(&line, b"");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("emulated   pair: "), "{stderr}");
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(stdout.contains(" s by the devices' clocks, "), "{stdout}");
        let metrics = session.directory().join(format!("{cluster}.jsonl"));
        let metrics = fs::read_to_string(metrics).unwrap();
        let steps = metrics.lines().map(|line| {
            let step: serde_json::Value = serde_json::from_str(line).unwrap();
            (
                step["loss"].as_f64().unwrap(),
                step["measured_s"].as_f64().unwrap(),
            )
        });
        steps.collect::<Vec<_>>()
    };
    let (slow, fast) = (measured("slow.toml"), measured("fast.toml"));
    assert_eq!(slow.len(), 2);
    for ((slow_loss, slow_s), (fast_loss, _)) in slow.into_iter().zip(fast) {
        assert!(slow_s > 0.1, "{slow_s} s");
        assert!((slow_loss / fast_loss - 1.0).abs() < 1e-4);
    }
}

#[test]
fn clusters_that_can_not_be_emulated_are_told_before_work_starts() {
    let mut session = Session::new();
    session.file("run.toml", settings(""));
    session.run("train run.toml --emulate nowhere.toml");
    session.run("train run.toml --emulate h100-8x8");
    for (name, from, to) in [
        ("negative.toml", "memory_gib = 0.0625", "memory_gib = -1"),
        (
            "unknown.toml",
            "per_node = 1\n",
            "per_node = 1\nspeed = 3\n",
        ),
        (
            "fraction.toml",
            "core_fraction = 0.25",
            "core_fraction = 1.5",
        ),
        ("small.toml", "memory_gib = 0.0625", "memory_gib = 0.0001"),
    ] {
        session.file(name, CLUSTER.replace(from, to));
        session.run(&format!("train run.toml --emulate {name}"));
    }
    let start = CLUSTER.split("[nic]").next().unwrap();
    session.file("apart.toml", start);
    session.run("train run.toml --emulate apart.toml");
    session.file("pair.toml", CLUSTER);
    session.run("train run.toml --emulate pair.toml --ranks 3");
    session.run("train run.toml --emulate pair.toml --set cluster.devices_per_node=2");
    session.run("train run.toml --emulate pair.toml --core-fraction 0");
    session.run("train run.toml --emulate pair.toml --planner static:3");
    session.run("train run.toml --core-fraction 0.1");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn planners_are_run_beside_what_was_simulated() {
    let session = Session::new();
    session.file("corpus/b.txt", "the quick brown fox ".repeat(40));
    session.file("run.toml", settings(""));
    session.file("pair.toml", CLUSTER);
    let line = "bench emulated run.toml --measuring-time 1 --emulate pair.toml";
    let output = session.output(line, b"");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for planner in ["adaptive", "static:1", "static:2"] {
        let row = stdout
            .lines()
            .find(|line| line.starts_with(&format!("| {planner} |")));
        let seconds: Vec<f64> = row
            .unwrap_or_else(|| panic!("{planner} is missing in {stdout}"))
            .split(" | ")
            .filter_map(|cell| cell.strip_suffix(" s")?.parse().ok())
            .collect();
        let [measured, by_clocks, predicted, simulated] = seconds[..] else {
            panic!("{stdout}")
        };
        assert!(measured > 0.0 && by_clocks <= measured + 0.02, "{stdout}");
        assert!(predicted > 0.0 && simulated > 0.0, "{stdout}");
    }
    assert!(stdout.contains("adaptive is "), "{stdout}");
    let bound = stdout.lines().last().unwrap_or_default();
    let times = bound.strip_prefix("no plan is predicted to take less than ");
    let least: f64 = times
        .and_then(|rest| rest.split_once(" s, or to be more than "))
        .and_then(|(seconds, _)| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{stdout}"));
    assert!(least > 0.0, "{stdout}");

    let output = session.output("bench emulated run.toml", b"");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("error: run.toml emulates no cluster"),
        "{stderr}"
    );
}

#[test]
fn more_devices_than_cores_are_told() {
    let session = Session::new();
    session.file("run.toml", settings(""));
    // No machine has so many cores.
    let crowd = CLUSTER
        .replace("devices_per_node = 1", "devices_per_node = 512")
        .replace("num_nodes = 2", "num_nodes = 2 # many")
        .replace("core_fraction = 0.25", "core_fraction = 1.0");
    session.file("crowd.toml", crowd);
    let output = session.output("train run.toml --emulate crowd.toml", b"");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("core_fraction is 1, so the 1024 devices need 1024.00 cores"),
        "{stderr}"
    );
    assert!(stderr.contains("hint: leave it out"), "{stderr}");
}

#[test]
fn the_example_is_consistent() {
    let session = Session::new();
    let config = example("emulated.toml");
    let output = session.output(&format!("train {} --show-settings", config.display()), b"");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        stdout.contains("emulate = \"clusters/two-nodes.toml\""),
        "{stdout}"
    );
    assert!(stdout.contains("ranks = 8"), "{stdout}");
}
