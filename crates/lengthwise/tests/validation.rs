//! Runs that are validated on held-out files: table, metrics, summary and report.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;

use serde_json::Value;
use session::Session;

const SETTINGS: &str = r#"
[model]
hidden = 16
layers = 1
heads = 2
context = 64

[data]
paths = ["corpus"]
validation = ["held-out"]

[batch]
tokens = 128

[cluster]
ranks = 2
device_memory_mib = 32

[train]
steps = 5
validate_every = 2
schedule = "wsd"
"#;

fn session() -> Session {
    let session = Session::new();
    let text = |seed: usize, len: usize| -> String {
        let letters = (0..len).map(|at| char::from(b'a' + (at * seed % 23) as u8));
        letters.collect()
    };
    for (name, seed, len) in [
        ("corpus/b.txt", 7, 700),
        ("held-out/a.txt", 5, 150),
        ("held-out/b.txt", 11, 90),
    ] {
        let path = session.directory().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text(seed, len)).unwrap();
    }
    session.file("run.toml", SETTINGS);
    session
}

fn metrics(session: &Session) -> Vec<Value> {
    let lines = fs::read_to_string(session.directory().join("run.jsonl")).unwrap();
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn held_out_losses_are_shown_recorded_summed_up_and_drawn() {
    let session = session();
    let output = session.output("train run.toml --metrics run.jsonl", b"");
    let printed = String::from_utf8(output.stdout).unwrap();
    let notes = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{notes}");
    // 151 and 91 tokens, cut to 64 each.
    assert!(
        notes.contains("validation 5 sequences and 242 tokens after every 2 steps and the last"),
        "{notes}"
    );
    let steps = metrics(&session);
    let validated = steps.iter().map(|step| !step["validation"].is_null());
    assert_eq!(
        validated.collect::<Vec<_>>(),
        [false, true, false, true, true]
    );
    let mut rows = printed.lines();
    let header: Vec<&str> = rows.next().unwrap().split_whitespace().collect();
    assert_eq!(
        header[..5],
        ["step", "loss", "validation", "grad", "norm"],
        "{printed}"
    );
    for (step, row) in steps.iter().zip(rows) {
        assert_eq!(step["labels"], step["tokens"]);
        let norm = step["gradient_norm"].as_f64().unwrap();
        assert!(norm > 0.0 && row.contains(&format!("{norm:.3}")), "{row}");
        let Some(loss) = step["validation"]["loss"].as_f64() else {
            continue;
        };
        assert!((1.0..6.0).contains(&loss), "{step}");
        assert!(row.contains(&format!("{loss:.4}")), "{row}");
        assert_eq!(step["validation"]["tokens"], 242);
        assert_eq!(step["validation"]["labels"], 242);
        assert!(step["validation"]["measured_s"].as_f64().unwrap() > 0.0);
        assert!(step["validation"]["predicted_s"].as_f64().unwrap() > 0.0);
    }
    let last = steps[4]["validation"]["loss"].as_f64().unwrap();
    let summary = printed.lines().find(|line| line.starts_with("validation"));
    let summary = summary.unwrap();
    assert!(
        summary.starts_with(&format!(
            "validation {last:.4} after the last step, the best"
        )) && summary.contains("3 evaluations took"),
        "{summary}"
    );

    let output = session.output("report run.jsonl", b"");
    assert_eq!(output.status.code(), Some(0));
    let page = fs::read_to_string(session.directory().join("report.html")).unwrap();
    assert!(page.contains("data-chart=\"gradient\""));
    assert!(page.contains(&format!("<dt>validation</dt><dd>{last:.4}<span>best")));
}

#[test]
fn less_of_the_held_out_data_is_the_same_each_time() {
    let first_losses = [1, 2].map(|ranks| {
        let session = session();
        let line = format!(
            "train run.toml --metrics run.jsonl --steps 1 --ranks {ranks} --set data.validation_tokens=130"
        );
        assert_eq!(session.output(&line, b"").status.code(), Some(0));
        let validation = metrics(&session)[0]["validation"].clone();
        let tokens = validation["tokens"].as_u64().unwrap();
        assert!((64..=130).contains(&tokens), "{validation}");
        (tokens, validation["loss"].as_f64().unwrap())
    });
    let [(tokens, loss), (other_tokens, other_loss)] = first_losses;
    assert_eq!(tokens, other_tokens);
    assert!(
        (loss / other_loss - 1.0).abs() < 1e-5,
        "{loss} {other_loss}"
    );
}
