//! Training on records of every kind, as users have them: several sources with weights, fine-tuning data, held-out data.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use session::Session;

#[path = "../../lengthwise-data/tests/tokenizer/mod.rs"]
mod tokenizer;

const SETTINGS: &str = r#"
[model]
hidden = 48
layers = 1
heads = 4
context = 64

[data]
tokenizer = "tokenizer.json"
cache = "cache"

[batch]
tokens = 512

[cluster]
ranks = 1
device_memory_mib = 64

[plan]
planner = "static:1"
refine = false

[train]
steps = 4
metrics = "run.jsonl"
"#;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|endoftext|>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

fn session() -> Session {
    let session = Session::new();
    tokenizer::write_tokenizer(session.directory());
    session.file("run.toml", SETTINGS);
    session
}

/// What a command says on stdout and on stderr; it must succeed.
fn said(session: &Session, line: &str) -> (String, String) {
    let output = session.output(line, b"");
    let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{line}: {}", texts[1]);
    texts.into()
}

/// What a command that must fail says, with the session's directory left out.
fn refused(session: &Session, line: &str) -> String {
    let output = session.output(line, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}: {said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    let directory = session.directory().canonicalize().unwrap();
    let said = said.replace(&format!("{}/", directory.display()), "");
    // How long encoding took differs.
    let lines = said.lines().filter(|line| !line.starts_with("encoded"));
    lines.map(|line| format!("{line}\n")).collect()
}

fn metrics(session: &Session) -> Vec<Value> {
    let lines = fs::read_to_string(session.directory().join("run.jsonl")).unwrap();
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

fn sum(steps: &[Value], key: &str) -> u64 {
    steps.iter().map(|step| step[key].as_u64().unwrap()).sum()
}

/// Rows, one JSON object a line.
fn lines(rows: impl IntoIterator<Item = Value>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// A table with a column of strings.
fn write_table(path: &Path, column: &str, texts: &[String]) {
    let schema = format!("message table {{ required binary {column} (UTF8); }}");
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY);
    let properties = Arc::new(properties.build());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut of_column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = texts.iter().map(|text| text.as_str().into()).collect();
    of_column
        .typed::<ByteArrayType>()
        .write_batch(&values, None, None)
        .unwrap();
    of_column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn sources_are_trained_on_in_their_shares_and_validated_on_held_out_rows() {
    let session = session();
    let directory = session.directory();
    fs::create_dir(directory.join("code")).unwrap();
    fs::create_dir(directory.join("prose")).unwrap();
    // Nothing merges: 20 tokens each, and 10.
    let code: Vec<String> = (0..60).map(|_| "x".repeat(19)).collect();
    write_table(&directory.join("code/a.parquet"), "content", &code);
    let prose = lines((0..40).map(|_| json!({"text": "y".repeat(9)})));
    let packed = zstd::encode_all(prose.as_bytes(), 1).unwrap();
    session.file("prose/b.jsonl.zst", packed);
    session.file("held.jsonl", lines([json!({"text": "held out"})]));
    let sources = "
[[data.sources]]
paths = [\"code/*.parquet\"]
text = \"content\"
weight = 3

[[data.sources]]
paths = [\"prose\"]
";
    let settings = SETTINGS.replace(
        "\n[batch]",
        &format!("validation = [\"held.jsonl\"]\n{sources}\n[batch]"),
    );
    session.file("run.toml", settings);
    let (shown, notes) = said(&session, "train run.toml");
    let steps = metrics(&session);
    let tokens = sum(&steps, "tokens");
    assert!((2000..=2048).contains(&tokens), "{shown}");
    // 10 tokens are those of the second source.
    let plans = steps.iter().map(|step| step["plan"].to_string());
    let plans: String = plans.collect();
    let second = plans
        .split(|c: char| !c.is_ascii_digit())
        .filter(|&number| number == "10")
        .count();
    assert!(
        (second as f64 * 10.0 / tokens as f64 - 0.25).abs() < 0.01,
        "{plans}"
    );
    let validation = &steps.last().unwrap()["validation"];
    assert_eq!(validation["tokens"], 9);
    for note in [
        "corpus     100 documents in 2 files: 100 sequences and 1,600 tokens an epoch",
        "source 1   75.0 % of the tokens, from 60 documents: 60 sequences and 1,200 tokens an epoch",
        "source 2   25.0 % of the tokens, from 40 documents: 40 sequences and 400 tokens an epoch",
    ] {
        assert!(notes.contains(note), "{notes}");
    }
    assert!(
        shown.contains("1.27 epochs of source 1, 1.27 of source 2"),
        "{shown}"
    );
}

#[test]
fn completions_are_trained_on_after_their_prompts() {
    let session = session();
    let text = |index: usize| json!({"prompt": "x".repeat(9), "completion": "y".repeat(index)});
    session.file("q.jsonl", lines((1..6).map(text)));
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let list =
        json!({"prompt": [message("user", "x")], "completion": [message("assistant", "yyy")]});
    session.file("lists.jsonl", lines([list]));
    let line = "train run.toml --prompt prompt --completion completion --steps 1";
    let (shown, notes) = said(
        &session,
        &format!("{line} --set data.paths=q.jsonl --set batch.sequences=5"),
    );
    // Each completion, and its end of text.
    assert_eq!(sum(&metrics(&session), "labels"), 15 + 5, "{notes}");
    assert!(shown.contains(", 20 labels"), "{shown}");

    let lists = format!("{line} --set data.paths=lists.jsonl --set batch.sequences=1");
    insta::assert_snapshot!(refused(&session, &lists));
    session.file("chat.jinja", TEMPLATE);
    said(&session, &format!("{lists} --chat-template chat.jinja"));
    let step = metrics(&session).pop().unwrap();
    // "<user>x", an end, "<assistant>yyy", an end; of which the first is predicted by nothing.
    assert_eq!((&step["tokens"], &step["labels"]), (&json!(22), &json!(4)));
}

#[test]
fn answers_are_trained_on_by_the_template_beside_the_tokenizer() {
    let session = session();
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let chat = json!({"messages": [
        message("user", "x"), message("assistant", "yyy"), message("user", "x"), message("assistant", "yy"),
    ]});
    let none = json!({"messages": [message("user", "x")]});
    session.file("chats.jsonl", lines([chat, none]));
    let line = "train run.toml --messages messages --steps 1 --set data.paths=chats.jsonl --set batch.sequences=1";
    let without_template = refused(&session, line);
    tokenizer::write_json(
        &session.directory().join("tokenizer_config.json"),
        &json!({"eos_token": "<|endoftext|>", "chat_template": TEMPLATE}),
    );
    let without_answer = refused(&session, line);
    let (_, notes) = said(&session, &format!("{line} --corrupt skip"));
    assert!(
        notes.contains("1 row skipped as corrupt, such as"),
        "{notes}"
    );
    let step = metrics(&session).pop().unwrap();
    assert_eq!(step["labels"], 4 + 3);
    insta::assert_snapshot!(format!("{without_template}\n{without_answer}"));
}

#[test]
fn data_that_no_run_can_learn_from_is_one_clear_error() {
    let session = session();
    session.file("texts.jsonl", lines([json!({"body": "text"})]));
    session.file(
        "long.jsonl",
        lines([json!({"prompt": "x".repeat(90), "completion": "y"})]),
    );
    session.file("empty.jsonl", "");
    session.file("nested.jsonl", lines([json!({"text": {"body": "text"}})]));
    write_table(
        &session.directory().join("t.parquet"),
        "body",
        &["text".to_owned()],
    );
    let mut messages = Vec::new();
    for more in [
        "--set data.paths=texts.jsonl",
        "--set data.paths=texts.jsonl --corrupt skip",
        "--set data.paths=nested.jsonl",
        "--set data.paths=empty.jsonl",
        "--set data.paths=t.parquet",
        "--set data.paths=t.parquet --prompt body --completion answer",
        "--set data.paths=corpus --prompt prompt --completion completion",
        "--set data.paths=corpus/a.txt --messages messages --chat-template corpus/a.txt",
        "--set data.paths=corpus --chat-template corpus/a.txt",
        "--set data.paths=corpus --prompt prompt",
        "--set data.paths=corpus --text text --messages text",
        "--set data.paths=corpus --set data.tools=tools",
        "--set data.sources=[{paths=[\"corpus\"],weight=0}]",
        "--set data.sources=[{paths=[\"corpus\"]},{paths=[\"empty.jsonl\"]}]",
        "--set data.sources=[{paths=[\"corpus\"],wieght=1}]",
        "--set data.sources=[{weight=1}]",
        "--set data.sources=[]",
    ] {
        messages.push(format!(
            "{more}\n{}",
            refused(&session, &format!("train run.toml {more}"))
        ));
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_step_without_a_label_is_told_once() {
    let session = session();
    session.file(
        "long.jsonl",
        lines([json!({"prompt": "x".repeat(90), "completion": "y"})]),
    );
    let line = "train run.toml --prompt prompt --completion completion --set data.paths=long.jsonl --set \
                data.overlong=truncate --set batch.sequences=1";
    let (shown, notes) = said(&session, line);
    assert!(shown.contains("loss       none"), "{shown}");
    let warning = "warning: step 1 had no label: its sequences are prompts or parts of them";
    assert_eq!(notes.matches(warning).count(), 1, "{notes}");
}

#[test]
fn a_run_goes_on_with_the_same_documents_only() {
    let session = session();
    let rows = |completion: &str| {
        let row = |index: usize| json!({"prompt": format!("x{index}"), "completion": completion, "text": "z".repeat(6)});
        lines((0..9).map(row))
    };
    session.file("q.jsonl", rows("yyyy"));
    session.file("same.jsonl", rows("yyyy"));
    session.file("other.jsonl", rows("yyzy"));
    let mut other = tokenizer::tokenizer_json();
    other["model"]["merges"] = json!([]);
    fs::create_dir(session.directory().join("other")).unwrap();
    tokenizer::write_json(&session.directory().join("other/tokenizer.json"), &other);
    fs::copy(
        session.directory().join("tokenizer_config.json"),
        session.directory().join("other/tokenizer_config.json"),
    )
    .unwrap();
    let line = "train run.toml --prompt prompt --completion completion --set batch.sequences=3 --set data.paths=";
    said(
        &session,
        &format!("{line}q.jsonl --steps 2 --checkpoints saved"),
    );
    let resume = "--resume saved/step-00000002 --steps 3";
    // Where the text is, and what made it, may change.
    said(&session, &format!("{line}same.jsonl {resume}"));
    said(
        &session,
        &format!("{line}q.jsonl {resume} --tokenizer other"),
    );
    let fields = line.replace("--prompt prompt --completion completion ", "");
    let refusals = [
        format!("{line}other.jsonl {resume}"),
        format!("{fields}q.jsonl {resume}"),
        format!("{fields}q.jsonl --text text {resume}"),
        format!("{line}q.jsonl {resume} --tokenizer bytes"),
        format!("{line}q.jsonl {resume} --tokenizer other --set data.end_of_text=263"),
    ];
    let refusals = refusals.map(|line| refused(&session, &line));
    insta::assert_snapshot!(refusals.join("\n"));
}
