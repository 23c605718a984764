//! `lengthwise report` as users call it.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;

use serde_json::Value;
use session::Session;

/// A step of two micro-batches on four ranks.
const STEP: &str = r#"{"version":1,"planner":"adaptive","step":1,"loss":5.25,"tokens":1000,"sequences":4,"predicted_s":2.0,"measured_s":2.5,"plan_wait_s":0.5,"lower_bound_s":1.9,"gap":0.05,"solve_s":0.001,"predicted_peak_memory_bytes":3000,"measured_peak_memory_bytes":2000,"groups_created":3,"plan":[{"predicted_s":1.25,"groups":[{"ranks":[0,1,2,3],"predicted_s":1.0,"seq_lens":[700]}]},{"predicted_s":0.75,"groups":[{"ranks":[0,1],"predicted_s":0.5,"seq_lens":[150]},{"ranks":[3],"predicted_s":0.25,"seq_lens":[90,60]}]}],"ranks":{"compute_s":[1.5,1.5,1.0,1.0],"exchange_s":[0.5,0.5,0.5,0.0],"wait_s":[0.5,0.5,1.0,1.5]}}"#;

/// A step as older versions wrote it.
const OLD_STEP: &str =
    r#"{"step":1,"loss":5.5,"tokens":900,"sequences":3,"predicted_s":3.0,"measured_s":4.5}"#;

const TRACE: &str = r#"{"otherData":{"source":"simulated"},"traceEvents":[
    {"name":"process_name","ph":"M","pid":0,"args":{"name":"node 0"}},
    {"name":"thread_name","ph":"M","pid":0,"tid":0,"args":{"name":"rank 0"}},
    {"name":"dense","cat":"compute","ph":"X","ts":0,"dur":750000,"pid":0,"tid":0,"args":{"start_s":0.0,"duration_s":0.75}},
    {"name":"wait","cat":"idle","ph":"X","ts":750000,"dur":250000,"pid":0,"tid":0,"args":{"start_s":0.75,"duration_s":0.25}}]}"#;

const PLAN: &str = r#"{"planner":"flexsp","predicted_step_s":1.5,"lower_bound_s":1.25,"gap":0.2,"solve_s":0.1,
    "stop_reason":"converged","micro_batches":[{"predicted_s":1.5,"groups":[{"degree":2,"ranks":[0,1],
    "strategy":{"ulysses":2,"ring":1,"recompute":true},"predicted_s":1.0,"memory_bytes":4096,"sequences":[1,0]}]}],"seq_lens_tokens":[300,900]}"#;

