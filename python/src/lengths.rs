//! Batches of lengths, in any form that Python has for whole numbers in a row.

use lengthwise_core::Tokens;
use lengthwise_inputs::InputError;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyFrozenSet, PyList, PyMemoryView, PyRange, PySet, PyString,
    PyTuple,
};

use crate::fault::Fault;
use crate::values::{NotWhole, type_name, whole, written};

/// What errors call a batch.
pub(crate) const NAME: &str = "lengths";

const RULE: &str =
    "it must be one row of whole numbers of tokens: a list, an array, a tensor or a buffer";

/// The lengths of a batch: a list, a tuple, a range, an array or tensor of one dimension, anything that has the buffer
/// protocol or `tolist()`, or an iterator.
///
/// # Errors
///
/// What is no such thing, or the index of what is no length.
pub(crate) fn read(lengths: &Bound<'_, PyAny>) -> PyResult<Vec<Tokens>> {
    let seq_lens = read_row(lengths)?;
    if seq_lens.is_empty() {
        let name = NAME.to_owned();
        return Err(Fault::from(InputError::NoLengths { name }).raise(lengths.py()));
    }
    if let Some(index) = seq_lens.iter().position(|&seq_len| seq_len == Tokens(0)) {
        let place = place(index);
        return Err(Fault::from(InputError::EmptySequence { place }).raise(lengths.py()));
    }
    Ok(seq_lens)
}

fn place(index: usize) -> String {
    format!("{NAME}, index {index}")
}

/// The same, of which any may be 0, and which may be none.
///
/// # Errors
///
/// What is no row, or the index of what is no whole number.
pub(crate) fn read_row(lengths: &Bound<'_, PyAny>) -> PyResult<Vec<Tokens>> {
    if let Ok(list) = lengths.cast::<PyList>() {
        return items(list.iter().map(Ok));
    }
    if let Ok(tuple) = lengths.cast::<PyTuple>() {
        return items(tuple.iter().map(Ok));
    }
    if lengths.is_instance_of::<PyRange>() {
        return items(lengths.try_iter()?);
    }
    // Text, and what has no order.
    let is_none = lengths.is_none()
        || lengths.is_instance_of::<PyString>()
        || lengths.is_instance_of::<PyBytes>()
        || lengths.is_instance_of::<PyByteArray>()
        || lengths.is_instance_of::<PyDict>()
        || lengths.is_instance_of::<PySet>()
        || lengths.is_instance_of::<PyFrozenSet>();
    if is_none {
        return Err(no_row(lengths));
    }
    check_mask(lengths)?;
    if let Ok(view) = PyMemoryView::from(lengths)
        && let Some(seq_lens) = of_buffer(lengths, &view)?
    {
        return Ok(seq_lens);
    }
    if let Ok(num_dimensions) = lengths.getattr("ndim") {
        check_dimensions(lengths, &num_dimensions)?;
    }
    if let Ok(list) = lengths.call_method0("tolist") {
        let list = list.cast_into::<PyList>().map_err(|_| no_row(lengths))?;
        if !list.is_empty()
            && let Ok(of) = lengths.getattr("dtype")
        {
            check_type(lengths, &of)?;
        }
        return items(list.iter().map(Ok));
    }
    match lengths.try_iter() {
        Ok(iterator) => items(iterator),
        Err(_) => Err(no_row(lengths)),
    }
}

fn items<'py>(items: impl Iterator<Item = PyResult<Bound<'py, PyAny>>>) -> PyResult<Vec<Tokens>> {
    let mut seq_lens = Vec::with_capacity(items.size_hint().0);
    for (index, item) in items.enumerate() {
        let item = item?;
        match whole(&item) {
            Ok(tokens) => seq_lens.push(Tokens(tokens)),
            Err(not_whole) => {
                let fault = not_a_length(index, written(&item));
                let is_type = matches!(not_whole, NotWhole::Type);
                let fault = if is_type { fault.of_type() } else { fault };
                return Err(fault.raise(item.py()));
            }
        }
    }
    Ok(seq_lens)
}

