//! Plans as Python has them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lengthwise_core::{Group as CoreGroup, Rank, Seconds, Tokens};
use lengthwise_inputs::{MicroBatchPrediction, PlanFile};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::fault::Fault;
use crate::group::Group;
use crate::micro_batch::MicroBatch;
use crate::picture;
use crate::planner::Planner;
use crate::planning::{Made, Planning};
use crate::rank_work::RankWork;
use crate::rules::Rules;
use crate::simulation::Simulation;
use crate::values;

/// A plan, which its parts share, and what it was planned with, if that is known.
pub(crate) struct PlanData {
    pub(crate) file: PlanFile,
    certificate: Option<String>,
    pub(crate) planning: Option<Arc<Planning>>,
}

impl PlanData {
    /// What was predicted of a micro-batch.
    pub(crate) fn prediction(&self, micro_batch: usize) -> Option<&MicroBatchPrediction> {
        let predictions = self.file.predictions.as_ref()?;
        predictions.micro_batches.get(micro_batch)
    }

    /// The lengths of a group's sequences. A plan that was written by hand may name sequences that are not there.
    pub(crate) fn seq_lens(&self, group: &CoreGroup) -> impl Iterator<Item = Tokens> {
        let all = self.file.lengths.seq_lens();
        let sequences = group.sequences.iter();
        sequences.filter_map(|sequence| all.get(sequence.index()).copied())
    }
}

/// The decision for one global batch: micro-batches of groups of sequences.
///
/// Planners make plans, and `Plan.from_json` reads what `to_json` or ``lengthwise plan --json`` wrote. Plans are
/// equal if they assign the same sequences of the same lengths to the same groups. They pickle with all that JSON holds.
/// In notebooks a plan shows itself as a picture.
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Plan(pub(crate) Arc<PlanData>);

impl Plan {
    /// A plan that was read.
    pub(crate) fn read(file: PlanFile) -> Self {
        Plan(Arc::new(PlanData {
            file,
            certificate: None,
            planning: None,
        }))
    }

    /// A plan that was made here.
    pub(crate) fn made(made: Made, planning: Arc<Planning>) -> Self {
        Plan(Arc::new(PlanData {
            file: made.file,
            certificate: made.certificate,
            planning: Some(planning),
        }))
    }
}

