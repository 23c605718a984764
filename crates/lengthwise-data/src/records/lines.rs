//! Lines of a stream, none longer than a bound.

use std::io::{self, BufRead};

use memchr::memchr;

/// One line of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is in the buffer, without its line break.
    Whole,
    /// It is longer than the bound, and was passed over.
    TooLong,
    /// There is none any more.
    End,
}

/// Reads the next line into `buffer`.
pub(crate) fn read_line(
    stream: &mut dyn BufRead,
    most_bytes: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<Line> {
    buffer.clear();
    let mut is_too_long = false;
    let mut is_empty = true;
    loop {
        let available = match stream.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            break;
        }
        is_empty = false;
        let end = memchr(b'\n', available);
        let num_taken = end.unwrap_or(available.len());
        is_too_long = is_too_long || buffer.len() + num_taken > most_bytes;
        if is_too_long {
            // The part of the line that was read is of no more use, and may be large.
            *buffer = Vec::new();
        } else {
            buffer.extend_from_slice(&available[..num_taken]);
        }
        stream.consume(num_taken + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    Ok(match (is_empty, is_too_long) {
        (true, _) => Line::End,
        (false, true) => Line::TooLong,
        (false, false) => Line::Whole,
    })
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_beyond_the_bound_are_passed_over() {
        let text = b"four\n12345\n\nfive5\nlast";
        // A buffer of 3 bytes splits every line.
        let mut stream = BufReader::with_capacity(3, &text[..]);
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        loop {
            match read_line(&mut stream, 4, &mut buffer).unwrap() {
                Line::End => break,
                Line::TooLong => found.push("too long".to_owned()),
                Line::Whole => found.push(String::from_utf8(buffer.clone()).unwrap()),
            }
        }
        assert_eq!(found, ["four", "too long", "", "too long", "last"]);
    }
}
