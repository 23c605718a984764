//! Outputs that fail while a command works or once it is done, runs that end early, and runs at once.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![cfg(unix)]

mod scene;

use std::fs;

use lengthwise_sim::check_chrome_trace;
use scene::{Done, Scene};

/// Steps that go on until they are ended.
const LONG: &str = "train run.toml --steps 1000000 --metrics m.jsonl";

fn num_warnings(done: &Done) -> usize {
    let lines = done.stderr.lines();
    lines.filter(|line| line.starts_with("warning: ")).count()
}

/// Every command, with nothing but stdout to write to.
const PRINTING: &[&str] = &[
    "--help",
    "--version",
    "plan --help",
    "train run.toml",
    "train run.toml --show-settings",
    "profile run.toml --time-budget 300ms -o new.toml",
    "plan --lengths lengths.txt --profile easy.toml",
    "plan --lengths lengths.txt --profile easy.toml --json",
    "simulate plan.json --profile easy.toml",
    "simulate plan.json --profile easy.toml --json",
    "compare --profile easy.toml --sequences 4 --batches 1",
    "compare --profile easy.toml --sequences 4 --batches 1 --format csv",
    "verify proof.json",
    "report run.jsonl",
    "bench scaling --sizes 4x8 --profile easy.toml --distribution draw.toml --batches 1",
    "bench plan batch.json --cluster a100-80-8x8 --model llama-3.1-8b --planners static --repetitions 1",
];

#[test]
fn results_that_a_full_disk_does_not_take_are_an_error_and_a_reader_that_leaves_is_none() {
    let scene = Scene::with_results();
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (from, to) in [
        ("lengths/wikipedia.toml", "draw.toml"),
        ("batches/wikipedia_384k_7b_0.json", "batch.json"),
    ] {
        fs::copy(examples.join(from), scene.path(to)).unwrap();
    }
    for line in PRINTING {
        scene
            .run(&format!("{line} >> /dev/full"))
            .expect(3, "error: stdout can't be written: No space left on device");
        let done = scene.start_unread(line).end().expect(0, "");
        assert!(!done.stderr.contains("error: "), "{line}: {}", done.stderr);
    }
    // It trains on, and records it.
    let done = scene.run("train run.toml --metrics m.jsonl --export model >> /dev/full");
    let done = done.expect(3, "warning: stdout can't be written");
    assert_eq!(num_warnings(&done), 1, "{}", done.stderr);
    assert_eq!(scene.steps("m.jsonl"), [1, 2, 3, 4]);
    assert!(scene.path("model/config.json").exists());
    // Of a failure, the exit code is that of the failure.
    scene
        .run("plan --lengths nowhere --profile easy.toml >> /dev/full")
        .expect(2, "nowhere");
}

#[test]
fn metrics_that_a_full_disk_does_not_take_are_kept_until_it_does() {
    let mut scene = Scene::new();
    scene.file("m.jsonl", "");
    scene.faults("{}/m.jsonl$=full@100x2");
    let done = scene
        .run("train run.toml --metrics m.jsonl")
        .expect(0, "can't write metrics");
    assert_eq!(num_warnings(&done), 1, "{}", done.stderr);
    assert_eq!(scene.steps("m.jsonl"), [1, 2, 3, 4]);
    for fault in ["full", "eio"] {
        scene.file("m.jsonl", "");
        scene.faults(&format!("{{}}/m.jsonl$={fault}@3000"));
        let done = scene.run("train run.toml --metrics m.jsonl --steps 6");
        let done = done.expect(3, "m.jsonl.2, since ");
        assert_eq!(num_warnings(&done), 1, "{}", done.stderr);
        let steps = [scene.steps("m.jsonl"), scene.steps("m.jsonl.2")];
        assert!(steps.iter().all(|steps| !steps.is_empty()), "{steps:?}");
        assert_eq!(steps.concat(), [1, 2, 3, 4, 5, 6]);
        fs::remove_file(scene.path("m.jsonl.2")).unwrap();
    }
    scene.file("m.jsonl", "");
    scene.faults("{}/m.jsonl=short");
    scene.run("train run.toml --metrics m.jsonl").expect(0, "");
    assert_eq!(scene.steps("m.jsonl"), [1, 2, 3, 4]);
}

