//! Runs that end early and go on: the same batches, the same losses, whatever ended them and on however many ranks they
//! go on.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![cfg(unix)]

mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use scene::Scene;
use serde_json::Value;

const STEPS: u64 = 12;

/// The steps of the run that nothing interrupts.
const WHOLE: &str = "train run.toml --steps 12 --metrics whole.jsonl";

/// What a step trained on, and the loss before it.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// In an order of their own: ranks and plans may differ.
    seq_lens: Vec<u64>,
    epoch: u64,
    loss: f64,
}

/// The steps of a file; of those that were trained twice, the last.
fn steps(scene: &Scene, name: &str) -> BTreeMap<u64, Step> {
    let text = scene.text(name);
    let lines = text.lines();
    // A run that is killed may leave half a line.
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let step = |line: Value| {
        let groups = line["plan"].as_array().unwrap().iter();
        let groups = groups.flat_map(|micro_batch| micro_batch["groups"].as_array().unwrap());
        let seq_lens = groups.flat_map(|group| group["seq_lens"].as_array().unwrap());
        let mut seq_lens: Vec<u64> = seq_lens.map(|len| len.as_u64().unwrap()).collect();
        seq_lens.sort_unstable();
        let step = Step {
            seq_lens,
            epoch: line["epoch"].as_u64().unwrap(),
            loss: line["loss"].as_f64().unwrap(),
        };
        (line["step"].as_u64().unwrap(), step)
    };
    lines.map(step).collect()
}

#[track_caller]
fn assert_same(found: &BTreeMap<u64, Step>, whole: &BTreeMap<u64, Step>, tolerance: f64) {
    for (number, step) in found {
        let expected = &whole[number];
        assert_eq!(step.seq_lens, expected.seq_lens, "step {number}");
        assert_eq!(step.epoch, expected.epoch, "step {number}");
        let off = (step.loss - expected.loss).abs() / expected.loss;
        assert!(
            off <= tolerance,
            "step {number}: a loss of {} instead of {}",
            step.loss,
            expected.loss
        );
    }
}

/// A scene with a run of 12 steps, and checkpoints behind steps 4, 8 and 12.
fn trained() -> (Scene, BTreeMap<u64, Step>) {
    let scene = Scene::new();
    let more = (0..20u8).map(|index| {
        let text = format!("document {index} of a corpus. ").repeat(1 + usize::from(index) % 5);
        (format!("corpus/{index}.txt"), text)
    });
    more.for_each(|(name, text)| scene.file(&name, &text));
    let line = format!(
        "{WHOLE} --refine false --checkpoints ck --checkpoint-every 4 --set checkpoint.keep=3"
    );
    scene.run(&line).expect(0, "");
    let whole = steps(&scene, "whole.jsonl");
    assert_eq!(whole.len() as u64, STEPS);
    (scene, whole)
}

fn checkpoint(scene: &Scene, step: u64) -> PathBuf {
    scene.path(&format!("ck/step-{step:08}"))
}

