//! `[cluster]` and `[plan]`: the devices, and who distributes work to them.

use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use lengthwise_comm::Emulation;
use lengthwise_core::limits::{DEVICE_MEMORY, DURATION_S};
use lengthwise_core::{Bytes, Cluster, Degree, Device, Rank, Seconds, Speed};
use lengthwise_cost::{ClusterLinks, Hardware, HardwareError, Link};
use lengthwise_inputs::StrategyFamilies;
use lengthwise_plan::{PlannerKind, PlannerOptions};
use lengthwise_train::{ModelConfig, memory};

use crate::failure::Failure;
use crate::settings::place::Setting;
use crate::settings::reader::Reader;

/// One thread a rank: more would only fight for the cores of one machine.
const MOST_RANKS: u32 = 1024;

/// What ranks run on.
pub struct Devices {
    /// The devices, each with room for its share of the model.
    pub cluster: Cluster,
    /// The cluster once more if its pace is to be kept.
    pub emulation: Option<Emulation>,
    /// That cluster in words.
    pub emulated: Option<String>,
    /// The file that describes it.
    pub emulated_file: Option<PathBuf>,
}

/// The devices, described by settings or by the file of a cluster that is emulated.
pub fn cluster(reader: &mut Reader<'_>, model: &ModelConfig) -> Result<Devices, Failure> {
    let described = described(reader)?;
    let hardware = described.as_ref().map(|(_, hardware)| hardware);
    let ranks = reader.get("cluster.ranks", hardware.map_or(8, Hardware::num_devices))?;
    ranks.must(
        (1..=MOST_RANKS).contains(&ranks.value),
        format!("there must be 1 to {MOST_RANKS} ranks"),
        "each rank is a thread of this process, with a device of its own",
    )?;
    let devices_per_node = reader.get(
        "cluster.devices_per_node",
        hardware.map_or(ranks.value, Hardware::devices_per_node),
    )?;
    devices_per_node.must(
        devices_per_node.value > 0,
        "a node has at least 1 device",
        "leave it out to have all devices on one node",
    )?;
    if let Some((emulate, hardware)) = &described {
        let agree = |setting: &Setting<u32>, described: u32| {
            let emulated = emulate.value.display();
            let rule = format!("the emulated cluster has {described} ({emulated})");
            let hint = "leave it out where a cluster is emulated";
            setting.must(setting.value == described, rule, hint)
        };
        agree(&ranks, hardware.num_devices())?;
        agree(&devices_per_node, hardware.devices_per_node())?;
    }
    let cluster = match &described {
        Some((emulate, hardware)) => emulated_devices(reader, model, emulate, hardware)?,
        None => {
            let memory = reader.get("cluster.device_memory_mib", 1024)?;
            let bytes = device_memory(&memory, model, ranks.value)?;
            let device = Device::new(bytes, Speed::NOMINAL);
            Cluster::with_num_devices(ranks.value, devices_per_node.value, device)
                .map_err(|error| ranks.breaks(error))?
        }
    };
    let cluster = match reader.optional("cluster.host_memory_mib")? {
        Some(memory) => with_host_memory(&cluster, &memory)?,
        None => cluster,
    };
    let core_fraction = reader.optional::<f64>("cluster.core_fraction")?;
    let (emulation, emulated) = match (&described, &core_fraction) {
        (Some((emulate, hardware)), core_fraction) => {
            let emulation = emulation(&cluster, emulate, hardware, core_fraction.as_ref())?;
            let emulated = format!(
                "{}: {} devices in {} nodes, each {:.3} of a core",
                hardware.name(),
                cluster.num_devices(),
                cluster.num_nodes(),
                emulation.core_fraction()
            );
            (Some(emulation), Some(emulated))
        }
        (None, Some(core_fraction)) => {
            let rule = "it is the speed of emulated devices, and no cluster is emulated";
            let failure = core_fraction.breaks(rule);
            return Err(failure.hint("name one with --emulate CLUSTER.toml"));
        }
        (None, None) => (None, None),
    };
    Ok(Devices {
        cluster,
        emulation,
        emulated,
        emulated_file: described.map(|(emulate, _)| emulate.value),
    })
}

