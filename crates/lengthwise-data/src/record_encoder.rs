//! Records as ids, and which of them are trained on.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use twox_hash::XxHash3_64;

use crate::chat::ChatTemplates;
use crate::encoder::TextEncoder;
use crate::records::{Chat, Content, CorruptRows, Fields, Record, RecordReader, SkippedRows};
use crate::{DataError, EncodedDocument};

/// Reads the records of files, and turns them into ids.
///
/// ```text
/// text        ids, end of text                                  all are trained on
/// completion  first, ids of prompt and completion, end of text  those after the prompt are
/// messages    ids of the text that the template makes of them   those that the assistant says are
/// continued   the same                                          those after the first messages are
/// ```
///
/// Prompt and completion are one text, of which those ids belong to the prompt that its own ids begin with, as TRL does it: an
/// id that holds the end of the prompt and the beginning of the completion is trained on.
#[derive(Clone)]
pub struct RecordEncoder {
    encoder: Arc<dyn TextEncoder>,
    fields: Fields,
    templates: Option<Arc<ChatTemplates>>,
    corrupt: CorruptRows,
    skipped: Arc<SkippedRows>,
}

impl RecordEncoder {
    /// Records with these fields. Conversations need `templates`, which nothing else looks at.
    pub fn new(
        encoder: Arc<dyn TextEncoder>,
        fields: Fields,
        templates: Option<Arc<ChatTemplates>>,
        corrupt: CorruptRows,
    ) -> Self {
        RecordEncoder {
            encoder,
            fields,
            templates,
            corrupt,
            skipped: Arc::default(),
        }
    }

    /// The records of a file, in order.
    ///
    /// # Errors
    ///
    /// As [`RecordReader::open`].
    pub fn records(&self, path: &Path) -> Result<RecordReader, DataError> {
        let reader = RecordReader::open(path, &self.fields, self.corrupt)?;
        Ok(reader.counting(&self.skipped))
    }

    /// The documents of a file, in order; after an error there are no more.
    pub fn documents(
        &self,
        path: &Path,
    ) -> Box<dyn Iterator<Item = Result<EncodedDocument, DataError>> + Send + '_> {
        let records = match self.records(path) {
            Ok(records) => records,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let mut has_failed = false;
        Box::new(
            records
                .map_while(move |record| {
                    if has_failed {
                        return None;
                    }
                    let document = record.and_then(|record| self.encode(&record)).transpose();
                    has_failed = matches!(document, Some(Err(_)));
                    Some(document)
                })
                .flatten(),
        )
    }

