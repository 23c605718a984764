//! Why a survey can't begin or go on.

use lengthwise_core::CoreError;
use lengthwise_cost::CostError;
use thiserror::Error;

/// Why a survey can't begin or go on.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SurveyError {
    /// A value breaks a rule of the vocabulary.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The measured times make no costs.
    #[error(transparent)]
    Cost(#[from] CostError),
}