#[test]
fn a_run_goes_on_with_any_number_of_ranks_as_if_nothing_had_been() {
    let (scene, whole) = trained();
    for ranks in 1..=8 {
        let metrics = format!("on-{ranks}.jsonl");
        let line = format!(
            "train run.toml --steps 12 --refine false --resume ck/step-00000008 --ranks {ranks} --metrics {metrics}"
        );
        let done = scene
            .run(&line)
            .expect(0, "resumed    ck/step-00000008: behind step 8 of 12");
        let found = steps(&scene, &metrics);
        assert_eq!(
            found.keys().copied().collect::<Vec<_>>(),
            [9, 10, 11, 12],
            "{}",
            done.stderr
        );
        // On as many ranks, with the costs of the checkpoint, plans are the same, and so is every bit.
        assert_same(&found, &whole, if ranks == 2 { 0.0 } else { 1e-6 });
        let changed = format!("the number of ranks changed from 2 to {ranks}");
        assert_eq!(done.stderr.contains(&changed), ranks != 2);
        let says_costs = done.stderr.contains("costs      of the checkpoint");
        assert_eq!(says_costs, ranks == 2, "{}", done.stderr);
    }
    for planner in ["static:1", "static:2"] {
        let line = format!(
            "train run.toml --steps 12 --resume ck/step-00000004 --planner {planner} --metrics {planner}.jsonl"
        );
        let changed = format!(r#"plan.planner changed from "adaptive" to "{planner}""#);
        scene.run(&line).expect(0, &changed);
        let found = steps(&scene, &format!("{planner}.jsonl"));
        assert_eq!(found.len(), 8);
        assert_same(&found, &whole, 1e-6);
    }
}

#[test]
fn a_run_that_was_over_trains_nothing_and_writes_its_model() {
    let (scene, _) = trained();
    let line = "train run.toml --steps 12 --resume ck/step-00000012 --export model";
    let done = scene
        .run(line)
        .expect(0, "resumed    ck/step-00000012: behind step 12 of 12");
    assert!(
        done.stdout.contains("trained    nothing"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("plans "), "{}", done.stdout);
    assert!(scene.path("model/config.json").exists());
}

#[test]
fn a_run_that_is_killed_again_and_again_is_the_same_run_in_the_end() {
    let kills = std::env::var("LENGTHWISE_KILLS").ok();
    let kills: u64 = kills.map_or(5, |kills| kills.parse().unwrap());
    let (scene, _) = trained();
    let last = STEPS + 2 * kills;
    scene
        .run(&format!(
            "train run.toml --steps {last} --metrics all.jsonl"
        ))
        .expect(0, "");
    let whole = steps(&scene, "all.jsonl");
    let start = |ranks: u64| {
        let line = format!(
            "train run.toml --steps {last} --metrics killed.jsonl --checkpoints killed --checkpoint-every 1 \
             --resume latest --ranks {ranks}"
        );
        scene.start(&line)
    };
    let steps_so_far = || {
        let text = fs::read_to_string(scene.path("killed.jsonl")).unwrap_or_default();
        text.lines().count()
    };
    let mut random = 1u64;
    let mut num_killed = 0;
    for attempt in 0..kills {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut running = start(1 + attempt % 8);
        // Most while steps and saves go on, some before.
        let before = steps_so_far();
        if attempt % 4 != 3 {
            while steps_so_far() <= before && !running.has_ended() {
                sleep(Duration::from_millis(2));
            }
        }
        sleep(Duration::from_millis(random >> 33 & 63));
        if !running.has_ended() {
            running.signal("KILL");
            num_killed += 1;
        }
        drop(running);
    }
    assert!(num_killed > 0);
    start(2).end().expect(0, "");
    let found = steps(&scene, "killed.jsonl");
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        (1..=last).collect::<Vec<_>>()
    );
    assert_same(&found, &whole, 1e-6);
    // Nothing is left of those that were being written.
    let left = fs::read_dir(scene.path("killed")).unwrap();
    let mut left: Vec<String> = left
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [last - 1, last].map(|step| format!("step-{step:08}")));
}

#[test]
fn signals_save_the_state_and_say_how_to_go_on() {
    let scene = Scene::new();
    let mut begun = 0;
    for signal in ["TERM", "INT", "USR1", "HUP"] {
        let line =
            "train run.toml --steps 100000 --metrics m.jsonl --checkpoints ck --resume latest";
        let mut running = scene.start(line);
        scene.wait_for_steps("m.jsonl", begun + 1);
        running.signal(signal);
        let done = running.end();
        begun = scene.steps("m.jsonl").len();
        let done = done.expect(4, &format!("stopping   by SIG{signal}"));
        let last = *scene.steps("m.jsonl").last().unwrap();
        // Every step once: none is lost between the last that was trained and the state.
        assert_eq!(scene.steps("m.jsonl"), (1..=last).collect::<Vec<_>>());
        let state = format!("behind step {last} of 100000; its state is in ck/step-{last:08}");
        assert!(done.stderr.contains(&state), "{}", done.stderr);
        let command = "hint: go on with: lengthwise train run.toml --steps 100000 --metrics m.jsonl \
                       --checkpoints ck --resume latest\n";
        assert!(done.stderr.ends_with(command), "{}", done.stderr);
    }
    // Where there are no checkpoints, the signal ends the process.
    let mut running = scene.start("train run.toml --steps 100000 --metrics other.jsonl");
    scene.wait_for_steps("other.jsonl", 1);
    running.signal("USR1");
    running.end().expect(
        128 + 10,
        "interrupted by SIGUSR1; the last finished step is",
    );
}

