//! How many tokens devices can hold, as Python has it.

use lengthwise_plan::{TokenBudget as PlanBudget, TokenLimit};
use pyo3::prelude::*;

use crate::strategy::Strategy;

/// How many tokens the devices of a group can hold at once.
///
/// `int()` of it is `tokens_per_device`.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct TokenBudget(pub(crate) PlanBudget);

#[pymethods]
impl TokenBudget {
    /// int: The number of ranks of the group.
    #[getter]
    fn degree(&self) -> u32 {
        self.0.strategy.degree().get()
    }

    /// Strategy: Of this degree, the one under which devices hold most.
    #[getter]
    fn strategy(&self) -> Strategy {
        Strategy(self.0.strategy)
    }

    /// int: The tokens of all sequences of a group together.
    #[getter]
    fn tokens_per_group(&self) -> u64 {
        self.0.tokens_per_group.0
    }

    /// int: The share of each device, in whole tokens.
    #[getter]
    fn tokens_per_device(&self) -> u64 {
        self.0.tokens_per_device().0
    }

    /// str or None: What bounds it: "memory", "rules", or nothing.
    #[getter]
    fn limit(&self) -> Option<&'static str> {
        self.0.limit.map(|limit| match limit {
            TokenLimit::Memory => "memory",
            TokenLimit::Rules => "rules",
        })
    }

    fn __int__(&self) -> u64 {
        self.tokens_per_device()
    }

    fn __index__(&self) -> u64 {
        self.tokens_per_device()
    }

    fn __repr__(&self) -> String {
        let (degree, limit) = (self.degree(), self.limit().unwrap_or("nothing"));
        let (device, group) = (self.tokens_per_device(), self.tokens_per_group());
        format!(
            "TokenBudget(degree {degree}: {device} tokens a device, {group} a group, bounded by {limit})"
        )
    }
}
