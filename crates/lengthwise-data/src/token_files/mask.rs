//! Mask of the ids that are trained on, a bit for each, the lowest bit of a byte first.

use std::io;
use std::ops::Range;

use super::positional::ReadAt;

/// The bytes of a mask of so many ids.
pub(crate) fn num_mask_bytes(num_ids: u64) -> u64 {
    num_ids.div_ceil(8)
}

/// Whether each of some ids is trained on.
pub(crate) fn read_mask(source: &(impl ReadAt + ?Sized), ids: Range<u64>) -> io::Result<Vec<bool>> {
    let first_byte = ids.start / 8;
    let mut bytes = vec![0; (num_mask_bytes(ids.end) - first_byte) as usize];
    source.read_exact_at(&mut bytes, first_byte)?;
    let bit = |id: u64| bytes[(id / 8 - first_byte) as usize] >> (id % 8) & 1 == 1;
    Ok(ids.map(bit).collect())
}

/// Bits that are written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    num_bits: u64,
}

impl Bits {
    pub fn push(&mut self, bit: bool) {
        if self.num_bits.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.num_bits % 8);
        }
        self.num_bits += 1;
    }

    /// Takes the bytes that no more bits go to.
    pub fn take_full(&mut self) -> Vec<u8> {
        let num_full = self.bytes.len() - usize::from(!self.num_bits.is_multiple_of(8));
        let rest = self.bytes.split_off(num_full);
        std::mem::replace(&mut self.bytes, rest)
    }

    /// The last byte, if it is not full.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_as_they_were_written() {
        let is_label = |id: u64| id.is_multiple_of(3) || id % 7 == 2;
        let (mut bits, mut bytes) = (Bits::default(), Vec::new());
        for id in 0..77 {
            bits.push(is_label(id));
            if id % 5 == 0 {
                bytes.extend(bits.take_full());
            }
        }
        bytes.extend(bits.take_full());
        bytes.extend(bits.finish());
        assert_eq!(bytes.len() as u64, num_mask_bytes(77));
        for range in [0..77, 0..1, 7..9, 8..16, 13..70, 76..77] {
            let expected: Vec<bool> = range.clone().map(is_label).collect();
            assert_eq!(read_mask(&bytes[..], range).unwrap(), expected);
        }
    }
}
