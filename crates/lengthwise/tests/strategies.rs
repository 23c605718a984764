//! Rings, hybrids and choices for activations in the command: as many as are asked for, with the losses of a single rank.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![cfg(unix)]

mod scene;

use std::collections::BTreeSet;

use scene::Scene;
use serde_json::Value;

/// What a step found, and how its groups exchanged: Ulysses degree, ring degree and activations of each.
struct Step {
    number: u64,
    loss: f64,
    validation: Option<f64>,
    strategies: BTreeSet<(u64, u64, String)>,
}

/// A run of 4 ranks, with as many key/value heads as heads, both fewer than ranks.
fn scene() -> Scene {
    let scene = Scene::new();
    for index in 0..20_usize {
        let text = format!("document {index} of a corpus. ").repeat(1 + index % 5);
        scene.file(&format!("corpus/{index}.txt"), &text);
    }
    scene.file(
        "held-out.txt",
        "the quick brown fox jumps over the lazy dog",
    );
    let settings = scene.text("run.toml");
    let settings = settings.replace("layers = 1", "layers = 2\nkv_heads = 2");
    let settings = settings.replace("ranks = 2", "ranks = 4\ndevices_per_node = 2");
    let settings = settings.replace(
        "[\"corpus\"]",
        "[\"corpus\"]\nvalidation = [\"held-out.txt\"]",
    );
    scene.file(
        "run.toml",
        &settings.replace("steps = 4", "steps = 6\nvalidate_every = 3"),
    );
    scene
}

fn steps(scene: &Scene, name: &str) -> Vec<Step> {
    let text = scene.text(name);
    let step = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let groups = line["plan"].as_array().unwrap().iter();
        let groups = groups.flat_map(|micro_batch| micro_batch["groups"].as_array().unwrap());
        let strategy = |group: &Value| {
            let strategy = &group["strategy"];
            let degree = |part: &str| strategy[part].as_u64().unwrap();
            let activations = strategy["activations"].as_str().unwrap().to_owned();
            (degree("ulysses"), degree("ring"), activations)
        };
        Step {
            number: line["step"].as_u64().unwrap(),
            loss: line["loss"].as_f64().unwrap(),
            validation: line["validation"]["loss"].as_f64(),
            strategies: groups.map(strategy).collect(),
        }
    };
    text.lines().map(step).collect()
}

#[track_caller]
fn assert_same(found: &[Step], alone: &[Step]) {
    for step in found {
        let expected = alone.iter().find(|other| other.number == step.number);
        let expected = expected.unwrap();
        let same = |found: f64, expected: f64| (found - expected).abs() <= 1e-6 * expected;
        assert!(
            same(step.loss, expected.loss),
            "step {}: a loss of {} instead of {}",
            step.number,
            step.loss,
            expected.loss
        );
        assert_eq!(step.validation.is_some(), expected.validation.is_some());
        if let Some((found, expected)) = step.validation.zip(expected.validation) {
            assert!(same(found, expected), "{found} instead of {expected}");
        }
    }
}

#[test]
fn losses_are_those_of_a_single_rank_whatever_groups_are_like() {
    let scene = scene();
    scene
        .run("train run.toml --ranks 1 --metrics alone.jsonl")
        .expect(0, "");
    let alone = steps(&scene, "alone.jsonl");
    assert_eq!(alone.len(), 6);
    for (number, (options, only)) in [
        ("--strategies all --activations all", None),
        (
            "--strategies ring --degrees 4 --activations host",
            Some((1, 4, "host")),
        ),
        (
            "--strategies hybrid --degrees 4 --activations keep",
            Some((2, 2, "keep")),
        ),
        ("--degrees 2 --activations host", Some((2, 1, "host"))),
    ]
    .into_iter()
    .enumerate()
    {
        let metrics = format!("{number}.jsonl");
        let line =
            format!("train run.toml {options} --set cluster.host_memory_mib=1 --metrics {metrics}");
        scene.run(&line).expect(0, "costs      measured in");
        let found = steps(&scene, &metrics);
        assert_eq!(found.len(), 6, "{options}");
        assert_same(&found, &alone);
        if let Some((ulysses, ring, activations)) = only {
            let only = BTreeSet::from([(ulysses, ring, activations.to_owned())]);
            assert!(
                found.iter().all(|step| step.strategies == only),
                "{options}"
            );
        }
    }
}

