//! `lengthwise plan` as users and programs call it.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;

use serde_json::Value;
use session::{EASY_PROFILE, Session, example};

/// A session with a profile of 8 devices on 2 nodes, whose costs are easy to reckon with.
fn session() -> Session {
    let session = Session::new();
    session.file("profile.toml", EASY_PROFILE);
    session
}

const PLAN: &str = "plan --lengths lengths.txt --profile profile.toml";

#[test]
fn bad_lengths_are_named_by_line_or_index() {
    let mut session = session();
    for text in [
        "",
        "\n \n",
        "100\n0\n",
        "100\n-5\n",
        "100\n1e3\n",
        "100\n12.5\n",
        "100\n200 300\n",
        "100,200\n",
        "100\n18446744073709551616\n",
        "100\n18446744073709551615\n",
        "100\n\n100001\n",
        "100\nlength\n",
        "[]",
        "[100, 0]",
        "[100, 1e3]",
        "[100, \"200\"]",
        "[100, 18446744073709551616]",
        "[100, 200",
        "{\"seq_lens\": [100]}",
        "{\"seq_lens_tokens\": 100}",
        "{\"seq_lens_tokens\": [100, 100001]}",
    ] {
        session.file("lengths.txt", text);
        session.note(&format!("{text:?}"));
        session.run(PLAN);
    }
    session.note("not UTF-8");
    session.file("lengths.txt", [b'1', 0xff]);
    session.run(PLAN);
    insta::assert_snapshot!(session.transcript());
}

