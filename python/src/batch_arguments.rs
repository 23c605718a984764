//! What says which sequences make which batch, as Python hands it over.

use lengthwise_core::Tokens;
use lengthwise_data::{BatchSize, CutRule, DataError, Overlong};
use pyo3::prelude::*;

use crate::fault::Fault;
use crate::values;

/// The arguments that schedules and streams have in common, as they are written.
pub(crate) struct WrittenBatches<'a, 'py> {
    pub(crate) context: &'a Bound<'py, PyAny>,
    pub(crate) overlong: Option<&'a Bound<'py, PyAny>>,
    pub(crate) min_tokens: Option<&'a Bound<'py, PyAny>>,
    pub(crate) tokens: Option<&'a Bound<'py, PyAny>>,
    pub(crate) sequences: Option<&'a Bound<'py, PyAny>>,
}

impl WrittenBatches<'_, '_> {
    /// The rule for documents, and when a batch is full.
    pub(crate) fn read(&self) -> PyResult<(CutRule, BatchSize)> {
        let py = self.context.py();
        let context = values::tokens("context", self.context)?;
        let min_tokens =
            values::optional(self.min_tokens, |value| values::tokens("min_tokens", value))?
                .unwrap_or(Tokens(1));
        if min_tokens > context {
            let message = format!("min_tokens is {min_tokens}; context is {context}");
            let fault = Fault::input(message + ", so no sequence would be long enough");
            return Err(fault.raise(py));
        }
        let overlong = values::optional(self.overlong, |value| {
            let name = values::text("overlong", value)?;
            let names = Overlong::NAMES.join(", ");
            let rule = format!("it must be one of {names}");
            name.parse()
                .map_err(|()| values::bad("overlong", value, &rule).raise(py))
        })?
        .unwrap_or_default();
        let rule = CutRule {
            context,
            overlong,
            min_tokens,
        };
        let size = match (self.tokens, self.sequences) {
            (Some(tokens), None) => BatchSize::Tokens(values::tokens("tokens", tokens)?),
            (None, Some(sequences)) => {
                BatchSize::Sequences(values::positive("sequences", sequences)?.get() as usize)
            }
            (given, _) => {
                let what = if given.is_some() { "both" } else { "neither" };
                let message =
                    format!("a batch has a number of tokens or one of sequences; {what} is given");
                let fault = Fault::input_type(message);
                return Err(fault.with_hint("for example tokens=\"4M\"").raise(py));
            }
        };
        Ok((rule, size))
    }
}

impl From<DataError> for Fault {
    fn from(error: DataError) -> Self {
        let fault = Fault::input(error.to_string());
        match error.hint() {
            Some(hint) => fault.with_hint(hint),
            None => fault,
        }
    }
}
