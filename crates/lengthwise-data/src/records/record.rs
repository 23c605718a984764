//! One record of a file.

use minijinja::Value;

/// One record of a file: what becomes one document.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place: a file, or `file:row` with rows, as lines, counted from 1.
    pub place: String,
    /// Its content.
    pub content: Content,
}

/// Content of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A text, of which every token is trained on.
    Text(Vec<u8>),
    /// A question and its answer, of which the answer is trained on.
    Completion {
        /// The text that is given.
        prompt: String,
        /// The text that is to follow the prompt.
        completion: String,
    },
    /// A conversation, of which what the assistant says is trained on.
    Messages(Chat),
    /// A conversation whose first messages are given, and whose others are trained on.
    Continued {
        /// All messages.
        chat: Chat,
        /// Number of them that are the prompt; at least one, and not all.
        num_given: usize,
    },
}

/// The messages of a conversation, and the tools it may use, as the record has them: keys keep their order, which templates
/// can print.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    /// At least one; each is an object.
    pub(crate) messages: Vec<Value>,
    pub(crate) tools: Option<Vec<Value>>,
}

/// The longest text, line or value that is taken as one record; a longer one is a file that is no such file.
pub(crate) const MOST_RECORD_BYTES: usize = 1 << 30;

/// The same for conversations, which take many times their bytes in memory.
pub(crate) const MOST_CHAT_BYTES: usize = 64 << 20;

impl Chat {
    /// The conversation that JSON describes; or what is wrong with it.
    pub(crate) fn from_json(messages: &str, tools: Option<&str>) -> Result<Self, String> {
        let tools = tools.map(|tools| Self::list_from_json("tools", tools));
        Chat::new(
            Self::list_from_json("messages", messages)?,
            tools.transpose()?,
        )
    }

    /// The conversation of these messages; or what is wrong with them.
    pub(crate) fn new(messages: Vec<Value>, tools: Option<Vec<Value>>) -> Result<Self, String> {
        if messages.is_empty() {
            return Err("the conversation has no message".to_owned());
        }
        for (index, message) in (1..).zip(&messages) {
            let role = message.get_attr("role").ok();
            if role.as_ref().and_then(Value::as_str).is_none() {
                return Err(format!("message {index} has no string `role`"));
            }
        }
        Ok(Chat { messages, tools })
    }

    /// The conversation of a prompt and its completion, both lists of messages; or what is wrong with them.
    pub(crate) fn continued(prompt: Vec<Value>, completion: Vec<Value>) -> Result<Content, String> {
        let num_given = prompt.len();
        if num_given == 0 || completion.is_empty() {
            return Err("the prompt and the completion need a message each".to_owned());
        }
        let messages = prompt.into_iter().chain(completion).collect();
        let chat = Chat::new(messages, None)?;
        Ok(Content::Continued { chat, num_given })
    }

    /// The objects that JSON lists; or what is wrong with it.
    pub(crate) fn list_from_json(what: &str, json: &str) -> Result<Vec<Value>, String> {
        if json.len() > MOST_CHAT_BYTES {
            let (len, most) = (json.len(), MOST_CHAT_BYTES);
            return Err(format!(
                "the {what} take {len} bytes of JSON, more than {most}"
            ));
        }
        // What is no list, and what no objects, is named by what it is.
        let parsed: Value = serde_json::from_str(json)
            .map_err(|error| format!("the {what} are no JSON: {error}"))?;
        let is_list = parsed.kind() == minijinja::value::ValueKind::Seq;
        let items: Vec<Value> = match parsed.try_iter() {
            Ok(items) if is_list => items.collect(),
            _ => return Err(format!("the {what} are no list")),
        };
        let is_object = |item: &Value| item.kind() == minijinja::value::ValueKind::Map;
        match items.iter().position(|item| !is_object(item)) {
            Some(index) => Err(format!("item {} of the {what} is no object", index + 1)),
            None => Ok(items),
        }
    }
}