/// The cluster that is to be emulated, and where it was named.
fn described(reader: &mut Reader<'_>) -> Result<Option<(Setting<PathBuf>, Hardware)>, Failure> {
    let Some(mut emulate) = reader.optional::<PathBuf>("cluster.emulate")? else {
        return Ok(None);
    };
    let is_name = emulate.value.to_str().map(Hardware::named);
    let is_name = is_name.is_some_and(|named| named.is_ok());
    emulate.value = reader.path(&emulate, &emulate.value)?;
    let hardware = Hardware::read(&emulate.value).map_err(|error| {
        let failure = match &error {
            // Links of devices as sold are out of all proportion to what a core computes.
            HardwareError::Unreadable { .. } if is_name => {
                let failure = emulate.breaks("only a cluster that a file describes is emulated");
                return failure
                    .hint("describe a small one, as examples/clusters/two-nodes.toml does");
            }
            HardwareError::Unreadable { source, .. } => {
                emulate.breaks(format!("it can't be read: {source}"))
            }
            // Where the file breaks a rule, the file is what must change.
            _ => {
                let path = emulate.value.display();
                Failure::input(format!("{path}: {}", error.to_string().trim_end()))
            }
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(Some((emulate, hardware)))
}

/// The emulated devices, with the memory that is set for them or else the described one.
fn emulated_devices(
    reader: &mut Reader<'_>,
    model: &ModelConfig,
    emulate: &Setting<PathBuf>,
    hardware: &Hardware,
) -> Result<Cluster, Failure> {
    let cluster = hardware.cluster().map_err(|error| emulate.breaks(error))?;
    let num_devices = hardware.num_devices();
    if let Some(memory) = reader.optional("cluster.device_memory_mib")? {
        let bytes = device_memory(&memory, model, num_devices)?;
        let with_memory = |rank| {
            let described = cluster.device(Rank(rank));
            let speed = described.map_or(Speed::NOMINAL, |device| device.speed());
            let host_memory = described.map_or(Bytes(u64::MAX), |device| device.host_memory());
            Device::new(bytes, speed).with_host_memory(host_memory)
        };
        let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
        let nodes = nodes.map(|ranks| ranks.map(with_memory).collect());
        return Cluster::from_nodes(nodes.collect()).map_err(|error| emulate.breaks(error));
    }
    let fixed = fixed_memory(model, num_devices);
    for (rank, device) in cluster.ranks().zip(cluster.devices()) {
        let memory = device.memory();
        emulate.must(
            fixed < memory,
            format!(
                "rank {rank} lends {memory} to training, and the model's own share of each of {num_devices} devices \
                 is {fixed}"
            ),
            "describe more memory, set cluster.device_memory_mib instead, or use a smaller model",
        )?;
    }
    Ok(cluster)
}

/// The emulation of `cluster`, at the part of a core that is set or else described, or else what the cores can do.
///
/// Where both are, the set one is the described cluster in slow motion, or in fast motion: links change with devices.
fn emulation(
    cluster: &Cluster,
    emulate: &Setting<PathBuf>,
    hardware: &Hardware,
    core_fraction: Option<&Setting<f64>>,
) -> Result<Emulation, Failure> {
    let num_cores = thread::available_parallelism().map_or(1, NonZero::get);
    let set = core_fraction.map(|setting| setting.value);
    let described = hardware.core_fraction();
    let emulation = Emulation::new(
        cluster.clone(),
        hardware.links(),
        set.or(described),
        num_cores,
    );
    let emulation = emulation.map_err(|error| {
        let failure = match core_fraction {
            Some(setting) => setting.breaks(&error),
            None => emulate.breaks(&error),
        };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let speed = set
        .zip(described)
        .map_or(1.0, |(set, described)| set / described);
    with_links_of(hardware, speed, emulation).map_err(|error| emulate.breaks(error))
}

/// The emulation with the links of `hardware`, those to hosts too, of which each is `speed` times as fast.
fn with_links_of(
    hardware: &Hardware,
    speed: f64,
    emulation: Emulation,
) -> Result<Emulation, HardwareError> {
    let emulation = emulation.with_links(at_speed(hardware.links(), speed)?);
    Ok(match hardware.device().host_bandwidth_bytes_per_s() {
        Some(bandwidth) => {
            let link = Link::new(bandwidth, Seconds::ZERO)?;
            emulation.with_host_link(link_at_speed(link, speed)?)
        }
        None => emulation,
    })
}

/// Links of which each is `speed` times as fast.
fn at_speed(links: ClusterLinks, speed: f64) -> Result<ClusterLinks, HardwareError> {
    Ok(ClusterLinks {
        device: link_at_speed(links.device, speed)?,
        nic: link_at_speed(links.nic, speed)?,
        ..links
    })
}

fn link_at_speed(link: Link, speed: f64) -> Result<Link, HardwareError> {
    let latency = Seconds::new(link.latency().get() / speed)?;
    Link::new(link.bandwidth_bytes_per_s() * speed, latency)
}

/// The same devices where the host of each node lends so much to activations, an equal share to each of its devices.
fn with_host_memory(cluster: &Cluster, memory: &Setting<u64>) -> Result<Cluster, Failure> {
    let most = DEVICE_MEMORY.0 >> 20;
    memory.must(
        (1..=most).contains(&memory.value),
        format!("it must be a whole number from 1 to {most}"),
        "it is what the host of each node lends to activations, in MiB",
    )?;
    let of_node = Bytes::from_mib(memory.value);
    let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
    let nodes = nodes.map(|ranks| {
        let share = Bytes(of_node.0 / u64::from(ranks.end - ranks.start).max(1));
        let devices = ranks.filter_map(|rank| cluster.device(Rank(rank)));
        devices
            .map(|device| device.with_host_memory(share))
            .collect()
    });
    Cluster::from_nodes(nodes.collect()).map_err(|error| memory.breaks(error))
}

fn device_memory(
    memory: &Setting<u64>,
    model: &ModelConfig,
    num_ranks: u32,
) -> Result<Bytes, Failure> {
    memory.must(
        (1..=DEVICE_MEMORY.0 >> 20).contains(&memory.value),
        format!(
            "it must be a whole number from 1 to {}",
            DEVICE_MEMORY.0 >> 20
        ),
        "it is the memory of each device, in MiB",
    )?;
    let bytes = Bytes::from_mib(memory.value);
    let fixed = fixed_memory(model, num_ranks);
    memory.must(
        fixed < bytes,
        format!("the model's own share of each of {num_ranks} devices is {fixed}"),
        &format!(
            "give each device at least {} MiB, and more for the activations; or use more ranks or a smaller model",
            fixed.0.div_ceil(1 << 20) + 1
        ),
    )?;
    Ok(bytes)
}

fn fixed_memory(model: &ModelConfig, num_ranks: u32) -> Bytes {
    let fixed = memory::fixed_bytes(model, num_ranks as usize);
    Bytes::from_f64_ceil(fixed).unwrap_or(Bytes(u64::MAX))
}

/// Planner and its options, allowed degrees, and steps to plan ahead.
pub type Plan = (
    PlannerKind,
    PlannerOptions,
    Option<Setting<Vec<Degree>>>,
    usize,
);

/// How steps are planned, for groups of these families.
pub fn plan(
    reader: &mut Reader<'_>,
    model: &ModelConfig,
    cluster: &Cluster,
    families: StrategyFamilies,
) -> Result<Plan, Failure> {
    let planner = reader.get("plan.planner", PlannerKind::default());
    let planner = planner.map_err(|failure| {
        failure.hint(format!(
            "the planners are {}",
            PlannerKind::NAMES.join(", ")
        ))
    })?;
    let degrees = reader.optional::<Vec<Degree>>("plan.degrees")?;
    // Rings may be longer than there are heads.
    let most_by_heads = if families.has_rings() {
        usize::MAX
    } else {
        model.heads
    };
    let possible = |degree: Degree| {
        degree.as_usize() <= most_by_heads && degree.get() <= cluster.num_devices()
    };
    let ranks = format!("cluster.ranks = {}", cluster.num_devices());
    let limits = if families.has_rings() {
        ranks
    } else {
        format!("model.heads = {} and {ranks}", model.heads)
    };
    if let Some(degrees) = &degrees {
        let above = degrees
            .value
            .iter()
            .find(|degree| degree.as_usize() > most_by_heads);
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
    let mut options = PlannerOptions::default();
    if let Some(budget) = time_budget {
        let most = (DURATION_S * 1e3) as u64;
        budget.must(
            (1..=most).contains(&budget.value),
            format!("it must be a whole number from 1 to {most}"),
            "leave it out to plan as long as it pays, the same way on every machine",
        )?;
        options = options.with_time_budget(Duration::from_millis(budget.value));
    }
    if let Some(most) = reader.optional::<u32>("plan.max_communicators")? {
        most.must(
            planner.value.keeps_max_communicators(),
            format!("the {} planner does not keep it", planner.value),
            "leave it out, or use the adaptive planner",
        )?;
        options = options.with_max_communicators(most.value);
    }
    Ok((planner.value, options, degrees, ahead.value))
}

/// The profile that plans go by, if any, and whether measured steps refine the costs.
pub fn costs(reader: &mut Reader<'_>) -> Result<(Option<Setting<PathBuf>>, bool), Failure> {
    let mut profile = reader.optional::<PathBuf>("plan.profile")?;
    if let Some(profile) = &mut profile {
        profile.value = reader.path(profile, &profile.value)?;
    }
    Ok((profile, reader.get("plan.refine", true)?.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_motion_slows_links_with_devices() {
        let link =
            |bandwidth, latency| Link::new(bandwidth, Seconds::new(latency).unwrap()).unwrap();
        let links = ClusterLinks {
            device: link(8e6, 1e-3),
            nics_per_node: 2,
            nic: link(4e6, 2e-3),
        };
        let slow = at_speed(links, 0.25).unwrap();
        assert_eq!(slow.device, link(2e6, 4e-3));
        assert_eq!(slow.nic, link(1e6, 8e-3));
        assert_eq!(slow.nics_per_node, 2);
    }
}