#[pymethods]
impl Plan {
    /// tuple of MicroBatch: Its micro-batches, in the order in which they run.
    #[getter]
    fn micro_batches<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let num = self.0.file.plan.micro_batches().len();
        let all = (0..num).map(|index| MicroBatch::new(&self.0, index));
        PyTuple::new(py, all.collect::<Vec<MicroBatch>>())
    }

    /// tuple of int: The lengths that it is for, in tokens, of which its sequences are indices.
    #[getter]
    fn seq_lens<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let seq_lens = self.0.file.lengths.seq_lens();
        PyTuple::new(py, seq_lens.iter().map(|seq_len| seq_len.0))
    }

    /// float or None: The predicted time of the step in seconds.
    #[getter]
    fn predicted_step_s(&self) -> Option<f64> {
        let predicted = self.0.file.predictions.as_ref()?;
        Some(predicted.predicted_step.get())
    }

    /// float or None: No plan is predicted to take less, in seconds.
    #[getter]
    fn lower_bound_s(&self) -> Option<f64> {
        let predicted = self.0.file.predictions.as_ref()?;
        predicted.lower_bound.map(Seconds::get)
    }

    /// float or None: By what part of the bound the predicted time exceeds it at most.
    #[getter]
    fn gap(&self) -> Option<f64> {
        self.0.file.predictions.as_ref()?.gap
    }

    /// float or None: What planning took in seconds.
    #[getter]
    fn solve_s(&self) -> Option<f64> {
        let predicted = self.0.file.predictions.as_ref()?;
        predicted.solve_time.map(Seconds::get)
    }

    /// str or None: Why planning ended: "optimal", "converged", "time_budget" or "over_time_budget".
    #[getter]
    fn stop_reason(&self) -> Option<&str> {
        self.0.file.predictions.as_ref()?.stop_reason.as_deref()
    }

    /// str or None: Who planned.
    #[getter]
    fn planner(&self) -> Option<&str> {
        self.0.file.planner.as_deref()
    }

    /// Rules: What it keeps beyond memory; its bound holds for plans that do.
    #[getter]
    fn rules(&self) -> Rules {
        Rules(self.0.file.rules)
    }

    /// What one rank does, micro-batch by micro-batch.
    ///
    /// Parameters
    /// ----------
    /// rank : int
    ///     The global rank, counted from 0.
    ///
    /// Returns
    /// -------
    /// tuple of (RankWork or None)
    ///     One for each micro-batch, None where the rank idles.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     No rank of the plan's cluster. A plan that was read from JSON does not know its cluster.
    #[pyo3(signature = (rank, /))]
    fn for_rank<'py>(
        &self,
        py: Python<'py>,
        rank: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let planning = self.0.planning.as_ref();
        let num_ranks = planning.map_or(u32::MAX, |planning| planning.num_ranks());
        let rank = values::whole_within("rank", rank, 0, u64::from(num_ranks) - 1)?;
        let rank = Rank(rank as u32);
        let micro_batches = self.0.file.plan.micro_batches().iter().enumerate();
        let work = micro_batches.map(|(at, micro_batch)| {
            let found = micro_batch.group_of(rank);
            let work = found.map(|(group, group_rank)| {
                let mut groups = micro_batch.groups.iter();
                let index = groups.position(|other| std::ptr::eq(other, group));
                let group = Py::new(py, Group::new(&self.0, at, index.unwrap_or(0)))?;
                Ok::<_, PyErr>(RankWork::new(at, group, group_rank.0))
            });
            work.transpose()
        });
        PyTuple::new(py, work.collect::<PyResult<Vec<_>>>()?)
    }

    /// Simulate the step event by event.
    ///
    /// Parameters
    /// ----------
    /// cluster : str or os.PathLike, optional
    ///     Another cluster to run the plan on, whose links all that travels shares: a name such as "h200-8x8", or a file.
    ///     By default the plan's own: over its links where the cluster is described, with the exchange times of a
    ///     profile where costs come from one.
    /// planner : Planner, optional
    ///     Whose costs to simulate with; a plan that was read from JSON, or unpickled, has none of its own.
    ///
    /// Returns
    /// -------
    /// Simulation
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     There are no costs, the cluster is not known, or can't run the plan. Devices that share the model
    ///     by tensor or pipeline parallelism, can't be simulated yet.
    #[pyo3(signature = (cluster = None, *, planner = None))]
    fn simulate(
        &self,
        py: Python<'_>,
        cluster: Option<&Bound<'_, PyAny>>,
        planner: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Simulation> {
        let cluster = values::optional(cluster, |value| values::name("cluster", value))?;
        let planner = values::optional(planner, |value| match value.cast::<Planner>() {
            Ok(planner) => Ok(Arc::clone(&planner.get().0)),
            Err(_) => {
                let fault = values::bad("planner", value, "it must be a Planner");
                Err(fault.of_type().raise(py))
            }
        })?;
        let Some(planning) = planner.or_else(|| self.0.planning.clone()) else {
            let fault = Fault::input("the plan was read without costs; a simulation needs them");
            return Err(fault.with_hint("add planner=").raise(py));
        };
        let checked = planning.of_costs.check_simulated();
        checked.map_err(|fault| fault.raise(py))?;
        let simulated = py.detach(|| match cluster {
            None => Simulation::run(&self.0.file, &planning.costs),
            Some(cluster) => {
                let costs = Fault::catch(|| planning.of_costs.on_cluster(cluster).costs())?;
                Simulation::run(&self.0.file, &costs)
            }
        });
        simulated.map_err(|fault| fault.raise(py))
    }

    /// The plan as JSON on one line, which ``lengthwise simulate`` and `Plan.from_json` read.
    ///
    /// Returns
    /// -------
    /// str
    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        let json = py.detach(|| self.0.file.to_json());
        json.map_err(|error| {
            Fault::input(format!("the plan can't be written as JSON: {error}")).raise(py)
        })
    }

    /// Why no plan takes less than the bound, as JSON that ``lengthwise verify`` checks.
    ///
    /// Returns
    /// -------
    /// str
    ///     The problem with its costs as tables, the plan, and a proof of its bound.
    ///
    /// Raises
    /// ------
    /// InputError
    ///     The plan was made without a certificate, was read from JSON, or unpickled.
    fn certificate(&self, py: Python<'_>) -> PyResult<&str> {
        self.0.certificate.as_deref().ok_or_else(|| {
            let origin = match self.0.planning {
                Some(_) => "planned without one",
                None => "read from JSON, which holds none",
            };
            let fault = Fault::input(format!("the plan has no certificate: it was {origin}"));
            let hint = "ask for it as planner.plan(lengths, certificate=True)";
            fault.with_hint(hint).raise(py)
        })
    }

    /// Read a plan from JSON.
    ///
    /// Parameters
    /// ----------
    /// text : str or bytes
    ///     What `to_json` or ``lengthwise plan --json`` wrote, or what follows its format. All figures may be missing.
    ///
    /// Returns
    /// -------
    /// Plan
    ///
    /// Raises
    /// ------
    /// InputError
    ///     What is no plan, with the micro-batch and group of what breaks a rule.
    /// InputTypeError
    ///     What is no text.
    #[staticmethod]
    #[pyo3(signature = (text, /))]
    fn from_json(text: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = text.py();
        let bytes = match (text.cast::<PyString>(), text.cast::<PyBytes>()) {
            (Ok(text), _) => text.to_string_lossy().into_owned().into_bytes(),
            (_, Ok(bytes)) => bytes.as_bytes().to_vec(),
            _ => {
                let fault = values::bad("text", text, "it must be the JSON of a plan");
                return Err(fault.of_type().raise(py));
            }
        };
        let file = py.detach(|| Fault::catch(|| Ok(PlanFile::parse(&bytes, "text")?)));
        Ok(Plan::read(file.map_err(|fault| fault.raise(py))?))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Plan>().is_ok_and(|other| {
            let (left, right) = (&self.0.file, &other.get().0.file);
            left.plan == right.plan && left.lengths.seq_lens() == right.lengths.seq_lens()
        })
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.file.plan.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let file = &self.0.file;
        let mut text = format!("Plan({}", shortened(&file.plan.to_string()));
        if let Some(predicted) = &file.predictions {
            text += &format!(", predicted {}", predicted.predicted_step);
            if let Some(bound) = predicted.lower_bound {
                text += &format!(", bound {bound}");
            }
            if let Some(gap) = predicted.gap {
                text += &format!(", gap {:.2} %", gap * 100.0);
            }
        }
        text + ")"
    }

    /// The plan as a picture: ranks from top to bottom, time from left to right, a block for each group.
    ///
    /// Returns
    /// -------
    /// str
    ///     SVG, which notebooks show for a plan.
    fn to_svg(&self) -> String {
        let planning = self.0.planning.as_ref();
        picture::svg(&self.0.file, planning.map(|planning| planning.num_ranks()))
    }

    /// Show the plan in a notebook.
    fn _repr_svg_(&self) -> String {
        self.to_svg()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let class = py.get_type::<Plan>();
        Ok((class.getattr("from_json")?, (self.to_json(py)?,)))
    }
}

/// The degrees of so many micro-batches that they fit a line or two.
fn shortened(degrees: &str) -> String {
    const SHOWN: usize = 120;
    match degrees.char_indices().nth(SHOWN) {
        Some((end, _)) => {
            let end = degrees[..end].rfind('[').unwrap_or(end);
            format!("{}…", &degrees[..end])
        }
        None => degrees.to_owned(),
    }
}