/// The data in a page, as its scripts read it.
fn data(page: &str) -> Value {
    let (_, data) = page.split_once("id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn a_page_shows_runs_plans_and_traces() {
    let mut session = Session::new();
    let validation = r#""gradient_norm":1.75,"labels":900,"validation":{"loss":5.5,"labels":90,"tokens":100,"predicted_s":0.25,"measured_s":0.5},"plan_wait_s""#;
    let second = STEP
        .replace("\"step\":1", "\"step\":2")
        .replace("5.25", "null")
        .replace("\"plan_wait_s\"", validation);
    session.file("adaptive.jsonl", format!("{STEP}\n{second}\n"));
    session.file("old.jsonl", OLD_STEP);
    session.file("trace.json", TRACE);
    session.file("plan.json", PLAN);
    session.run("report adaptive.jsonl old.jsonl --plan plan.json --trace trace.json -o page.html");
    assert!(
        session.transcript().contains("[exit code 0]"),
        "{}",
        session.transcript()
    );
    let page = fs::read_to_string(session.directory().join("page.html")).unwrap();
    for chart in [
        "comparison",
        "times",
        "agreement",
        "loss",
        "gradient",
        "shares",
        "plan",
        "lengths",
        "trace",
    ] {
        assert!(
            page.contains(&format!("data-chart=\"{chart}\"")),
            "{chart} is missing"
        );
    }
    let data = serde_json::to_string_pretty(&data(&page)).unwrap();
    insta::assert_snapshot!("the_data_of_a_page", data);
    let (_, body) = page.split_once("<body>").unwrap();
    let (body, _) = body.split_once("<script").unwrap();
    insta::assert_snapshot!("the_tables_of_a_page", body);
}

#[test]
fn charts_without_figures_are_left_out() {
    let session = Session::new();
    session.file("old.jsonl", OLD_STEP);
    let output = session.output("report old.jsonl --title Anything", b"");
    assert_eq!(output.status.code(), Some(0));
    let page = fs::read_to_string(session.directory().join("report.html")).unwrap();
    assert!(page.contains("<title>Anything – Lengthwise</title>"));
    for chart in ["comparison", "shares", "plan", "lengths", "trace"] {
        assert!(
            !page.contains(&format!("data-chart=\"{chart}\"")),
            "{chart} is there"
        );
    }
}

#[test]
fn runs_with_one_file_name_are_told_apart_by_their_paths() {
    let session = Session::new();
    for directory in ["a", "b"] {
        fs::create_dir(session.directory().join(directory)).unwrap();
        session.file(&format!("{directory}/run.jsonl"), STEP);
    }
    session.output("report a/run.jsonl b/run.jsonl", b"");
    let page = fs::read_to_string(session.directory().join("report.html")).unwrap();
    let data = data(&page);
    assert_eq!(data["runs"][0]["name"], "a/run.jsonl");
    assert_eq!(data["runs"][1]["name"], "b/run.jsonl");
}

#[test]
fn what_can_not_be_shown_is_named() {
    let mut session = Session::new();
    session.file("run.jsonl", STEP);
    session.file("empty.jsonl", "\n");
    session.file("log.txt", "step 1 loss 5.25\n");
    session.file("list.jsonl", "[1, 2]\n");
    session.file("binary.jsonl", [b'{', 0xff]);
    session.file("new.jsonl", STEP.replace("\"version\":1", "\"version\":9"));
    session.file("lack.jsonl", STEP.replace("\"measured_s\":2.5,", ""));
    session.file(
        "negative.jsonl",
        STEP.replace("\"measured_s\":2.5", "\"measured_s\":-1"),
    );
    session.file("no-plan.json", "{\"planner\":\"adaptive\"}");
    session.file(
        "no-times.json",
        PLAN.replace("\"predicted_step_s\":1.5,", ""),
    );
    session.file(
        "negative.json",
        PLAN.replace("\"predicted_s\":1.0", "\"predicted_s\":-1.0"),
    );
    session.file(
        "overlap.json",
        TRACE.replace("\"ts\":750000", "\"ts\":700000"),
    );
    session.file(
        "no-events.json",
        "{\"otherData\":{\"source\":\"measured\"},\"traceEvents\":[]}",
    );
    for line in [
        "report missing.jsonl",
        "report run.jsonl missing.jsonl",
        "report empty.jsonl",
        "report log.txt",
        "report list.jsonl",
        "report binary.jsonl",
        "report new.jsonl",
        "report lack.jsonl",
        "report negative.jsonl",
        "report run.jsonl --step 7",
        "report run.jsonl --plan missing.json",
        "report run.jsonl --plan no-plan.json",
        "report run.jsonl --plan no-times.json",
        "report run.jsonl --plan negative.json",
        "report run.jsonl --trace missing.json",
        "report run.jsonl --trace run.jsonl",
        "report run.jsonl --trace overlap.json",
        "report run.jsonl --trace no-events.json",
        "report run.jsonl -o missing/report.html",
    ] {
        session.run(line);
    }
    let num_bad = session.transcript().matches("[exit code 2]").count();
    assert_eq!(num_bad, 19, "{}", session.transcript());
    assert!(!session.directory().join("report.html").exists());
    insta::assert_snapshot!(session.transcript());
}
