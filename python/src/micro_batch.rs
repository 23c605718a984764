//! The micro-batches of a plan.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::group::Group;
use crate::plan::PlanData;

/// The part of a global batch that is in flight at once. Ranks in no group idle meanwhile.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct MicroBatch {
    plan: Arc<PlanData>,
    index: usize,
}

impl MicroBatch {
    pub(crate) fn new(plan: &Arc<PlanData>, index: usize) -> Self {
        let plan = Arc::clone(plan);
        MicroBatch { plan, index }
    }
}

#[pymethods]
impl MicroBatch {
    /// int: Its position in the plan, counted from 0.
    #[getter]
    fn index(&self) -> usize {
        self.index
    }

    /// tuple of Group: Its groups, which are disjoint.
    #[getter]
    fn groups<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let num_groups = self.plan.file.plan.micro_batches()[self.index].groups.len();
        let groups = (0..num_groups).map(|group| Group::new(&self.plan, self.index, group));
        PyTuple::new(py, groups.collect::<Vec<Group>>())
    }

    /// float or None: The time of its slowest group and its overhead, as predicted, in seconds.
    #[getter]
    fn predicted_s(&self) -> Option<f64> {
        let predicted = self.plan.prediction(self.index);
        predicted.map(|predicted| predicted.predicted_makespan.get())
    }

    fn __repr__(&self) -> String {
        let groups = &self.plan.file.plan.micro_batches()[self.index].groups;
        let degrees = lengthwise_core::Plan::new(vec![lengthwise_core::MicroBatch {
            groups: groups.clone(),
        }]);
        let num_sequences: usize = groups.iter().map(|group| group.sequences.len()).sum();
        let plural = if num_sequences == 1 { "" } else { "s" };
        let predicted = self.plan.prediction(self.index);
        let predicted = predicted.map_or_else(String::new, |predicted| {
            format!(", {}", predicted.predicted_makespan)
        });
        format!(
            "MicroBatch({}, degrees {degrees}, {num_sequences} sequence{plural}{predicted})",
            self.index
        )
    }
}
