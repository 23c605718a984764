//! Cluster files: what the examples describe, and what is said of files that describe nothing.

use std::path::Path;

use lengthwise_core::{Bytes, Seconds, Speed};
use lengthwise_cost::{Hardware, HardwareError};

fn example(name: &str) -> Hardware {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters");
    Hardware::read(&folder.join(name)).unwrap()
}

#[test]
fn the_example_of_the_paper_is_its_cluster() {
    let hardware = example("a100-8x8.toml");
    let cluster = hardware.cluster().unwrap();
    assert_eq!((cluster.num_nodes(), cluster.num_devices()), (8, 64));
    assert_eq!(cluster.devices()[63].memory(), Bytes(32 << 30));
    assert_eq!(hardware.device().peak_flops_per_s(), 312e12);
    let links = hardware.links();
    assert_eq!(links.device.bandwidth_bytes_per_s(), 300e9);
    assert_eq!(links.nic.latency(), Seconds::new(18e-6).unwrap());
    assert_eq!(hardware.core_fraction(), None);
}

#[test]
fn every_example_describes_a_cluster() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let hardware = Hardware::read(&path).unwrap();
        assert_eq!(
            Some(hardware.name()),
            path.file_stem().and_then(|name| name.to_str())
        );
        names.push(hardware.name().to_owned());
    }
    assert!(names.len() >= 4, "{names:?}");
}

#[test]
fn devices_unlike_the_others_keep_their_place_in_smaller_and_larger_clusters() {
    let hardware = example("straggler.toml");
    let cluster = hardware.cluster().unwrap();
    let slow = Speed::new(0.6).unwrap();
    assert_eq!(cluster.devices()[5].speed(), slow);
    assert_eq!(cluster.devices()[4].speed(), Speed::NOMINAL);
    let memory = |rank: usize| cluster.devices()[rank].memory().as_f64();
    assert_eq!((memory(16) * 2.0).round(), memory(15).round());
    let fewer = hardware.with_num_devices(6).unwrap().cluster().unwrap();
    assert_eq!(fewer.devices()[5].speed(), slow);
    let more = hardware.with_num_devices(100).unwrap().cluster().unwrap();
    assert_eq!((more.num_nodes(), more.num_devices()), (13, 100));
    assert_eq!(more.devices()[16].memory(), cluster.devices()[16].memory());
    assert!(hardware.with_num_devices(0).is_err());
}

#[test]
fn hosts_are_those_of_the_kind_unless_they_are_written() {
    let kinds = Hardware::named("h100-2x8").unwrap();
    assert_eq!(kinds.device().host_bandwidth_bytes_per_s(), Some(64e9));
    let share = kinds.device().host_memory().unwrap();
    let of_node = share.as_f64() * 8.0 / (2u64 << 40) as f64;
    assert!((of_node - 0.9).abs() < 1e-9, "{of_node}");
    let cluster = kinds.cluster().unwrap();
    assert_eq!(cluster.devices()[15].host_memory(), share);

    let text = "name = \"pair\"\nnum_nodes = 1\ndevices_per_node = 2\nhost_memory_gib = 3\n[device]\nkind = \"h100\"\n\
                host_bandwidth_bytes_per_s = 1e9\n[[other_devices]]\nranks = [1]\nspeed = 0.5\n";
    let written = Hardware::from_toml(text).unwrap();
    assert_eq!(written.device().host_bandwidth_bytes_per_s(), Some(1e9));
    let cluster = written.cluster().unwrap();
    for device in cluster.devices() {
        assert_eq!(device.host_memory(), Bytes(3 << 29));
    }

    let figures =
        "peak_flops_per_s = 1e12\nmemory_gib = 1\n[device_link]\nbandwidth_bytes_per_s = 1e9\n";
    let text = format!("name = \"one\"\nnum_nodes = 1\ndevices_per_node = 1\n[device]\n{figures}");
    let unknown = Hardware::from_toml(&text).unwrap();
    assert_eq!(unknown.device().host_bandwidth_bytes_per_s(), None);
    assert_eq!(
        unknown.cluster().unwrap().devices()[0].host_memory(),
        Bytes(u64::MAX)
    );
}

