//! The share of a model that one rank holds, where tensor and pipeline parallelism divide it.

use super::architecture::Architecture;
use crate::{Hardware, HardwareError};

/// The share of a model that each device holds and computes, beside what sequences are scattered over.
///
/// A rank of a plan then stands for several devices: `t` neighbours of one node, which share every layer (tensor
/// parallelism), in each of the `p` stages of a pipeline, which hold `1 / p` of the layers. All figures of costs are those
/// of one of these devices.
///
/// | of a device | counts |
/// | --- | --- |
/// | FLOP | `1 / (t p)`; the output's too, though only the last stage has it |
/// | tensor-parallel traffic | two all-reduces of a token's hidden state a layer in each forward and two in the backward, not hidden (Megatron-LM, arXiv 1909.08053); scattering sequences between them moves the same bytes |
/// | exchanges | heads and key/value heads `1 / t`, layers `1 / p` |
/// | parameters | layers `1 / (t p)`, and the embedding or the output, whichever is larger, `1 / t` |
/// | activations | `1 / t`, as with Megatron's sequence parallelism (arXiv 2205.05198); of stages the fuller of the first, which holds those of `p` micro-batches (1F1B, arXiv 2104.04473, section 2.2), and the last, which holds the output |
///
/// So a pipeline of equal stages takes little memory off activations: the first holds `p` times `1 / p` of the layers.
/// Not counted: a pipeline's fill and drain, which add `p - 1` micro-batches to a step whatever its plan, and what its
/// stages send each other. Ranks are placed on nodes as those of the first stage are, tensor-parallel neighbours first.
///
/// ```
/// let share = lengthwise_cost::ModelShare::new(4, 2)?;
/// assert_eq!(share.devices_per_rank(), 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShare {
    tensor_parallel: u32,
    pipeline_parallel: u32,
}

/// The whole model.
impl Default for ModelShare {
    fn default() -> Self {
        ModelShare {
            tensor_parallel: 1,
            pipeline_parallel: 1,
        }
    }
}

impl ModelShare {
    /// The share of one of so many tensor-parallel devices in each of so many pipeline stages.
    ///
    /// # Errors
    ///
    /// One of them is 0, or they come to more devices than there can be.
    pub fn new(tensor_parallel: u32, pipeline_parallel: u32) -> Result<Self, HardwareError> {
        for (key, value) in [
            ("tensor_parallel", tensor_parallel),
            ("pipeline_parallel", pipeline_parallel),
        ] {
            if value == 0 {
                return Err(HardwareError::bad(key, value, "it must be at least 1"));
            }
        }
        if tensor_parallel.checked_mul(pipeline_parallel).is_none() {
            let rule = format!("with pipeline_parallel = {pipeline_parallel} that is too many");
            return Err(HardwareError::bad("tensor_parallel", tensor_parallel, rule));
        }
        Ok(ModelShare {
            tensor_parallel,
            pipeline_parallel,
        })
    }

    /// Devices that share every layer.
    pub const fn tensor_parallel(self) -> u32 {
        self.tensor_parallel
    }

    /// Stages that layers are divided into.
    pub const fn pipeline_parallel(self) -> u32 {
        self.pipeline_parallel
    }

    /// Devices that a rank of a plan stands for.
    pub const fn devices_per_rank(self) -> u32 {
        self.tensor_parallel * self.pipeline_parallel
    }

    /// Whether a device holds all of the model.
    pub const fn is_whole(self) -> bool {
        self.devices_per_rank() == 1
    }

    /// Checks that `architecture` can be divided so, on `hardware`.
    pub(super) fn check(
        self,
        architecture: &Architecture,
        hardware: &Hardware,
    ) -> Result<(), HardwareError> {
        let (tensor, pipeline) = (self.tensor_parallel, self.pipeline_parallel);
        let divides = |key, value: u32, of: &str, number: u32| {
            if number.is_multiple_of(value) {
                return Ok(());
            }
            let rule = format!("it must divide {of} = {number}");
            Err(HardwareError::bad(key, value, rule))
        };
        let per_node = hardware.devices_per_node();
        divides(
            "tensor_parallel",
            tensor,
            "num_heads",
            architecture.num_heads,
        )?;
        let kv_heads = architecture.num_kv_heads;
        divides("tensor_parallel", tensor, "num_kv_heads", kv_heads)?;
        divides("tensor_parallel", tensor, "devices_per_node", per_node)?;
        let layers = architecture.num_layers;
        divides("pipeline_parallel", pipeline, "num_layers", layers)?;
        let num_devices = hardware.num_devices();
        if !num_devices.is_multiple_of(self.devices_per_rank()) {
            let product = self.devices_per_rank();
            let rule = format!(
                "it must be a multiple of tensor_parallel x pipeline_parallel = {tensor} x {pipeline} = {product}"
            );
            return Err(HardwareError::bad("num_devices", num_devices, rule));
        }
        Ok(())
    }

    /// The part of a layer that a device has.
    pub(super) fn of_layer(self) -> f64 {
        1.0 / f64::from(self.tensor_parallel)
    }

    /// The layers of a stage.
    pub(super) fn layers(self, architecture: &Architecture) -> f64 {
        f64::from(architecture.num_layers) / f64::from(self.pipeline_parallel)
    }

    /// Ranks of a plan on `hardware`.
    pub(super) fn num_ranks(self, hardware: &Hardware) -> u32 {
        hardware.num_devices() / self.devices_per_rank()
    }

    /// Ranks that share a node.
    pub(super) fn ranks_per_node(self, hardware: &Hardware) -> u32 {
        hardware.devices_per_node() / self.tensor_parallel
    }

    /// Parameters of the largest stage, over its tensor-parallel devices.
    pub(super) fn stage_parameters(self, architecture: &Architecture) -> f64 {
        if self.pipeline_parallel == 1 {
            return architecture.num_parameters();
        }
        let layers = self.layers(architecture) * architecture.layer_parameters();
        layers
            + architecture
                .input_parameters()
                .max(architecture.output_parameters())
    }
}