#[test]
fn what_may_not_change_is_one_error_before_work() {
    let (scene, _) = trained();
    let resume = "train run.toml --steps 12 --resume ck/step-00000008";
    for (more, said) in [
        (
            "--tokens 300",
            "the tokens of a batch changed from 256 to 300",
        ),
        (
            "--context 64",
            "the longest sequence changed from 128 to 64",
        ),
        (
            "--set data.seed=3",
            "the seed of their order changed from 0 to 3",
        ),
        (
            "--set data.min_tokens=9",
            "the shortest sequence changed from 1 to 9",
        ),
        (
            "--set model.hidden=32",
            "another model: hidden_size is 16 there, and 32 in this run",
        ),
        (
            "--set model.layers=2",
            "another model: num_hidden_layers is 1 there, and 2 in this run",
        ),
        ("--seed 9", "began with train.seed = 0, and this run has 9"),
        (
            "--steps 7",
            "was written after step 8, and the run has only 7",
        ),
    ] {
        let line = match more {
            "--steps 7" => "train run.toml --steps 7 --resume ck/step-00000008".to_owned(),
            more => format!("{resume} {more} --metrics no.jsonl"),
        };
        let done = scene.run(&line).expect(2, said);
        assert!(
            done.stdout.is_empty() && done.stderr.contains("hint: "),
            "{}",
            done.stderr
        );
        assert!(!scene.path("no.jsonl").exists());
    }
    scene.file("corpus/more.txt", "another document");
    scene
        .run(resume)
        .expect(2, "the number of documents changed from 23 to 24");
    fs::remove_file(scene.path("corpus/more.txt")).unwrap();
    scene
        .run("train run.toml --steps 20 --checkpoints ck")
        .expect(2, "ck holds step-00000012, and the run begins with step 1");
    scene.run(&format!("{resume} --checkpoints ck")).expect(
        2,
        "ck holds step-00000012, and the run begins behind step 8",
    );
    // Of a run that is over, nothing is left but what it was to write.
    scene
        .run("train run.toml --steps 12 --resume latest --checkpoints ck --export model")
        .expect(0, "");
    assert!(scene.path("model/config.json").exists());
}

#[test]
fn a_directory_that_is_no_checkpoint_is_never_removed() {
    let (scene, _) = trained();
    fs::create_dir(checkpoint(&scene, 1)).unwrap();
    scene.file("ck/step-00000001/mine", "notes");
    let line = "train run.toml --steps 16 --checkpoints ck --checkpoint-every 4 --resume latest";
    scene.run(line).expect(0, "");
    assert!(scene.path("ck/step-00000001/mine").exists());
    // Two are kept.
    let is_there = [4, 8, 12, 16].map(|step| checkpoint(&scene, step).exists());
    assert_eq!(is_there, [false, false, true, true]);
}

/// A change to a checkpoint, and what is said of it.
type Breakage = (&'static str, Box<dyn Fn(&Path)>, &'static str);

fn shards(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut shards: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending == "safetensors")
        })
        .collect();
    shards.sort();
    shards
}