#[test]
fn several_nodes_need_nics() {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clusters/a100-8x8.toml"),
    )
    .unwrap();
    let (before, _) = text.split_once("[nic]").unwrap();
    let one_node = before.replace("num_nodes = 8", "num_nodes = 1");
    let hardware = Hardware::from_toml(&one_node).unwrap();
    assert_eq!(hardware.links().nics_per_node, 0);
    assert!(hardware.with_num_devices(8).is_ok());
    assert!(matches!(
        hardware.with_num_devices(9),
        Err(HardwareError::Missing { .. })
    ));
}

#[test]
fn a_bad_file_is_one_error_that_names_key_value_and_rule() {
    let good = r#"
name = "pair"
num_nodes = 2
devices_per_node = 2
[device]
kind = "a100-40"
[nic]
per_node = 1
bandwidth_bytes_per_s = 1e9
[[other_devices]]
ranks = [1]
speed = 0.5
"#;
    Hardware::from_toml(good).unwrap();
    let changes = [
        ("num_nodes = 2", "num_nodes = 0"),
        ("num_nodes = 2", "num_nodes = -1"),
        ("num_nodes = 2", "num_nodes = 4000000000"),
        ("devices_per_node = 2", "devices_per_nod = 2"),
        ("kind = \"a100-40\"", "kind = \"a100\""),
        ("kind = \"a100-40\"", "kind = \"a100-60\""),
        ("kind = \"a100-40\"", "memory_gib = 40"),
        ("kind = \"a100-40\"", "peak_flops_per_s = 1e12"),
        (
            "kind = \"a100-40\"",
            "peak_flops_per_s = 1e12\nmemory_gib = 40",
        ),
        (
            "kind = \"a100-40\"",
            "kind = \"a100-40\"\npeak_flops_per_s = nan",
        ),
        ("kind = \"a100-40\"", "kind = \"a100-40\"\nefficiency = 76"),
        (
            "kind = \"a100-40\"",
            "kind = \"a100-40\"\nmemory_fraction = 0",
        ),
        (
            "kind = \"a100-40\"",
            "kind = \"a100-40\"\ncore_fraction = 1.5",
        ),
        (
            "kind = \"a100-40\"",
            "kind = \"a100-40\"\nmemory_gib = -40.0",
        ),
        (
            "kind = \"a100-40\"",
            "kind = \"a100-40\"\nhost_bandwidth_bytes_per_s = 0",
        ),
        (
            "devices_per_node = 2",
            "devices_per_node = 2\nhost_memory_gib = 0",
        ),
        ("[nic]", "[device_link]\nlatency_s = -1.0\n[nic]"),
        ("per_node = 1\n", "per_node = 0\n"),
        ("per_node = 1\n", ""),
        ("bandwidth_bytes_per_s = 1e9", "bandwidth_bytes_per_s = inf"),
        ("bandwidth_bytes_per_s = 1e9", "bandwidth_bytes_per_s = 0"),
        ("ranks = [1]", "ranks = [4]"),
        ("ranks = [1]", "nodes = [2]"),
        ("ranks = [1]", "ranks = [1]\nnodes = [0]"),
        ("ranks = [1]\n", ""),
        ("speed = 0.5", "speed = 0.0"),
        ("speed = 0.5", ""),
    ];
    let mut told = String::new();
    for (from, to) in changes {
        let error = Hardware::from_toml(&good.replacen(from, to, 1)).unwrap_err();
        told += &format!("{}\n", error.to_string().trim_end());
        if let Some(hint) = error.hint() {
            told += &format!("hint: {hint}\n");
        }
        told += "\n";
    }
    let no_nic = good.replace("[nic]\nper_node = 1\nbandwidth_bytes_per_s = 1e9\n", "");
    let error = Hardware::from_toml(&no_nic).unwrap_err();
    told += &format!("{error}\nhint: {}\n", error.hint().unwrap());
    insta::assert_snapshot!(told);
    let missing = Hardware::read(Path::new("no-such-cluster.toml")).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "cluster file no-such-cluster.toml can't be read"
    );
}
