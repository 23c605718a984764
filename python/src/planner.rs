//! Planners as Python has them.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::cost_arguments::{CostArguments, NamedProfile, WrittenCosts};
use crate::lengths;
use crate::plan::Plan;
use crate::planning::Planning;
use crate::planning_arguments::{PlanningArguments, WrittenPlanning};
use crate::profile::Profile;
use crate::rules::Rules;

/// Chooses, for the lengths of a global batch, how devices are grouped and which sequence goes to which group.
///
/// Costs come from a `profile`, or follow from a `model` on a `cluster`. Names, defaults and errors are those of the
/// command `lengthwise plan`.
///
/// Parameters
/// ----------
/// profile : str, os.PathLike or Profile, optional
///     The cost profile, or its file in TOML.
/// cluster : str or os.PathLike, optional
///     The cluster whose devices and links costs follow from: a file, or nodes of a known device, such as "h100-8x8" for
///     8 nodes of 8 H100s.
/// model : str or os.PathLike, optional
///     The model on that cluster: a file, or a known one such as "llama-3.1-8b".
/// devices : int, optional
///     The number of devices; as many as in the profile or the described cluster by default.
/// context : int or str, optional
///     No sequence may be longer, in tokens, for example "384k"; the profile's own by default, 65536 for a model.
/// degrees : iterable of int, optional
///     The degrees that groups may have; all that are possible by default.
/// planner : str, default "adaptive"
///     "adaptive", "static", "static:D", "batch-adaptive", "flexsp" or "exhaustive".
/// time_budget : float or str, optional
///     How long planning may take, in seconds or as "10ms"; by default the effort depends on the batch alone, so that
///     the same lengths give the same plan.
/// threads : int, default 1
///     The number of threads to plan on; the plan does not depend on it.
/// max_communicators : int, optional
///     How many communicators all plans together may need; the adaptive planner then uses only degrees whose groups
///     recur.
/// rules : Rules, optional
///     What plans have to keep beyond memory.
///
/// Raises
/// ------
/// InputError, InputTypeError
///     An argument that can't be used, or a file that can't be read or breaks a rule.
///
/// Notes
/// -----
/// A planner can be shared between threads, and pickles: with the content of its profile, not with its path.
///
/// Examples
/// --------
/// >>> planner = Planner(model="llama-3.1-8b", cluster="h100-8x8", context="384k")
/// >>> plan = planner.plan([150_000, 8_000, 512, 512])
#[pyclass(frozen, module = "lengthwise")]
pub(crate) struct Planner(pub(crate) Arc<Planning>);

#[pymethods]
impl Planner {
    #[new]
    #[pyo3(signature = (
        *,
        profile = None,
        cluster = None,
        model = None,
        devices = None,
        context = None,
        degrees = None,
        planner = None,
        time_budget = None,
        threads = None,
        max_communicators = None,
        rules = None,
    ), text_signature = "(*, profile=None, cluster=None, model=None, devices=None, context=None, degrees=None, \
                         planner=\"adaptive\", time_budget=None, threads=1, max_communicators=None, rules=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn new(
        py: Python<'_>,
        profile: Option<&Bound<'_, PyAny>>,
        cluster: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        devices: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        degrees: Option<&Bound<'_, PyAny>>,
        planner: Option<&Bound<'_, PyAny>>,
        time_budget: Option<&Bound<'_, PyAny>>,
        threads: Option<&Bound<'_, PyAny>>,
        max_communicators: Option<&Bound<'_, PyAny>>,
        rules: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let of_costs = WrittenCosts {
            profile,
            cluster,
            model,
            devices,
            context,
            degrees,
        };
        let of_costs = CostArguments::read(py, &of_costs)?;
        let arguments = WrittenPlanning {
            planner,
            time_budget,
            threads,
            max_communicators,
            rules,
        };
        let arguments = PlanningArguments::read(py, &arguments)?;
        let planning = py.detach(|| Planning::new(of_costs, arguments));
        let planning = planning.map_err(|fault| fault.raise(py))?;
        Ok(Planner(Arc::new(planning)))
    }

    /// Plan one step.
    ///
    /// Parameters
    /// ----------
    /// lengths : sequence of int, array or tensor
    ///     The lengths of the global batch in tokens, shape (num_sequences,): a list, a NumPy array of any integer type,
    ///     a PyTorch tensor, or anything with the buffer protocol.
    ///
    /// Returns
    /// -------
    /// Plan
    ///     The plan with its predictions. The sequences of its groups are indices of `lengths`.
    ///
    /// Raises
    /// ------
    /// InfeasibleError
    ///     A sequence that fits no group.
    /// InputError, InputTypeError
    ///     Lengths that can't be used.
    /// RuleError
    ///     The planner has no plan that keeps the rules.
    ///
    /// Notes
    /// -----
    /// Other Python threads run meanwhile.
    #[pyo3(signature = (lengths, /))]
    fn plan(&self, py: Python<'_>, lengths: &Bound<'_, PyAny>) -> PyResult<Plan> {
        let seq_lens = lengths::read(lengths)?;
        let file = py.detach(|| self.0.plan(seq_lens));
        let file = file.map_err(|fault| fault.raise(py))?;
        Ok(Plan::new(file, Some(Arc::clone(&self.0))))
    }

    /// int: The number of devices, and so of ranks.
    #[getter]
    fn num_devices(&self) -> u32 {
        self.0.num_devices()
    }

    /// int: The longest sequence in tokens.
    #[getter]
    fn context(&self) -> u64 {
        self.0.costs.context.0
    }

    /// tuple of int: The degrees to choose from, increasing.
    #[getter]
    fn degrees<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let degrees: Vec<u32> = self
            .0
            .costs
            .space
            .degrees()
            .map(|degree| degree.get())
            .collect();
        PyTuple::new(py, degrees)
    }

    /// Rules: What plans have to keep.
    #[getter]
    fn rules(&self) -> Rules {
        Rules(self.0.arguments.rules)
    }

    /// Profile: The costs, as a profile that can be saved.
    #[getter]
    fn profile(&self) -> Profile {
        let costs = &self.0.costs;
        Profile::from(NamedProfile {
            profile: Arc::new(costs.profile().clone()),
            place: costs.name.clone(),
        })
    }

    fn __repr__(&self) -> String {
        let Planning {
            costs,
            of_costs,
            arguments,
        } = &*self.0;
        let num_devices = costs.cluster.num_devices();
        let (context, kind) = (costs.context, arguments.kind);
        let shown = of_costs.shown();
        format!("Planner({shown}, devices={num_devices}, context={context}, planner=\"{kind}\")")
    }

    fn __getnewargs_ex__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let keywords = PyDict::new(py);
        self.0.of_costs.set_keywords(&keywords)?;
        self.0.arguments.set_keywords(&keywords)?;
        Ok((PyTuple::empty(py), keywords))
    }
}
