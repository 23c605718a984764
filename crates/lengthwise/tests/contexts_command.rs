//! `lengthwise bench contexts` as users and programs call it.

mod session;

use serde_json::Value;
use session::Session;

const SMALL: &str =
    "bench contexts --models llama-3-8b,llama-3-70b --clusters a100-40-1x8,h100-80-1x8";

#[test]
fn a_table_says_how_long_contexts_can_be() {
    let mut session = Session::new();
    session.run(SMALL);
    session.run(&format!("{SMALL} --logits chunked"));
    session.run(&format!("{SMALL} --logits fused"));
    session.run("bench contexts --models gpt-5 --clusters h100-1x8");
    session.run("bench contexts --models llama-3-8b --clusters h100");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn json_has_the_figures_of_both_spaces() {
    let session = Session::new();
    let output = session.output(&format!("{SMALL} --logits chunked --json"), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let contexts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(contexts["logits"], "chunked");
    let rows = contexts["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in &rows[..2] {
        assert_eq!(
            (row["model"].as_str(), row["num_devices"].as_u64()),
            (Some("llama-3-8b"), Some(8))
        );
        let number = |space: &str, key: &str| row[space][key].as_f64().unwrap();
        assert!(number("all", "tokens") > 2.0 * number("ulysses", "tokens"));
        for space in ["ulysses", "all"] {
            let [predicted, simulated] =
                ["predicted_step_s", "simulated_step_s"].map(|key| number(space, key));
            assert!((simulated / predicted - 1.0).abs() < 0.1, "{space}: {row}");
        }
    }
    for row in &rows[2..] {
        assert!(row["ulysses"].is_null() && row["all"].is_null(), "{row}");
    }
}
