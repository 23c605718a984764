//! A survey of costs, which `lengthwise.torch.profile` runs the micro-batches of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lengthwise_core::{
    Activations, Bytes, Cluster, CoreError, Degree, Device, Seconds, SpaceLimits, Speed,
    Strategy as CoreStrategy, StrategyFamily, StrategyKind, StrategySpace, Tokens,
};
use lengthwise_cost::format::StrategyRecord;
use lengthwise_cost::{CoreSharing, FittedCosts, HostCosts, KindCosts, MeasuredFor, MeasuredParts};
use lengthwise_inputs::{ActivationChoices, Lengths, PlanFile, StrategyFamilies};
use lengthwise_survey::{
    ProfileHeader, REPEATED_BELOW_S, REPEATS, Subject, Survey as CoreSurvey, SurveyError,
    SurveyRule, Surveyed,
};
use pyo3::prelude::*;
use serde::Deserialize;

use crate::cost_arguments::{NamedProfile, chosen};
use crate::fault::Fault;
use crate::lengths;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::strategy::Strategy;

/// What is known without measuring, as `lengthwise.torch` writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SurveySettings {
    name: String,
    /// The ranks of each node, which follow each other.
    ranks_by_node: Vec<u32>,
    /// That all ranks share; none where each has a device of its own.
    num_cores: Option<u32>,
    context_tokens: u64,
    device_memory_bytes: u64,
    /// Of the host, for activations.
    host_memory_bytes: u64,
    fixed_memory_bytes: f64,
    strategies: Vec<MeasuredStrategy>,
    /// Of the inputs of layers that are moved there, over all layers.
    host_bytes_per_token: f64,
    /// Parameters, gradients and moments of all ranks.
    sharded_bytes: u64,
    /// In one pass through all layers, whether forward or backward.
    exchanged_bytes_per_token: f64,
    /// As the user has chosen them.
    degrees: Option<Vec<u32>>,
    time_budget_s: f64,
    num_held_out: u32,
    measured_for: MeasuredFor,
}

/// A strategy that is measured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasuredStrategy {
    strategy: StrategyRecord,
    /// That each token of a group adds on each of its ranks.
    memory_bytes_per_token: f64,
}

impl SurveySettings {
    /// What groups exchange for a token, by what they do with activations.
    fn exchanged_bytes_per_token(&self) -> BTreeMap<Activations, f64> {
        let strategies = self.strategies.iter();
        let choices = strategies.map(|measured| measured.strategy.0.activations());
        let exchanged = choices.map(|choice| {
            let passes = if choice.recomputes() { 3.0 } else { 2.0 };
            (choice, passes * self.exchanged_bytes_per_token)
        });
        exchanged.collect()
    }

    /// What devices hold. What hops of rings and copies to hosts take is part of what is measured.
    fn known(&self) -> FittedCosts {
        let mut kinds: BTreeMap<StrategyKind, KindCosts> = BTreeMap::new();
        for measured in &self.strategies {
            let strategy = measured.strategy.0;
            let costs = kinds.entry(strategy.kind()).or_default();
            let memory = (strategy.degree(), measured.memory_bytes_per_token);
            costs.memory_bytes_per_token.push(memory);
            if strategy.activations() == Activations::Host {
                costs.host = Some(HostCosts {
                    forward_share: 0.0,
                    copy_s_per_token: 0.0,
                    bytes_per_token: self.host_bytes_per_token,
                });
            }
        }
        FittedCosts {
            fixed_memory_bytes: self.fixed_memory_bytes,
            kinds,
            ..FittedCosts::default()
        }
    }

    fn surveyed(&self) -> Result<Surveyed, SurveyError> {
        let device = Device::new(Bytes(self.device_memory_bytes), Speed::NOMINAL)
            .with_host_memory(Bytes(self.host_memory_bytes));
        let nodes = self.ranks_by_node.iter();
        let cluster = Cluster::from_nodes(nodes.map(|&of| vec![device; of as usize]).collect())?;
        let num_ranks = cluster.num_devices();
        let sharing = self.num_cores.map_or_else(
            || CoreSharing::apart(num_ranks),
            |num_cores| CoreSharing::new(num_ranks, num_cores),
        );
        let strategies = self.strategies.iter();
        Ok(Surveyed {
            cluster,
            space: StrategySpace::new(strategies.map(|measured| measured.strategy.0))?,
            context: Tokens(self.context_tokens),
            // A rank with fewer heads leaves a shared core to the others.
            num_heads: (!sharing.is_shared()).then_some(self.measured_for.heads as u32),
            sharing,
            sharing_by_clock: sharing,
            device_memory: Bytes(self.device_memory_bytes),
            known: self.known(),
        })
    }

