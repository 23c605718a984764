//! The groups of a plan.

use std::sync::Arc;

use lengthwise_core::{Group as CoreGroup, Tokens};
use lengthwise_inputs::GroupPrediction;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::plan::PlanData;
use crate::strategy::Strategy;

/// Ranks of one micro-batch that share the sequences assigned to them.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Group {
    plan: Arc<PlanData>,
    micro_batch: usize,
    index: usize,
}

impl Group {
    pub(crate) fn new(plan: &Arc<PlanData>, micro_batch: usize, index: usize) -> Self {
        let plan = Arc::clone(plan);
        Group {
            plan,
            micro_batch,
            index,
        }
    }

    fn core(&self) -> &CoreGroup {
        &self.plan.file.plan.micro_batches()[self.micro_batch].groups[self.index]
    }

    fn prediction(&self) -> Option<&GroupPrediction> {
        let micro_batch = self.plan.prediction(self.micro_batch)?;
        micro_batch.groups.get(self.index)
    }
}

#[pymethods]
impl Group {
    /// tuple of int: Its ranks.
    #[getter]
    fn ranks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.core().ranks.iter().map(|rank| rank.0))
    }

    /// int: The number of its ranks.
    #[getter]
    fn degree(&self) -> u32 {
        self.core().degree().get()
    }

    /// Strategy: How they share each sequence.
    #[getter]
    fn strategy(&self) -> Strategy {
        Strategy(self.core().strategy)
    }

    /// tuple of int: Its sequences, as indices of the plan's lengths, packed in this order.
    #[getter]
    fn sequences<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.core().sequences.iter().map(|sequence| sequence.0))
    }

    /// tuple of int: Their lengths in tokens, in the same order.
    #[getter]
    fn seq_lens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let seq_lens: Vec<u64> = self.plan.seq_lens(self.core()).map(|len| len.0).collect();
        PyTuple::new(py, seq_lens)
    }

    /// int: The tokens of all its sequences together.
    #[getter]
    fn num_tokens(&self) -> u64 {
        let tokens: Tokens = self.plan.seq_lens(self.core()).sum();
        tokens.0
    }

    /// float or None: The time that it is predicted to take, in seconds.
    #[getter]
    fn predicted_s(&self) -> Option<f64> {
        self.prediction()
            .map(|predicted| predicted.predicted_time.get())
    }

    /// int or None: What its sequences are predicted to need on each of its devices, in bytes.
    #[getter]
    fn memory_bytes(&self) -> Option<u64> {
        self.prediction()
            .map(|predicted| predicted.predicted_memory.0)
    }

    /// int or None: What they are predicted to need of its host for each of its devices, in bytes.
    #[getter]
    fn host_memory_bytes(&self) -> Option<u64> {
        self.prediction()
            .map(|predicted| predicted.predicted_host_memory.0)
    }

    fn __repr__(&self) -> String {
        let group = self.core();
        let ranks = runs(group.ranks.iter().map(|rank| rank.0));
        let (num, tokens) = (group.sequences.len(), self.num_tokens());
        let plural = if num == 1 { "" } else { "s" };
        let predicted = self.prediction();
        let predicted = predicted.map_or_else(String::new, |predicted| {
            let GroupPrediction {
                predicted_time: time,
                predicted_memory: memory,
                ..
            } = predicted;
            format!(", {time}, {memory}")
        });
        format!(
            "Group(degree {} on ranks {ranks}, {num} sequence{plural} of {tokens} tokens{predicted})",
            group.degree()
        )
    }
}

/// Ranks as `0-3, 8`.
fn runs(ranks: impl Iterator<Item = u32>) -> String {
    let mut ranks: Vec<u32> = ranks.collect();
    ranks.sort_unstable();
    let runs = ranks.chunk_by(|a, b| a + 1 == *b);
    let runs = runs.map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(u32::to_string).collect(),
    });
    runs.collect::<Vec<String>>().join(", ")
}
