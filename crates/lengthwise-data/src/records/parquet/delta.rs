//! Numbers that are stored as differences, `DELTA_BINARY_PACKED` in the format's description of encodings.
//!
//! A list begins with how many numbers a block has, how many parts a block has, how many numbers there are, and the first of
//! them. Blocks follow: the least difference, the bits of a number in each part, and the parts. Parts of the last block that
//! no number is in are left out.

use parquet::errors::{ParquetError, Result};

/// The error of a list that ends early.
pub(crate) fn torn() -> ParquetError {
    ParquetError::General("a page ends before its values do".to_owned())
}

/// Returns what comes after a list of at most `most` numbers, each of which is there.
pub(crate) fn skip(list: &[u8], most: usize) -> Result<&[u8]> {
    let mut rest = list;
    let num_in_block = number(&mut rest)?;
    let num_parts = number(&mut rest)?;
    let num_values = number(&mut rest)?;
    let _first = number(&mut rest)?;
    if num_values > most as u64 {
        return Err(ParquetError::General(format!(
            "a page of {most} values says it has the lengths of {num_values}"
        )));
    }
    // Parts hold a multiple of 32 numbers, which whole bytes hold, whatever their bits.
    let is_even = num_in_block.is_multiple_of(num_parts.saturating_mul(32));
    if num_parts == 0 || num_in_block == 0 || !is_even {
        return Err(ParquetError::General(format!(
            "a page says it has blocks of {num_in_block} values in {num_parts} parts"
        )));
    }
    let num_in_part = num_in_block / num_parts;
    let mut num_left = num_values.saturating_sub(1);
    while num_left > 0 {
        let _least = number(&mut rest)?;
        let bits = take(&mut rest, num_parts)?;
        for &bits in bits {
            if num_left == 0 {
                break;
            }
            let num_bytes = (num_in_part / 8).checked_mul(u64::from(bits));
            take(&mut rest, num_bytes.ok_or_else(torn)?)?;
            num_left = num_left.saturating_sub(num_in_part);
        }
    }
    Ok(rest)
}

/// Takes this many bytes from the front.
fn take<'a>(bytes: &mut &'a [u8], num_bytes: u64) -> Result<&'a [u8]> {
    let num_bytes = usize::try_from(num_bytes).map_err(|_| torn())?;
    let (taken, rest) = bytes.split_at_checked(num_bytes).ok_or_else(torn)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes a number from the front: seven bits a byte, the lowest first, as long as the eighth is set.
fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let [byte] = take(bytes, 1)? else {
            return Err(torn());
        };
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ParquetError::General(
        "a page has a number of more than 64 bits".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of 128 numbers in 4 parts; five numbers from 7 on, their differences of 2 bits.
    const LIST: [u8; 18] = [
        0x80, 0x01, 4, 5, 14, 0, 2, 9, 9, 9, 0b11100100, 0, 0, 0, 0, 0, 0, 0,
    ];

    #[test]
    fn ends_where_the_last_part_with_numbers_does() {
        let followed = [&LIST[..], b"rest"].concat();
        assert_eq!(skip(&followed, 5).unwrap(), b"rest");
    }

    #[test]
    fn a_single_number_has_no_block() {
        assert_eq!(
            skip(&[0x80, 0x01, 4, 1, 14, b'r'], 1).unwrap(),
            b"r".as_slice()
        );
    }

    #[test]
    fn each_number_must_be_there() {
        for len in 0..LIST.len() {
            let error = skip(&LIST[..len], 5).unwrap_err();
            assert!(error.to_string().contains("ends before"), "{len}: {error}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let cases: [(&[u8], &str); 4] = [
            (
                &[0x80, 0x01, 4, 6, 14],
                "a page of 5 values says it has the lengths of 6",
            ),
            (&[0x80, 0x01, 0, 5, 14], "blocks of 128 values in 0 parts"),
            (&[0x80, 0x01, 8, 5, 14], "blocks of 128 values in 8 parts"),
            (&[0xff; 12], "more than 64 bits"),
        ];
        for (list, message) in cases {
            let error = skip(list, 5).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
