//! The costs of forward passes alone, by those of forward and backward.

use lengthwise_core::{Exchange, Seconds, Strategy};
use lengthwise_cost::{CostError, FittedModel, StepModel};

use crate::model::{ModelConfig, ModelSpec};
use crate::{memory, volume};

/// The work of attention's backward, in forwards: five products of the size of the forward's two (Dao, 2023).
const ATTENTION_BACKWARD: f64 = 2.5;

/// The work of a linear map's backward, in forwards: two products of the forward's size.
const LINEAR_BACKWARD: f64 = 2.0;

/// The costs of evaluating a model whose training costs `costs`.
///
/// Nobody has measured forwards alone, so each time is the part of the whole that counting gives: of FLOP, of exchanges,
/// of what is gathered and scattered. Memory is that of one layer's forward; what a device holds whatever it works on
/// stays as it is, and is more than a forward needs.
pub fn forward_costs(costs: &StepModel, model: &ModelConfig) -> Result<StepModel, CostError> {
    let spec = ModelSpec::new(model);
    let layers = &spec.units[1..spec.output()];
    let in_layers: usize = layers.iter().map(|unit| unit.num_elements()).sum();
    let (in_layers, in_output) = (in_layers as f64, (model.vocab * model.hidden) as f64);
    let all = volume::gathered_bytes(model).as_f64() + volume::scattered_bytes(model).as_f64();

    let mut fitted = costs.cost.costs().clone();
    fitted.micro_batch_overhead_s *= volume::forward_gathered_bytes(model).as_f64() / all;
    for (kind, costs) in &mut fitted.kinds {
        let forwards = if kind.activations.recomputes() {
            2.0
        } else {
            1.0
        };
        // The output's forward is never run again.
        let linear = (forwards + LINEAR_BACKWARD) * in_layers + (1.0 + LINEAR_BACKWARD) * in_output;
        costs.linear_s_per_token *= (in_layers + in_output) / linear;
        costs.quadratic_s_per_token2 /= forwards + ATTENTION_BACKWARD;
        let exchanges = costs.exchange_s_per_token.iter_mut();
        for (_, seconds) in exchanges.chain(&mut costs.many_nodes_exchange_s_per_token) {
            *seconds /= forwards + 1.0;
        }
        if let Some(ring) = &mut costs.ring {
            ring.forward_share = 1.0;
            for hops in [&mut ring.one_node, &mut ring.many_nodes] {
                for (_, seconds) in &mut hops.forward_s_per_token {
                    *seconds /= forwards;
                }
                hops.backward_s_per_token.clear();
            }
        }
        // Nothing is kept for a backward, and so nothing moved.
        costs.host = None;
        if kind.exchange != Exchange::Ulysses {
            // Blocks in flight are no fewer; all of a training's memory is enough.
            continue;
        }
        for (degree, bytes) in &mut costs.memory_bytes_per_token {
            let strategy = Strategy::ulysses(*degree, kind.activations);
            *bytes *= memory::forward_bytes_per_token(model, *degree)
                / memory::bytes_per_token(model, strategy);
        }
    }
    Ok(StepModel {
        cost: FittedModel::new(fitted)?,
        step_overhead: Seconds::ZERO,
        sharing: costs.sharing,
    })
}
