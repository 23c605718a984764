//! What a user is told of a run that failed.

use lengthwise_train::TrainError;

use super::summary::RunReport;
use crate::failure::Failure;

/// The failure that ends the command; bad input if nothing had begun.
pub fn of_training(error: TrainError, report: &RunReport) -> Failure {
    let failure = match &error {
        TrainError::Model(_) | TrainError::Core(_) | TrainError::ModelTooLarge { .. } => {
            Failure::input(error.to_string())
        }
        TrainError::Export(_) | TrainError::Checkpoint(_) if !report.begun => {
            Failure::input(error.to_string())
        }
        _ => Failure::run(error.to_string()),
    };
    match hint(&error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn hint(error: &TrainError) -> Option<String> {
    match error {
        TrainError::Shared(shared) => hint(shared),
        TrainError::Checkpoint(source) => source.hint(),
        TrainError::Data(source) => source.hint(),
        TrainError::Plan { source, .. } => source.hint(),
        TrainError::Tensor(_) => Some(
            "raise cluster.device_memory_mib, use more ranks, or shorten model.context".to_owned(),
        ),
        TrainError::Diverged { .. } => {
            Some("lower train.learning_rate, or warm up over more steps".to_owned())
        }
        _ => None,
    }
}