    fn header(self) -> Result<ProfileHeader, SurveyError> {
        let exchanged_bytes_per_token = self.exchanged_bytes_per_token();
        let degrees = self.degrees.map(|degrees| {
            let degrees = degrees.into_iter().map(Degree::new);
            degrees.collect::<Result<Vec<Degree>, _>>()
        });
        Ok(ProfileHeader {
            name: self.name,
            measured_for: self.measured_for,
            degrees: degrees.transpose()?,
            exchanged_bytes_per_token,
            sharded: Bytes(self.sharded_bytes),
        })
    }
}

fn fault(error: SurveyError) -> Fault {
    Fault::input(error.to_string())
}

/// Decides which micro-batches to run to learn what sequences cost.
///
/// Parameters
/// ----------
/// settings : str
///     What is known without measuring, in JSON.
#[pyclass(module = "lengthwise._lengthwise")]
pub(crate) struct Survey {
    /// None once it has ended.
    survey: Option<CoreSurvey>,
    header: ProfileHeader,
    present: Option<Subject>,
}

impl Survey {
    fn running(&mut self) -> Result<&mut CoreSurvey, Fault> {
        self.survey
            .as_mut()
            .ok_or_else(|| Fault::internal("the survey has ended"))
    }
}

#[pymethods]
impl Survey {
    #[new]
    #[pyo3(signature = (settings, /))]
    fn new(py: Python<'_>, settings: &str) -> PyResult<Self> {
        let made = Fault::catch(|| {
            let settings: SurveySettings = serde_json::from_str(settings)
                .map_err(|error| Fault::input(format!("settings of a survey: {error}")))?;
            let rule = SurveyRule {
                num_held_out: settings.num_held_out,
                ..SurveyRule::thorough(Duration::from_secs_f64(settings.time_budget_s))
            };
            let surveyed = settings.surveyed().map_err(fault)?;
            Ok(Survey {
                survey: Some(CoreSurvey::new(surveyed, rule)),
                header: settings.header().map_err(fault)?,
                present: None,
            })
        });
        made.map_err(|fault| fault.raise(py))
    }

    /// Return the strategies that are worth measuring, a rank on its own among them.
    ///
    /// Parameters
    /// ----------
    /// strategies, activations : str
    ///     As `Planner` takes them.
    /// num_heads : int
    ///     The query heads of the model.
    /// ranks_per_node, num_ranks : int
    ///     The ranks of a node, and all.
    /// degrees : list of int or None
    ///     The only degrees beside 1.
    #[staticmethod]
    #[pyo3(signature = (strategies, activations, num_heads, ranks_per_node, num_ranks, degrees, /))]
    fn strategies(
        py: Python<'_>,
        strategies: &Bound<'_, PyAny>,
        activations: &Bound<'_, PyAny>,
        num_heads: u32,
        ranks_per_node: u32,
        num_ranks: u32,
        degrees: Option<Vec<u32>>,
    ) -> PyResult<Vec<Strategy>> {
        let families: StrategyFamilies = chosen("strategies", strategies)?;
        let activations: ActivationChoices = chosen("activations", activations)?;
        let found = Fault::catch(|| {
            let families: Vec<_> = families.listed_of(&StrategyFamily::ALL).collect();
            let activations: Vec<_> = activations.listed_of(&Activations::ALL).collect();
            let limits = SpaceLimits {
                num_heads: Some(num_heads),
                ranks_per_node,
                num_ranks,
            };
            let degrees = degrees.map(|degrees| degrees.into_iter().map(Degree::new).collect());
            let degrees: Option<Vec<Degree>> = degrees
                .transpose()
                .map_err(|error: CoreError| fault(error.into()))?;
            let space = StrategySpace::chosen(&families, &activations, limits, degrees.as_deref());
            let space = space.map_err(|error| fault(error.into()))?;
            let alone = activations.iter();
            let alone = alone.map(|&choice| CoreStrategy::ulysses(Degree::ONE, choice));
            let all = StrategySpace::new(space.strategies().iter().copied().chain(alone));
            let all = all.map_err(|error| fault(error.into()))?;
            Ok(all.strategies().iter().copied().map(Strategy).collect())
        });
        found.map_err(|fault| fault.raise(py))
    }

