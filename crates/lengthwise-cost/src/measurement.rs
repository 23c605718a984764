//! The origin of a profile: the runs measured, the model, and how well the fit holds.

use serde::{Deserialize, Serialize};

use crate::ProfileError;
use crate::format::StrategyRecord;

/// The model and the ranks that were measured. Costs hold for these only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredFor {
    /// Ranks that computed at once.
    pub ranks: u32,
    /// Of them, on each node.
    pub devices_per_node: u32,
    /// Ids the embedding knows.
    pub vocab: u64,
    /// Features of a token between layers.
    pub hidden: u64,
    /// Decoder layers.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// Key/value heads.
    pub kv_heads: u64,
    /// Features inside the MLP.
    pub ffn: u64,
    /// Whether the output projection is the embedding table.
    pub tied_output: bool,
    /// Of parameters and activations.
    pub data_type: String,
    /// The cluster that was emulated meanwhile, in words; `none` where ranks ran as fast as they could.
    pub emulated: String,
}

impl MeasuredFor {
    /// Checks that nothing differs from what is wanted.
    ///
    /// # Errors
    ///
    /// The first difference, with the keys on both sides.
    pub fn check(&self, wanted: &MeasuredFor) -> Result<(), ProfileError> {
        let sides = self.entries().into_iter().zip(wanted.entries());
        for ((key, wanted_key, value), (_, _, wanted)) in sides {
            if value != wanted {
                return Err(ProfileError::OtherModel {
                    key,
                    value,
                    wanted_key,
                    wanted,
                });
            }
        }
        Ok(())
    }

    /// Every key of the profile with that of the settings, and its value.
    fn entries(&self) -> [(&'static str, &'static str, String); 11] {
        let entry = |key, setting, value: &dyn ToString| (key, setting, value.to_string());
        [
            entry("measured_for.hidden", "model.hidden", &self.hidden),
            entry("measured_for.layers", "model.layers", &self.layers),
            entry("measured_for.heads", "model.heads", &self.heads),
            entry("measured_for.kv_heads", "model.kv_heads", &self.kv_heads),
            entry("measured_for.ffn", "model.ffn", &self.ffn),
            entry(
                "measured_for.tied_output",
                "model.tied_output",
                &self.tied_output,
            ),
            entry(
                "measured_for.vocab",
                "the tokenizer's vocabulary",
                &self.vocab,
            ),
            entry("measured_for.ranks", "cluster.ranks", &self.ranks),
            entry(
                "measured_for.devices_per_node",
                "cluster.devices_per_node",
                &self.devices_per_node,
            ),
            entry("measured_for.data_type", "the data type", &self.data_type),
            entry("measured_for.emulated", "cluster.emulate", &self.emulated),
        ]
    }
}

/// How well the fitted model predicts micro-batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitReport {
    /// Mean relative error over the micro-batches it was fitted to.
    pub fitted_error: f64,
    /// Mean relative error over micro-batches that the fit has not seen.
    pub held_out_error: Option<f64>,
    /// The largest of these.
    pub held_out_worst_error: Option<f64>,
    /// Expected relative error of a typical micro-batch, by what the fit leaves open.
    pub expected_error: f64,
    /// Mean deviation of the times of one micro-batch, run again and again while measuring, from their median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<f64>,
    /// The noise that is left where the machine's slow drift, which runs before and after show, is taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_without_drift: Option<f64>,
    /// The time spent on measuring.
    pub measuring_s: f64,
}

impl FitReport {
    /// Whether predictions are off by what runs of the same micro-batch differ by, rather than by what the fit lacks.
    pub fn is_limited_by_noise(&self) -> bool {
        let noise = self.noise.unwrap_or(0.0);
        let error = self.held_out_error.unwrap_or(self.fitted_error);
        noise > UNNOTICED_NOISE && error <= NOISE_MULTIPLE * noise
    }
}

/// Noise up to this is of no interest.
const UNNOTICED_NOISE: f64 = 0.05;

/// Up to this multiple of the noise, errors are put down to it.
const NOISE_MULTIPLE: f64 = 1.5;

/// A measured micro-batch. Whoever writes one by hand needs to give its time and its groups only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Whether the fit has not seen it.
    #[serde(default)]
    pub held_out: bool,
    /// How often it was run.
    #[serde(default = "once")]
    pub runs: u32,
    /// The median of its runs, on the slowest rank, at the machine's median speed while measuring.
    pub measured_s: f64,
    /// The time by the fitted model.
    #[serde(default)]
    pub predicted_s: f64,
    /// The most that a device held; 0 where that was not measured.
    #[serde(default)]
    pub peak_memory_bytes: u64,
    /// The parts of the fastest run's time.
    #[serde(default)]
    pub parts: MeasuredParts,
    /// The groups and their work.
    pub groups: Vec<MeasuredGroup>,
}

fn once() -> u32 {
    1
}

/// The parts of a micro-batch's time, on the mean rank that has work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredParts {
    /// The layers' forward, all of them, exchanges included.
    pub forward_s: f64,
    /// The layers' backward, with the forward that is run again, exchanges included.
    pub backward_s: f64,
    /// The exchanges inside the group, which are in both, waiting for its members included.
    pub exchange_s: f64,
    /// Embedding, output and loss, forward and backward.
    pub ends_s: f64,
    /// Waiting for parameters.
    pub gather_s: f64,
    /// Handing gradients to their shards, waiting for other groups included.
    pub scatter_s: f64,
}

/// A group of a measured micro-batch, or several that are alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredGroup {
    /// How many.
    #[serde(default = "once")]
    pub count: u32,
    /// Of each.
    pub strategy: StrategyRecord,
    /// Whether its ranks are on several nodes.
    #[serde(default)]
    pub crosses_nodes: bool,
    /// Of each.
    pub seq_lens_tokens: Vec<u64>,
}
