//! Where the chat templates of a model are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ChatError, ChatTemplate, RenderedChat};
use crate::DataError;
use crate::records::Chat;

/// The longest template or tokenizer configuration that is read.
const MOST_BYTES: u64 = 16 << 20;

/// The tokens that templates may name.
const NAMED_TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The chat templates of a model: one, and sometimes another for conversations with tools.
#[derive(Debug)]
pub struct ChatTemplates {
    default: ChatTemplate,
    with_tools: Option<ChatTemplate>,
}

impl ChatTemplates {
    /// The templates in a model's directory: `chat_template.jinja`, and `additional_chat_templates/tool_use.jinja`, where they
    /// are there; else those of `tokenizer_config.json`, which has one, or several with names.
    ///
    /// # Errors
    ///
    /// There is none, or one that can't be read.
    pub fn of_model(directory: &Path) -> Result<Self, DataError> {
        let config_path = directory.join("tokenizer_config.json");
        let config = json(&config_path)?;
        let tokens = named_tokens(directory, config.as_ref())?;
        let path = directory.join("chat_template.jinja");
        if let Some(source) = text(&path)? {
            let tools_path = directory.join("additional_chat_templates/tool_use.jinja");
            let with_tools = match text(&tools_path)? {
                Some(source) => Some(ChatTemplate::new(&name(&tools_path), source, &tokens)?),
                None => None,
            };
            let default = ChatTemplate::new(&name(&path), source, &tokens)?;
            return Ok(ChatTemplates {
                default,
                with_tools,
            });
        }
        let bad = |reason: &str| DataError::ChatTemplate {
            name: name(&config_path),
            reason: reason.to_owned(),
        };
        let none = || DataError::NoChatTemplate {
            directory: directory.to_owned(),
        };
        match config
            .as_ref()
            .and_then(|config| config.get("chat_template"))
        {
            None | Some(Value::Null) => Err(none()),
            Some(Value::String(source)) => Ok(ChatTemplates {
                default: ChatTemplate::new(&name(&config_path), source.clone(), &tokens)?,
                with_tools: None,
            }),
            Some(Value::Array(named)) => {
                let template = |wanted: &str| {
                    let found = named
                        .iter()
                        .find(|one| one.get("name") == Some(&wanted.into()));
                    let Some(found) = found else { return Ok(None) };
                    let source = found.get("template").and_then(Value::as_str);
                    let source = source
                        .ok_or_else(|| bad("a named chat_template has no string `template`"))?;
                    let name = format!("{} ({wanted})", name(&config_path));
                    ChatTemplate::new(&name, source.to_owned(), &tokens).map(Some)
                };
                let default = template("default")?;
                Ok(ChatTemplates {
                    default: default
                        .ok_or_else(|| bad("no chat_template has the name \"default\""))?,
                    with_tools: template("tool_use")?,
                })
            }
            Some(_) => Err(bad(
                "chat_template is neither a string nor a list of named ones",
            )),
        }
    }

    /// A template of its own file, with the tokens that a model names.
    ///
    /// # Errors
    ///
    /// It can't be read, or is no template.
    pub fn of_file(path: &Path, model: Option<&Path>) -> Result<Self, DataError> {
        let tokens = match model {
            Some(model) => {
                named_tokens(model, json(&model.join("tokenizer_config.json"))?.as_ref())?
            }
            None => Vec::new(),
        };
        let source = text(path)?.ok_or_else(|| DataError::Read {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(ChatTemplates {
            default: ChatTemplate::new(&name(path), source, &tokens)?,
            with_tools: None,
        })
    }

    /// The text of a conversation, which is at `place`.
    ///
    /// # Errors
    ///
    /// The template refuses the conversation, or does not tell which part of it the assistant says.
    pub fn render(&self, place: &str, chat: &Chat) -> Result<RenderedChat, DataError> {
        let template = self.template_of(chat);
        let rendered = template.render(chat);
        rendered.map_err(|error| of_record(place, template, error))
    }

    /// The text of the first `num_given` messages of a conversation, with the prompt for an answer, and that of all.
    ///
    /// # Errors
    ///
    /// The template refuses the conversation.
    pub(crate) fn render_continued(
        &self,
        place: &str,
        chat: &Chat,
        num_given: usize,
    ) -> Result<(String, String), DataError> {
        let template = self.template_of(chat);
        let rendered = template.render_continued(chat, num_given);
        rendered.map_err(|error| of_record(place, template, error))
    }

    fn template_of(&self, chat: &Chat) -> &ChatTemplate {
        match &self.with_tools {
            Some(with_tools) if chat.tools.is_some() => with_tools,
            _ => &self.default,
        }
    }

    /// A name that tells these templates from others.
    pub(crate) fn fingerprint(&self) -> String {
        let with_tools = self.with_tools.as_ref().map(ChatTemplate::fingerprint);
        format!("{:?}", (self.default.fingerprint(), with_tools))
    }
}

fn of_record(place: &str, template: &ChatTemplate, error: ChatError) -> DataError {
    match error {
        ChatError::Refused(reason) => DataError::BadRow {
            place: place.to_owned(),
            reason: format!("{} refuses it: {reason}", template.name()),
            rule: "each conversation must be one that the chat template takes".to_owned(),
        },
        ChatError::NoAnswer(reason) => DataError::NoAnswer {
            place: place.to_owned(),
            reason,
        },
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The tokens that templates may name, each a string or an object that holds it.
fn named_tokens(
    directory: &Path,
    config: Option<&Value>,
) -> Result<Vec<(&'static str, String)>, DataError> {
    let map = json(&directory.join("special_tokens_map.json"))?;
    let token = |name| {
        let places = [config, map.as_ref()];
        places.into_iter().flatten().find_map(|place| {
            let token = place.get(name)?;
            let content = token.as_str().or_else(|| token.get("content")?.as_str());
            content.map(str::to_owned)
        })
    };
    let tokens = NAMED_TOKENS.into_iter();
    Ok(tokens
        .filter_map(|name| Some((name, token(name)?)))
        .collect())
}

/// The text of a file, if it is there.
fn text(path: &Path) -> Result<Option<String>, DataError> {
    let read_error = |source| DataError::Read {
        path: PathBuf::from(path),
        source,
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(error)),
        Ok(metadata) if !metadata.is_file() => {
            return Err(DataError::NeitherFileNorDirectory {
                path: path.to_owned(),
            });
        }
        Ok(metadata) if metadata.len() > MOST_BYTES => {
            return Err(DataError::ChatTemplate {
                name: name(path),
                reason: format!(
                    "it has {} bytes; {MOST_BYTES} are read at most",
                    metadata.len()
                ),
            });
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(read_error)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| DataError::ChatTemplate {
            name: name(path),
            reason: format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1),
        })
}

fn json(path: &Path) -> Result<Option<Value>, DataError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| DataError::ChatTemplate {
            name: name(path),
            reason: format!("this is no JSON: {error}"),
        })
}
