//! How a described model is divided beside the groups of its plan, and what those may be like.

use clap::Args;
use lengthwise_core::{Activations, StrategyFamily};
use lengthwise_cost::{Logits, ModelShare};
use lengthwise_inputs::{ActivationChoices, Choice, Chosen, CostChanges, StrategyFamilies};

use crate::failure::Failure;

/// What groups may be like.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct StrategyArgs {
    /// How groups may exchange: ulysses (tokens for heads), ring (key/value blocks passed around), hybrid (rings of places
    /// that exchange tokens for heads), or all that there are costs of, which is the default.
    #[arg(long, value_name = "NAME,…", value_parser = chosen::<StrategyFamily>)]
    pub strategies: Option<StrategyFamilies>,
    /// What groups may do with activations: keep, recompute, host (recompute with the inputs of layers in host memory), or
    /// all that there are costs of, which is the default.
    #[arg(long, value_name = "NAME,…", value_parser = chosen::<Activations>)]
    pub activations: Option<ActivationChoices>,
}

/// What groups may be like, and what each device has of the model.
#[derive(Args, Clone, Copy, Debug)]
pub struct ParallelismArgs {
    /// What groups may be like.
    #[command(flatten)]
    pub strategies: StrategyArgs,
    /// Devices that share every layer, on a described cluster; a rank of the plan then stands for all of them.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub tensor_parallel: u32,
    /// Stages that layers are divided into, on a described cluster; a rank of the plan then stands for its devices in all of them.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub pipeline_parallel: u32,
    /// Whose logits a device holds at once on a described cluster: whole, those of all its tokens (the default), or chunked,
    /// those of 1,024 tokens at a time.
    #[arg(long, value_name = "WHICH", value_parser = logits)]
    pub logits: Option<Logits>,
}

impl ParallelismArgs {
    /// The costs of what is chosen.
    pub fn changes(self) -> CostChanges {
        CostChanges {
            strategies: self.strategies.strategies,
            activations: self.strategies.activations,
            logits: self.logits,
            ..CostChanges::default()
        }
    }

    /// What each device has of the model.
    pub fn share(&self) -> Result<ModelShare, Failure> {
        let share = ModelShare::new(self.tensor_parallel, self.pipeline_parallel);
        share.map_err(|error| Failure::input(error.to_string()))
    }

    /// Refuses what can't be simulated yet.
    ///
    /// # Errors
    ///
    /// Several devices share the model.
    pub fn check_simulated(&self) -> Result<(), Failure> {
        let (tensor, pipeline) = (self.tensor_parallel, self.pipeline_parallel);
        if !self.share()?.is_whole() {
            let message = format!(
                "--tensor-parallel {tensor} --pipeline-parallel {pipeline}: only 1 of each can be simulated in this version, \
                 devices that have all of the model"
            );
            return Err(
                Failure::input(message).hint("lengthwise plan and lengthwise compare predict it")
            );
        }
        Ok(())
    }
}

/// Reads the name of whose logits a device holds.
pub fn logits(name: &str) -> Result<Logits, String> {
    let known = Logits::ALL.into_iter().find(|logits| logits.name() == name);
    known.ok_or_else(|| "it must be whole or chunked".to_owned())
}

/// Reads names with commas between them.
fn chosen<T: Choice>(text: &str) -> Result<Chosen<T>, String> {
    text.parse::<Chosen<T>>()
        .map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
}