/// The whole numbers of a buffer; `None` of one whose items are objects.
fn of_buffer(
    lengths: &Bound<'_, PyAny>,
    view: &Bound<'_, PyMemoryView>,
) -> PyResult<Option<Vec<Tokens>>> {
    let format: String = view.getattr("format")?.extract()?;
    let (is_big_endian, code) = match format.split_at_checked(1) {
        Some(("<", code)) => (false, code),
        Some((">" | "!", code)) => (true, code),
        Some(("@" | "=", code)) => (cfg!(target_endian = "big"), code),
        _ => (cfg!(target_endian = "big"), format.as_str()),
    };
    if code == "O" {
        return Ok(None);
    }
    check_dimensions(lengths, &view.getattr("ndim")?)?;
    let bytes = view.call_method0("tobytes")?.cast_into::<PyBytes>()?;
    let bytes = bytes.as_bytes();
    if bytes.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let size: usize = view.getattr("itemsize")?.extract()?;
    let is_whole = code.len() == 1 && "bBhHiIlLqQnN".contains(code);
    if !is_whole || !(1..=8).contains(&size) {
        return Err(wrong_items(lengths, &items_name(lengths, &format)));
    }
    let is_signed = code.chars().all(|code| code.is_ascii_lowercase());
    let numbers = bytes.chunks_exact(size).enumerate().map(|(index, bytes)| {
        let number = number(bytes, is_big_endian);
        let negative = signed(number, size);
        if is_signed && negative < 0 {
            return Err(not_a_length(index, negative.to_string()).raise(lengths.py()));
        }
        Ok(Tokens(number))
    });
    numbers.collect::<PyResult<_>>().map(Some)
}

/// At most eight bytes as a number without a sign.
fn number(bytes: &[u8], is_big_endian: bool) -> u64 {
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    if is_big_endian {
        bytes.iter().fold(0, add)
    } else {
        bytes.iter().rev().fold(0, add)
    }
}

/// The same number where its highest bit is a sign.
fn signed(number: u64, size: usize) -> i64 {
    let unused = 64 - 8 * size as u32;
    (number << unused) as i64 >> unused
}

/// What the items of an array are called there, or in the buffer protocol.
fn items_name(lengths: &Bound<'_, PyAny>, format: &str) -> String {
    let name = lengths.getattr("dtype").map(|of| of.to_string());
    name.unwrap_or_else(|_| format!("format {format:?}"))
}

/// Refuses arrays of NumPy that hide some of their items: neither their buffer nor their iterator does.
fn check_mask(lengths: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = lengths.py();
    let modules = py.import("sys")?.getattr("modules")?;
    // Where nobody has imported it, there is no such array.
    let Ok(masked) = modules.get_item("numpy.ma") else {
        return Ok(());
    };
    let class = masked.getattr("MaskedArray");
    if !class.is_ok_and(|class| lengths.is_instance(&class).unwrap_or(false)) {
        return Ok(());
    }
    let name = type_name(lengths);
    let fault = Fault::input_type(format!(
        "{NAME} is {name}, whose mask would be lost; {RULE}"
    ));
    let hint = "give what is not masked: lengths.compressed()";
    Err(fault.with_hint(hint).raise(py))
}

fn check_dimensions(lengths: &Bound<'_, PyAny>, num: &Bound<'_, PyAny>) -> PyResult<()> {
    if num.extract::<usize>().is_ok_and(|num| num == 1) {
        return Ok(());
    }
    let (name, num) = (type_name(lengths), written(num));
    let fault = Fault::input(format!("{NAME} is {name} of {num} dimensions; {RULE}"));
    Err(fault
        .with_hint("give the lengths of one global batch, for example with reshape(-1)")
        .raise(lengths.py()))
}

/// Arrays and tensors say what their items are.
fn check_type(lengths: &Bound<'_, PyAny>, of: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = of
        .getattr("name")
        .unwrap_or_else(|_| of.clone())
        .to_string();
    let item = name.rsplit('.').next().unwrap_or(&name).to_lowercase();
    if item.starts_with("int") || item.starts_with("uint") || item == "object" {
        Ok(())
    } else {
        Err(wrong_items(lengths, &name))
    }
}

fn wrong_items(lengths: &Bound<'_, PyAny>, items: &str) -> PyErr {
    let name = type_name(lengths);
    let fault = Fault::input_type(format!("{NAME} is {name} of {items}; {RULE}"));
    let hint = "convert it to 64-bit integers, once it is sure that nothing is lost";
    fault.with_hint(hint).raise(lengths.py())
}

fn no_row(lengths: &Bound<'_, PyAny>) -> PyErr {
    let message = format!("{NAME} is {}; {RULE}", written(lengths));
    Fault::input_type(message).raise(lengths.py())
}

fn not_a_length(index: usize, written: String) -> Fault {
    let place = place(index);
    InputError::NotALength { place, written }.into()
}