#[test]
fn a_run_with_all_strategies_goes_on_and_never_takes_over_costs_of_other_kinds() {
    let scene = scene();
    scene
        .run("train run.toml --ranks 1 --metrics alone.jsonl")
        .expect(0, "");
    let alone = steps(&scene, "alone.jsonl");
    const ALL: &str = "--strategies all --activations all";
    for (name, saved, resumed, said) in [
        ("a", ALL, ALL, "costs      of the checkpoint"),
        ("b", ALL, "", "they are left out"),
        ("c", "", ALL, "they are left out"),
        (
            "d",
            "--activations host",
            "--activations host",
            "costs      of the checkpoint",
        ),
        ("e", "", "", "costs      of the checkpoint"),
    ] {
        let line = format!(
            "train run.toml {saved} --checkpoints {name} --checkpoint-every 3 --set checkpoint.keep=2"
        );
        scene.run(&line).expect(0, "");
        let line = format!(
            "train run.toml {resumed} --resume {name}/step-00000003 --metrics {name}.jsonl"
        );
        scene.run(&line).expect(0, said);
        let found = steps(&scene, &format!("{name}.jsonl"));
        let numbers: Vec<u64> = found.iter().map(|step| step.number).collect();
        assert_eq!(numbers, [4, 5, 6]);
        assert_same(&found, &alone);
    }
}

#[test]
fn a_profile_must_have_the_costs_of_all_that_is_asked_for() {
    let scene = scene();
    scene
        .run("profile run.toml -o heads.toml --time-budget 300ms")
        .expect(0, "");
    let asked = "--strategies all --activations recompute,host";
    scene
        .run(&format!("train run.toml --profile heads.toml {asked}"))
        .expect(2, "error: heads.toml: there are no costs of ");
    let line = format!("profile run.toml -o all.toml --time-budget 300ms {asked}");
    scene.run(&line).expect(0, "");
    scene
        .run(&format!("train run.toml --profile all.toml {asked}"))
        .expect(0, "costs      of the profile");
    // It has more than this run may use.
    scene
        .run("train run.toml --profile all.toml")
        .expect(0, "costs      of the profile");
}

#[test]
fn rings_alone_are_profiled_and_planned_beyond_the_heads() {
    let scene = scene();
    let profile = "profile run.toml -o rings.toml --time-budget 300ms --strategies ring,hybrid";
    scene.run(profile).expect(0, "");
    scene
        .run("train run.toml --profile rings.toml --strategies ring,hybrid")
        .expect(0, "costs      of the profile");
    scene.file("lengths.txt", "100\n60\n40");
    let plan = "plan --lengths lengths.txt --profile rings.toml";
    scene.run(plan).expect(0, "");
    // Two heads; a rank on its own is of every family, and groups that exchange heads were not measured.
    let three = format!("{plan} --degrees 3 --activations recompute");
    let told = scene.run(&three).expect(0, "").stdout;
    assert!(told.contains(" x 3r"), "{told}");
    scene
        .run(&format!("{plan} --degrees 2 --strategies ulysses"))
        .expect(2, "--degrees: ");
    scene
        .run(&format!("{plan} --degrees 3 --strategies ulysses"))
        .expect(2, "--degrees: degree 3 is more than the model's 2 heads");
}

