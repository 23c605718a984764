//! Packed files, read as what was packed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::Packing;
use crate::DataError;

const BUFFER_BYTES: usize = 1 << 20;

/// Frames may look back this far, as `zstd --long=31` lets them: 2 GiB of memory, of which only what is looked at is used.
const MOST_WINDOW_LOG: u32 = 31;

/// The bytes of a file, unpacked while they are read: members of a .gz and frames of a .zst one after another.
pub(crate) fn open(path: &Path, packing: Packing) -> Result<Box<dyn BufRead + Send>, DataError> {
    let read_error = |source| DataError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read_error)?;
    if packing == Packing::Plain {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, file)));
    }
    // Nothing at all is no packed file, whatever decoders say: it was torn at its first byte.
    if file.metadata().map_err(read_error)?.len() == 0 {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty");
        return Err(unpack_error(path, packing, 0, source));
    }
    let packed = BufReader::with_capacity(BUFFER_BYTES, file);
    let unpacked: Box<dyn Read + Send> = match packing {
        Packing::Zstd => {
            let mut decoder = ZstdDecoder::with_buffer(packed).map_err(read_error)?;
            decoder
                .window_log_max(MOST_WINDOW_LOG)
                .map_err(read_error)?;
            Box::new(decoder)
        }
        _ => Box::new(MultiGzDecoder::new(packed)),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)))
}

/// Returns the error of a failed read of an unpacked stream: the file can't be read, or its packed content is torn.
pub(crate) fn unpack_error(
    path: &Path,
    packing: Packing,
    num_rows: u64,
    source: io::Error,
) -> DataError {
    // Only what the system says has its number.
    match packing.ending() {
        Some(ending) if source.raw_os_error().is_none() => DataError::Unpack {
            path: path.to_owned(),
            ending,
            num_rows,
            source,
        },
        _ => DataError::Read {
            path: path.to_owned(),
            source,
        },
    }
}
