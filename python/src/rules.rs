//! What plans have to keep.

use std::num::NonZero;

use lengthwise_core::{Degree, PlanRules, TokenCap, Tokens};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::fault::Fault;
use crate::values;

/// What the system that runs a plan asks of it beyond disjoint groups within memory; by default nothing.
///
/// Parameters
/// ----------
/// no_idle_ranks : bool, default False
///     Every rank is in a group of every micro-batch.
/// aligned_powers_of_two : bool, default False
///     Every degree is a power of two, and every group is a run of ranks that begins at a multiple of its degree.
/// min_degree : int, default 1
///     No group has a smaller degree.
/// max_tokens_per_rank : int or str, optional
///     How many tokens a rank may hold in one micro-batch: the lengths of a group's sequences, each divided by its
///     degree, add up to no more. Text such as "32k" is read as the command reads it.
/// tokens_replace_memory : bool, default False
///     Whether that takes the place of the budget in bytes; else both must be kept. Needs `max_tokens_per_rank`.
/// micro_batches_multiple_of : int, default 1
///     The number of micro-batches is a multiple of this, as interleaved pipeline stages need it.
/// max_sequences_per_group : int, optional
///     No group has more sequences.
///
/// Raises
/// ------
/// InputError, InputTypeError
///     A value that is out of range or of a wrong type.
/// RuleError
///     `tokens_replace_memory` without `max_tokens_per_rank`.
///
/// Examples
/// --------
/// >>> Rules(min_degree=2, max_tokens_per_rank="8k")
/// Rules(min_degree=2, max_tokens_per_rank=8000)
#[pyclass(frozen, eq, hash, module = "lengthwise")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Rules(pub(crate) PlanRules);

#[pymethods]
impl Rules {
    #[new]
    #[pyo3(signature = (
        *,
        no_idle_ranks = None,
        aligned_powers_of_two = None,
        min_degree = None,
        max_tokens_per_rank = None,
        tokens_replace_memory = None,
        micro_batches_multiple_of = None,
        max_sequences_per_group = None,
    ), text_signature = "(*, no_idle_ranks=False, aligned_powers_of_two=False, min_degree=1, max_tokens_per_rank=None, \
                         tokens_replace_memory=False, micro_batches_multiple_of=1, max_sequences_per_group=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn new(
        py: Python<'_>,
        no_idle_ranks: Option<&Bound<'_, PyAny>>,
        aligned_powers_of_two: Option<&Bound<'_, PyAny>>,
        min_degree: Option<&Bound<'_, PyAny>>,
        max_tokens_per_rank: Option<&Bound<'_, PyAny>>,
        tokens_replace_memory: Option<&Bound<'_, PyAny>>,
        micro_batches_multiple_of: Option<&Bound<'_, PyAny>>,
        max_sequences_per_group: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let flag = |name, value| values::optional(value, |value| values::flag(name, value));
        let number = |name, value| values::optional(value, |value| values::positive(name, value));
        let tokens_per_rank = values::optional(max_tokens_per_rank, |value| {
            values::tokens("max_tokens_per_rank", value)
        })?;
        let replaces_memory =
            flag("tokens_replace_memory", tokens_replace_memory)?.unwrap_or_default();
        if replaces_memory && tokens_per_rank.is_none() {
            let message = "tokens_replace_memory is True and max_tokens_per_rank is None; what takes the place of the \
                           budget in bytes must be given";
            return Err(Fault::rule(message)
                .with_hint("add max_tokens_per_rank")
                .raise(py));
        }
        let default = PlanRules::default();
        Ok(Rules(PlanRules {
            no_idle_ranks: flag("no_idle_ranks", no_idle_ranks)?.unwrap_or_default(),
            aligned_powers_of_two: flag("aligned_powers_of_two", aligned_powers_of_two)?
                .unwrap_or_default(),
            min_degree: values::optional(min_degree, |value| values::degree("min_degree", value))?
                .unwrap_or(default.min_degree),
            token_cap: tokens_per_rank.map(|tokens_per_rank| TokenCap {
                tokens_per_rank,
                replaces_memory,
            }),
            micro_batches_multiple_of: number(
                "micro_batches_multiple_of",
                micro_batches_multiple_of,
            )?
            .unwrap_or(default.micro_batches_multiple_of),
            max_sequences_per_group: number("max_sequences_per_group", max_sequences_per_group)?,
        }))
    }

    /// bool: Whether every rank is in a group of every micro-batch.
    #[getter]
    fn no_idle_ranks(&self) -> bool {
        self.0.no_idle_ranks
    }

    /// bool: Whether degrees are powers of two, and groups lie at multiples of their degree.
    #[getter]
    fn aligned_powers_of_two(&self) -> bool {
        self.0.aligned_powers_of_two
    }

    /// int: The smallest degree.
    #[getter]
    fn min_degree(&self) -> u32 {
        self.0.min_degree.get()
    }

    /// int or None: The most tokens of a rank in one micro-batch.
    #[getter]
    fn max_tokens_per_rank(&self) -> Option<u64> {
        let cap: Option<Tokens> = self.0.token_cap.map(|cap| cap.tokens_per_rank);
        cap.map(|tokens| tokens.0)
    }

    /// bool: Whether that takes the place of the budget in bytes.
    #[getter]
    fn tokens_replace_memory(&self) -> bool {
        self.0.token_cap.is_some_and(|cap| cap.replaces_memory)
    }

    /// int: What the number of micro-batches is a multiple of.
    #[getter]
    fn micro_batches_multiple_of(&self) -> u32 {
        self.0.micro_batches_multiple_of.get()
    }

    /// int or None: The most sequences of a group.
    #[getter]
    fn max_sequences_per_group(&self) -> Option<u32> {
        self.0.max_sequences_per_group.map(NonZero::get)
    }

    fn __repr__(&self) -> String {
        let default = PlanRules::default();
        let truth = |name: &str, value: bool| value.then(|| format!("{name}=True"));
        let number = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let min_degree = (self.0.min_degree != Degree::ONE).then(|| self.min_degree().into());
        let multiple_of = self.0.micro_batches_multiple_of;
        let multiple_of = (multiple_of != default.micro_batches_multiple_of)
            .then(|| u64::from(multiple_of.get()));
        let parts = [
            truth("no_idle_ranks", self.0.no_idle_ranks),
            truth("aligned_powers_of_two", self.0.aligned_powers_of_two),
            number("min_degree", min_degree),
            number("max_tokens_per_rank", self.max_tokens_per_rank()),
            truth("tokens_replace_memory", self.tokens_replace_memory()),
            number("micro_batches_multiple_of", multiple_of),
            number(
                "max_sequences_per_group",
                self.max_sequences_per_group().map(u64::from),
            ),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("Rules({})", parts.join(", "))
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        keywords.set_item("no_idle_ranks", self.no_idle_ranks())?;
        keywords.set_item("aligned_powers_of_two", self.aligned_powers_of_two())?;
        keywords.set_item("min_degree", self.min_degree())?;
        keywords.set_item("max_tokens_per_rank", self.max_tokens_per_rank())?;
        keywords.set_item("tokens_replace_memory", self.tokens_replace_memory())?;
        keywords.set_item(
            "micro_batches_multiple_of",
            self.micro_batches_multiple_of(),
        )?;
        keywords.set_item("max_sequences_per_group", self.max_sequences_per_group())?;
        Ok((PyTuple::empty(py), keywords))
    }
}
