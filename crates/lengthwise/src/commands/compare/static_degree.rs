//! The degree of a system that has one for all batches.

use lengthwise_core::{Bytes, Degree, MemoryModel, Strategy};
use lengthwise_inputs::Costs;

/// The smallest degree that the longest permitted sequence fits, of those that divide the devices. None that fits is an
/// error, with the memory that such a sequence needs.
pub(super) fn static_degree(costs: &Costs) -> Result<Degree, String> {
    let num_devices = costs.cluster.num_devices();
    let devices = costs.cluster.devices().iter();
    let budget = devices.map(|device| costs.model.budget(device)).min();
    let budget = budget.unwrap_or(Bytes(0));
    let needed = |strategy: Strategy| costs.model.sequence_memory(strategy, costs.context);
    let fitting: Vec<Degree> = costs
        .space
        .strategies()
        .iter()
        .filter(|&&strategy| needed(strategy) <= budget)
        .map(|strategy| strategy.degree())
        .collect();
    let divides = |degree: &&Degree| num_devices.is_multiple_of(degree.get());
    if let Some(&degree) = fitting.iter().find(divides).or(fitting.first()) {
        return Ok(degree);
    }
    let widest = costs.space.strategies().last();
    Err(match widest {
        Some(&strategy) => format!(
            "{} tokens need {} on each of {} devices; {budget} are left for them",
            costs.context,
            needed(strategy),
            strategy.degree()
        ),
        None => "there is no degree".to_owned(),
    })
}