    /// Choose the micro-batch to run next, after so many seconds; None if enough is known or time is up.
    ///
    /// Returns
    /// -------
    /// Plan or None
    ///     Of one micro-batch.
    #[pyo3(signature = (elapsed_s, /))]
    fn next(&mut self, py: Python<'_>, elapsed_s: f64) -> PyResult<Option<Plan>> {
        let plan = Fault::catch(|| {
            let survey = self.running()?;
            let next = survey.next(elapsed_s).map_err(fault)?;
            let plan = next.map(|subject| {
                let trial = survey.trial_mut(subject);
                let seq_lens = trial.seq_lens().iter().map(|&seq_len| Tokens(seq_len));
                PlanFile {
                    plan: trial.plan().clone(),
                    lengths: Lengths::drawn(seq_lens.collect(), lengths::NAME),
                    planner: None,
                    rules: lengthwise_core::PlanRules::default(),
                    predictions: None,
                }
            });
            self.present = next;
            Ok(plan.map(Plan::read))
        });
        plan.map_err(|fault| fault.raise(py))
    }

    /// Note what the micro-batch took each time it was run.
    ///
    /// Parameters
    /// ----------
    /// at_s : float
    ///     Around when, in seconds since measuring began.
    /// all_s : list of float
    ///     The time of each run on the slowest rank, in seconds.
    /// peak_memory_bytes : float
    ///     The most that a device held; 0 if that is not known.
    /// exchange_s : float
    ///     Of the fastest run, what the mean rank that has work has exchanged, in seconds.
    #[pyo3(signature = (at_s, all_s, peak_memory_bytes, exchange_s, /))]
    fn record(
        &mut self,
        py: Python<'_>,
        at_s: f64,
        all_s: Vec<f64>,
        peak_memory_bytes: f64,
        exchange_s: f64,
    ) -> PyResult<()> {
        let recorded = Fault::catch(|| {
            let Some(subject) = self.present else {
                return Err(Fault::internal("no micro-batch was asked for"));
            };
            let trial = self.running()?.trial_mut(subject);
            // The clock's resolution is the least that anything takes.
            let all_s: Vec<f64> = all_s.iter().map(|seconds| seconds.max(1e-9)).collect();
            trial.record(at_s, &all_s).map_err(fault)?;
            trial.record_peak_memory(peak_memory_bytes);
            let parts = MeasuredParts {
                exchange_s,
                ..MeasuredParts::default()
            };
            let fastest = all_s.iter().copied().fold(f64::INFINITY, f64::min);
            trial.record_parts(parts, fastest);
            Ok(())
        });
        recorded.map_err(|fault| fault.raise(py))
    }

    /// int: Different micro-batches so far.
    #[getter]
    fn num_trials(&self) -> usize {
        let survey = self.survey.as_ref();
        survey.map_or(0, CoreSurvey::num_trials)
    }

    /// float: The relative error that is to be expected of typical micro-batches.
    #[getter]
    fn expected_error(&self) -> f64 {
        let survey = self.survey.as_ref();
        survey.map_or(1.0, CoreSurvey::expected_error)
    }

    /// End the survey.
    ///
    /// Parameters
    /// ----------
    /// step_s : float
    ///     What a step takes beside its micro-batches, in seconds.
    /// elapsed_s : float
    ///     What measuring took.
    ///
    /// Returns
    /// -------
    /// Profile
    #[pyo3(signature = (step_s, elapsed_s, /))]
    fn finish(&mut self, py: Python<'_>, step_s: f64, elapsed_s: f64) -> PyResult<Profile> {
        let profile = Fault::catch(|| {
            let survey = self.survey.take();
            let survey = survey.ok_or_else(|| Fault::internal("the survey has ended"))?;
            let step = Seconds::new(step_s).map_err(|error| fault(error.into()))?;
            let measured = survey.finish(step, elapsed_s).map_err(fault)?;
            let profile = measured.profile(self.header.clone());
            Ok(Profile::from(NamedProfile {
                place: profile.name.clone(),
                profile: Arc::new(profile),
            }))
        });
        profile.map_err(|fault| fault.raise(py))
    }

    /// How often a micro-batch that takes less than `REPEATED_BELOW_S` is run at once.
    #[classattr]
    #[pyo3(name = "REPEATS")]
    fn repeats() -> u32 {
        REPEATS
    }

    /// Runs shorter than this, in seconds, are repeated at once.
    #[classattr]
    #[pyo3(name = "REPEATED_BELOW_S")]
    fn repeated_below_s() -> f64 {
        REPEATED_BELOW_S
    }
}