#[test]
fn what_is_removed_meanwhile_is_written_again() {
    let scene = Scene::new();
    let running = scene.start(&format!(
        "{} --export a/model",
        LONG.replace("1000000", "300")
    ));
    scene.wait_for_steps("m.jsonl", 2);
    fs::remove_file(scene.path("m.jsonl")).unwrap();
    fs::remove_dir_all(scene.path("a")).unwrap();
    running.end().expect(0, "");
    assert_eq!(scene.steps("m.jsonl"), (1..=300).collect::<Vec<_>>());
    assert!(scene.path("a/model/model.safetensors").exists());
}

#[test]
fn files_that_their_place_does_not_take_in_the_end_go_where_they_can() {
    let mut scene = Scene::with_results();
    for (line, ending) in [
        ("profile run.toml --time-budget 300ms -o", "[cluster]"),
        (
            "plan --lengths lengths.txt --profile easy.toml --certificate",
            "\"proof\"",
        ),
        ("report run.jsonl -o", "</html>"),
        ("train run.toml --trace", "]}"),
    ] {
        for fault in ["full@4096", "eio@4096", "rename"] {
            // The trial at the start takes 4096 bytes. A trace is written while the run goes on.
            if line.contains("--trace") && fault.contains('@') {
                continue;
            }
            scene.file("out", "old");
            // It is the unfinished file that is written, and its place that it is renamed to.
            let fault = match fault {
                "rename" => "{}/out=rename".to_owned(),
                fault => format!("{{}}/.out={fault}"),
            };
            scene.faults(&fault);
            scene.run(&format!("{line} out")).expect(3, "out.2, since ");
            assert_eq!(scene.text("out"), "old", "{line} {fault}");
            assert!(scene.text("out.2").contains(ending), "{line} {fault}");
            fs::remove_file(scene.path("out.2")).unwrap();
            // Nor does the directory.
            scene.faults(&format!("{fault},{{}}/out=eio"));
            let temporary = scene.temporary("out").display().to_string();
            scene.run(&format!("{line} out")).expect(3, &temporary);
            fs::remove_file(scene.temporary("out")).unwrap();
            fs::remove_file(scene.path("out")).unwrap();
        }
        scene.faults("out=short");
        scene.run(&format!("{line} out")).expect(0, "");
        assert!(scene.text("out").contains(ending), "{line}");
        fs::remove_file(scene.path("out")).unwrap();
    }
    for fault in ["full@4100", "eio@4100", "rename"] {
        scene.faults(&format!("model/={fault}"));
        scene
            .run("train run.toml --export model")
            .expect(3, "model.2, since ");
        let names = fs::read_dir(scene.path("model.2")).unwrap().count();
        assert_eq!(names, 2, "{fault}");
        assert!(!scene.path("model").exists(), "{fault}");
        fs::remove_dir_all(scene.path("model.2")).unwrap();
    }
    // No place at all: the summary is shown all the same.
    scene.faults("model.safetensors=full");
    let done = scene
        .run("train run.toml --export model")
        .expect(3, "the trained model is lost");
    assert!(done.stdout.contains("step"), "{}", done.stdout);
    scene.faults("{}/.t=full@4096");
    scene
        .run("simulate plan.json --profile easy.toml --trace t")
        .expect(3, "the trace can't be written");
    assert!(!scene.path("t").exists());
}

#[test]
fn traces_of_runs_that_end_early_are_whole() {
    let mut scene = Scene::new();
    let steps = |scene: &Scene| {
        let trace = fs::read(scene.path("t.json")).unwrap();
        check_chrome_trace(&trace[..]).unwrap().num_steps
    };
    let line = "train run.toml --planner static:2 --trace t.json --trace-steps 1,2,4";
    scene
        .run(&format!("{line} --inject-failure 1:3"))
        .expect(1, "trace      steps 1, 2");
    assert_eq!(steps(&scene), 2);
    // Two steps are written, and half of the third.
    scene.run(line).expect(0, "");
    assert_eq!(steps(&scene), 3);
    let len = fs::metadata(scene.path("t.json")).unwrap().len();
    scene.faults(&format!("{{}}/.t.json=full@{}x1", 4096 + len * 4 / 5));
    let done = scene.run(line).expect(3, " ends with step ");
    assert_eq!(num_warnings(&done), 1, "{}", done.stderr);
    assert_eq!(steps(&scene), 2);
    // A run that traces nothing leaves the trace of the one before.
    let before = scene.files();
    scene.faults("");
    scene
        .run(&format!("{line} --inject-failure 0:1"))
        .expect(1, "");
    assert!(scene.files() == before);
}