    /// The document that a record is; none where it is skipped.
    ///
    /// # Errors
    ///
    /// It is no document, and is not to be skipped.
    pub fn encode(&self, record: &Record) -> Result<Option<EncodedDocument>, DataError> {
        match self.document(record) {
            Ok(document) => Ok(Some(document)),
            Err(error) if error.is_of_a_row() && self.corrupt == CorruptRows::Skip => {
                self.skipped.count(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The id before every document that is not stored with it; none where it is.
    pub fn first(&self) -> Option<u32> {
        match self.fields.is_masked() {
            true => None,
            false => Some(self.encoder.first().unwrap_or(self.encoder.end_of_text())),
        }
    }

    /// The records of all files that were skipped.
    pub fn skipped(&self) -> &Arc<SkippedRows> {
        &self.skipped
    }

    /// What the documents of a file depend on, but the file and the tokenizer. What `strftime_now` says to a template is not
    /// part of it.
    pub fn fingerprint(&self) -> String {
        let templates = self
            .templates
            .as_ref()
            .filter(|_| self.fields.may_have_messages());
        let templates = templates.map(|templates| templates.fingerprint());
        format!("records 1: {:?}", (&self.fields, self.corrupt, templates))
    }

    /// The part of a record that is trained on, in words.
    pub fn trained_on(&self) -> String {
        match (&self.fields, &self.templates) {
            (Fields::Text(text), _) => format!("all of `{text}`"),
            (Fields::Completion { prompt, completion }, _) => {
                format!("`{completion}` after `{prompt}`")
            }
            (Fields::Messages { messages, .. }, None) => {
                format!("what the assistant says in `{messages}`")
            }
            (Fields::Messages { messages, .. }, Some(templates)) => format!(
                "what the assistant says in `{messages}` by the chat template of XXH3 {:016x}",
                XxHash3_64::oneshot(templates.fingerprint().as_bytes())
            ),
        }
    }

    /// What makes ids of texts.
    pub fn encoder(&self) -> &dyn TextEncoder {
        self.encoder.as_ref()
    }

    fn document(&self, record: &Record) -> Result<EncodedDocument, DataError> {
        match &record.content {
            Content::Text(text) => {
                let mut ids = self.ids(record, text)?;
                if !ids.is_empty() {
                    ids.push(self.encoder.end_of_text());
                }
                Ok(EncodedDocument {
                    ids,
                    is_label: None,
                })
            }
            Content::Completion { prompt, completion } => {
                let of_prompt = self.ids(record, prompt.as_bytes())?;
                let both = self.ids(record, [prompt.as_str(), completion].concat().as_bytes())?;
                let num_common = num_common(&of_prompt, &both);
                let first = self.encoder.first();
                let num_given = num_common + usize::from(first.is_some());
                let end = [self.encoder.end_of_text()];
                let ids: Vec<u32> = first.into_iter().chain(both).chain(end).collect();
                let is_label = (0..ids.len()).map(|index| index >= num_given).collect();
                Ok(EncodedDocument {
                    ids,
                    is_label: Some(is_label),
                })
            }
            Content::Messages(chat) => self.conversation(record, chat),
            Content::Continued { chat, num_given } => self.continued(record, chat, *num_given),
        }
    }

    fn conversation(&self, record: &Record, chat: &Chat) -> Result<EncodedDocument, DataError> {
        let rendered = self.templates(record)?.render(&record.place, chat)?;
        let tokens = self.template_tokens(record, &rendered.text)?;
        let is_label = labels(&tokens, &rendered.answers);
        if !is_label.contains(&true) {
            return Err(no_answer(record, "the assistant says nothing".to_owned()));
        }
        Ok(EncodedDocument {
            ids: tokens.into_iter().map(|(id, _)| id).collect(),
            is_label: Some(is_label),
        })
    }

    fn continued(
        &self,
        record: &Record,
        chat: &Chat,
        num_given: usize,
    ) -> Result<EncodedDocument, DataError> {
        let templates = self.templates(record)?;
        let (given, all) = templates.render_continued(&record.place, chat, num_given)?;
        let ids = |text: &str| -> Result<Vec<u32>, DataError> {
            let tokens = self.template_tokens(record, text)?;
            Ok(tokens.into_iter().map(|(id, _)| id).collect())
        };
        let (given, all) = (ids(&given)?, ids(&all)?);
        let num_given = num_common(&given, &all);
        if num_given == all.len() {
            return Err(no_answer(record, "the completion adds nothing".to_owned()));
        }
        let is_label = (0..all.len()).map(|index| index >= num_given).collect();
        Ok(EncodedDocument {
            ids: all,
            is_label: Some(is_label),
        })
    }

    fn templates(&self, record: &Record) -> Result<&ChatTemplates, DataError> {
        let templates = self.templates.as_deref();
        templates.ok_or_else(|| DataError::NoTemplate {
            place: record.place.clone(),
        })
    }

    fn template_tokens(
        &self,
        record: &Record,
        text: &str,
    ) -> Result<Vec<(u32, Range<usize>)>, DataError> {
        let tokens = self.encoder.encode_template(text);
        tokens.map_err(|error| no_answer(record, error.to_string()))
    }

    fn ids(&self, record: &Record, text: &[u8]) -> Result<Vec<u32>, DataError> {
        self.encoder
            .encode(text)
            .map_err(|error| DataError::BadRow {
                place: record.place.clone(),
                reason: error.to_string(),
                rule: "each document must be text that the tokenizer takes".to_owned(),
            })
    }
}

/// A conversation that can't be learnt from.
fn no_answer(record: &Record, reason: String) -> DataError {
    DataError::BadRow {
        place: record.place.clone(),
        reason,
        rule: "each conversation must have an answer, and be text that the tokenizer takes"
            .to_owned(),
    }
}

/// How many ids two texts begin with alike.
fn num_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Which tokens hold a byte of an answer. Answers are in order and lie beside or inside each other.
fn labels(tokens: &[(u32, Range<usize>)], answers: &[Range<usize>]) -> Vec<bool> {
    let holds = |token: &Range<usize>, answer: &Range<usize>| {
        // A token of no byte is one at its place.
        answer.start < token.end.max(token.start + 1) && token.start < answer.end
    };
    let mut next = 0;
    let mut is_label = Vec::with_capacity(tokens.len());
    for (_, token) in tokens {
        // Tokens come in order too: answers that end before one hold none of those after it.
        while answers
            .get(next)
            .is_some_and(|answer| answer.end <= token.start)
        {
            next += 1;
        }
        let rest = answers[next..].iter();
        is_label.push(
            rest.take_while(|answer| answer.start <= token.end)
                .any(|answer| holds(token, answer)),
        );
    }
    is_label
}
