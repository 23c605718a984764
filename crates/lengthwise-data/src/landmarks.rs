//! Places of the parts of a long text inside the JSON string that holds it.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The bytes of text between two landmarks: at most so many are decoded in vain on each side of a part.
const SPACING: u64 = 4096;

/// Places in a line at which the parts of its text begin, so that a part is read and decoded without the rest.
///
/// They take 8 bytes for each [`SPACING`] bytes of text. A short text has none.
#[derive(Debug)]
pub(crate) struct Landmarks {
    /// Bytes of the line that are the string, without its quotes.
    string: Range<u64>,
    num_text_bytes: u64,
    /// For each multiple of the spacing, the first character that begins there or later: four times its offset in the
    /// string, plus how many bytes of text later it begins; no character has more than 4.
    places: Box<[u64]>,
}

/// Bytes that have to be decoded for a part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Its bytes in the line.
    pub line_bytes: Range<u64>,
    /// The bytes of the text that it holds.
    pub text_bytes: Range<u64>,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}

impl Landmarks {
    /// The landmarks of a line that was found to be valid, whose text has `num_text_bytes`; none for a short one.
    pub(crate) fn of(line: &[u8], num_text_bytes: u64) -> Option<Self> {
        if num_text_bytes <= SPACING {
            return None;
        }
        let raw: RawLine<'_> = serde_json::from_slice(line).ok()?;
        let string = raw.text.get().strip_prefix('"')?.strip_suffix('"')?;
        let start = (string.as_ptr() as usize).checked_sub(line.as_ptr() as usize)? as u64;
        let mut places = Vec::new();
        let (mut at, mut text_at) = (0, 0);
        while at < string.len() {
            if text_at >= places.len() as u64 * SPACING {
                let late = text_at - places.len() as u64 * SPACING;
                places.push(4 * at as u64 + late);
            }
            let (num_bytes, num_text_bytes) = character(&string[at..])?;
            at += num_bytes;
            text_at += num_text_bytes;
        }
        (text_at == num_text_bytes).then(|| Landmarks {
            string: start..start + string.len() as u64,
            num_text_bytes,
            places: places.into(),
        })
    }

    /// Returns the stretch that has to be decoded for some bytes of the text.
    pub(crate) fn stretch(&self, bytes: &Range<u64>) -> Stretch {
        // The landmark of a multiple may be a little after it, so after the first byte.
        let first = bytes.start / SPACING;
        let (line_start, text_start) = match self.place(first) {
            (_, text_start) if text_start > bytes.start => self.place(first - 1),
            place => place,
        };
        let (line_end, text_end) = self.place(bytes.end.div_ceil(SPACING));
        Stretch {
            line_bytes: line_start..line_end,
            text_bytes: text_start..text_end,
        }
    }

    /// Offsets of a landmark in the line and in the text: their ends for one beyond the last.
    fn place(&self, index: u64) -> (u64, u64) {
        match self.places.get(index as usize) {
            Some(place) => (self.string.start + place / 4, index * SPACING + place % 4),
            None => (self.string.end, self.num_text_bytes),
        }
    }
}

/// How many bytes the first character of a JSON string's inside takes there and in the text; none if it is invalid.
fn character(string: &str) -> Option<(usize, u64)> {
    let bytes = string.as_bytes();
    if bytes.first() != Some(&b'\\') {
        let num_bytes = string.chars().next()?.len_utf8();
        return Some((num_bytes, num_bytes as u64));
    }
    if bytes.get(1) != Some(&b'u') {
        return Some((2, 1));
    }
    let unit = u32::from_str_radix(string.get(2..6)?, 16).ok()?;
    Some(match unit {
        // The first of a pair, which is one character.
        0xd800..=0xdbff => (12, 4),
        _ => (6, char::from_u32(unit)?.len_utf8() as u64),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line and its text, which is at least as long as one character makes `num_characters`.
    fn line(characters: &[char], num_characters: usize, escaped: bool) -> (String, String) {
        let text: String = characters.iter().cycle().take(num_characters).collect();
        let string = if escaped {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
            format!("\"{}\"", units.collect::<String>())
        } else {
            serde_json::to_string(&text).unwrap()
        };
        (
            format!("{{\"id\": [7, \"\\\"\"], \"text\" : {string}, \"b\": 1}}\n"),
            text,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_stretch_holds_the_bytes_and_little_more(
            characters in prop::collection::vec(any::<char>(), 1..40),
            num_characters in SPACING as usize..5 * SPACING as usize,
            escaped in any::<bool>(),
            ends in any::<[prop::sample::Index; 2]>(),
        ) {
            let (line, text) = line(&characters, num_characters, escaped);
            prop_assume!(text.len() as u64 > SPACING);
            let landmarks = Landmarks::of(line.as_bytes(), text.len() as u64).unwrap();
            let mut ends = ends.map(|end| end.index(text.len() + 1));
            ends.sort_unstable();
            let part = ends[0] as u64..ends[1] as u64;
            let Stretch { line_bytes, text_bytes } = landmarks.stretch(&part);
            prop_assert!(text_bytes.start <= part.start && part.end <= text_bytes.end);
            prop_assert!(text_bytes.end - text_bytes.start <= part.end - part.start + 2 * SPACING + 4);
            let quoted = format!("\"{}\"", &line[line_bytes.start as usize..line_bytes.end as usize]);
            let decoded: String = serde_json::from_str(&quoted).unwrap();
            prop_assert_eq!(&decoded, &text[text_bytes.start as usize..text_bytes.end as usize]);
        }
    }

    #[test]
    fn short_texts_have_no_landmarks() {
        let (line, text) = line(&['x'], SPACING as usize, false);
        assert!(Landmarks::of(line.as_bytes(), text.len() as u64).is_none());
    }
}