#[test]
fn the_last_finished_step_is_recorded_when_a_rank_fails() {
    let scene = Scene::new();
    for trial in 0..20 {
        let line = format!(
            "train run.toml --metrics m.jsonl --inject-failure {}:3",
            trial % 2
        );
        scene.run(&line).expect(1, "");
        assert_eq!(scene.steps("m.jsonl"), [1, 2], "trial {trial}");
        fs::remove_file(scene.path("m.jsonl")).unwrap();
    }
}

#[test]
fn two_runs_do_not_write_to_one_file() {
    let scene = Scene::new();
    let mut first = scene.start(&format!("{LONG} --export model"));
    scene.wait_for_steps("m.jsonl", 2);
    scene
        .run("train run.toml --metrics m.jsonl")
        .expect(2, "another run is writing to it");
    scene
        .run("train run.toml --export model")
        .expect(2, "another run is writing to it");
    scene
        .run("train run.toml --metrics other.jsonl --export other")
        .expect(0, "");
    // Truncated while it is written, it has no holes.
    scene.file("m.jsonl", "");
    scene.wait_for_steps("m.jsonl", 3);
    first.signal("KILL");
    first.end().expect(128 + 9, "");
    let line = "train run.toml --metrics m.jsonl --export model";
    scene.run(line).expect(0, "");
    assert!(!scene.text("m.jsonl").contains('\0'));
    let names = fs::read_dir(scene.path("model")).unwrap().count();
    assert_eq!(names, 2);
}

#[test]
fn where_there_are_no_locks_a_warning_says_so() {
    let mut scene = Scene::new();
    scene.faults("m.jsonl=lock,model=lock");
    let line = "train run.toml --metrics m.jsonl --export model";
    let done = scene
        .run(line)
        .expect(0, "files can't be locked where m.jsonl is");
    assert!(done.stderr.contains("files can't be locked where model is"));
    assert_eq!(scene.steps("m.jsonl"), [1, 2, 3, 4]);
    scene
        .run("train run.toml --metrics m.jsonl")
        .expect(0, "let only one run at a time write to it");
    assert_eq!(scene.steps("m.jsonl").len(), 8);
    // A model is not replaced there either.
    scene.run(line).expect(2, "a model is never overwritten");
}

#[test]
fn what_a_killed_run_has_left_is_removed_by_the_next() {
    let scene = Scene::new();
    let mut first = scene.start(&format!("{LONG} --trace t.json"));
    scene.wait_for_steps("m.jsonl", 2);
    first.signal("KILL");
    first.end().expect(128 + 9, "");
    let is_left = |name: &String| name.starts_with(".t.json.");
    assert!(scene.names().iter().any(is_left), "{:?}", scene.names());
    scene.run("train run.toml --trace t.json").expect(0, "");
    assert!(!scene.names().iter().any(is_left), "{:?}", scene.names());
}

#[cfg(target_os = "linux")]
#[test]
fn signals_end_a_run_with_what_is_saved() {
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let scene = Scene::new();
        let line = format!("{LONG} --trace t.json --trace-steps 1,2,3 --export model");
        let mut running = scene.start(&line);
        scene.wait_for_steps("m.jsonl", 4);
        running.signal(signal);
        let said = format!("error: interrupted by SIG{signal}; the last finished step is ");
        let done = running.end().expect(128 + number, &said);
        for part in [
            "; metrics are in m.jsonl; ",
            "traced are steps 1, 2, 3 in ",
            "; the model was not saved",
        ] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
        let steps = scene.steps("m.jsonl");
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
        let last = format!("the last finished step is {};", steps.len());
        assert!(done.stderr.contains(&last), "{last}: {}", done.stderr);
        let trace = fs::read(scene.path("t.json")).unwrap();
        assert_eq!(check_chrome_trace(&trace[..]).unwrap().num_steps, 3);
        let left: Vec<String> = scene
            .names()
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!scene.path("model").exists());
        scene.run("train run.toml --export model").expect(0, "");
    }
    let scene = Scene::new();
    let mut running = scene.start("profile run.toml --time-budget 60s -o p.toml");
    scene.wait_for(|_| running.watches_signals());
    running.signal("TERM");
    running
        .end()
        .expect(128 + 15, "error: interrupted by SIGTERM; nothing was saved");
    assert!(!scene.path("p.toml").exists());
}
