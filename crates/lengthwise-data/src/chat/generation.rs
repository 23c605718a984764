//! `{% generation %}` blocks, which say what of a text the assistant says.
//!
//! The engine knows no such tag. It is written as a filter, whose result stands between two characters that are in no text;
//! they are taken out again once all is rendered.

use minijinja::State;
use minijinja::value::Value;

use super::RenderedChat;

/// The name of the filter.
pub(crate) const FILTER: &str = "lengthwise_generation";

/// Characters that Unicode keeps free for uses like this one, inside a program.
const BEGIN: char = '\u{10fffe}';
const END: char = '\u{10ffff}';

/// A template's source with its blocks written as filters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GenerationBlocks {
    pub source: String,
    pub any: bool,
}

impl GenerationBlocks {
    pub(crate) fn of(source: &str) -> Self {
        let mut written = String::with_capacity(source.len());
        let mut any = false;
        let mut rest = source;
        while let Some(start) = rest.find("{%") {
            let (before, tag) = rest.split_at(start + 2);
            written.push_str(before);
            rest = tag;
            let Some(end) = tag.find("%}") else { break };
            let inside = &tag[..end];
            let is_control = |character: char| character == '-' || character == '+';
            let left = inside.strip_prefix(is_control).unwrap_or(inside);
            let word = left.strip_suffix(is_control).unwrap_or(left).trim();
            let replaced = match word {
                "generation" => format!("filter {FILTER}"),
                "endgeneration" => "endfilter".to_owned(),
                _ => continue,
            };
            any = true;
            // Signs at both ends stay what they are.
            written.push_str(&inside.replacen(word, &replaced, 1));
            rest = &tag[end..];
        }
        written.push_str(rest);
        GenerationBlocks {
            source: written,
            any,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct NumMarked(usize);

/// The filter: marks what it is given.
pub(crate) fn mark(state: &mut State<'_, '_>, text: String) -> Value {
    state.get_or_insert_extension(NumMarked::default()).0 += 1;
    Value::from_safe_string(format!("{BEGIN}{text}{END}"))
}

/// How often the filter was used.
pub(crate) fn num_marked(state: &State<'_, '_>) -> usize {
    state
        .get_extension::<NumMarked>()
        .map_or(0, |marked| marked.0)
}

/// The text without its marks, and what was between them.
pub(crate) fn unmark(marked: &str, num_blocks: usize) -> Result<RenderedChat, String> {
    let num = |mark| marked.matches(mark).count();
    if num(BEGIN) != num_blocks || num(END) != num_blocks {
        return Err(format!(
            "the characters U+{:X} and U+{:X}, which are no text, are in it, or a part of it was rendered and not used",
            BEGIN as u32, END as u32
        ));
    }
    let mut text = String::with_capacity(marked.len());
    let mut answers = Vec::with_capacity(num_blocks);
    let mut begun = Vec::new();
    for part in marked.split_inclusive([BEGIN, END]) {
        if let Some(before) = part.strip_suffix(BEGIN) {
            text.push_str(before);
            begun.push(text.len());
        } else if let Some(inside) = part.strip_suffix(END) {
            text.push_str(inside);
            let begin = begun.pop().ok_or("its blocks are not nested")?;
            answers.push(begin..text.len());
        } else {
            text.push_str(part);
        }
    }
    answers.sort_unstable_by_key(|answer| (answer.start, answer.end));
    Ok(RenderedChat { text, answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_written_as_filters_with_the_signs_they_had() {
        let source =
            "{% if x %}{%- generation -%}a{% endgeneration +%}{{ 'generation' }}{%generation%}";
        assert_eq!(
            GenerationBlocks::of(source).source,
            "{% if x %}{%- filter lengthwise_generation -%}a{% endfilter +%}{{ 'generation' }}{%filter \
             lengthwise_generation%}"
        );
        assert!(!GenerationBlocks::of("{% set generation = 1 %} {% x").any);
    }

    #[test]
    fn marks_are_taken_out() {
        let rendered = unmark("a\u{10fffe}bc\u{10ffff}d\u{10fffe}\u{10ffff}", 2).unwrap();
        assert_eq!(rendered.text, "abcd");
        assert_eq!(rendered.answers, [1..3, 4..4]);
        assert!(unmark("a\u{10fffe}", 0).is_err());
        assert!(unmark("\u{10ffff}\u{10fffe}", 1).is_err());
    }
}
