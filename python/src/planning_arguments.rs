//! Who plans, what planning may take, and what plans have to keep.

use std::num::NonZero;

use lengthwise_core::PlanRules;
use lengthwise_plan::{PlannerKind, PlannerOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::fault::Fault;
use crate::rules::Rules;
use crate::values;

/// No machine has more threads.
const MOST_THREADS: u64 = 4096;

/// Who plans, what planning may take, and what plans have to keep.
#[derive(Clone, Copy, Default)]
pub(crate) struct PlanningArguments {
    pub(crate) kind: PlannerKind,
    pub(crate) options: PlannerOptions,
    pub(crate) rules: PlanRules,
}

/// The same as Python hands them over.
pub(crate) struct WrittenPlanning<'a, 'py> {
    pub(crate) planner: Option<&'a Bound<'py, PyAny>>,
    pub(crate) time_budget: Option<&'a Bound<'py, PyAny>>,
    pub(crate) threads: Option<&'a Bound<'py, PyAny>>,
    pub(crate) max_communicators: Option<&'a Bound<'py, PyAny>>,
    pub(crate) rules: Option<&'a Bound<'py, PyAny>>,
}

impl PlanningArguments {
    /// Reads what Python hands over.
    pub(crate) fn read(py: Python<'_>, written: &WrittenPlanning<'_, '_>) -> PyResult<Self> {
        let kind = values::optional(written.planner, |value| values::text("planner", value))?;
        let kind = kind.map(|name| name.parse::<PlannerKind>()).transpose();
        let kind = kind.map_err(|unknown| Fault::input(format!("planner: {unknown}")).raise(py))?;
        let mut options = PlannerOptions::default();
        options.time_budget = values::optional(written.time_budget, |value| {
            values::duration("time_budget", value)
        })?;
        if let Some(threads) = written.threads {
            let threads = values::whole_within("threads", threads, 1, MOST_THREADS)?;
            options = options
                .with_num_threads(NonZero::new(threads as usize).unwrap_or(NonZero::<usize>::MIN));
        }
        options.max_communicators = values::optional(written.max_communicators, |value| {
            let number = values::whole_within("max_communicators", value, 0, u32::MAX.into())?;
            Ok(number as u32)
        })?;
        let planner = kind.unwrap_or_default();
        if options.max_communicators.is_some() && !planner.keeps_max_communicators() {
            let fault = Fault::input(format!(
                "max_communicators: it is not kept by the planner {planner}"
            ));
            let hint = "leave it out, or use the adaptive planner";
            return Err(fault.with_hint(hint).raise(py));
        }
        let rules = values::optional(written.rules, |value| match value.cast::<Rules>() {
            Ok(rules) => Ok(rules.get().0),
            Err(_) => {
                let fault = values::bad("rules", value, "it must be Rules(...)");
                Err(fault.of_type().raise(py))
            }
        })?;
        Ok(PlanningArguments {
            kind: kind.unwrap_or_default(),
            options,
            rules: rules.unwrap_or_default(),
        })
    }

    /// As keywords of a constructor.
    pub(crate) fn set_keywords(&self, keywords: &Bound<'_, PyDict>) -> PyResult<()> {
        keywords.set_item("planner", self.kind.to_string())?;
        let time_budget = self.options.time_budget;
        keywords.set_item("time_budget", time_budget.map(|time| time.as_secs_f64()))?;
        keywords.set_item("threads", self.options.num_threads)?;
        keywords.set_item("max_communicators", self.options.max_communicators)?;
        keywords.set_item("rules", Rules(self.rules))
    }
}
