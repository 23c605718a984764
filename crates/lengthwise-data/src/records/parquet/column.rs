//! A column of a table: strings, or lists of objects whose fields are strings.

use indexmap::IndexMap;
use minijinja::Value;
use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::pages::CheckedPages;

/// The most names of columns that an error tells.
const MOST_NAMES: usize = 20;

/// Value of a row in a column.
#[derive(Debug)]
pub(crate) enum Cell {
    /// Nothing.
    Null,
    /// A string, which is checked by whoever needs it.
    Bytes(ByteArray),
    /// A list of objects; or what is wrong with it.
    List(Result<Vec<Value>, String>),
}

/// A column that is read.
pub(crate) enum Column {
    /// A string a row.
    Strings(Box<Leaf>),
    /// A list of objects a row, each field of which is stored by itself.
    Objects(Vec<(String, Leaf)>),
}

/// The names of a table's columns.
pub(crate) fn names(schema: &SchemaDescriptor) -> Vec<String> {
    let fields = schema.root_schema().get_fields().iter();
    let mut names: Vec<String> = fields.map(|field| field.name().to_owned()).collect();
    if names.len() > MOST_NAMES {
        let num_more = names.len() - MOST_NAMES;
        names.truncate(MOST_NAMES);
        names.push(format!("{num_more} more"));
    }
    names
}

impl Column {
    /// The column of this name, if there is one; or what it is, where that can't be read.
    pub(crate) fn find(
        schema: &SchemaDescriptor,
        name: &str,
        may_be_list: bool,
    ) -> Result<Option<Self>, String> {
        let leaves = schema.columns().iter().enumerate();
        let leaves: Vec<(usize, &ColumnDescriptor)> = leaves
            .map(|(index, leaf)| (index, &**leaf))
            .filter(|(_, leaf)| {
                leaf.path()
                    .parts()
                    .first()
                    .is_some_and(|first| first == name)
            })
            .collect();
        let [(index, leaf)] = leaves[..] else {
            return match leaves.is_empty() {
                true => Ok(None),
                false => Self::objects(&leaves, may_be_list).map(Some),
            };
        };
        if leaf.max_rep_level() > 0 {
            return Self::objects(&leaves, may_be_list).map(Some);
        }
        if leaf.path().parts().len() > 1 {
            return Err("a struct".to_owned());
        }
        match leaf.physical_type() {
            PhysicalType::BYTE_ARRAY => Ok(Some(Column::Strings(Box::new(Leaf::new(index, leaf))))),
            other => Err(other.to_string()),
        }
    }

    fn objects(leaves: &[(usize, &ColumnDescriptor)], may_be_list: bool) -> Result<Self, String> {
        let is_whole = |(_, leaf): &(usize, &ColumnDescriptor)| leaf.path().parts().len() == 1;
        if leaves.iter().any(is_whole) {
            return Err("there more than once".to_owned());
        }
        let is_list = leaves.iter().all(|(_, leaf)| leaf.max_rep_level() > 0);
        match (is_list, may_be_list) {
            (false, _) => return Err("a struct".to_owned()),
            (true, false) => return Err("a list".to_owned()),
            (true, true) => {}
        }
        let field = |&(index, leaf): &(usize, &ColumnDescriptor)| {
            // The column, the list, its element, and the field of that.
            let parts = leaf.path().parts();
            let name = parts.last().cloned().unwrap_or_default();
            let kind = leaf.physical_type();
            if leaf.max_rep_level() > 1 || parts.len() > 4 {
                Err(format!(
                    "a list whose objects have lists or objects in `{}`",
                    parts[parts.len().min(4) - 1]
                ))
            } else if parts.len() < 3 || (parts.len() == 3 && name == "element") {
                Err("a list of values".to_owned())
            } else if kind != PhysicalType::BYTE_ARRAY {
                Err(format!("a list whose objects have {kind} in `{name}`"))
            } else {
                Ok((name, Leaf::new(index, leaf)))
            }
        };
        leaves
            .iter()
            .map(field)
            .collect::<Result<_, _>>()
            .map(Column::Objects)
    }

    /// Begins to read a group of rows.
    pub(crate) fn begin(&mut self, group: &dyn RowGroupReader) -> Result<(), ParquetError> {
        match self {
            Column::Strings(leaf) => leaf.begin(group),
            Column::Objects(fields) => fields
                .iter_mut()
                .try_for_each(|(_, leaf)| leaf.begin(group)),
        }
    }

