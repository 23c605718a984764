//! `lengthwise bench scaling` as users and programs call it.

mod session;

use serde_json::Value;
use session::{Session, example};

/// The command with the committed profile and lengths, in small.
fn line(more: &str) -> String {
    format!(
        "bench scaling --profile {} --distribution {} --batches 2 --context 8k {more}",
        example("profiles/a100-gpt-7b-384k.toml").display(),
        example("lengths/wikipedia.toml").display(),
    )
}

#[test]
fn every_size_and_both_sweeps_are_measured() {
    let session = Session::new();
    let output = session.output(&line("--sizes 20x8,40x16,80x32 --json"), b"");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let scaling: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(scaling["planner"], "adaptive");
    assert_eq!(scaling["distribution"], "wikipedia");
    let sizes = |series: &Value| -> Vec<(u64, u64)> {
        let sizes = series["sizes"].as_array().unwrap().iter();
        let size = |size: &Value| {
            assert_eq!(size["num_batches"], 2);
            for figure in [
                "median_predicted_step_s",
                "median_solve_s",
                "solve_ns_per_sequence",
            ] {
                assert!(size[figure].as_f64().unwrap() > 0.0, "{figure} of {size}");
            }
            assert!(size["max_solve_s"].as_f64() >= size["median_solve_s"].as_f64());
            assert!(size["median_gap"].as_f64().unwrap() >= 0.0);
            let number = |key: &str| size[key].as_u64().unwrap();
            (number("num_sequences"), number("num_devices"))
        };
        sizes.map(size).collect()
    };
    let series = scaling["series"].as_array().unwrap();
    assert_eq!(sizes(&series[0]), [(20, 8), (40, 16), (80, 32)]);
    assert_eq!(sizes(&series[1]), [(20, 16), (40, 16), (80, 16)]);
    assert_eq!(sizes(&series[2]), [(40, 8), (40, 16), (40, 32)]);
    for (series, growing) in series.iter().zip(["both", "sequences", "devices"]) {
        assert_eq!(series["growing"], growing);
        assert!(series["fitted_exponent"].is_number());
    }
}

#[test]
fn the_table_has_a_row_for_every_size() {
    let session = Session::new();
    let output = session.output(&line("--sizes 20x8,40x16 --planner static"), b"");
    let table = String::from_utf8(output.stdout).unwrap();
    let rows = table.lines().filter(|row| row.starts_with("| "));
    assert_eq!(rows.count(), 2 + 3 * 2, "{table}");
    assert_eq!(table.matches("time grows as").count(), 3, "{table}");
}

#[test]
fn bad_sizes_and_distributions_are_named() {
    let mut session = Session::new();
    session.file(
        "bins.toml",
        "name = \"bins\"\nbins = [{ below_tokens = 0, sequences_percent = 1 }]",
    );
    session.file("long.toml", "name = \"long\"\nfrom_tokens = 900000\nbins = [{ below_tokens = 900001, sequences_percent = 1 }]");
    let profile = example("profiles/a100-gpt-7b-384k.toml");
    let profile = profile.display();
    for (more, code, complaint) in [
        (
            format!("--sizes 8by8 --profile {profile}"),
            2,
            "\"8by8\" is no size",
        ),
        (
            "--profile missing.toml --distribution bins.toml".to_owned(),
            2,
            "bins[0].below_tokens is 0",
        ),
        (
            format!("--profile {profile} --distribution missing.toml"),
            2,
            "missing.toml can't be read",
        ),
        (
            format!("--profile {profile} --distribution long.toml"),
            2,
            "hardly ever 384000 tokens or fewer",
        ),
    ] {
        session.note(&more);
        let output = session.output(&format!("bench scaling {more}"), b"");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(complaint), "{text}");
    }
}
