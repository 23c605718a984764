//! The options of a training run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lengthwise_comm::Emulation;
use lengthwise_core::words::figure;
use lengthwise_core::{Activations, Cluster, Degree, Rank, StrategySpace, Tokens};
use lengthwise_cost::{RefinementRule, StepModel};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::Persistence;
use crate::{
    ModelConfig, NoDecay, PretrainedModel, Schedule, TextTokenizer, Validation, WeightType,
};

/// The optimiser and its schedule: AdamW, warm-up, decay, clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps over which the learning rate rises linearly.
    pub warmup_steps: u64,
    /// The learning rate after them.
    pub schedule: Schedule,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// The parameters that weight decay leaves alone.
    pub no_decay: NoDecay,
    /// Largest global norm of the gradient; `None` never clips.
    pub clip_norm: Option<f64>,
}

impl OptimizerConfig {
    /// Checks that the settings are what they are meant to be in the precision that is trained in, which is `f32`: an
    /// epsilon that is rounded to 0, or a decay that is rounded to 1, would make parameters no numbers.
    ///
    /// # Errors
    ///
    /// The first setting that breaks a rule, by its name.
    pub fn check(&self) -> Result<(), OptimizerError> {
        let rounded = |key, value: f64, holds: fn(f32) -> bool, rule| {
            if holds(value as f32) {
                Ok(())
            } else {
                Err(OptimizerError { key, value, rule })
            }
        };
        let above_zero = |value: f32| value > 0.0 && value.is_finite();
        let not_negative = |value: f32| value >= 0.0 && value.is_finite();
        let decay = |value: f32| (0.0..1.0).contains(&value);
        let positive = "it must be above 0 and finite";
        let finite = "it must be 0 or more and finite";
        let below_one = "both must be 0 or more and below 1";
        rounded("learning_rate", self.learning_rate, above_zero, positive)?;
        rounded(
            "min_learning_rate",
            self.schedule.min_learning_rate(),
            not_negative,
            finite,
        )?;
        rounded("betas", self.beta1, decay, below_one)?;
        rounded("betas", self.beta2, decay, below_one)?;
        rounded("epsilon", self.epsilon, above_zero, positive)?;
        rounded("weight_decay", self.weight_decay, not_negative, finite)?;
        match self.clip_norm {
            Some(norm) => rounded("clip_norm", norm, above_zero, positive),
            None => Ok(()),
        }
    }
}

/// An optimiser setting that breaks a rule in the precision that is trained in.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error(
    "{key} is {}, which is {} in the precision of training; {rule} there",
    figure(*value),
    figure(f64::from(*value as f32))
)]
pub struct OptimizerError {
    /// The setting.
    pub key: &'static str,
    /// The value given.
    pub value: f64,
    /// The rule that values must keep.
    pub rule: &'static str,
}

/// All of a training run but the batches it is trained on and its planner.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The decoder.
    pub model: ModelConfig,
    /// The model of this shape that training goes on from; `None` for random parameters.
    pub pretrained: Option<Arc<PretrainedModel>>,
    /// The tokenizer of its text, where that is neither bytes nor that of `pretrained`.
    pub tokenizer: Option<TextTokenizer>,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// One rank a device.
    pub cluster: Cluster,
    /// The cluster again with its links, where ranks are to keep its pace; `None` to run as fast as they can.
    pub emulation: Option<Emulation>,
    /// The costs of steps, where they are known; `None` to measure them first.
    pub costs: Option<StepModel>,
    /// The refinement of these costs by measured steps; `None` to keep them.
    pub refinement: Option<RefinementRule>,
    /// The batches that it is validated on.
    pub validation: Option<Validation>,
    /// The longest sequence that may come.
    pub context: Tokens,
    /// Optimiser steps, at least 1.
    pub steps: u64,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// The treatment of activations between forward and backward.
    pub activations: Activations,
    /// Degrees a planner may use; `None` for all that the heads allow.
    pub degrees: Option<Vec<Degree>>,
    /// Strategies a planner may use, of which those are left out that model and cluster don't allow; `None` for Ulysses with
    /// these activations and degrees.
    pub space: Option<StrategySpace>,
    /// The number of steps that planning runs ahead of training, at least 2.
    pub plan_ahead: usize,
    /// Where the trained model is written, in the form of Hugging Face; the directory must hold no model yet.
    pub export: Option<PathBuf>,
    /// The type of number that its weights are written as.
    pub weights: WeightType,
    /// Where its state is saved, and what it goes on from.
    pub persistence: Persistence,
    /// Steps of which the observer is told what every rank did when, counted from 1.
    pub traced_steps: BTreeSet<u64>,
    /// For how long a rank waits in one call for others before the run fails.
    pub longest_wait: Duration,
    /// A failure to rehearse.
    pub injected_failure: Option<InjectedFailure>,
}

/// A rank that fails on purpose, to rehearse how a job ends when one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFailure {
    /// The rank that fails.
    pub rank: Rank,
    /// Before which step, counted from 1.
    pub step: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: OptimizerConfig = OptimizerConfig {
        learning_rate: 1e-3,
        warmup_steps: 10,
        schedule: Schedule::Cosine {
            min_learning_rate: 1e-4,
        },
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        no_decay: NoDecay::USUAL,
        clip_norm: Some(1.0),
    };

    #[test]
    fn what_is_rounded_to_nothing_is_refused_by_name() {
        assert_eq!(USUAL.check(), Ok(()));
        let refused = |config: OptimizerConfig| config.check().unwrap_err().to_string();
        assert_eq!(
            refused(OptimizerConfig {
                epsilon: 1e-46,
                ..USUAL
            }),
            "epsilon is 1e-46, which is 0 in the precision of training; it must be above 0 and finite there"
        );
        assert_eq!(
            refused(OptimizerConfig {
                beta2: 0.99999999,
                ..USUAL
            }),
            "betas is 0.99999999, which is 1 in the precision of training; both must be 0 or more and below 1 there"
        );
        for config in [
            OptimizerConfig {
                learning_rate: 1e39,
                ..USUAL
            },
            OptimizerConfig {
                learning_rate: 1e-50,
                ..USUAL
            },
            OptimizerConfig {
                weight_decay: 1e39,
                ..USUAL
            },
            OptimizerConfig {
                schedule: Schedule::Linear {
                    min_learning_rate: f64::NAN,
                },
                ..USUAL
            },
            OptimizerConfig {
                clip_norm: Some(1e-50),
                ..USUAL
            },
            OptimizerConfig {
                beta1: 1.0,
                ..USUAL
            },
        ] {
            assert!(config.check().is_err(), "{config:?}");
        }
    }
}
