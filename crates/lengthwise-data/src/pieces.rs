//! Where a long text can be cut so that its parts give the ids of the whole.
//!
//! Tokenizers hold some hundred bytes of memory for each byte of a text, and encode it on one core. Most of them look at
//! words: what stands on one side of a blank says nothing of the ids on the other. Whether that is so for a tokenizer is
//! not read from its parts but tried at each cut: the text around it must have the same ids in one piece and in two. Where no
//! place passes, the text stays whole.

use std::ops::Range;

/// How much of the text on each side of a cut is tried.
const WINDOW_BYTES: usize = 2048;

/// Places that are tried for a cut; where all fail, so will others nearby.
const NUM_TRIED: usize = 32;

/// The parts of a text, each of `piece_bytes` or a little more where the text can be cut there.
pub(crate) fn pieces<E>(
    text: &str,
    piece_bytes: usize,
    encode: &dyn Fn(&str) -> Result<Vec<u32>, E>,
) -> Result<Vec<Range<usize>>, E> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut from = piece_bytes;
    while from < text.len() {
        let (at, passes) = cut(text, from, encode)?;
        if passes {
            pieces.push(start..at);
            start = at;
        }
        from = at + piece_bytes;
    }
    pieces.push(start..text.len());
    Ok(pieces)
}

/// The first place from `from` on that passes, or where it was given up.
fn cut<E>(
    text: &str,
    from: usize,
    encode: &dyn Fn(&str) -> Result<Vec<u32>, E>,
) -> Result<(usize, bool), E> {
    let from = boundary(text, from);
    let mut before = text[..from].chars().next_back();
    let mut num_tried = 0;
    for (at, after) in text[from..].char_indices() {
        let at = from + at;
        if before.is_some_and(|before| is_likely(before, after)) {
            let window =
                boundary(text, at.saturating_sub(WINDOW_BYTES))..boundary(text, at + WINDOW_BYTES);
            let whole = encode(&text[window.clone()])?;
            let mut parts = encode(&text[window.start..at])?;
            parts.extend(encode(&text[at..window.end])?);
            if whole == parts {
                return Ok((at, true));
            }
            num_tried += 1;
            if num_tried == NUM_TRIED {
                return Ok((at, false));
            }
        }
        before = Some(after);
    }
    Ok((text.len(), false))
}

/// The last place up to `at` that is between two characters.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    let is_between = |at: &usize| text.is_char_boundary(*at);
    (0..=at).rev().find(is_between).unwrap_or_default()
}

/// Between lines, words or sentences.
fn is_likely(before: char, after: char) -> bool {
    match (before, after) {
        ('\n', after) => !after.is_whitespace(),
        (before, ' ') => !before.is_whitespace(),
        (before, after) => {
            !before.is_alphanumeric() && !before.is_whitespace() && after.is_alphabetic()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Words with the blanks before them, as numbers.
    fn words(text: &str) -> Result<Vec<u32>, Infallible> {
        let mut ids = Vec::new();
        let mut before = 'x';
        for c in text.chars() {
            match (c.is_whitespace(), before.is_whitespace()) {
                (true, false) | (false, false) if ids.is_empty() => ids.push(c.into()),
                (true, false) => ids.push(c.into()),
                _ => {
                    let last = ids.last_mut().map(|last: &mut u32| {
                        *last = last.wrapping_mul(31).wrapping_add(c.into());
                    });
                    if last.is_none() {
                        ids.push(c.into());
                    }
                }
            }
            before = c;
        }
        Ok(ids)
    }

    #[test]
    fn parts_give_the_ids_of_the_whole() {
        let text = "some words\n\nand  more of them, and a line\nof \u{fc}mlauts ".repeat(400);
        let parts = pieces(&text, 500, &words).unwrap();
        assert!(parts.len() > 20, "{} parts", parts.len());
        let ids: Vec<u32> = parts
            .iter()
            .flat_map(|part| words(&text[part.clone()]).unwrap())
            .collect();
        assert_eq!(ids, words(&text).unwrap());
        assert!(parts.windows(2).all(|two| two[0].end == two[1].start));
        assert_eq!((parts[0].start, parts.last().unwrap().end), (0, text.len()));
    }

    #[test]
    fn a_text_that_is_one_word_to_the_tokenizer_stays_whole() {
        let text = "some words ".repeat(1000);
        let length = |text: &str| Ok::<_, Infallible>(vec![text.len() as u32]);
        assert_eq!(pieces(&text, 500, &length).unwrap(), vec![0..text.len(); 1]);
        assert_eq!(pieces("", 500, &words).unwrap(), vec![0..0; 1]);
    }
}