fn changed(name: &'static str, change: fn(&mut Vec<u8>)) -> impl Fn(&Path) {
    move |directory| {
        let path = match name {
            "shard" => shards(directory)[0].clone(),
            name => directory.join(name),
        };
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
}

/// The end of the header of a safetensors file.
fn header_end(bytes: &[u8]) -> usize {
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn replaced(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(std::mem::take(bytes)).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

fn breakages() -> Vec<Breakage> {
    let record = |name, change: fn(&mut Vec<u8>), said| -> Breakage {
        (name, Box::new(changed("trainer.json", change)), said)
    };
    let shard = |name, change: fn(&mut Vec<u8>), said| -> Breakage {
        (name, Box::new(changed("shard", change)), said)
    };
    vec![
        record("an empty record", Vec::clear, "trainer.json: EOF"),
        record(
            "half a record",
            |bytes| bytes.truncate(bytes.len() / 2),
            "trainer.json: ",
        ),
        record(
            "a record without its last brace",
            |bytes| bytes.truncate(bytes.len() - 2),
            "EOF",
        ),
        record(
            "a record cut behind a key",
            |bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                bytes.truncate(text.find("\"files\":").unwrap() + 8);
            },
            "EOF",
        ),
        record(
            "a record cut behind a file",
            |bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                bytes.truncate(text.find("},").unwrap() + 1);
            },
            "EOF",
        ),
        record(
            "zeros",
            |bytes| bytes.fill(0),
            "trainer.json: expected value",
        ),
        record(
            "no text",
            |bytes| bytes[10] = 0xff,
            "trainer.json: it is not text in UTF-8",
        ),
        record(
            "no object",
            |bytes| *bytes = b"[1]".to_vec(),
            "it is no JSON object",
        ),
        record(
            "another version",
            |bytes| replaced(bytes, "\"version\": 2", "\"version\": 1"),
            "it is of version 1",
        ),
        record(
            "no version",
            |bytes| replaced(bytes, "\"version\"", "\"versoin\""),
            "it has no version",
        ),
        record(
            "another step",
            |bytes| replaced(bytes, "\"step\": 12", "\"step\": 13"),
            "its checksum does not fit",
        ),
        record(
            "another position",
            |bytes| replaced(bytes, "\"num_drawn\": ", "\"num_drawn\": 1"),
            "its checksum does not fit",
        ),
        record(
            "another checksum",
            |bytes| replaced(bytes, "\"checksum\": \"", "\"checksum\": \"0"),
            "its checksum does not fit",
        ),
        record(
            "more behind it",
            |bytes| bytes.extend(b"{}"),
            "trailing characters",
        ),
        (
            "no record",
            Box::new(|directory| fs::remove_file(directory.join("trainer.json")).unwrap()),
            "holds no trainer.json",
        ),
        (
            "a directory as a record",
            Box::new(|directory| {
                fs::remove_file(directory.join("trainer.json")).unwrap();
                fs::create_dir(directory.join("trainer.json")).unwrap();
            }),
            "it is no file of at most 64 MiB",
        ),
        shard(
            "an empty shard",
            Vec::clear,
            "it has 0 bytes, and trainer.json says",
        ),
        shard(
            "a shard cut in its length",
            |bytes| bytes.truncate(5),
            "it has 5 bytes",
        ),
        shard(
            "a shard cut behind its length",
            |bytes| bytes.truncate(8),
            "it has 8 bytes",
        ),
        shard(
            "a shard cut in its header",
            |bytes| bytes.truncate(header_end(bytes) / 2),
            " bytes, and trainer.json",
        ),
        shard(
            "a shard cut behind its header",
            |bytes| bytes.truncate(header_end(bytes)),
            " bytes, and trainer.json",
        ),
        shard(
            "a shard without its last byte",
            |bytes| bytes.truncate(bytes.len() - 1),
            " bytes, and trainer.json",
        ),
        shard(
            "a longer shard",
            |bytes| bytes.push(0),
            " bytes, and trainer.json",
        ),
        shard(
            "a flipped bit of a weight",
            |bytes| *bytes.last_mut().unwrap() ^= 4,
            "its checksum is",
        ),
        shard(
            "a header of zeros",
            |bytes| bytes[8..100].fill(0),
            "header is broken",
        ),
        shard(
            "a length beyond the file",
            |bytes| bytes[..8].fill(0xff),
            "its header should have",
        ),
        shard(
            "a shorter length",
            |bytes| bytes[0] -= 8,
            "header is broken",
        ),
        (
            "a missing shard",
            Box::new(|directory| fs::remove_file(&shards(directory)[1]).unwrap()),
            "it is missing; trainer.json lists it",
        ),
        (
            "a shard too many",
            Box::new(|directory| {
                fs::copy(&shards(directory)[0], directory.join("shard-9.safetensors")).unwrap();
            }),
            "trainer.json does not list it",
        ),
        (
            "two shards that have changed places",
            Box::new(|directory| {
                let shards = shards(directory);
                fs::rename(&shards[0], directory.join("other")).unwrap();
                fs::rename(shards.last().unwrap(), &shards[0]).unwrap();
                fs::rename(directory.join("other"), shards.last().unwrap()).unwrap();
            }),
            "",
        ),
        (
            "a config of another model",
            Box::new(changed("config.json", |bytes| {
                replaced(
                    bytes,
                    "\"num_hidden_layers\": 1",
                    "\"num_hidden_layers\": 3",
                )
            })),
            "",
        ),
        (
            "no config",
            Box::new(|directory| fs::remove_file(directory.join("config.json")).unwrap()),
            "config.json: it is missing",
        ),
    ]
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn every_broken_checkpoint_is_one_error_that_names_the_whole_one_before() {
    let (scene, _) = trained();
    let (whole, newest) = (scene.path("whole"), checkpoint(&scene, 12));
    copy(&newest, &whole);
    let older = checkpoint(&scene, 4);
    fs::remove_dir_all(older).unwrap();
    for (what, change, said) in breakages() {
        fs::remove_dir_all(&newest).unwrap();
        copy(&whole, &newest);
        change(&newest);
        let shown = scene.run("checkpoint ck/step-00000012");
        assert_eq!(
            (shown.code, &*shown.stdout),
            (2, ""),
            "{what}: {}",
            shown.stderr
        );
        let done = scene.run("train run.toml --steps 20 --checkpoints ck --resume latest");
        let done = done.expect(2, said);
        assert!(done.stdout.is_empty(), "{what}");
        let errors = done
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{what}: {}", done.stderr);
        let hint = "hint: the newest whole checkpoint is ck/step-00000008: move ck/step-00000012 away, and --resume \
                    latest goes on from it\n";
        assert!(done.stderr.ends_with(hint), "{what}: {}", done.stderr);
    }
    fs::remove_dir_all(&newest).unwrap();
    scene
        .run("train run.toml --steps 20 --checkpoints ck --resume latest")
        .expect(0, "behind step 8 of 20");
}

#[test]
fn a_full_disk_keeps_the_checkpoint_before() {
    for fault in ["full@3000", "eio", "sync", "rename"] {
        let mut scene = Scene::new();
        scene.faults(&format!("step-00000004={fault}"));
        let train = "train run.toml --steps 6 --checkpoints ck --checkpoint-every 2";
        scene
            .run(train)
            .expect(
                0,
                "warning: the state behind step 4 can't be saved: can't write ck/step-00000004: ",
            )
            .expect(0, "; ck/step-00000002 stays, and training goes on");
        let names = || {
            let entries = fs::read_dir(scene.path("ck")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let expected = ["step-00000002", "step-00000006"].map(str::to_owned);
        assert_eq!(names(), expected.into(), "{fault}");
        // What is left of the disk's faults is the last state.
        scene.faults(&format!("step-00000008={fault}"));
        scene
            .run(&format!("{train} --steps 8 --resume latest").replace("--steps 6 ", ""))
            .expect(
                3,
                "the state behind the last step could not be saved: can't write ck/step-00000008: ",
            )
            .expect(3, "; ck/step-00000006 stays");
        assert!(
            scene.path("ck/step-00000006/trainer.json").exists(),
            "{fault}"
        );
    }
}

#[test]
fn a_checkpoint_is_shown_and_made_a_model() {
    let (scene, whole) = trained();
    let shown = scene.run("checkpoint ck/step-00000012").expect(0, "");
    for said in [
        "step       12 of 12",
        ": whole, ",
        "2 ranks",
        "hidden 16, layers 1",
    ] {
        assert!(shown.stdout.contains(said), "{}", shown.stdout);
    }
    let all = scene.run("checkpoint ck --json").expect(0, "");
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    let steps: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["trainer"]["step"].clone())
        .collect();
    assert_eq!(steps, [4, 8, 12]);
    scene
        .run("checkpoint export ck/step-00000012 model")
        .expect(0, "");
    scene
        .run("checkpoint export ck/step-00000012 model")
        .expect(2, "a model is never overwritten");
    scene
        .run("checkpoint nowhere")
        .expect(2, "nowhere does not exist");
    // Whoever goes on from the model has the parameters of the state; AdamW's moments are new.
    let settings = scene
        .text("run.toml")
        .replace("hidden = 16\nlayers = 1\nheads = 2\n", "from = \"model\"\n");
    scene.file("on.toml", &settings);
    scene
        .run("train on.toml --steps 1 --metrics on.jsonl")
        .expect(0, "");
    scene
        .run("train run.toml --steps 13 --resume ck/step-00000012 --metrics next.jsonl")
        .expect(0, "");
    let (on, next) = (
        self::steps(&scene, "on.jsonl"),
        self::steps(&scene, "next.jsonl"),
    );
    // The first batch of the corpus, and the thirteenth.
    assert!(on[&1].loss < whole[&1].loss && next[&13].loss < whole[&1].loss);
    let exported = scene.run("train run.toml --steps 12 --resume ck/step-00000012 --export other");
    exported.expect(0, "");
    let weights =
        |directory: &str| fs::read(scene.path(directory).join("model.safetensors")).unwrap();
    assert_eq!(weights("model"), weights("other"));
}

#[test]
fn a_report_shows_a_run_that_went_on_as_one() {
    let (scene, _) = trained();
    let line = "train run.toml --steps 14 --metrics whole.jsonl --resume ck/step-00000008";
    scene.run(line).expect(0, "");
    assert_eq!(scene.steps("whole.jsonl").len(), 12 + 6);
    scene
        .run("report whole.jsonl --output page.html")
        .expect(0, "");
    let page = scene.text("page.html");
    assert!(
        page.contains("14 steps"),
        "{}",
        &page[..3000.min(page.len())]
    );
}

/// A Python with torch reads a checkpoint into tensors that are sharded in other ways.
#[test]
fn pytorch_reads_the_shards() {
    let Ok(python) = std::env::var("LENGTHWISE_PYTHON") else {
        writeln!(
            std::io::stderr(),
            "skipped: LENGTHWISE_PYTHON names no Python with torch"
        )
        .unwrap();
        return;
    };
    let (scene, _) = trained();
    for ranks in [1, 2, 3, 5] {
        let line = format!(
            "train run.toml --steps 13 --ranks {ranks} --resume ck/step-00000012 --checkpoints ck-{ranks} \
             --export model-{ranks}"
        );
        scene.run(&line).expect(0, "");
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/distributed_checkpoint.py"
        );
        let read = Command::new(&python)
            .arg(script)
            .arg(scene.path(&format!("ck-{ranks}/step-00000013")))
            .arg(scene.path(&format!("model-{ranks}")))
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&read.stdout);
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success(), "{printed}{said}");
        assert_eq!(printed, "2 ranks: equal\n3 ranks: equal\n", "{said}");
    }
}
