//! Which ids records become, and which of them are trained on.

#![allow(clippy::disallowed_methods, reason = "tests write what is read")]

mod common;

use std::fs;
use std::ops::Range;
use std::sync::Arc;

use lengthwise_data::chat::ChatTemplates;
use lengthwise_data::records::{CorruptRows, Fields};
use lengthwise_data::{ByteTokenizer, DataError, EncodedDocument, RecordEncoder, TextEncoder};

/// Each two bytes are an id, with a first id before texts: ids depend on what comes before.
struct Pairs;

impl TextEncoder for Pairs {
    fn encode(&self, text: &[u8]) -> Result<Vec<u32>, DataError> {
        let text = str::from_utf8(text).map_err(|error| DataError::NotUtf8 {
            offset: error.valid_up_to() as u64,
        })?;
        Ok(self
            .encode_template(text)?
            .into_iter()
            .map(|(id, _)| id)
            .collect())
    }

    fn encode_template(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        let pairs = text.as_bytes().chunks(2).enumerate();
        let id = |pair: &[u8]| pair.iter().fold(0, |id, &byte| id * 256 + u32::from(byte));
        Ok(pairs
            .map(|(index, pair)| (id(pair), 2 * index..2 * index + pair.len()))
            .collect())
    }

    fn end_of_text(&self) -> u32 {
        70_000
    }

    fn first(&self) -> Option<u32> {
        Some(70_001)
    }

    fn vocab_size(&self) -> usize {
        70_002
    }

    fn fingerprint(&self) -> String {
        "pairs".to_owned()
    }
}

const LINES: &str = r#"{"text": "abc", "prompt": "hel", "completion": "lo", "messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]}
{"text": "", "prompt": "", "completion": "", "messages": [{"role": "user", "content": "only"}]}
"#;

fn encoder(
    encoder: Arc<dyn TextEncoder>,
    fields: Fields,
    template: Option<&str>,
    corrupt: CorruptRows,
) -> RecordEncoder {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("template.jinja");
    let templates = template.map(|template| {
        fs::write(&path, template).unwrap();
        Arc::new(ChatTemplates::of_file(&path, None).unwrap())
    });
    RecordEncoder::new(encoder, fields, templates, corrupt)
}

fn documents(encoder: &RecordEncoder) -> Result<Vec<EncodedDocument>, DataError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    fs::write(&path, LINES).unwrap();
    encoder.documents(&path).collect()
}

/// The ids of a document, each in brackets where it is trained on.
fn shown(document: &EncodedDocument) -> String {
    let is_label = |index: usize| {
        document
            .is_label
            .as_ref()
            .is_none_or(|labels| labels[index])
    };
    let id = |id: u32| match id {
        70_000 | 256 => "end".to_owned(),
        70_001 => "first".to_owned(),
        id => id
            .to_be_bytes()
            .into_iter()
            .filter(|&byte| byte > 0)
            .map(char::from)
            .collect(),
    };
    let ids = document.ids.iter().enumerate();
    let ids = ids.map(|(index, &one)| match is_label(index) {
        true => format!("[{}]", id(one)),
        false => id(one),
    });
    ids.collect::<Vec<_>>().join(" ")
}

#[test]
fn texts_end_with_the_end_of_text_and_completions_are_learnt_without_their_prompts() {
    let skip = CorruptRows::Skip;
    let of_texts = encoder(Arc::new(ByteTokenizer), common::text(), None, skip);
    let found = documents(&of_texts).unwrap();
    assert_eq!(
        found.iter().map(shown).collect::<Vec<_>>(),
        ["[a] [b] [c] [end]", ""]
    );
    assert_eq!(of_texts.first(), Some(ByteTokenizer::END_OF_TEXT));

    let of_completions = encoder(Arc::new(ByteTokenizer), common::completion(), None, skip);
    let found = documents(&of_completions).unwrap();
    assert_eq!(
        found.iter().map(shown).collect::<Vec<_>>(),
        ["h e l [l] [o] [end]", "[end]"]
    );
    assert_eq!(of_completions.first(), None);

    // The prompt alone is "he" "l": what holds its end and the beginning of the completion is learnt.
    let of_pairs = encoder(Arc::new(Pairs), common::completion(), None, skip);
    let found = documents(&of_pairs).unwrap();
    assert_eq!(
        found.iter().map(shown).collect::<Vec<_>>(),
        ["first he [ll] [o] [end]", "first [end]"]
    );
}

#[test]
fn what_the_assistant_says_is_learnt() {
    let plain = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}.{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";
    let marked = "{% for m in messages %}<{{ m.role[0] }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% \
                  endgeneration %}{% else %}{{ m.content }}{% endif %}.{% endfor %}";
    for (template, expected) in [
        (plain, "< u > a b . < a > [c] [d] [.]"),
        (marked, "< u > a b . < a > [c] [d] ."),
    ] {
        let of_chats = encoder(
            Arc::new(ByteTokenizer),
            common::messages(),
            Some(template),
            CorruptRows::Skip,
        );
        let found = documents(&of_chats).unwrap();
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), [expected]);
        let skipped = of_chats.skipped();
        assert_eq!(skipped.num_rows(), 1);
        let example = skipped.example().unwrap();
        assert!(
            example.contains("a.jsonl:2: the assistant says nothing"),
            "{example}"
        );
        // An id that holds the beginning of an answer is learnt.
        let of_pairs = encoder(
            Arc::new(Pairs),
            common::messages(),
            Some(template),
            CorruptRows::Skip,
        );
        let found = documents(&of_pairs).unwrap();
        assert_eq!(
            found.iter().map(shown).collect::<Vec<_>>(),
            ["<u >a b. <a [>c] [d.]"]
        );
    }
}

#[test]
fn templates_that_do_not_tell_the_answer_are_refused_and_not_skipped() {
    // Earlier messages change with those that follow.
    let template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let of_chats = encoder(
        Arc::new(ByteTokenizer),
        common::messages(),
        Some(template),
        CorruptRows::Skip,
    );
    let error = documents(&of_chats).unwrap_err();
    assert!(error.hint().unwrap().contains("{% generation %}"));
    let error = error.to_string();
    assert!(
        error.contains("a.jsonl:1: ") && error.contains("template.jinja has no generation blocks"),
        "{error}"
    );
    // A template without end, and one that asks for what is not there.
    for (template, said) in [
        (
            "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}",
            "steps",
        ),
        (
            "{{ raise_exception('no') }}",
            "refuses it: no (line 1 of the template)",
        ),
        ("{{ nothing.at.all }}", "undefined value"),
    ] {
        let of_chats = encoder(
            Arc::new(ByteTokenizer),
            common::messages(),
            Some(template),
            CorruptRows::Error,
        );
        let error = documents(&of_chats).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn documents_of_other_fields_or_templates_have_other_fingerprints() {
    let make = |fields, template| {
        encoder(
            Arc::new(ByteTokenizer),
            fields,
            template,
            CorruptRows::Error,
        )
        .fingerprint()
    };
    let all = [
        make(common::text(), None),
        make(Fields::Text("body".to_owned()), None),
        make(common::completion(), None),
        make(common::messages(), Some("{{ messages }}")),
        make(common::messages(), Some("{{ messages }} ")),
    ];
    for (index, one) in all.iter().enumerate() {
        assert_eq!(all.iter().position(|other| other == one), Some(index));
    }
    // Texts have no template.
    assert_eq!(all[0], make(common::text(), Some("{{ messages }}")));
}
