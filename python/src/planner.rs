//! Planners as Python has them.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::Builder;

use lengthwise_inputs::InputError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::ahead::Ahead;
use crate::cost_arguments::{CostArguments, NamedProfile, WrittenCosts};
use crate::explanation::Explanation;
use crate::fault::Fault;
use crate::lengths;
use crate::plan::Plan;
use crate::planning::Planning;
use crate::planning_arguments::{PlanningArguments, WrittenPlanning};
use crate::profile::Profile;
use crate::promise::Promise;
use crate::rules::Rules;
use crate::token_budget::TokenBudget;
use crate::values;

/// Plans under way where nothing else is said.
const USUAL_DEPTH: NonZero<u32> = NonZero::new(4).expect("4 is not 0");

/// No more plans than that are made ahead.
const MOST_AHEAD: u64 = 1024;

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
///     The number of devices, of all ranks; as many as in the profile or the described cluster by default.
/// context : int or str, optional
///     No sequence may be longer, in tokens, for example "384k"; the profile's own by default, 65536 for a model.
/// degrees : iterable of int, optional
///     The degrees that groups may have; all that are possible by default.
/// strategies : str, optional
///     How groups may exchange: "ulysses" (tokens for heads), "ring" (key/value blocks passed around), "hybrid" (rings of
///     places that exchange tokens for heads), several with commas between them, or "all" that there are costs of, by
///     default.
/// activations : str, optional
///     What groups may do with activations: "keep", "recompute", "host" (recompute with the inputs of layers in host
///     memory), several with commas between them, or "all" that there are costs of, by default.
/// tensor_parallel : int, default 1
///     Devices that share every layer, on a described cluster; a rank of the plan then stands for all of them.
/// pipeline_parallel : int, default 1
///     Stages that layers are divided into, on a described cluster; a rank of the plan then stands for its devices in all
///     of them.
/// logits : str, optional
///     Whose logits a device holds at once on a described cluster: "whole", those of all its tokens (the default), or
///     "chunked", those of 1,024 tokens at a time.
/// planner : str, default "adaptive"
///     "adaptive", "static", "static:D", "batch-adaptive", "flexsp", "megatron" or "exhaustive".
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
        strategies = None,
        activations = None,
        tensor_parallel = None,
        pipeline_parallel = None,
        logits = None,
        planner = None,
        time_budget = None,
        threads = None,
        max_communicators = None,
        rules = None,
    ), text_signature = "(*, profile=None, cluster=None, model=None, devices=None, context=None, degrees=None, \
                         strategies=None, activations=None, tensor_parallel=1, pipeline_parallel=1, logits=None, planner=\"adaptive\", time_budget=None, threads=1, max_communicators=None, rules=None)")]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword")]
    fn new(
        py: Python<'_>,
        profile: Option<&Bound<'_, PyAny>>,
        cluster: Option<&Bound<'_, PyAny>>,
        model: Option<&Bound<'_, PyAny>>,
        devices: Option<&Bound<'_, PyAny>>,
        context: Option<&Bound<'_, PyAny>>,
        degrees: Option<&Bound<'_, PyAny>>,
        strategies: Option<&Bound<'_, PyAny>>,
        activations: Option<&Bound<'_, PyAny>>,
        tensor_parallel: Option<&Bound<'_, PyAny>>,
        pipeline_parallel: Option<&Bound<'_, PyAny>>,
        logits: Option<&Bound<'_, PyAny>>,
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
            strategies,
            activations,
            tensor_parallel,
            pipeline_parallel,
            logits,
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
    /// certificate : bool, default False
    ///     Whether to keep why no plan takes less than the bound, for `Plan.certificate`.
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
    /// Other Python threads run meanwhile, and Ctrl-C ends the call. What was being planned is then dropped once it is done.
    #[pyo3(signature = (lengths, /, *, certificate = false))]
    fn plan(
        &self,
        py: Python<'_>,
        lengths: &Bound<'_, PyAny>,
        certificate: bool,
    ) -> PyResult<Plan> {
        let seq_lens = lengths::read(lengths)?;
        let (done, plan) = Promise::new();
        let planning = Arc::clone(&self.0);
        // Only the thread that was called can look for Ctrl-C.
        let thread = Builder::new().name("lengthwise-plan".to_owned());
        thread.spawn(move || {
            // Nobody may wait for it any longer.
            let _ = done.send(planning.plan(seq_lens, certificate));
        })?;
        let made = plan.wait(py)?.map_err(|fault| fault.raise(py))?;
        Ok(Plan::made(made, Arc::clone(&self.0)))
    }

    /// Plan batches ahead, on threads of their own, while the caller trains.
    ///
    /// Parameters
    /// ----------
    /// batches : iterable of lengths
    ///     Global batches, each in a form that `plan` takes. The next one is drawn only when a plan is asked for, and no
    ///     more than `depth` are drawn before they are used.
    /// depth : int, default 4
    ///     The most plans under way.
    ///
    /// Returns
    /// -------
    /// Ahead
    ///     An iterator of `(lengths, plan)` in the order of `batches`, with the very objects that these gave.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     `batches` can't be iterated, or `depth` is not a whole number from 1 to 1024.
    ///
    /// Notes
    /// -----
    /// What `batches` or planning raises is raised in the place of that batch; after an error of planning, iteration can
    /// go on. Threads end once the iterator is gone, those that are planning as soon as they have a plan.
    #[pyo3(signature = (batches, /, *, depth = None), text_signature = "($self, batches, /, *, depth=4)")]
    fn ahead(
        &self,
        py: Python<'_>,
        batches: &Bound<'_, PyAny>,
        depth: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Ahead> {
        let depth = values::optional(depth, |depth| {
            values::whole_within("depth", depth, 1, MOST_AHEAD)
        })?;
        let depth = depth.and_then(|depth| NonZero::new(depth as u32));
        let Ok(iterator) = batches.try_iter() else {
            let fault = values::bad("batches", batches, "it must be an iterable of batches");
            return Err(fault.of_type().raise(py));
        };
        Ahead::new(Arc::clone(&self.0), iterator, depth.unwrap_or(USUAL_DEPTH))
    }

    /// Explain which degrees a length needs and may use.
    ///
    /// Parameters
    /// ----------
    /// seq_len : int or str
    ///     A length in tokens, for example 150_000 or "150k".
    ///
    /// Returns
    /// -------
    /// Explanation
    ///     All degrees with their time and memory, and why those that can't be used can't. `print` shows a table.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     What is no length, or longer than the context.
    #[pyo3(signature = (seq_len, /))]
    fn explain(&self, py: Python<'_>, seq_len: &Bound<'_, PyAny>) -> PyResult<Explanation> {
        let seq_len = values::tokens("seq_len", seq_len)?;
        let explanation = py.detach(|| {
            let context = self.0.costs.context;
            if seq_len > context {
                let place = "seq_len".to_owned();
                return Err(Fault::from(InputError::BeyondContext {
                    place,
                    seq_len,
                    context,
                }));
            }
            self.0.explain(seq_len)
        });
        explanation.map_err(|fault| fault.raise(py))
    }

    /// Say how many tokens the devices of a group can hold at once.
    ///
    /// Parameters
    /// ----------
    /// degree : int
    ///     The number of ranks of the group.
    ///
    /// Returns
    /// -------
    /// TokenBudget
    ///     The tokens of a device and of the group. Of unequal devices, the one with least memory decides.
    ///
    /// Raises
    /// ------
    /// InputError, InputTypeError
    ///     No group can have this degree.
    /// RuleError
    ///     The rules forbid it.
    fn token_budget(&self, py: Python<'_>, degree: &Bound<'_, PyAny>) -> PyResult<TokenBudget> {
        let degree = values::degree("degree", degree)?;
        let budget = self.0.token_budget(degree);
        budget.map_err(|fault| fault.raise(py))
    }

    /// int: The number of devices.
    #[getter]
    fn num_devices(&self) -> u32 {
        self.0.costs.num_devices()
    }

    /// int: The number of ranks of a plan; fewer than devices where several share the model.
    #[getter]
    fn num_ranks(&self) -> u32 {
        self.0.num_ranks()
    }

    /// int: The longest sequence in tokens.
    #[getter]
    fn context(&self) -> u64 {
        self.0.costs.context.0
    }

    /// tuple of int: The degrees to choose from, which the rules allow, increasing.
    #[getter]
    fn degrees<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let degrees: Vec<u32> = self
            .0
            .costs
            .space
            .degrees()
            .filter(|&degree| self.0.arguments.rules.allows_degree(degree))
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
            ..
        } = &*self.0;
        let num_devices = costs.num_devices();
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
