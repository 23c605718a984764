//! Rings, and ranks that stand for several devices, as users ask for them.

mod session;

use std::time::Duration;

use serde_json::Value;
use session::{EASY_PROFILE, Session, example};

const ON_64: &str = "--cluster h100-8x8 --model llama-3.1-8b --context 1000k";

/// A session with a sequence of a million tokens, and with some others beside it.
fn session() -> Session {
    let session = Session::new();
    session.file("long.txt", "1000000\n");
    session.file("mixed.txt", "1000000\n200000\n60000\n8000\n8000\n500\n");
    session.file("profile.toml", EASY_PROFILE);
    session
}

#[test]
fn a_million_tokens_are_planned_for_with_rings() {
    let mut session = session();
    for exchange in ["ulysses", "ring", "ulysses,ring"] {
        session.run(&format!(
            "plan --lengths long.txt {ON_64} --strategies {exchange} --activations recompute"
        ));
    }
    session.run(&format!(
        "plan --lengths mixed.txt {ON_64} --strategies ulysses,ring --activations recompute"
    ));
    // All strategies are the default.
    session.run(&format!("plan --lengths mixed.txt {ON_64}"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn ranks_stand_for_the_devices_that_share_a_model() {
    let mut session = session();
    for share in [
        "--tensor-parallel 4",
        "--pipeline-parallel 4",
        "--tensor-parallel 8 --pipeline-parallel 2",
    ] {
        session.run(&format!(
            "plan --lengths mixed.txt {ON_64} --strategies ring {share}"
        ));
    }
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn what_can_not_be_divided_or_exchanged_so_is_one_error_that_says_what_to_write() {
    let mut session = session();
    let plan = "plan --lengths long.txt";
    for more in [
        "--strategies rings",
        "--strategies ring,ring",
        "--tensor-parallel 0",
        "--tensor-parallel 3",
        "--tensor-parallel 16",
        "--pipeline-parallel 5",
        "--devices 20 --tensor-parallel 8",
        "--strategies ring --degrees 65,1",
        "--strategies ring --tensor-parallel 2 --degrees 2,2",
        "--strategies ulysses --degrees 33",
        "--strategies ring --devices 16",
        "--strategies ring --devices 16 --tensor-parallel 2",
    ] {
        session.run(&format!("{plan} {ON_64} {more}"));
    }
    for more in [
        "--strategies ring",
        "--strategies ulysses,ring",
        "--tensor-parallel 2",
    ] {
        session.run(&format!("{plan} --profile profile.toml {more}"));
        session.run(&format!("compare --profile profile.toml {more}"));
    }
    let batch = example("batches/wikipedia_384k_7b_0.json");
    let profiles = example("profiles");
    let (batch, profiles) = (batch.display(), profiles.display());
    let bench = session.output(
        &format!("bench plan {batch} --profiles {profiles} --strategies ring"),
        b"",
    );
    let told = String::from_utf8(bench.stderr).unwrap();
    session.note(&told.replace(&profiles.to_string(), "[profiles]"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn rings_are_simulated_and_shares_refused() {
    let mut session = session();
    let simulate = format!("simulate --lengths mixed.txt {ON_64}");
    session.run(&format!("{simulate} --strategies ring"));
    session.run(&format!("{simulate} --strategies all --activations host"));
    session.run(&format!("{simulate} --tensor-parallel 2"));
    let json = session.output(
        &format!("plan --lengths long.txt {ON_64} --strategies ring --json"),
        b"",
    );
    let plan: Value = serde_json::from_slice(&json.stdout).unwrap();
    let strategy = &plan["micro_batches"][0]["groups"][0]["strategy"];
    assert_eq!(strategy["ring"], 64);
    assert_eq!(strategy["ulysses"], 1);
    session.file("plan.json", &json.stdout);
    session.run(&format!("simulate plan.json {ON_64}"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn planners_are_compared_with_rings_and_with_shares() {
    let mut session = session();
    let compare = "compare --cluster h100-2x8 --model llama-3.1-8b --sequences 24 --batches 1";
    session.run(&format!("{compare} --strategies ulysses,ring"));
    session.run(&format!("{compare} --tensor-parallel 4"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn a_choice_of_exchanges_plans_recorded_batches_no_worse_and_in_little_time() {
    let session = session();
    let batch = example("batches/github_synth_384k_7b_0.json");
    let step = |exchange: &str, activations: &str| {
        let line = format!(
            "plan --lengths {} --cluster h100-8x8 --model llama-3.1-8b --context 384k --strategies {exchange} --activations {activations} --json",
            batch.display()
        );
        let output = session.output(&line, b"");
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let solve = Duration::from_secs_f64(plan["solve_s"].as_f64().unwrap());
        assert!(solve < Duration::from_secs(2), "{exchange}: {solve:?}");
        plan["predicted_step_s"].as_f64().unwrap()
    };
    // Shortlists of many strategies lead to about the best step, few are searched kind by kind.
    for (activations, tolerance) in [("recompute", 1e-9), ("all", 0.03)] {
        let [ulysses, ring, both] =
            ["ulysses", "ring", "ulysses,ring"].map(|exchange| step(exchange, activations));
        assert!(
            both <= ulysses.min(ring) * (1.0 + tolerance),
            "{both}, {ring} and {ulysses}"
        );
    }
}
