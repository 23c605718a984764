//! Reading at a place, which needs no place of its own: many may read one file at once.

use std::fs::File;
use std::io;

/// A source of bytes that can be read at any offset.
///
/// A file is read so rather than mapped into memory: one that is cut off while it is read is an error then, not the end
/// of the process.
pub trait ReadAt {
    /// Fills `buffer` with what is at `offset`.
    ///
    /// # Errors
    ///
    /// It can't be read, or ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    #[cfg(unix)]
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    #[cfg(windows)]
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(num_bytes) => {
                    buffer = &mut buffer[num_bytes..];
                    offset += num_bytes as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        match part {
            Some(part) => {
                buffer.copy_from_slice(part);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Numbers of 4 or 8 bytes that follow one another, read in order without all being in memory.
pub(crate) struct Numbers<'a, R: ?Sized> {
    source: &'a R,
    /// Offset of the next chunk.
    offset: u64,
    num_left: u64,
    width: usize,
    chunk: Vec<u8>,
    at: usize,
}

/// Numbers that are read at once.
const CHUNK: u64 = 8192;

impl<'a, R: ReadAt + ?Sized> Numbers<'a, R> {
    /// `count` signed numbers of `width` bytes each, from `offset` on.
    pub fn new(source: &'a R, offset: u64, count: u64, width: usize) -> Self {
        Numbers {
            source,
            offset,
            num_left: count,
            width,
            chunk: Vec::new(),
            at: 0,
        }
    }

    /// The next one; `None` after the last.
    pub fn next(&mut self) -> io::Result<Option<i64>> {
        if self.at == self.chunk.len() {
            let num = self.num_left.min(CHUNK);
            if num == 0 {
                return Ok(None);
            }
            self.chunk.resize(num as usize * self.width, 0);
            self.source.read_exact_at(&mut self.chunk, self.offset)?;
            self.offset += self.chunk.len() as u64;
            self.num_left -= num;
            self.at = 0;
        }
        let bytes = &self.chunk[self.at..self.at + self.width];
        self.at += self.width;
        Ok(Some(match *bytes {
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]).into(),
            _ => i64::from_le_bytes(bytes.try_into().expect("a number has 4 or 8 bytes")),
        }))
    }
}