#[cfg(unix)] // The system's own texts are in the messages.
#[test]
fn files_that_are_not_there_are_named() {
    let mut session = session();
    session.run(PLAN);
    session.file("lengths.txt", "100");
    session.run("plan --lengths lengths.txt --profile nowhere.toml");
    session.run("plan --lengths corpus --profile profile.toml");
    session.run("plan --lengths lengths.txt");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn bad_options_are_named_with_the_rule_they_break() {
    let mut session = session();
    session.file("lengths.txt", "100");
    for option in [
        "--planner greedy",
        "--planner static:0",
        "--planner static:3x",
        "--planner static:9",
        "--degrees 0",
        "--degrees 1,two",
        "--degrees 1,2,2",
        "--degrees 1,16",
        "--degrees 1.5",
        "--devices 0",
        "--devices many",
        "--devices 1048577",
        "--devices 1 --degrees 2,4",
        "--context 99",
        "--context 1.5k",
        "--time-budget 10",
        "--time-budget 0ms",
        "--time-budget -1ms",
        "--time-budget fastms",
        "--time-budget 1h",
        "--devises 2",
    ] {
        session.run(&format!("{PLAN} {option}"));
    }
    let ten = ["100"; 10].join("\n");
    session.file("lengths.txt", ten);
    session.run(&format!("{PLAN} --planner exhaustive"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn batches_that_do_not_fit_are_told_with_what_would_help() {
    let mut session = session();
    session.file("lengths.txt", "100\n\n90000\n");
    for option in [
        "--devices 1",
        "--devices 4",
        "--devices 5",
        "--devices 7",
        "--planner static:2",
        "--degrees 1,2,4",
        "--degrees 4",
        "--planner batch-adaptive --degrees 1,3",
        "--planner flexsp --degrees 1,3",
        "--planner exhaustive --degrees 1,3",
    ] {
        session.run(&format!("{PLAN} {option}"));
    }
    session.file(
        "mixed.toml",
        EASY_PROFILE.replace(
            "num_devices = 8\ndevices_per_node = 4\nmemory_gib = 1.0",
            "nodes = [{ num_nodes = 1, devices_per_node = 2, memory_gib = 1.5, speed = 0.5 }, \
             { num_nodes = 1, devices_per_node = 1, memory_gib = 4.0 }]",
        ),
    );
    session.run("plan --lengths lengths.txt --profile mixed.toml");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn clusters_that_can_not_be_are_told() {
    let mut session = session();
    session.file("lengths.txt", "100");
    for (from, to) in [
        ("memory_gib = 1.0", "memory_gib = 0.0"),
        ("num_devices = 8", "num_devices = 0"),
        ("num_devices = 8", "num_devices = 4000000000"),
    ] {
        assert!(EASY_PROFILE.contains(from));
        session.file("profile.toml", EASY_PROFILE.replace(from, to));
        session.note(to);
        session.run(PLAN);
    }
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn tables_show_groups_and_bars() {
    let mut session = session();
    session.file("lengths.txt", "4000\n1000\n1000\n1000\n1000\n");
    session.run(&format!("{PLAN} --planner exhaustive"));
    session.run(&format!("{PLAN} --planner static:2 --devices 6"));
    session.run(&format!("{PLAN} --planner static:8"));
    session.file("lengths.txt", "1");
    session.run(&format!("{PLAN} --devices 5 --planner static:3"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn tables_of_many_groups_stay_short() {
    let mut session = session();
    let lens = |num: usize| {
        let lens = (0..num).map(|index| (2000 + index % 3 * 500).to_string());
        lens.collect::<Vec<_>>().join("\n")
    };
    session.file("lengths.txt", lens(256));
    session.run(&format!("{PLAN} --devices 64 --planner static:1"));
    session.file("lengths.txt", lens(100_000));
    session.run(&format!("{PLAN} --devices 16384 --planner static:2"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn no_line_of_a_table_is_wider_than_80_characters() {
    let session = session();
    let profile = example("profiles/a100-gpt-7b-384k.toml");
    for batch in ["wikipedia_384k_7b_0", "github_synth_384k_7b_0"] {
        let lengths = example(&format!("batches/{batch}.json"));
        for more in [
            "",
            "--planner batch-adaptive",
            "--devices 4096",
            "--devices 65",
        ] {
            let line = format!(
                "plan --lengths {} --profile {} {more}",
                lengths.display(),
                profile.display()
            );
            let output = session.output(&line, b"");
            let table = String::from_utf8(output.stdout).unwrap();
            assert!(
                output.status.success() && table.lines().count() > 4,
                "{table}"
            );
            for line in table.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}

#[test]
fn json_is_what_is_documented_and_nothing_else_is_on_stdout() {
    let session = session();
    let line = "plan --lengths - --profile profile.toml --planner static:2 --json";
    let output = session.output(line, b"\xef\xbb\xbf4000\r\n1000\r\n\r\n1000");
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1);
    let mut json: Value = serde_json::from_str(&text).unwrap();
    assert!(
        json["solve_s"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    );
    json["solve_s"] = "[time]".into();
    for key in ["lower_bound_s", "gap", "stop_reason"] {
        assert!(json[key].is_f64() || json[key].is_string(), "{key}");
        json[key] = "[by the bound]".into();
    }
    insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn lines_lists_and_objects_plan_the_same() {
    let session = session();
    let plan = |lengths: &str| {
        let line = "plan --lengths - --profile profile.toml --json --time-budget 10s";
        let output = session.output(line, lengths.as_bytes());
        let mut json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json["solve_s"] = Value::Null;
        json
    };
    let lines = plan("4000\n1000\n3000\n");
    assert_eq!(lines, plan("[4000, 1000, 3000]"));
    assert_eq!(
        lines,
        plan("{\"name\": \"x\", \"seq_lens_tokens\": [4000, 1000, 3000]}")
    );
    let sequences: Vec<&Value> = lines["micro_batches"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|micro_batch| micro_batch["groups"].as_array().unwrap())
        .flat_map(|group| group["sequences"].as_array().unwrap())
        .collect();
    assert_eq!(sequences.len(), 3);
}

#[test]
fn a_closed_pipe_is_no_error() {
    use std::process::{Command, Stdio};
    let session = session();
    fs::write(
        session.directory().join("lengths.txt"),
        "100\n".repeat(50_000),
    )
    .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lengthwise"))
        .args(PLAN.split(' ').chain(["--planner", "static:1", "--json"]))
        .current_dir(session.directory())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stderr, b"");
}

#[test]
fn plans_can_be_made_for_clusters_that_are_only_described() {
    let session = Session::new();
    session.file("lengths.txt", "60000\n2000\n1000\n500\n");
    let cluster = example("clusters/straggler.toml");
    let line = format!(
        "plan --lengths lengths.txt --cluster {} --model llama-3-8b --devices 20 --json",
        cluster.display()
    );
    let output = session.output(&line, b"");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let groups = plan["micro_batches"][0]["groups"].as_array().unwrap();
    let degrees = groups.iter().map(|group| group["degree"].as_u64().unwrap());
    let used: u64 = degrees.clone().sum();
    assert!(used <= 20);
    // The long sequence is worth more devices than the others.
    assert!(degrees.max().unwrap() > 4, "{plan}");
}

#[test]
fn bounds_on_communicators_say_over_which_plans_they_hold() {
    let session = session();
    session.file("lengths.txt", "100\n200\n300\n");
    let printed = |more: &str| {
        let output = session.output(&format!("{PLAN} {more}"), b"");
        String::from_utf8(output.stdout).unwrap()
    };
    let sentence = "both hold among plans of degrees ";
    assert!(printed("--max-communicators 1").contains(sentence));
    assert!(!printed("").contains(sentence));
}

#[test]
fn a_known_cluster_is_planned_for_as_the_file_that_describes_it() {
    let session = Session::new();
    session.file("lengths.txt", "60000\n2000\n1000\n500\n");
    let file = example("clusters/h100-8x8.toml");
    let plan = |cluster: &str| {
        let line = format!(
            "plan --lengths lengths.txt --cluster {cluster} --model qwen3-8b --context 64k --json"
        );
        let output = session.output(&line, b"");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        let mut plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["solve_s"].take();
        plan
    };
    assert_eq!(plan("h100-8x8"), plan(&file.display().to_string()));
    assert_eq!(plan("h100-8x8"), plan("h100-80-8x8"));
    assert_ne!(plan("h100-8x8"), plan("a100-40-8x8"));
}
