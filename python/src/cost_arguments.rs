//! What costs follow from: the one place for the arguments that the command calls cost arguments.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use lengthwise_core::{Degree, Tokens};
use lengthwise_cost::{Logits, ModelShare, Profile as CostProfile};
use lengthwise_inputs::{
    ActivationChoices, Choice, Chosen, CostChanges, CostSource, Costs, InputError, StrategyFamilies,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::fault::Fault;
use crate::profile::Profile;
use crate::values;

/// A profile, or a model on a described cluster; and for which devices, lengths and degrees.
#[derive(Clone, Default)]
pub(crate) struct CostArguments {
    profile: Option<NamedProfile>,
    cluster: Option<String>,
    model: Option<String>,
    devices: Option<u32>,
    context: Option<Tokens>,
    degrees: Option<Vec<Degree>>,
    strategies: Option<StrategyFamilies>,
    activations: Option<ActivationChoices>,
    logits: Option<Logits>,
    share: ModelShare,
}

/// A profile, and what errors call it: its file, or its name.
#[derive(Clone)]
pub(crate) struct NamedProfile {
    pub(crate) profile: Arc<CostProfile>,
    pub(crate) place: String,
}

/// The same as Python hands them over.
#[derive(Default)]
pub(crate) struct WrittenCosts<'a, 'py> {
    pub(crate) profile: Option<&'a Bound<'py, PyAny>>,
    pub(crate) cluster: Option<&'a Bound<'py, PyAny>>,
    pub(crate) model: Option<&'a Bound<'py, PyAny>>,
    pub(crate) devices: Option<&'a Bound<'py, PyAny>>,
    pub(crate) context: Option<&'a Bound<'py, PyAny>>,
    pub(crate) degrees: Option<&'a Bound<'py, PyAny>>,
    pub(crate) strategies: Option<&'a Bound<'py, PyAny>>,
    pub(crate) activations: Option<&'a Bound<'py, PyAny>>,
    pub(crate) tensor_parallel: Option<&'a Bound<'py, PyAny>>,
    pub(crate) pipeline_parallel: Option<&'a Bound<'py, PyAny>>,
    pub(crate) logits: Option<&'a Bound<'py, PyAny>>,
}

impl NamedProfile {
    /// Reads a profile file.
    pub(crate) fn read(path: &str) -> Result<Self, Fault> {
        let profile = CostProfile::read(Path::new(path));
        let profile = profile.map_err(|error| InputError::profile(Path::new(path), error))?;
        Ok(NamedProfile {
            profile: Arc::new(profile),
            place: path.to_owned(),
        })
    }

    /// A profile as Python names it: itself, or its file.
    fn of(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(profile) = value.cast::<Profile>() {
            return Ok(profile.get().named().clone());
        }
        let path = values::name("profile", value)?;
        Self::read(&path).map_err(|fault| fault.raise(value.py()))
    }
}

/// What groups may be like: names with commas between them, or all.
pub(crate) fn chosen<T: Choice>(
    keyword: &'static str,
    value: &Bound<'_, PyAny>,
) -> PyResult<Chosen<T>> {
    let chosen = values::text(keyword, value)?.parse::<Chosen<T>>();
    chosen.map_err(|error| Fault::from(error).raise(value.py()))
}

/// Whose logits a device holds at once.
fn logits(value: &Bound<'_, PyAny>) -> PyResult<Logits> {
    let logits = values::text("logits", value)?.parse::<Logits>();
    logits.map_err(|error| Fault::input(error.to_string()).raise(value.py()))
}

/// What each device has of the model.
fn share(py: Python<'_>, written: &WrittenCosts<'_, '_>) -> PyResult<ModelShare> {
    let number = |name, value| {
        let number = values::optional(value, |value| values::positive(name, value))?;
        PyResult::Ok(number.map_or(1, NonZero::get))
    };
    let tensor_parallel = number("tensor_parallel", written.tensor_parallel)?;
    let pipeline_parallel = number("pipeline_parallel", written.pipeline_parallel)?;
    let share = ModelShare::new(tensor_parallel, pipeline_parallel);
    share.map_err(|error| Fault::input(error.to_string()).raise(py))
}

impl CostArguments {
    /// Reads what Python hands over.
    pub(crate) fn read(py: Python<'_>, written: &WrittenCosts<'_, '_>) -> PyResult<Self> {
        let name = |name, value| values::optional(value, |value| values::name(name, value));
        let arguments = CostArguments {
            profile: values::optional(written.profile, NamedProfile::of)?,
            cluster: name("cluster", written.cluster)?,
            model: name("model", written.model)?,
            devices: values::optional(written.devices, |value| values::devices("devices", value))?,
            context: values::optional(written.context, |value| values::tokens("context", value))?,
            degrees: values::optional(written.degrees, |value| values::degrees("degrees", value))?,
            strategies: values::optional(written.strategies, |value| chosen("strategies", value))?,
            activations: values::optional(written.activations, |value| {
                chosen("activations", value)
            })?,
            logits: values::optional(written.logits, logits)?,
            share: share(py, written)?,
        };
        arguments.check().map_err(|fault| fault.raise(py))?;
        Ok(arguments)
    }

    /// The rules of `lengthwise plan`.
    fn check(&self) -> Result<(), Fault> {
        match (&self.profile, &self.cluster, &self.model) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(()),
            (Some(_), Some(_), _) => Err(Fault::input(
                "profile and cluster are both given; costs follow from one of them",
            )),
            (Some(_), None, Some(_)) => Err(Fault::input(
                "profile and model are both given; a profile is of one model",
            )),
            (None, Some(_), None) => {
                let fault = Fault::input("cluster says nothing of what is computed");
                Err(fault.with_hint("add model, or give profile instead"))
            }
            (None, None, _) => Err(Fault::input("profile, or cluster and model, are missing")),
        }
    }

    /// The costs that follow.
    pub(crate) fn costs(&self) -> Result<Costs, Fault> {
        let source = match (&self.profile, &self.cluster, &self.model) {
            (Some(named), cluster, _) => {
                let profile = CostProfile::clone(&named.profile);
                CostSource::measured(profile, Path::new(&named.place), cluster.as_deref())
            }
            (None, Some(cluster), Some(model)) => CostSource::described(cluster, model),
            (None, ..) => return Err(Fault::input("profile, or cluster and model, are missing")),
        };
        let changes = CostChanges {
            num_devices: self.devices,
            context: self.context,
            strategies: self.strategies,
            activations: self.activations,
            logits: self.logits,
            ..CostChanges::default()
        };
        let source = source?.with_share(self.share)?;
        Ok(source.costs(changes, self.degrees.as_deref())?)
    }

    /// Refuses what can't be simulated yet.
    pub(crate) fn check_simulated(&self) -> Result<(), Fault> {
        let (tensor, pipeline) = (self.share.tensor_parallel(), self.share.pipeline_parallel());
        if self.share.is_whole() {
            return Ok(());
        }
        let message = format!(
            "tensor_parallel={tensor}, pipeline_parallel={pipeline}: only 1 of each can be simulated in this version, devices \
             that have all of the model"
        );
        Err(Fault::input(message).with_hint("Planner.plan predicts it"))
    }

    /// The same model on another cluster, with all of its devices.
    pub(crate) fn on_cluster(&self, cluster: String) -> Self {
        CostArguments {
            cluster: Some(cluster),
            devices: None,
            degrees: None,
            ..self.clone()
        }
    }

    /// As keywords of a constructor.
    pub(crate) fn set_keywords(&self, keywords: &Bound<'_, PyDict>) -> PyResult<()> {
        let profile = self.profile.clone().map(Profile::from);
        keywords.set_item("profile", profile)?;
        keywords.set_item("cluster", &self.cluster)?;
        keywords.set_item("model", &self.model)?;
        keywords.set_item("devices", self.devices)?;
        keywords.set_item("context", self.context.map(|context| context.0))?;
        let degrees = self.degrees.as_ref();
        let degrees =
            degrees.map(|all| all.iter().map(|degree| degree.get()).collect::<Vec<u32>>());
        keywords.set_item("degrees", degrees)?;
        let strategies = self.strategies.as_ref();
        keywords.set_item("strategies", strategies.map(ToString::to_string))?;
        let activations = self.activations.as_ref();
        keywords.set_item("activations", activations.map(ToString::to_string))?;
        keywords.set_item("logits", self.logits.map(Logits::name))?;
        keywords.set_item("tensor_parallel", self.share.tensor_parallel())?;
        keywords.set_item("pipeline_parallel", self.share.pipeline_parallel())
    }

    /// What costs follow from, as `repr` shows it.
    pub(crate) fn shown(&self) -> String {
        let text = |name: &str, value: &Option<String>| {
            let value = value.as_ref();
            value.map(|value| format!("{name}={value:?}"))
        };
        let profile = self.profile.as_ref();
        let parts = [
            profile.map(|named| format!("profile={:?}", named.place)),
            text("model", &self.model),
            text("cluster", &self.cluster),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(", ")
    }
}
