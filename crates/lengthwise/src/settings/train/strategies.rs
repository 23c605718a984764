//! `plan.strategies` and `train.activations`: what groups may be like.

use lengthwise_comm::Emulation;
use lengthwise_core::{Activations, Cluster, Degree, SpaceLimits, StrategyFamily, StrategySpace};
use lengthwise_inputs::{ActivationChoices, StrategyFamilies};
use lengthwise_train::ModelConfig;

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// The families of strategies that groups may be of.
pub fn families(reader: &mut Reader<'_>) -> Result<StrategyFamilies, Failure> {
    let heads_alone = StrategyFamilies::only(StrategyFamily::Ulysses);
    Ok(reader.get("plan.strategies", heads_alone)?.value)
}

/// What groups may do with activations; all is what can be done on these devices.
pub fn activations(
    reader: &mut Reader<'_>,
    emulation: Option<&Emulation>,
) -> Result<Vec<Activations>, Failure> {
    let usual = ActivationChoices::only(Activations::Recompute);
    let choices = reader.get("train.activations", usual)?;
    // What copies take on a link that nobody has described can't be kept to.
    let has_host = emulation.is_none_or(|emulation| emulation.host_link().is_some());
    let known = Activations::ALL
        .into_iter()
        .filter(|&choice| has_host || choice != Activations::Host);
    let known: Vec<Activations> = known.collect();
    choices.value.among(&known).map_err(|_| {
        let rule = "the emulated cluster describes no link to host memory; activations can't be moved there";
        choices
            .breaks(rule)
            .hint("write host_bandwidth_bytes_per_s under [device] of its file, or keep or recompute them")
    })
}

/// The choice that stands for all where one is shown: to recompute them, if that is among them.
pub fn usual(activations: &[Activations]) -> Activations {
    match activations {
        [only] => *only,
        several if !several.contains(&Activations::Recompute) => several[0],
        _ => Activations::Recompute,
    }
}

/// The strategies that model and cluster leave of these; `None` for groups that exchange tokens for heads, all with the same
/// choice for activations, whose degrees the run itself works out.
pub fn space(
    families: StrategyFamilies,
    activations: &[Activations],
    model: &ModelConfig,
    cluster: &Cluster,
    degrees: Option<&Setting<Vec<Degree>>>,
) -> Result<Option<StrategySpace>, Failure> {
    let listed: Vec<StrategyFamily> = families.listed_of(&StrategyFamily::ALL).collect();
    if listed == [StrategyFamily::Ulysses] && activations.len() == 1 {
        return Ok(None);
    }
    let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
    let limits = SpaceLimits {
        num_heads: u32::try_from(model.heads).ok(),
        ranks_per_node: nodes
            .map(|ranks| ranks.end - ranks.start)
            .max()
            .unwrap_or(1),
        num_ranks: cluster.num_devices(),
    };
    let of =
        |degrees: Option<&[Degree]>| StrategySpace::chosen(&listed, activations, limits, degrees);
    let space = match degrees {
        Some(degrees) => of(Some(&degrees.value)).map_err(|_| {
            degrees
                .breaks(format!(
                    "no group of plan.strategies = {families} has such a degree on {} ranks with {} heads",
                    limits.num_ranks, model.heads
                ))
                .hint("leave plan.degrees out to allow all that are possible")
        }),
        None => of(None).map_err(|error| Failure::input(error.to_string())),
    };
    space.map(Some)
}
