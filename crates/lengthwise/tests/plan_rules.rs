//! Rules that plans have to keep, as users ask for them.

mod session;

use serde_json::Value;
use session::{EASY_PROFILE, Session};

/// A session with a profile of 8 devices on 2 nodes, whose costs are easy to reckon with, and a batch.
fn session(lengths: &str) -> Session {
    let session = Session::new();
    session.file("profile.toml", EASY_PROFILE);
    session.file("lengths.txt", lengths);
    session
}

const PLAN: &str = "plan --lengths lengths.txt --profile profile.toml";

#[test]
fn a_table_says_which_rules_its_plan_keeps() {
    let mut session = session("9000\n5000\n3000\n800\n700\n90\n80\n70\n60\n");
    session.run(&format!(
        "{PLAN} --no-idle-ranks --aligned-powers-of-two --min-degree 2 --max-tokens-per-rank 4k \
         --micro-batches-multiple-of 2 --max-sequences-per-group 3"
    ));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn json_has_the_rules_of_its_plan() {
    let session = session("9000\n500\n90\n80\n");
    let json = |options: &str| -> Value {
        let output = session.output(&format!("{PLAN} --json {options}"), b"");
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(json("").get("rules"), None);
    let rules =
        &json("--no-idle-ranks --max-tokens-per-rank 4000 --tokens-replace-memory")["rules"];
    let expected = serde_json::json!({
        "no_idle_ranks": true, "max_tokens_per_rank": 4000, "tokens_replace_memory": true,
    });
    assert_eq!(*rules, expected);
}

#[test]
fn rules_that_can_not_be_kept_are_told_with_the_reason() {
    let mut session = session("9000\n500\n90\n");
    for rules in [
        "--max-tokens-per-rank 1000",
        "--min-degree 9",
        "--aligned-powers-of-two --degrees 3,5",
        "--no-idle-ranks --degrees 3",
        "--no-idle-ranks --degrees 1,2",
        "--micro-batches-multiple-of 4",
        "--no-idle-ranks --degrees 4 --micro-batches-multiple-of 2",
        "--max-tokens-per-rank 0",
        "--min-degree 0",
        "--micro-batches-multiple-of 0",
        "--max-sequences-per-group 0",
        "--tokens-replace-memory",
        "--planner static:2 --no-idle-ranks",
        "--planner exhaustive --no-idle-ranks --degrees 3,5 --micro-batches-multiple-of 2",
        "--planner megatron --max-sequences-per-group 1",
    ] {
        session.note(rules);
        session.run(&format!("{PLAN} {rules}"));
    }
    insta::assert_snapshot!(session.transcript());
}