#[test]
fn a_refusal_is_about_the_activations_that_were_chosen() {
    let scene = scene();
    let profile = "profile run.toml -o all.toml --time-budget 300ms --activations all --strategies ring \
                   --set cluster.host_memory_mib=1";
    scene.run(profile).expect(0, "");
    scene.file("lengths.txt", "8500");
    let plan = "plan --lengths lengths.txt --profile all.toml --context 100000 --devices 1";
    scene.run(plan).expect(0, "");
    // A rank has half a MiB of its host, and layer inputs take more: what is recomputed does not count.
    let told = scene.run(&format!("{plan} --activations host"));
    let told = told
        .expect(2, "lengths.txt, line 1: 8500 tokens need degree ")
        .stderr;
    assert!(told.contains("hosts with more memory"), "{told}");
}

#[test]
fn nothing_moves_to_a_host_whose_link_is_not_described() {
    let scene = scene();
    scene
        .run("train run.toml --emulate cluster.toml --activations host")
        .expect(
            2,
            "--activations host: the emulated cluster describes no link to host memory; activations can't be moved there",
        );
    let cluster = scene.text("cluster.toml");
    let linked = cluster.replace(
        "[device]",
        "host_memory_gib = 1.0\n\n[device]\nhost_bandwidth_bytes_per_s = 1e9",
    );
    scene.file("linked.toml", &linked);
    scene
        .run("train run.toml --emulate linked.toml --activations host --strategies ring --steps 2 --metrics host.jsonl --set cluster.device_memory_mib=16")
        .expect(0, "");
    let on_host = |(_, _, activations): &(u64, u64, String)| activations == "host";
    let found = steps(&scene, "host.jsonl");
    assert!(found.iter().all(|step| step.strategies.iter().all(on_host)));
}

#[test]
fn memory_of_hosts_is_known_wherever_that_of_devices_is() {
    let scene = scene();
    let on_hosts = "--activations host --degrees 2 --set cluster.host_memory_mib=1";
    let line = format!("profile run.toml -o on-hosts.toml --time-budget 300ms {on_hosts}");
    scene.run(&line).expect(0, "");
    // A node of two ranks lends a MiB.
    let profile = scene.text("on-hosts.toml");
    assert!(
        profile.contains("host_share_gib = 0.00048828125"),
        "{profile}"
    );
    let line = format!("train run.toml --profile on-hosts.toml {on_hosts} --metrics run.jsonl");
    let told = scene.run(&line).expect(0, "").stdout;
    let line = told.lines().find(|line| line.starts_with("on hosts"));
    assert!(
        line.unwrap()
            .ends_with(" for a device, of 512.00 KiB for each"),
        "{told}"
    );
    let bytes = |step: &Value, of: &str| step[format!("{of}_peak_host_memory_bytes")].as_u64();
    for line in scene.text("run.jsonl").lines() {
        let step: Value = serde_json::from_str(line).unwrap();
        let (measured, predicted) = (bytes(&step, "measured"), bytes(&step, "predicted"));
        let (measured, predicted) = (measured.unwrap(), predicted.unwrap());
        // Groups hold all of their sequences at once.
        assert!(
            (1..=predicted).contains(&measured),
            "{measured} of {predicted}"
        );
        assert!(2 * measured > predicted, "{measured} of {predicted}");
    }
    scene.run("report run.jsonl -o run.html").expect(0, "");
    assert!(scene.text("run.html").contains("<dt>host memory</dt>"));
    scene.file("lengths.txt", "100\n60\n40");
    let plan = "plan --lengths lengths.txt --profile on-hosts.toml --json";
    let plan = scene.run(plan).expect(0, "").stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let group = &plan["micro_batches"][0]["groups"][0];
    assert!(group["host_memory_bytes"].as_u64() > Some(0), "{plan}");
    let simulate = "simulate --lengths lengths.txt --profile on-hosts.toml";
    let told = scene.run(simulate).expect(0, "").stdout;
    assert!(told.contains(" of 512 KiB for a rank at most"), "{told}");
    scene.file("lengths.txt", "100000");
    let refused = "plan --lengths lengths.txt --profile on-hosts.toml --context 100000";
    let told = scene.run(refused).expect(2, "100000 tokens need ").stderr;
    assert!(
        told.contains("of host memory for each device even at degree 2"),
        "{told}"
    );
}
