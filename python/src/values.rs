//! Arguments as Python hands them over: each is read, or named with its value and the rule that it breaks.

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use lengthwise_core::{Cluster, Degree, Tokens};
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString};

use crate::fault::Fault;

/// The most of a value that an error repeats, in characters.
const SHOWN: usize = 60;

/// A value as an error shows it.
pub(crate) fn written(value: &Bound<'_, PyAny>) -> String {
    // Python refuses to write very large numbers, and any object may fail to show itself.
    let text = value.repr().map(|text| text.to_string_lossy().into_owned());
    let text = text.unwrap_or_else(|_| format!("a value of type {}", type_name(value)));
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What Python calls the type of a value.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().name();
    name.map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// The error of an argument that breaks a rule.
pub(crate) fn bad(argument: &str, value: &Bound<'_, PyAny>, rule: &str) -> Fault {
    Fault::input(format!("{argument} is {}; {rule}", written(value)))
}

fn bad_type(argument: &str, value: &Bound<'_, PyAny>, rule: &str) -> PyErr {
    bad(argument, value, rule).of_type().raise(value.py())
}

/// What stands where a whole number should.
pub(crate) enum NotWhole {
    /// No number, or one with a fraction.
    Type,
    /// Too large or negative.
    Range,
}

/// A whole number of any integer type; `True` is none.
pub(crate) fn whole(value: &Bound<'_, PyAny>) -> Result<u64, NotWhole> {
    if value.is_instance_of::<PyBool>() {
        return Err(NotWhole::Type);
    }
    value.extract().map_err(|error: PyErr| {
        let is_large = error.is_instance_of::<PyOverflowError>(value.py());
        if is_large || value.is_instance_of::<PyInt>() {
            NotWhole::Range
        } else {
            NotWhole::Type
        }
    })
}

/// A whole number from `least` to `most`.
pub(crate) fn whole_within(
    argument: &str,
    value: &Bound<'_, PyAny>,
    least: u64,
    most: u64,
) -> PyResult<u64> {
    let rule = format!("it must be a whole number from {least} to {most}");
    match whole(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Err(NotWhole::Type) => Err(bad_type(argument, value, &rule)),
        _ => Err(bad(argument, value, &rule).raise(value.py())),
    }
}

/// A whole number above 0.
pub(crate) fn positive(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<NonZero<u32>> {
    let number = whole_within(argument, value, 1, u32::MAX.into())?;
    Ok(NonZero::new(number as u32).unwrap_or(NonZero::<u32>::MIN))
}

/// The degree of a group.
pub(crate) fn degree(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Degree> {
    let degree = Degree::new(positive(argument, value)?.get());
    degree.map_err(|error| Fault::input(error.to_string()).raise(value.py()))
}

/// Degrees, of which a planner may choose.
pub(crate) fn degrees(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<Degree>> {
    const RULE: &str = "it must be a list of degrees, for example [1, 2, 4, 8]";
    if value.is_instance_of::<PyString>() {
        return Err(bad_type(argument, value, RULE));
    }
    let Ok(items) = value.try_iter() else {
        return Err(bad_type(argument, value, RULE));
    };
    let items = items.enumerate();
    items
        .map(|(index, item)| degree(&format!("{argument}[{index}]"), &item?))
        .collect()
}

/// A number of devices.
pub(crate) fn devices(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<u32> {
    let most = u64::from(Cluster::MAX_DEVICES);
    Ok(whole_within(argument, value, 1, most)? as u32)
}

/// A length: a number, or text like `"384k"`.
pub(crate) fn tokens(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Tokens> {
    if let Ok(text) = value.cast::<PyString>() {
        let tokens: Result<Tokens, _> = text.to_string_lossy().parse();
        return match tokens {
            Ok(tokens) => whole_within(
                argument,
                tokens.0.into_pyobject(value.py())?.as_any(),
                1,
                u64::MAX,
            )
            .map(Tokens),
            Err(error) => Err(Fault::input(format!("{argument}: {error}")).raise(value.py())),
        };
    }
    whole_within(argument, value, 1, u64::MAX).map(Tokens)
}

/// A file or a name: text, or a path.
pub(crate) fn name(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let path: Result<PathBuf, _> = value.extract();
    let text = path
        .ok()
        .and_then(|path| path.into_os_string().into_string().ok());
    text.ok_or_else(|| bad_type(argument, value, "it must be a name or a path"))
}

/// Text.
pub(crate) fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_string_lossy().into_owned()),
        Err(_) => Err(bad_type(argument, value, "it must be text")),
    }
}

/// Yes or no.
pub(crate) fn flag(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    match value.cast::<PyBool>() {
        Ok(flag) => Ok(flag.is_true()),
        Err(_) => Err(bad_type(argument, value, "it must be True or False")),
    }
}

/// A duration: text like `"10ms"`, or a number of seconds.
pub(crate) fn duration(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if let Ok(text) = value.cast::<PyString>() {
        let duration = lengthwise_inputs::duration(&text.to_string_lossy());
        return duration.map_err(|rule| bad(argument, value, &rule).raise(value.py()));
    }
    const RULE: &str = "it must be a number of seconds above 0, or text such as \"10ms\"";
    let is_number = value.is_instance_of::<PyFloat>() || value.is_instance_of::<PyInt>();
    if !is_number || value.is_instance_of::<PyBool>() {
        return Err(bad_type(argument, value, RULE));
    }
    let seconds: Option<f64> = value.extract().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let duration = duration.filter(|duration| !duration.is_zero());
    duration.ok_or_else(|| bad(argument, value, RULE).raise(value.py()))
}

/// What is there, read; nothing for `None`.
pub(crate) fn optional<T>(
    value: Option<&Bound<'_, PyAny>>,
    read: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    value.map(read).transpose()
}
