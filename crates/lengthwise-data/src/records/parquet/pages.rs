//! Pages that are checked before the library decodes them.
//!
//! Its decoders reserve room for as many values as a page says it has. A torn page may say any number, and where memory lacks,
//! the process ends without an error.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::ColumnDescPtr;

use super::delta;

/// The bytes of a string's length before it, where strings are stored plainly.
const LENGTH_BYTES: usize = 4;

/// The pages of a column of strings in a row group, none of which says it has more values than it can have.
pub(crate) struct CheckedPages {
    pages: Box<dyn PageReader>,
    column: ColumnDescPtr,
    /// Values of the column in the row group, missing ones included.
    num_values: usize,
}

impl CheckedPages {
    /// The pages of a column.
    pub(crate) fn of(group: &dyn RowGroupReader, column: usize) -> Result<Self> {
        let about = group.metadata().column(column);
        Ok(CheckedPages {
            pages: group.get_column_page_reader(column)?,
            column: about.column_descr_ptr(),
            num_values: usize::try_from(about.num_values()).unwrap_or(0),
        })
    }

    /// The column.
    pub(crate) fn column(&self) -> ColumnDescPtr {
        self.column.clone()
    }

    fn check(&self, page: &Page) -> Result<()> {
        // Decoders of other encodings take what they need as they read.
        let (num_lists, most, of) = match (page, page.encoding()) {
            // Dictionaries are stored plainly, whatever they say.
            (Page::DictionaryPage { buf, .. }, _) => {
                (0, buf.len() / LENGTH_BYTES, "its bytes can hold")
            }
            (_, Encoding::DELTA_LENGTH_BYTE_ARRAY) => (1, self.num_values, "its column has"),
            // The lengths of what each has of the one before, then those of the rest.
            (_, Encoding::DELTA_BYTE_ARRAY) => (2, self.num_values, "its column has"),
            _ => return Ok(()),
        };
        let num_values = page.num_values() as usize;
        if num_values > most {
            return Err(ParquetError::General(format!(
                "a page says it has {num_values} values, more than the {most} {of}"
            )));
        }
        let mut bytes = self.values(page).ok_or_else(delta::torn)?;
        for _ in 0..num_lists {
            bytes = delta::skip(bytes, num_values)?;
        }
        Ok(())
    }

    /// What a page has after its levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DictionaryPage { buf, .. } => Some(buf),
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => {
                let num_bytes = def_levels_byte_len.checked_add(*rep_levels_byte_len)?;
                buf.get(num_bytes as usize..)
            }
            Page::DataPage {
                buf,
                num_values,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let levels = [
                    (self.column.max_rep_level(), *rep_level_encoding),
                    (self.column.max_def_level(), *def_level_encoding),
                ];
                let mut rest = &buf[..];
                for (most, encoding) in levels {
                    if most > 0 {
                        rest = rest.get(level_bytes(rest, most, encoding, *num_values)?..)?;
                    }
                }
                Some(rest)
            }
        }
    }
}

/// The bytes that levels from 0 to `most` take where a page of the first version begins with them.
fn level_bytes(bytes: &[u8], most: i16, encoding: Encoding, num_values: u32) -> Option<usize> {
    match encoding {
        Encoding::RLE => {
            let len = u32::from_le_bytes(*bytes.first_chunk()?);
            Some(LENGTH_BYTES + len as usize)
        }
        // The other encoding of levels, which is no longer written: as many bits as the largest has.
        _ => {
            let bits = u64::from(i16::BITS - most.leading_zeros());
            usize::try_from((u64::from(num_values) * bits).div_ceil(8)).ok()
        }
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.iter().try_for_each(|page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
