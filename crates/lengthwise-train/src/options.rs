//! The options of a training run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lengthwise_comm::Emulation;
use lengthwise_core::{Activations, Cluster, Degree, Rank, StrategyKind, Tokens};
use lengthwise_cost::{RefinementRule, StepModel};

use crate::ModelConfig;

/// The optimiser and its schedule: AdamW, warm-up, cosine decay, clipping.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerConfig {
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Learning rate that the cosine ends at.
    pub min_learning_rate: f64,
    /// Steps over which the learning rate rises linearly.
    pub warmup_steps: u64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// AdamW's decoupled weight decay; norm weights are exempt.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; `None` never clips.
    pub clip_norm: Option<f64>,
}

/// All of a training run but its data and its planner.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The decoder.
    pub model: ModelConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// One rank a device.
    pub cluster: Cluster,
    /// The cluster again with its links, where ranks are to keep its pace; `None` to run as fast as they can.
    pub emulation: Option<Emulation>,
    /// What steps cost, where that is known; `None` to measure it first.
    pub costs: Option<StepModel>,
    /// How measured steps refine these costs; `None` to keep them.
    pub refinement: Option<RefinementRule>,
    /// The longest sequence that may come.
    pub context: Tokens,
    /// Optimiser steps, at least 1.
    pub steps: u64,
    /// Seed of the initial parameters.
    pub seed: u64,
    /// What is done with activations between forward and backward.
    pub activations: Activations,
    /// Degrees a planner may use; `None` for all that the heads allow.
    pub degrees: Option<Vec<Degree>>,
    /// How many steps planning runs ahead of training, at least 2.
    pub plan_ahead: usize,
    /// Where the trained model is written, as a Hugging Face checkpoint; the directory must hold no model yet.
    pub checkpoint: Option<PathBuf>,
    /// Steps of which the observer is told what every rank did when, counted from 1.
    pub traced_steps: BTreeSet<u64>,
    /// A failure to rehearse.
    pub injected_failure: Option<InjectedFailure>,
}

impl TrainOptions {
    /// The kind of strategy that groups use.
    pub fn strategy_kind(&self) -> StrategyKind {
        StrategyKind::ulysses(self.activations)
    }
}

/// A rank that fails on purpose, to rehearse how a job ends when one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectedFailure {
    /// Who fails.
    pub rank: Rank,
    /// Before which step, counted from 1.
    pub step: u64,
}
