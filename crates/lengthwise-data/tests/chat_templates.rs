//! Conversations become the text that transformers makes of them, with the same tokens trained on.
//!
//! The test needs a Python with transformers and trl, which `LENGTHWISE_PYTHON` names.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

use std::fs;
use std::io::Write;
use std::process::Command;

use lengthwise_data::DataError;
use lengthwise_data::chat::ChatTemplates;
use lengthwise_data::records::{Chat, Content, CorruptRows, Fields, RecordReader};
use serde_json::{Value, json};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chat.py");

fn templates(template: &Value, tokens: &Value) -> Result<ChatTemplates, DataError> {
    let model = tempfile::tempdir().unwrap();
    fs::write(
        model.path().join("chat_template.jinja"),
        template.as_str().unwrap(),
    )
    .unwrap();
    fs::write(
        model.path().join("tokenizer_config.json"),
        tokens.to_string(),
    )
    .unwrap();
    ChatTemplates::of_model(model.path())
}

/// The conversation, read from a file as any is.
fn chat(messages: &str, tools: &str) -> Result<Chat, DataError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chats.jsonl");
    fs::write(
        &path,
        format!("{{\"messages\": {messages}, \"tools\": {tools}}}\n"),
    )
    .unwrap();
    let fields = Fields::Messages {
        messages: "messages".to_owned(),
        tools: "tools".to_owned(),
    };
    let record = RecordReader::open(&path, &fields, CorruptRows::Error)?.next();
    match record.unwrap()?.content {
        Content::Messages(chat) => Ok(chat),
        other => panic!("{other:?}"),
    }
}

/// The conversation as a line of the script has it, keys in their order.
fn raw<'a>(line: &'a str, key: &str) -> &'a str {
    let start = line.find(&format!("\"{key}\": ")).unwrap() + key.len() + 4;
    let mut values = serde_json::Deserializer::from_str(&line[start..]).into_iter::<Value>();
    values.next().unwrap().unwrap();
    &line[start..start + values.byte_offset()]
}

#[test]
fn texts_and_masks_are_those_of_transformers() {
    let Ok(python) = std::env::var("LENGTHWISE_PYTHON") else {
        writeln!(
            std::io::stderr(),
            "skipped: LENGTHWISE_PYTHON names no Python with transformers and trl"
        )
        .unwrap();
        return;
    };
    let output = Command::new(&python).arg(SCRIPT).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut differing = Vec::new();
    let (mut num_equal, mut num_masks, mut num_by_prefixes, mut num_refused) = (0, 0, 0, 0);
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = case["name"].as_str().unwrap();
        let rendered = templates(&case["template"], &case["tokens"]).and_then(|templates| {
            templates.render(name, &chat(raw(line, "messages"), raw(line, "tools"))?)
        });
        match (rendered, case["text"].as_str()) {
            (Ok(rendered), Some(text)) if rendered.text == text => {
                num_equal += 1;
                let Some(mask) = case["mask"].as_array() else {
                    num_by_prefixes += 1;
                    continue;
                };
                num_masks += 1;
                let is_label = |at: usize| {
                    let mut answers = rendered.answers.iter();
                    i32::from(answers.any(|answer| answer.contains(&at)))
                };
                // transformers leaves out all but the first byte of an answer's last character.
                let is_last_character = |at: usize| {
                    let mut answers = rendered.answers.iter();
                    answers.any(|answer| answer.contains(&at) && text.get(at..answer.end).is_none())
                };
                for (at, label) in mask.iter().enumerate() {
                    if *label != json!(is_label(at)) && !is_last_character(at) {
                        differing.push(format!("{name}: the mask differs at byte {at}"));
                        break;
                    }
                }
            }
            (Err(DataError::NoAnswer { .. }), Some(_)) => num_refused += 1,
            (Err(error), Some(_)) if error.to_string().contains("the assistant speaks first") => {
                assert_eq!(case["messages"][0]["role"], "assistant");
                num_refused += 1;
            }
            (Err(_), None) => num_equal += 1,
            (Ok(rendered), expected) => {
                let at = expected.map(|text| {
                    let pairs = text.bytes().zip(rendered.text.bytes());
                    pairs.take_while(|(a, b)| a == b).count()
                });
                let around = |text: &str| {
                    let at = at.unwrap_or(0).saturating_sub(30);
                    text.chars().skip(at).take(80).collect::<String>()
                };
                differing.push(format!(
                    "{name}: {:?} is {:?} in transformers ({})",
                    around(&rendered.text),
                    expected.map(around),
                    case["error"]
                ));
            }
            (Err(error), Some(_)) => differing.push(format!("{name}: {error}")),
        }
    }
    writeln!(
        std::io::stderr(),
        "{num_equal} equal, {num_masks} with masks, {num_by_prefixes} by prefixes; {num_refused} refused for their prefixes; {} differ",
        differing.len()
    )
    .unwrap();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
