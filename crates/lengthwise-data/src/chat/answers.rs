//! What the assistant says, where a template does not tell: what its messages add to the text.

use std::ops::Range;

use minijinja::Value;

use super::ChatError;

/// Which bytes of `text`, that of all messages, come from the assistant: from the end of the text of the messages before, with
/// the prompt for an answer, to the end of the text with the answer. `render` renders the first messages, with that prompt or
/// without.
pub(crate) fn of(
    text: &str,
    messages: &[Value],
    template: &str,
    render: impl Fn(&[Value], bool) -> Result<String, ChatError>,
) -> Result<Vec<Range<usize>>, ChatError> {
    let mut answers = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        if message
            .get_attr("role")
            .ok()
            .as_ref()
            .and_then(Value::as_str)
            != Some("assistant")
        {
            continue;
        }
        let disagree = |what: &str| {
            let message = format!(
                "{template} has no generation blocks, and {what} of message {}, the assistant's, is not how the text of all \
                 messages goes on: which tokens are the answer can't be told",
                index + 1
            );
            Err(ChatError::NoAnswer(message))
        };
        let before = match (render(&messages[..index], true), index) {
            // Templates look at the first message without asking whether there is one.
            (Err(ChatError::Refused(_)), 0) => {
                let message = "the assistant speaks first, and nothing tells where it begins";
                return Err(ChatError::Refused(message.to_owned()));
            }
            (before, _) => before?,
        };
        let after = render(&messages[..=index], false)?;
        if !text.starts_with(&before) || !after.starts_with(&before) {
            return disagree("the prompt");
        }
        if !text.starts_with(&after) {
            return disagree("the text");
        }
        answers.push(before.len()..after.len());
    }
    Ok(answers)
}