    /// Reads the values of the next rows.
    pub(crate) fn read(&mut self, num_rows: usize) -> Result<Vec<Cell>, ParquetError> {
        match self {
            Column::Strings(leaf) => {
                let rows = leaf.read(num_rows)?;
                let cell = |row: Vec<Entry>| match row.into_iter().next() {
                    Some(Entry {
                        value: Some(value), ..
                    }) => Cell::Bytes(value),
                    _ => Cell::Null,
                };
                Ok(rows.into_iter().map(cell).collect())
            }
            Column::Objects(fields) => {
                let mut columns = Vec::with_capacity(fields.len());
                for (name, leaf) in fields {
                    columns.push((
                        &**name,
                        leaf.num_levels_of_items,
                        leaf.read(num_rows)?.into_iter(),
                    ));
                }
                let mut cells = Vec::with_capacity(num_rows);
                for _ in 0..num_rows {
                    let row: Vec<_> = columns
                        .iter_mut()
                        .map(|(name, levels, rows)| {
                            (*name, *levels, rows.next().unwrap_or_default())
                        })
                        .collect();
                    cells.push(objects(row)?);
                }
                Ok(cells)
            }
        }
    }
}

/// Puts the fields of a row's objects together.
fn objects(fields: Vec<(&str, i16, Vec<Entry>)>) -> Result<Cell, ParquetError> {
    let num_items = fields.first().map_or(0, |(_, _, entries)| entries.len());
    if fields
        .iter()
        .any(|(_, _, entries)| entries.len() != num_items)
    {
        let message = "the fields of a list's objects have different numbers of values";
        return Err(ParquetError::General(message.to_owned()));
    }
    // A list without an item has one entry, which says how much of it there is.
    let (levels_of_items, level) = fields.first().map_or((0, 0), |(_, levels, entries)| {
        (*levels, entries.first().map_or(0, |entry| entry.level))
    });
    if num_items <= 1 && level < levels_of_items {
        return Ok(match level {
            0 if levels_of_items > 1 => Cell::Null,
            _ => Cell::List(Ok(Vec::new())),
        });
    }
    let mut items: Vec<IndexMap<Value, Value>> = vec![IndexMap::new(); num_items];
    for (name, _, entries) in fields {
        for (item, entry) in items.iter_mut().zip(entries) {
            // A field that is null is one that is not there.
            let Some(value) = entry.value else { continue };
            match str::from_utf8(value.data()) {
                Ok(text) => {
                    item.insert(Value::from(name), Value::from(text));
                }
                Err(error) => {
                    let at = error.valid_up_to() + 1;
                    return Ok(Cell::List(Err(format!(
                        "byte {at} of a `{name}` is not UTF-8"
                    ))));
                }
            }
        }
    }
    let items = items.into_iter().map(Value::from_object);
    Ok(Cell::List(Ok(items.collect())))
}

/// One value of a leaf, or how much there is of one that is missing.
#[derive(Debug)]
struct Entry {
    level: i16,
    value: Option<ByteArray>,
}

/// Strings that are stored one after another.
pub(crate) struct Leaf {
    index: usize,
    num_levels: i16,
    /// The level from which on there is an item of the list.
    num_levels_of_items: i16,
    is_repeated: bool,
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
}

impl Leaf {
    fn new(index: usize, leaf: &ColumnDescriptor) -> Self {
        Leaf {
            index,
            num_levels: leaf.max_def_level(),
            num_levels_of_items: leaf.repeated_ancestor_def_level(),
            is_repeated: leaf.max_rep_level() > 0,
            reader: None,
        }
    }

    fn begin(&mut self, group: &dyn RowGroupReader) -> Result<(), ParquetError> {
        let pages = CheckedPages::of(group, self.index)?;
        let column = pages.column();
        let ColumnReader::ByteArrayColumnReader(reader) =
            get_column_reader(column, Box::new(pages))
        else {
            let message = "a row group has another type than the table says";
            return Err(ParquetError::General(message.to_owned()));
        };
        self.reader = Some(reader);
        Ok(())
    }

    /// The entries of each of the next rows.
    fn read(&mut self, num_rows: usize) -> Result<Vec<Vec<Entry>>, ParquetError> {
        let torn = |message: &str| ParquetError::General(message.to_owned());
        let reader = self
            .reader
            .as_mut()
            .ok_or_else(|| torn("no row group was begun"))?;
        let (mut levels, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        let (num_read, _, num_entries) = reader.read_records(
            num_rows,
            Some(&mut levels),
            Some(&mut repetitions),
            &mut values,
        )?;
        if num_read != num_rows {
            return Err(torn(
                "a column has fewer values than its row group has rows",
            ));
        }
        let mut values = values.into_iter();
        let mut rows: Vec<Vec<Entry>> = Vec::with_capacity(num_rows);
        for index in 0..num_entries {
            // Levels are not stored where nothing can be missing.
            let level = levels.get(index).copied().unwrap_or(self.num_levels);
            let value = match level >= self.num_levels {
                true => Some(
                    values
                        .next()
                        .ok_or_else(|| torn("a column has fewer values than it says"))?,
                ),
                false => None,
            };
            let entry = Entry { level, value };
            let is_new_row = !self.is_repeated || repetitions.get(index).copied().unwrap_or(0) == 0;
            match rows.last_mut() {
                Some(row) if !is_new_row => row.push(entry),
                _ => rows.push(vec![entry]),
            }
        }
        match rows.len() == num_rows {
            true => Ok(rows),
            false => Err(torn("the lists of a column do not begin where its rows do")),
        }
    }
}
