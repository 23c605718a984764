//! Costs that follow from a model and a described cluster, as the command line names them.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use lengthwise_core::{Bytes, Cluster, StrategySpace, Tokens};
use lengthwise_cost::{
    AnalyticModel, Architecture, FittedModel, Hardware, HardwareError, ModelKind,
};

use crate::failure::Failure;
use crate::suggestion::suggestion;

/// A model on a described cluster.
#[derive(Clone, Debug)]
pub(crate) struct DescribedCosts {
    cluster_path: PathBuf,
    hardware: Hardware,
    model: ModelSource,
}

/// A model that is known by name, or described by a file.
#[derive(Clone, Debug)]
enum ModelSource {
    Known(ModelKind),
    File(Box<Architecture>),
}

impl DescribedCosts {
    /// The longest sequence where nothing else is said.
    pub(crate) const USUAL_CONTEXT: Tokens = Tokens(65_536);

    /// Reads a cluster file, and the model of a name or a file.
    pub(crate) fn read(cluster: &Path, model: &str) -> Result<Self, Failure> {
        Ok(DescribedCosts {
            cluster_path: cluster.to_owned(),
            hardware: Hardware::read(cluster).map_err(|error| file_failure(cluster, &error))?,
            model: ModelSource::named(model)?,
        })
    }

    /// The costs for sequences up to `context`, on another number of devices or with another memory where given.
    pub(crate) fn analytic(
        &self,
        num_devices: Option<u32>,
        memory: Option<Bytes>,
        context: Tokens,
    ) -> Result<AnalyticModel, Failure> {
        let mut hardware = self.hardware.clone();
        if let Some(num_devices) = num_devices {
            hardware = hardware
                .with_num_devices(num_devices)
                .map_err(|error| file_failure(&self.cluster_path, &error))?;
        }
        if let Some(memory) = memory {
            hardware = hardware.with_memory(memory);
        }
        Ok(AnalyticModel::new(
            self.model.architecture(context),
            hardware,
        ))
    }

    /// The devices.
    pub(crate) fn cluster(&self, analytic: &AnalyticModel) -> Result<Cluster, Failure> {
        let cluster = analytic.hardware().cluster();
        cluster.map_err(|error| file_failure(&self.cluster_path, &error))
    }

    /// Every degree that is possible.
    pub(crate) fn space(&self, analytic: &AnalyticModel) -> Result<StrategySpace, Failure> {
        let space = analytic.space();
        space.map_err(|error| file_failure(&self.cluster_path, &error))
    }

    /// What planners are given.
    pub(crate) fn model(&self, analytic: &AnalyticModel) -> Result<FittedModel, Failure> {
        analytic.model().map_err(|error| self.failure(&error))
    }

    /// A failure that names the cluster's file.
    pub(crate) fn failure(&self, error: &dyn Display) -> Failure {
        Failure::input(format!("{}: {error}", self.cluster_path.display()))
    }
}

impl ModelSource {
    fn named(text: &str) -> Result<Self, Failure> {
        let path = Path::new(text);
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let architecture =
                Architecture::read(path).map_err(|error| file_failure(path, &error))?;
            return Ok(ModelSource::File(Box::new(architecture)));
        }
        match text.parse() {
            Ok(kind) => Ok(ModelSource::Known(kind)),
            Err(_) => {
                let known = ModelKind::ALL.map(ModelKind::name);
                let failure = Failure::input(format!(
                    "there is no model {text}: neither a known one nor a file in TOML"
                ));
                Err(failure.hint(suggestion(text, &known, "known are")))
            }
        }
    }

    fn architecture(&self, context: Tokens) -> Architecture {
        match self {
            ModelSource::Known(kind) => kind.architecture(context.0),
            ModelSource::File(architecture) => (**architecture).clone().with_context(context.0),
        }
    }
}

/// A failure that names the file, unless the error does.
pub(crate) fn file_failure(path: &Path, error: &HardwareError) -> Failure {
    let message = error.to_string();
    let message = message.trim_end();
    let failure = match error {
        HardwareError::Unreadable { .. } | HardwareError::UnreadableModel { .. } => {
            let cause = error.source();
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            Failure::input(format!("{message}{cause}"))
        }
        _ => Failure::input(format!("{}: {message}", path.display())),
    };
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
