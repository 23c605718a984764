//! Simulated steps as Python has them.

use lengthwise_core::Seconds;
use lengthwise_cost::{predict_micro_batch, predict_step};
use lengthwise_inputs::{Costs, OwnedProblem, PlanFile};
use lengthwise_sim::{SimulatedMicroBatch as SimMicroBatch, SimulatedStep, Usage};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::fault::Fault;

/// A step as an event-driven simulation finds it.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Simulation {
    step: SimulatedStep,
    predicted_step: Seconds,
    predicted_makespans: Vec<Seconds>,
}

impl Simulation {
    /// Simulates a plan under costs.
    pub(crate) fn run(file: &PlanFile, costs: &Costs) -> Result<Self, Fault> {
        Fault::catch(|| {
            let problem = OwnedProblem::new(costs.clone(), file.lengths.clone())?;
            problem.check_plan(&file.plan, file.rules)?;
            let (plan, batch) = (&file.plan, &problem.batch);
            let (model, cluster) = (&costs.model, &costs.cluster);
            let step = problem.simulated(plan)?;
            let micro_batches = plan.micro_batches().iter();
            Ok(Simulation {
                step,
                predicted_step: predict_step(plan, batch, cluster, model),
                predicted_makespans: micro_batches
                    .map(|micro_batch| predict_micro_batch(micro_batch, batch, cluster, model))
                    .collect(),
            })
        })
    }

    fn usage(&self) -> Usage {
        let mut all = Usage::default();
        for rank in &self.step.ranks {
            all += rank.usage;
        }
        all
    }
}

#[pymethods]
impl Simulation {
    /// float: The simulated time of the step in seconds.
    #[getter]
    fn step_s(&self) -> f64 {
        self.step.step.get()
    }

    /// float: What the costs predict for it, in seconds.
    #[getter]
    fn predicted_step_s(&self) -> f64 {
        self.predicted_step.get()
    }

    /// tuple of SimulatedMicroBatch: Its micro-batches, in order.
    #[getter]
    fn micro_batches<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let both = self
            .step
            .micro_batches
            .iter()
            .zip(&self.predicted_makespans);
        let all = both
            .enumerate()
            .map(|(index, (&simulated, &predicted))| SimulatedMicroBatch {
                index,
                simulated,
                predicted,
            });
        PyTuple::new(py, all.collect::<Vec<_>>())
    }

    /// float: The part of all ranks' time in which they compute.
    #[getter]
    fn compute_share(&self) -> f64 {
        let usage = self.usage();
        usage.share(usage.compute)
    }

    /// float: The part in which they wait for what is on its way.
    #[getter]
    fn communication_share(&self) -> f64 {
        let usage = self.usage();
        usage.share(usage.exposed_communication)
    }

    /// float: The part for fixed costs of micro-batches.
    #[getter]
    fn overhead_share(&self) -> f64 {
        let usage = self.usage();
        usage.share(usage.overhead)
    }

    /// float: The part in which they wait for other ranks.
    #[getter]
    fn idle_share(&self) -> f64 {
        let usage = self.usage();
        usage.share(usage.idle)
    }

    fn __repr__(&self) -> String {
        let num = self.step.micro_batches.len();
        format!(
            "Simulation({}, predicted {}, {num} micro-batch{}, {:.1} % idle)",
            self.step.step,
            self.predicted_step,
            if num == 1 { "" } else { "es" },
            100.0 * self.idle_share()
        )
    }
}

/// A micro-batch of a simulated step.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct SimulatedMicroBatch {
    index: usize,
    simulated: SimMicroBatch,
    predicted: Seconds,
}

#[pymethods]
impl SimulatedMicroBatch {
    /// int: Its position in the plan, counted from 0.
    #[getter]
    fn index(&self) -> usize {
        self.index
    }

    /// float: When the one before had ended on all ranks, in seconds.
    #[getter]
    fn start_s(&self) -> f64 {
        self.simulated.start.get()
    }

    /// float: From then until it had ended on all ranks itself, in seconds.
    #[getter]
    fn simulated_s(&self) -> f64 {
        self.simulated.makespan.get()
    }

    /// float: What the costs predict for it, in seconds.
    #[getter]
    fn predicted_s(&self) -> f64 {
        self.predicted.get()
    }

    /// float: The part of all ranks' time in which they wait for other ranks.
    #[getter]
    fn idle_share(&self) -> f64 {
        let usage = self.simulated.usage;
        usage.share(usage.idle)
    }

    fn __repr__(&self) -> String {
        format!(
            "SimulatedMicroBatch({}: {}, predicted {}, {:.1} % idle)",
            self.index,
            self.simulated.makespan,
            self.predicted,
            100.0 * self.idle_share()
        )
    }
}
