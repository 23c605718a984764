//! Text of a tokenizer, from files to losses.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use session::Session;

#[path = "../../lengthwise-data/tests/tokenizer/mod.rs"]
mod tokenizer;

const SETTINGS: &str = r#"
[model]
hidden = 48
layers = 2
heads = 12
context = 64

[data]
paths = ["corpus"]
tokenizer = "tokenizer.json"
cache = "cache"

[batch]
tokens = 256

[cluster]
device_memory_mib = 64

[plan]
refine = false

[train]
steps = 4
"#;

/// A tokenizer, some text and settings.
fn session() -> Session {
    let session = Session::new();
    tokenizer::write_tokenizer(session.directory());
    let lines = (1..40).map(|index| {
        let text = "the thing is in the king's ring ".repeat(index % 7 + 1);
        format!(
            "{}\n",
            serde_json::json!({"text": format!("{index} {text}")})
        )
    });
    session.file("corpus/b.jsonl", lines.collect::<String>());
    session.file("run.toml", SETTINGS);
    session
}

/// What a command says; it must succeed.
fn said(session: &Session, line: &str) -> String {
    let output = session.output(line, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{line}: {said}");
    said
}

/// What a command that must fail says, with the session's directory left out.
fn refused(session: &Session, line: &str) -> String {
    let output = session.output(line, b"");
    assert_eq!(output.status.code(), Some(2), "{line}");
    let said = String::from_utf8(output.stderr).unwrap();
    let directory = session.directory().canonicalize().unwrap();
    said.replace(&format!("{}/", directory.display()), "")
}

fn losses(session: &Session, metrics: &str) -> Vec<f64> {
    let lines = fs::read_to_string(session.directory().join(metrics)).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

fn kept(session: &Session, ending: &str) -> PathBuf {
    let entries = fs::read_dir(session.directory().join("cache")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| path.extension().is_some_and(|found| found == ending))
        .unwrap()
}

#[test]
fn a_second_run_encodes_nothing_and_has_the_same_losses() {
    let session = session();
    let train = |more: &str| {
        said(
            &session,
            &format!("train run.toml --ranks 1 --planner static:1 {more}"),
        )
    };
    let first = train("--metrics first.jsonl");
    assert!(first.contains("encoded    40 documents to "), "{first}");
    assert!(
        first.contains("corpus     40 documents in 2 files"),
        "{first}"
    );
    let second = train("--metrics second.jsonl --verify-cache");
    assert!(!second.contains("encoded"), "{second}");
    let first = losses(&session, "first.jsonl");
    assert_eq!(first.len(), 4);
    assert_eq!(first, losses(&session, "second.jsonl"));
    // The pair that was kept is a corpus by itself.
    let bin = kept(&session, "bin");
    let third = train(&format!(
        "--metrics third.jsonl --set data.paths={}",
        bin.display()
    ));
    assert!(!third.contains("encoded"), "{third}");
    assert_eq!(first, losses(&session, "third.jsonl"));
}

#[test]
fn a_new_model_is_written_with_the_tokenizer_of_its_text() {
    let session = session();
    said(
        &session,
        "train run.toml --ranks 1 --planner static:1 --export model --checkpoints saved",
    );
    said(&session, "checkpoint export saved/step-00000004 again");
    let read = |path: &str| fs::read(session.directory().join(path)).unwrap();
    for model in ["model", "saved/step-00000004", "again"] {
        let config: Value = serde_json::from_slice(&read(&format!("{model}/config.json"))).unwrap();
        assert_eq!(config["eos_token_id"], tokenizer::END_OF_TEXT, "{model}");
        assert_eq!(
            read(&format!("{model}/tokenizer.json")),
            read("tokenizer.json"),
            "{model}"
        );
    }
}

#[test]
fn losses_are_equal_at_all_degrees() {
    let session = session();
    let mut all = Vec::new();
    for degree in 1..5 {
        let metrics = format!("{degree}.jsonl");
        said(
            &session,
            &format!(
                "train run.toml --ranks {degree} --planner static:{degree} --metrics {metrics}"
            ),
        );
        all.push(losses(&session, &metrics));
    }
    for losses in &all {
        assert_eq!(losses.len(), 4);
        for (loss, of_one) in losses.iter().zip(&all[0]) {
            assert!((loss - of_one).abs() < 1e-4, "{all:?}");
        }
    }
    assert!(all[0][3] < all[0][0], "{all:?}");
}

#[test]
fn the_tokenizer_beside_a_model_is_its_own() {
    let session = session();
    said(
        &session,
        "train run.toml --ranks 1 --planner static:1 --export model",
    );
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        let directory = session.directory();
        fs::copy(directory.join(name), directory.join("model").join(name)).unwrap();
    }
    session.file("go-on.toml", "[data]\npaths = [\"corpus\"]\ncache = \"cache\"\n[train]\nsteps = 1\n[cluster]\nranks = 1\n");
    let on = "train go-on.toml --from model --context 64 --tokens 256 --planner static:1 --export further";
    let said = said(&session, on);
    // The same text and the same tokenizer: the same tokens.
    assert!(!said.contains("encoded"), "{said}");
    assert!(session.directory().join("further/tokenizer.json").exists());
    let message = refused(
        &session,
        "train go-on.toml --from model --context 64 --set model.vocab=300",
    );
    assert!(
        message.contains("the model of model.from has 264"),
        "{message}"
    );
}

#[test]
fn what_does_not_fit_is_one_error_before_any_work() {
    let session = session();
    let mut json = tokenizer::tokenizer_json();
    fs::create_dir(session.directory().join("bare")).unwrap();
    tokenizer::write_json(&session.directory().join("bare/tokenizer.json"), &json);
    json["model"] = serde_json::json!({"type": "Magic"});
    fs::create_dir(session.directory().join("broken")).unwrap();
    tokenizer::write_json(&session.directory().join("broken/tokenizer.json"), &json);
    session.file("corpus/c.bin", [1, 0, 2, 0]);
    session.file("bytes.txt", b"ab\xff");
    let mut messages = Vec::new();
    for more in [
        "--tokenizer missing",
        "--tokenizer bare",
        "--tokenizer broken",
        "--tokenizer bytes --set data.end_of_text=x",
        "--set data.end_of_text=</s>",
        "--set data.special_tokens=maybe",
        "--set model.vocab=263",
        "--set data.paths=corpus/c.bin",
        "--set data.paths=bytes.txt",
        "--cache run.toml",
    ] {
        messages.push(format!(
            "{more}\n{}",
            refused(&session, &format!("train run.toml {more}"))
        ));
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn kept_tokens_that_were_changed_are_found() {
    let session = session();
    said(&session, "train run.toml --ranks 1 --planner static:1");
    let bin = kept(&session, "bin");
    let mut bytes = fs::read(&bin).unwrap();
    bytes[0] ^= 1;
    fs::write(&bin, bytes).unwrap();
    let message = refused(&session, "train run.toml --ranks 1 --verify-cache");
    assert!(
        message.contains("is not what was written: its XXH3 is"),
        "{message}"
    );
    // Meanwhile, if not before.
    let output = session.output(
        "train run.toml --ranks 1 --planner static:1 --steps 500",
        b"",
    );
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("is not what was written"), "{said}");
}

#[test]
fn held_out_text_is_encoded_by_the_same_tokenizer() {
    let session = session();
    session.file("held-out.txt", "the thing is held out");
    let line = "train run.toml --ranks 1 --planner static:1 --set data.validation=held-out.txt";
    said(&session, line);
    let entries = fs::read_dir(session.directory().join("cache")).unwrap();
    let abouts = entries.map(|entry| entry.unwrap().path());
    let abouts = abouts.filter(|path| path.extension().is_some_and(|found| found == "json"));
    let encodings: Vec<String> = abouts
        .map(|path| {
            let about: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            about["encoding"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(encodings.len(), 2);
    assert_eq!(encodings[0], encodings[1]);
}
