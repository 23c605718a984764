//! What costs follow from.

use std::path::{Path, PathBuf};

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Args};
use lengthwise_core::{Degree, Tokens};
use lengthwise_cost::{DeviceKind, ModelKind};
use lengthwise_inputs::{CostChanges, CostSource, Costs};
use lengthwise_outputs::Outputs;

use super::{ParallelismArgs, degree, devices};
use crate::failure::Failure;

/// What costs follow from: a profile, or a model on a described cluster; and for which devices, lengths and degrees.
///
/// Of each there is one, unless a command takes [`several`].
#[derive(Args, Clone, Debug)]
pub struct CostArgs {
    /// The cost profile, in TOML.
    #[arg(long, value_name = "FILE", action = ArgAction::Set)]
    pub profile: Vec<PathBuf>,
    /// The cluster whose devices and links costs follow from.
    #[arg(long, value_name = "NAME", help = known_clusters())]
    pub cluster: Option<String>,
    /// The model on that cluster.
    #[arg(long, value_name = "NAME", action = ArgAction::Set, requires = "cluster", help = known_models())]
    pub model: Vec<String>,
    /// How many devices there are; as many as in the profile or the described cluster by default.
    #[arg(long, value_name = "N", action = ArgAction::Set, value_parser = devices)]
    pub devices: Vec<u32>,
    /// No sequence may be longer, for example 384k; the profile's own by default, 65536 for a model.
    #[arg(long, value_name = "TOKENS", action = ArgAction::Set)]
    pub context: Vec<Tokens>,
    /// The degrees that groups may have, for example 1,2,4,8; all that are possible by default.
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = degree)]
    pub degrees: Option<Vec<Degree>>,
    /// What groups may be like, and what each device has of the model.
    #[command(flatten)]
    pub parallelism: ParallelismArgs,
}

fn known_clusters() -> String {
    let devices = DeviceKind::names();
    format!(
        "The cluster whose devices and links costs follow from: a file, or nodes of a known device, such as h100-8x8 for \
         8 nodes of 8 H100s; there are {devices}"
    )
}

fn known_models() -> String {
    format!(
        "The model on that cluster: a file, or a known one of {}",
        ModelKind::names()
    )
}

/// An argument that takes a list.
pub fn several(arg: Arg, value_name: &'static str, help: impl Into<StyledStr>) -> Arg {
    let arg = arg.action(ArgAction::Append).value_delimiter(',');
    arg.value_name(value_name).help(help.into())
}

impl CostArgs {
    /// Declares the files that costs follow from; names of what is known are none.
    pub fn declare(&self, outputs: &mut Outputs) {
        for profile in &self.profile {
            outputs.reads("the file of --profile", profile);
        }
        if let Some(cluster) = &self.cluster {
            outputs.reads("the file of --cluster", Path::new(cluster));
        }
        for model in &self.model {
            outputs.reads("the file of --model", Path::new(model));
        }
    }

    /// The costs of a command that takes one of each.
    pub fn costs(&self) -> Result<Costs, Failure> {
        let source = match (self.profile.first(), &self.cluster, self.model.first()) {
            (Some(profile), None, _) => CostSource::profile(profile)?,
            (Some(profile), Some(cluster), _) => CostSource::profile_on_cluster(profile, cluster)?,
            (None, Some(cluster), Some(model)) => CostSource::described(cluster, model)?,
            (None, Some(_), None) => {
                let failure = Failure::input("--cluster says nothing of what is computed");
                return Err(failure.hint("add --profile FILE, or --model NAME"));
            }
            (None, None, _) => {
                return Err(Failure::input(
                    "--profile, or --cluster and --model, are missing",
                ));
            }
        };
        let changes = CostChanges {
            num_devices: self.devices.first().copied(),
            context: self.context.first().copied(),
            ..self.parallelism.changes()
        };
        let source = source.with_share(self.parallelism.share()?)?;
        Ok(source.costs(changes, self.degrees.as_deref())?)
    }
}
