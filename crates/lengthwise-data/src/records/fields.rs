//! The fields of a row that are trained on.

use std::fmt;

/// The fields of a row that are trained on: keys of a JSON object, or columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// A text; the only kind that plain text files hold too.
    Text(String),
    /// A prompt and its completion: both texts, or both lists of messages.
    Completion {
        /// The field of the prompt, a text or the first messages of a conversation.
        prompt: String,
        /// The field of the completion, a text or the messages after them.
        completion: String,
    },
    /// Messages, and tools where a row has some.
    Messages {
        /// The field of the list of messages.
        messages: String,
        /// The field of the list of tools.
        tools: String,
    },
}

impl Default for Fields {
    fn default() -> Self {
        Fields::Text("text".to_owned())
    }
}

impl Fields {
    /// The fields that a row must have, then those that it may have.
    pub(crate) fn names(&self) -> [Option<&str>; 2] {
        match self {
            Fields::Text(text) => [Some(text), None],
            Fields::Completion { prompt, completion } => [Some(prompt), Some(completion)],
            Fields::Messages { messages, tools } => [Some(messages), Some(tools)],
        }
    }

    /// Whether a row must have its second field.
    pub(crate) fn needs_second(&self) -> bool {
        matches!(self, Fields::Completion { .. })
    }

    /// Whether records may be conversations.
    pub fn may_have_messages(&self) -> bool {
        !matches!(self, Fields::Text(_))
    }

    /// Whether only some tokens are trained on.
    pub fn is_masked(&self) -> bool {
        !matches!(self, Fields::Text(_))
    }
}

/// Description of a valid row, to follow "must be".
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fields::Text(text) => write!(f, "an object with a string `{text}`"),
            Fields::Completion { prompt, completion } => {
                write!(
                    f,
                    "an object with `{prompt}` and `{completion}`, two strings or two lists of messages"
                )
            }
            Fields::Messages { messages, .. } => {
                write!(f, "an object with a list `{messages}` of messages")
            }
        }
    }
}
