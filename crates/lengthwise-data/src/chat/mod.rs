//! Conversations as text, by a model's chat template.
//!
//! ```text
//! templates   where a model's templates are: which of them is meant
//! template    one of them, rendered as transformers renders it
//! generation  its {% generation %} blocks: which part of the text the assistant says
//! answers     the same for templates without such blocks, by what each message adds
//! python_json JSON and dates as Python writes them
//! ```

mod answers;
mod generation;
mod python_json;
mod template;
mod templates;

use template::ChatTemplate;

pub use template::RenderedChat;
pub use templates::ChatTemplates;

/// Why a conversation has no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChatError {
    /// The conversation is none that the template takes.
    Refused(String),
    /// Nobody can say which part of the text is the answer.
    NoAnswer(String),
}
