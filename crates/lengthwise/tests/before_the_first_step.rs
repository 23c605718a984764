//! What a run is refused for before its first step, and what helps.

mod session;

use std::fs;

use session::Session;

const SETTINGS: &str = r#"
[model]
hidden = 16
layers = 1
heads = 2
context = 1_000_000

[data]
paths = ["corpus"]

[batch]
sequences = 2

[cluster]
ranks = 2
device_memory_mib = 4

[train]
steps = 1
"#;

/// The exit code and what is said on stderr.
fn run(session: &Session, line: &str) -> (Option<i32>, String) {
    let output = session.output(line, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_document_that_no_device_has_room_for_is_named_with_what_has() {
    let session = Session::new();
    session.file("run.toml", SETTINGS);
    session.file("corpus/b.txt", "some longer text. ".repeat(20));
    session.file("corpus/c.txt", "a very long text. ".repeat(20_000));
    let (code, said) = run(&session, "train run.toml --metrics m.jsonl");
    assert_eq!(code, Some(2), "{said}");
    let error = said.lines().find(|line| line.starts_with("error: "));
    let error = error.unwrap();
    assert!(error.contains("corpus/c.txt: a sequence of 3"), "{error}");
    assert!(!session.directory().join("m.jsonl").exists());

    let hint = said
        .lines()
        .find(|line| line.starts_with("hint: "))
        .unwrap();
    let (_, longest) = hint.split_once("--context ").unwrap();
    let longest: u64 = longest.split(' ').next().unwrap().parse().unwrap();
    // One more than advised is too much: the document is cut there, or it is left out.
    let (code, said) = run(
        &session,
        &format!("train run.toml --context {}", longest + 1),
    );
    assert_eq!(code, Some(2), "{said}");
    for overlong in ["split", "skip"] {
        let line = format!("train run.toml --context {longest} --set data.overlong={overlong}");
        let (code, said) = run(&session, &line);
        assert_eq!(code, Some(0), "{overlong}: {said}");
        let is_counted = said.contains("skipped");
        assert_eq!(is_counted, overlong == "skip", "{overlong}: {said}");
    }
}

#[test]
fn a_plan_that_devices_can_not_hold_is_neither_simulated_nor_flagged_as_fine() {
    let session = Session::new();
    session.file("lengths.txt", "200000\n100\n");
    let large =
        "plan --lengths lengths.txt --cluster h200-1x8 --model llama-3.1-8b --context 200k --json";
    let output = session.output(large, b"");
    assert!(output.status.success(), "{output:?}");
    session.file("plan.json", &output.stdout);
    let simulate = "simulate plan.json --model llama-3.1-8b --context 200k --cluster";
    let (code, said) = run(&session, &format!("{simulate} h200-1x8"));
    assert_eq!(code, Some(0), "{said}");
    // The same number of devices, with less memory each.
    let (code, said) = run(&session, &format!("{simulate} a100-40-1x8"));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: plan.json: "), "{said}");
    // A rank in two groups is drawn by no report.
    let plan = r#"{"version":1,"seq_lens_tokens":[9,8],"micro_batches":[{"groups":[
        {"ranks":[0],"sequences":[0],"strategy":{"ulysses":1,"activations":"keep"}},
        {"ranks":[0],"sequences":[1],"strategy":{"ulysses":1,"activations":"keep"}}]}]}"#;
    session.file("twice.json", plan);
    session.file(
        "run.jsonl",
        r#"{"step":1,"loss":5.5,"tokens":900,"sequences":3,"predicted_s":3.0,"measured_s":4.5}"#,
    );
    let (code, said) = run(&session, "report run.jsonl --plan twice.json -o page.html");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("error: twice.json: "), "{said}");
    assert!(!fs::exists(session.directory().join("page.html")).unwrap());
}

#[test]
fn what_would_be_ignored_is_refused() {
    let session = Session::new();
    session.file("run.toml", SETTINGS);
    for (line, named) in [
        ("plan --lengths l --profile p --model nonsense", "--model"),
        ("verify c.json --profile p --model nonsense", "--model"),
        ("verify c.json --devices 3", "--devices"),
        ("bench plan --profiles . --model nonsense b.json", "--model"),
        (
            "simulate plan.json --profile p --tokens-replace-memory",
            "--tokens-replace-memory",
        ),
        (
            "compare --paper --tokens-replace-memory",
            "--tokens-replace-memory",
        ),
        ("profile run.toml -o p.toml --metrics m.jsonl", "--metrics"),
        ("profile run.toml -o p.toml --export m", "--export"),
        ("profile run.toml -o p.toml --trace t.json", "--trace"),
        ("profile run.toml -o p.toml --profile q.toml", "--profile"),
        (
            "profile run.toml -o p.toml --set train.metrics=m.jsonl",
            "train.metrics",
        ),
        ("bench emulated run.toml --metrics m.jsonl", "--metrics"),
    ] {
        let (code, said) = run(&session, line);
        assert_eq!(code, Some(2), "{line}: {said}");
        let error = said.lines().find(|line| line.starts_with("error: "));
        assert!(said.contains(named) && error.is_some(), "{line}: {said}");
    }
}
