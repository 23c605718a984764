//! `[cluster]` and `[plan]`: the devices, and who distributes work to them.

use std::time::Duration;

use lengthwise_core::{Bytes, Cluster, Degree, Device, Speed};
use lengthwise_plan::{PlannerKind, PlannerOptions};
use lengthwise_train::{ModelConfig, memory};

use crate::failure::Failure;
use crate::settings::reader::Reader;

/// One thread a rank: more would only fight for the cores of one machine.
const MOST_RANKS: u32 = 1024;

/// The devices, each with room for its share of the model.
pub fn cluster(reader: &mut Reader<'_>, model: &ModelConfig) -> Result<Cluster, Failure> {
    let ranks = reader.get("cluster.ranks", 8)?;
    ranks.must(
        (1..=MOST_RANKS).contains(&ranks.value),
        format!("there must be 1 to {MOST_RANKS} ranks"),
        "each rank is a thread of this process, with a device of its own",
    )?;
    let devices_per_node = reader.get("cluster.devices_per_node", ranks.value)?;
    devices_per_node.must(
        devices_per_node.value > 0,
        "a node has at least 1 device",
        "leave it out to have all devices on one node",
    )?;
    let memory = reader.get("cluster.device_memory_mib", 1024)?;
    memory.must(
        memory.value > 0,
        "a device has at least 1 MiB",
        "it is the memory of each device, in MiB",
    )?;
    let bytes = Bytes::from_mib(memory.value);
    let fixed = memory::fixed_bytes(model, ranks.value as usize);
    let fixed = Bytes::from_f64_ceil(fixed).unwrap_or(Bytes(u64::MAX));
    memory.must(
        fixed < bytes,
        format!("the model's own share of each of {} devices is {fixed}", ranks.value),
        &format!(
            "give each device at least {} MiB, and more for the activations; or use more ranks or a smaller model",
            fixed.0.div_ceil(1 << 20) + 1
        ),
    )?;
    Cluster::with_num_devices(
        ranks.value,
        devices_per_node.value,
        Device::new(bytes, Speed::NOMINAL),
    )
    .map_err(|error| ranks.breaks(error))
}

/// Planner and its options, allowed degrees, and steps to plan ahead.
pub type Plan = (PlannerKind, PlannerOptions, Option<Vec<Degree>>, usize);

/// How steps are planned.
pub fn plan(
    reader: &mut Reader<'_>,
    model: &ModelConfig,
    cluster: &Cluster,
) -> Result<Plan, Failure> {
    let planner = reader.get("plan.planner", PlannerKind::default());
    let planner = planner.map_err(|failure| {
        failure.hint(format!(
            "the planners are {}",
            PlannerKind::NAMES.join(", ")
        ))
    })?;
    let degrees = reader.optional::<Vec<Degree>>("plan.degrees")?;
    let possible =
        |degree: Degree| degree.as_usize() <= model.heads && degree.get() <= cluster.num_devices();
    let limits = format!(
        "model.heads = {} and cluster.ranks = {}",
        model.heads,
        cluster.num_devices()
    );
    if let Some(degrees) = &degrees {
        let above = degrees
            .value
            .iter()
            .find(|degree| degree.as_usize() > model.heads);
        degrees.must(
            above.is_none(),
            format!("a degree is at most model.heads = {}", model.heads),
            "each rank of a group attends with at least one head",
        )?;
        degrees.must(
            degrees.value.iter().any(|&degree| possible(degree)),
            format!("no degree is within {limits}"),
            "leave plan.degrees out to allow all that are possible",
        )?;
    }
    if let PlannerKind::Static(Some(degree)) = planner.value {
        planner.must(
            possible(degree),
            format!("degree {degree} is not within {limits}"),
            "static without a degree lets the longest sequence of each batch decide",
        )?;
        let allowed = degrees
            .as_ref()
            .is_none_or(|degrees| degrees.value.contains(&degree));
        planner.must(
            allowed,
            format!("degree {degree} is not in plan.degrees"),
            "add it there, or leave plan.degrees out",
        )?;
    }
    let ahead = reader.get("plan.ahead", 4)?;
    ahead.must(
        (2..=1024).contains(&ahead.value),
        "plans must be 2 to 1024 steps ahead",
        "each step ahead keeps a batch in memory",
    )?;
    let time_budget = reader.optional::<u64>("plan.time_budget_ms")?;
    let options = match time_budget {
        Some(budget) => {
            budget.must(
                budget.value > 0,
                "planning takes at least 1 ms",
                "leave it out to plan as long as it pays, the same way on every machine",
            )?;
            PlannerOptions::default().with_time_budget(Duration::from_millis(budget.value))
        }
        None => PlannerOptions::default(),
    };
    Ok((
        planner.value,
        options,
        degrees.map(|degrees| degrees.value),
        ahead.value,
    ))
}
