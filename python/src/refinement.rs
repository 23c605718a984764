//! Planners whose costs measured steps refine.

use std::sync::Arc;

use lengthwise_core::{GlobalBatch, Seconds};
use lengthwise_cost::{
    MeasuredMicroBatch, MeasuredStep, Refinement as CoreRefinement, RefinementRule,
};
use pyo3::prelude::*;

use crate::fault::Fault;
use crate::plan::Plan;
use crate::planner::Planner;
use crate::planning::Planning;

/// Lets measured steps refine the costs of a planner, as `lengthwise train` does.
///
/// Parameters
/// ----------
/// planner : Planner
///     The planner to begin with, which stays as it is.
#[pyclass(module = "lengthwise._lengthwise")]
pub(crate) struct Refinement {
    planning: Arc<Planning>,
    refinement: CoreRefinement,
}

#[pymethods]
impl Refinement {
    #[new]
    #[pyo3(signature = (planner, /))]
    fn new(planner: &Bound<'_, Planner>) -> Self {
        let planning = Arc::clone(&planner.get().0);
        Refinement {
            refinement: CoreRefinement::new(planning.step_model(), RefinementRule::default()),
            planning,
        }
    }

    /// Refine the costs by a step that was run.
    ///
    /// Parameters
    /// ----------
    /// plan : Plan
    ///     How it was run.
    /// micro_batches_s : list of float
    ///     What each micro-batch took on the slowest rank, in seconds.
    /// rest_s : float
    ///     What the step took beside them.
    ///
    /// Returns
    /// -------
    /// Planner
    ///     The same planner with the refined costs. It pickles as the one that the refinement began with.
    #[pyo3(signature = (plan, micro_batches_s, rest_s, /))]
    fn observe(
        &mut self,
        py: Python<'_>,
        plan: &Bound<'_, Plan>,
        micro_batches_s: Vec<f64>,
        rest_s: f64,
    ) -> PyResult<Planner> {
        let file = &plan.get().0.file;
        let refined = Fault::catch(|| {
            let seconds = |time: f64| {
                Seconds::new(time)
                    .map_err(|error| Fault::input(format!("a measured time: {error}")))
            };
            let micro_batches = micro_batches_s.into_iter().map(|time| {
                Ok(MeasuredMicroBatch {
                    makespan: seconds(time)?,
                    groups: Vec::new(),
                })
            });
            let micro_batches = micro_batches.collect::<Result<Vec<_>, Fault>>()?;
            let seq_lens = file.lengths.seq_lens().iter().map(|seq_len| seq_len.0);
            let batch = GlobalBatch::from_lens(seq_lens)
                .map_err(|error| Fault::input(error.to_string()))?;
            let step = MeasuredStep {
                plan: &file.plan,
                batch: &batch,
                cluster: &self.planning.costs.cluster,
                micro_batches: &micro_batches,
                rest: seconds(rest_s)?,
            };
            let model = self.refinement.observe(step);
            let model = model.map_err(|error| Fault::input(error.to_string()))?;
            Ok(self.planning.refined(model.clone()))
        });
        let refined = refined.map_err(|fault| fault.raise(py))?;
        self.planning = Arc::new(refined);
        Ok(Planner(Arc::clone(&self.planning)))
    }
}
