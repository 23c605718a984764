//! How a described model is divided beside the groups of its plan, and how those exchange.

use clap::Args;
use lengthwise_cost::ModelShare;
use lengthwise_inputs::Exchanges;

use crate::failure::Failure;

/// How groups exchange, and what each device has of the model.
#[derive(Args, Clone, Copy, Debug)]
pub struct ParallelismArgs {
    /// How groups exchange: ulysses (tokens for heads), ring (key/value blocks passed around) or ulysses,ring for either;
    /// only described clusters have costs of rings.
    #[arg(long, value_name = "NAME,…", default_value_t, value_parser = exchanges)]
    pub exchange: Exchanges,
    /// Devices that share every layer, on a described cluster; a rank of the plan then stands for all of them.
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub tensor_parallel: u32,
    /// Stages that layers are divided into, on a described cluster; a rank of the plan then stands for its devices in all of them.
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub pipeline_parallel: u32,
}

impl ParallelismArgs {
    /// What each device has of the model.
    pub fn share(&self) -> Result<ModelShare, Failure> {
        let share = ModelShare::new(self.tensor_parallel, self.pipeline_parallel);
        share.map_err(|error| Failure::input(error.to_string()))
    }

    /// Refuses what can't be simulated yet.
    pub fn check_simulated(&self) -> Result<(), Failure> {
        let hint = "lengthwise plan and lengthwise compare predict it";
        if self.exchange.has_rings() {
            let exchange = self.exchange;
            let message = format!(
                "--exchange {exchange}: only ulysses can be simulated in this version, groups that exchange heads"
            );
            return Err(Failure::input(message).hint(hint));
        }
        let (tensor, pipeline) = (self.tensor_parallel, self.pipeline_parallel);
        if !self.share()?.is_whole() {
            let message = format!(
                "--tensor-parallel {tensor} --pipeline-parallel {pipeline}: only 1 of each can be simulated in this version, \
                 devices that have all of the model"
            );
            return Err(Failure::input(message).hint(hint));
        }
        Ok(())
    }
}

fn exchanges(text: &str) -> Result<Exchanges, String> {
    text.parse::<Exchanges>()
        .map_err(|error| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        })
}
