//! A chat template, rendered as transformers renders it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, Local};
use indexmap::IndexMap;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::generation::{self, GenerationBlocks};
use super::{ChatError, answers, python_json};
use crate::DataError;
use crate::records::Chat;

/// Steps after which a template is taken to have no end.
const MOST_STEPS: u64 = 50_000_000;

/// The longest text that a conversation may become.
const MOST_TEXT_BYTES: usize = 1 << 30;

/// The names that messages give to what was thought before an answer; the first is the one that templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// How a model wants conversations as text: a Jinja template, which may do what templates in transformers may.
pub struct ChatTemplate {
    environment: Environment<'static>,
    name: String,
    source: String,
    tokens: Vec<(&'static str, String)>,
    has_generation_blocks: bool,
}

/// The text of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    /// All of it, with the model's special tokens.
    pub text: String,
    /// Which bytes of it the assistant says, in order.
    pub answers: Vec<Range<usize>>,
}

const TEMPLATE: &str = "chat_template";

impl ChatTemplate {
    /// The template with this source; `tokens` are variables that it may name.
    pub(crate) fn new(
        name: &str,
        source: String,
        tokens: &[(&'static str, String)],
    ) -> Result<Self, DataError> {
        let blocks = GenerationBlocks::of(&source);
        let bad = |error: Error| DataError::ChatTemplate {
            name: name.to_owned(),
            reason: said(&error),
        };
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(bad)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(MOST_STEPS));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_test("iterable", |value: &Value| is_of_python(value, true));
        environment.add_test("sequence", |value: &Value| is_of_python(value, true));
        environment.add_test("number", |value: &Value| is_of_python(value, false));
        environment.add_filter(generation::FILTER, generation::mark);
        environment.add_function("raise_exception", |message: String| {
            Err::<(), Error>(Error::new(ErrorKind::InvalidOperation, message))
        });
        // One time for all: conversations of a run agree on the day.
        let now = Local::now();
        environment.add_function("strftime_now", move |format: String| date(&now, &format));
        environment
            .add_template_owned(TEMPLATE, blocks.source)
            .map_err(bad)?;
        Ok(ChatTemplate {
            environment,
            name: name.to_owned(),
            source,
            tokens: tokens.to_vec(),
            has_generation_blocks: blocks.any,
        })
    }

    /// Where the template is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A name that tells this template from others.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{:?}", (&self.source, &self.tokens))
    }

    /// The text of a conversation, and which part of it the assistant says.
    pub(crate) fn render(&self, chat: &Chat) -> Result<RenderedChat, ChatError> {
        let messages: Vec<Value> = chat.messages.iter().map(message).collect();
        let tools = chat.tools.as_deref();
        let rendered = self.render_messages(&messages, tools, false)?;
        if self.has_generation_blocks {
            return Ok(rendered);
        }
        let answers = answers::of(
            &rendered.text,
            &messages,
            &self.name,
            |messages, is_asked| Ok(self.render_messages(messages, tools, is_asked)?.text),
        )?;
        Ok(RenderedChat {
            answers,
            ..rendered
        })
    }

    /// The text of the first `num_given` messages with the prompt for an answer, and that of all.
    pub(crate) fn render_continued(
        &self,
        chat: &Chat,
        num_given: usize,
    ) -> Result<(String, String), ChatError> {
        let messages: Vec<Value> = chat.messages.iter().map(message).collect();
        let tools = chat.tools.as_deref();
        let given = self.render_messages(&messages[..num_given], tools, true)?;
        let all = self.render_messages(&messages, tools, false)?;
        Ok((given.text, all.text))
    }

    fn render_messages(
        &self,
        messages: &[Value],
        tools: Option<&[Value]>,
        is_asked: bool,
    ) -> Result<RenderedChat, ChatError> {
        let none = || Value::from(());
        let tokens = self.tokens.iter();
        let context: BTreeMap<&str, Value> = tokens
            .map(|(name, token)| (*name, Value::from(token.as_str())))
            .chain([
                ("messages", Value::from(messages.to_vec())),
                (
                    "tools",
                    tools.map_or_else(none, |tools| Value::from(tools.to_vec())),
                ),
                ("documents", none()),
                ("add_generation_prompt", Value::from(is_asked)),
            ])
            .collect();
        let refused = |error: Error| ChatError::Refused(said(&error));
        let template = self.environment.get_template(TEMPLATE).map_err(refused)?;
        let mut captured = template.render_captured(context).map_err(refused)?;
        let num_blocks = captured.with_state_mut(|state| generation::num_marked(state));
        let text = captured.into_output();
        if text.len() > MOST_TEXT_BYTES {
            let message = format!("its text has more than {MOST_TEXT_BYTES} bytes");
            return Err(ChatError::Refused(message));
        }
        generation::unmark(&text, num_blocks).map_err(ChatError::Refused)
    }
}

/// A message as templates see it in transformers: without keys that are null, and with what was thought under each name that
/// templates look for.
fn message(message: &Value) -> Value {
    let keys = message.try_iter().into_iter().flatten();
    let mut pairs: Vec<(Value, Value)> = keys
        .filter_map(|key| {
            let value = message.get_item(&key).ok()?;
            (value.kind() != ValueKind::None).then_some((key, value))
        })
        .collect();
    let find = |name: &str| {
        let found = pairs.iter().find(|(key, _)| key.as_str() == Some(name));
        found.map(|(_, value)| value.clone())
    };
    if let Some(reasoning) = REASONING.iter().find_map(|name| find(name)) {
        if find("thinking").is_none() {
            pairs.insert(0, (Value::from("thinking"), reasoning.clone()));
        }
        if find_key(&pairs, REASONING[0]).is_none() {
            pairs.push((Value::from(REASONING[0]), reasoning));
        }
    }
    Value::from_object(pairs.into_iter().collect::<IndexMap<Value, Value>>())
}

fn find_key(pairs: &[(Value, Value)], name: &str) -> Option<usize> {
    pairs.iter().position(|(key, _)| key.as_str() == Some(name))
}

/// Whether Python takes a value for one that can be iterated over, which strings and mappings can and nothing can't, or for a
/// number, which truth values are.
fn is_of_python(value: &Value, as_iterable: bool) -> bool {
    match value.kind() {
        ValueKind::Bool | ValueKind::Number => !as_iterable,
        ValueKind::None => false,
        _ => as_iterable,
    }
}

/// `json.dumps`, with the options that transformers lets templates give.
fn to_json(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let ensure_ascii_named: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let json = python_json::dumps(
        value,
        &python_json::Options {
            ensure_ascii: ensure_ascii.or(ensure_ascii_named).unwrap_or(false),
            indent: python_json::indent(indent.as_ref())?,
            separators,
            sort_keys: sort_keys.unwrap_or(false),
        },
    )?;
    Ok(Value::from_safe_string(json))
}

fn date(now: &DateTime<Local>, format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    // What is no format is an error of writing.
    match write!(text, "{}", now.format(format)) {
        Ok(()) => Ok(text),
        Err(fmt::Error) => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{format:?} is no format of dates"),
        )),
    }
}

/// The message of an error, in one line.
fn said(error: &Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {MOST_STEPS} steps"),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("name", &self.name)
            .field("has_generation_blocks", &self.has_generation_blocks)
            .finish_non_exhaustive()
    }
}
