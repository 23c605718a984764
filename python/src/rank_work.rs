//! What one rank does in a micro-batch.

use pyo3::prelude::*;

use crate::group::Group;

/// What one rank does in a micro-batch: the group that it works in, and its place there.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct RankWork {
    micro_batch: usize,
    group: Py<Group>,
    group_rank: u32,
}

impl RankWork {
    pub(crate) fn new(micro_batch: usize, group: Py<Group>, group_rank: u32) -> Self {
        RankWork {
            micro_batch,
            group,
            group_rank,
        }
    }
}

#[pymethods]
impl RankWork {
    /// int: The micro-batch's position in the plan, counted from 0.
    #[getter]
    fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// Group: The group that the rank works in.
    #[getter]
    fn group(&self, py: Python<'_>) -> Py<Group> {
        self.group.clone_ref(py)
    }

    /// int: Its place in the group, from 0 to `group.degree - 1`: group ranks follow increasing ranks.
    #[getter]
    fn group_rank(&self) -> u32 {
        self.group_rank
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let group = self.group.bind(py).repr()?;
        let (micro_batch, group_rank) = (self.micro_batch, self.group_rank);
        Ok(format!(
            "RankWork(micro_batch={micro_batch}, group_rank={group_rank}, group={group})"
        ))
    }
}
