//! What commands write: never over what they read or other outputs, and refused before any work if it can't be written.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![cfg(unix)]

mod scene;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use scene::Scene;

/// Lines that would destroy something, and what they say it is.
const CLASHES: &[(&str, &str)] = &[
    (
        "train run.toml --metrics run.toml",
        "it is the settings file",
    ),
    ("train run.toml --trace run.toml", "it is the settings file"),
    (
        "train run.toml --export run.toml",
        "it is the settings file",
    ),
    (
        "train run.toml --metrics ./corpus/../run.toml",
        "it is the settings file",
    ),
    ("train run.toml --metrics hard", "it is the settings file"),
    ("train run.toml --trace soft", "it is the settings file"),
    ("train soft --metrics run.toml", "it is the settings file"),
    (
        "train run.toml LENGTHWISE_METRICS=run.toml",
        "it is the settings file",
    ),
    ("train metrics.toml", "it is the settings file"),
    (
        "train run.toml --metrics corpus/a.txt",
        "it is a file of the corpus",
    ),
    (
        "train run.toml --trace corpus/a.txt",
        "it is a file of the corpus",
    ),
    (
        "train run.toml --export corpus/a.txt",
        "it is a file of the corpus",
    ),
    (
        "train run.toml --metrics prof.toml --profile prof.toml",
        "it is the profile",
    ),
    (
        "train run.toml --trace prof.toml --profile prof.toml",
        "it is the profile",
    ),
    (
        "train run.toml --ranks 4 --emulate cluster.toml --metrics cluster.toml",
        "it is the emulated cluster",
    ),
    (
        "train run.toml --ranks 4 --emulate cluster.toml --trace cluster.toml",
        "it is the emulated cluster",
    ),
    (
        "train run.toml --metrics x --trace x",
        "the metrics file is written to it",
    ),
    (
        "train run.toml --metrics run.jsonl --trace run.jsonl",
        "the metrics file is written to it",
    ),
    (
        "train run.toml --metrics x --trace corpus/../x",
        "the metrics file is written to it",
    ),
    (
        "train run.toml --metrics x --trace dangling",
        "the metrics file is written to it",
    ),
    (
        "train run.toml --metrics model/config.json --export model",
        "the metrics file is written to it",
    ),
    (
        "train run.toml --trace model/model.safetensors --export model",
        "the trace is written to it",
    ),
    (
        "train run.toml --metrics model/x --trace model/x --export model",
        "the metrics file is written to it",
    ),
    // Something else than steps: it may be anything, so nothing is added to it.
    (
        "train run.toml --metrics easy.toml",
        "it holds something else than steps",
    ),
    (
        "train run.toml --metrics plan.json",
        "it holds something else than steps",
    ),
    ("profile run.toml -o run.toml", "it is the settings file"),
    ("profile run.toml -o hard", "it is the settings file"),
    (
        "profile run.toml -o corpus/a.txt",
        "it is a file of the corpus",
    ),
    (
        "profile run.toml --ranks 4 --emulate cluster.toml -o cluster.toml",
        "it is the emulated cluster",
    ),
    (
        "plan --lengths lengths.txt --profile easy.toml --certificate lengths.txt",
        "it is the file of --lengths",
    ),
    (
        "plan --lengths lengths.txt --profile easy.toml --certificate easy.toml",
        "it is the file of --profile",
    ),
    (
        "plan --lengths lengths.txt --cluster gpus.toml --model model.toml --certificate gpus.toml",
        "it is the file of --cluster",
    ),
    (
        "plan --lengths lengths.txt --cluster gpus.toml --model model.toml --certificate model.toml",
        "it is the file of --model",
    ),
    (
        "plan --lengths - --profile easy.toml --certificate lengths.txt < lengths.txt",
        "it is the file of --lengths",
    ),
    (
        "simulate plan.json --profile easy.toml --trace plan.json",
        "it is the plan",
    ),
    (
        "simulate plan.json --profile easy.toml --trace easy.toml",
        "it is the file of --profile",
    ),
    (
        "simulate --lengths lengths.txt --profile easy.toml --trace lengths.txt",
        "it is the file of --lengths",
    ),
    ("report run.jsonl -o run.jsonl", "it is a run"),
    (
        "report run.jsonl --trace steps.json -o steps.json",
        "it is a trace",
    ),
    (
        "report run.jsonl --plan plan.json -o plan.json",
        "it is a plan",
    ),
    // What is printed is an output too.
    (
        "train run.toml >> run.toml",
        "stdout: it is the settings file",
    ),
    (
        "train run.toml --show-settings >> run.toml",
        "stdout: it is the settings file",
    ),
    (
        "train run.toml >> corpus/a.txt",
        "stdout: it is a file of the corpus",
    ),
    (
        "train run.toml >> corpus/new.txt",
        "stdout: it is a file of the corpus",
    ),
    (
        "train run.toml --profile prof.toml >> prof.toml",
        "stdout: it is the profile",
    ),
    (
        "train run.toml --metrics log >> log",
        "stdout is written to it",
    ),
    (
        "train run.toml --trace log >> log",
        "stdout is written to it",
    ),
    (
        "profile run.toml -o new.toml >> run.toml",
        "stdout: it is the settings file",
    ),
    ("profile run.toml -o log >> log", "stdout is written to it"),
    (
        "plan --lengths lengths.txt --profile easy.toml >> lengths.txt",
        "stdout: it is the file of --lengths",
    ),
    (
        "plan --lengths lengths.txt --profile easy.toml --json >> easy.toml",
        "stdout: it is the file of --profile",
    ),
    (
        "plan --lengths - --profile easy.toml >> lengths.txt < lengths.txt",
        "stdout: it is the file of --lengths",
    ),
    (
        "plan --lengths lengths.txt --profile easy.toml --certificate log >> log",
        "stdout is written to it",
    ),
    (
        "simulate plan.json --profile easy.toml >> plan.json",
        "stdout: it is the plan",
    ),
    (
        "simulate plan.json --profile easy.toml >> easy.toml",
        "stdout: it is the file of --profile",
    ),
    (
        "simulate plan.json --profile easy.toml --trace log >> log",
        "stdout is written to it",
    ),
    (
        "verify proof.json >> proof.json",
        "stdout: it is the certificate",
    ),
    (
        "verify proof.json --profile easy.toml >> easy.toml",
        "stdout: it is the file of --profile",
    ),
    (
        "compare --profile easy.toml --sequences 4 --batches 1 >> easy.toml",
        "stdout: it is the file of --profile",
    ),
    (
        "compare --profile easy.toml --lengths lengths.txt --batches 1 >> lengths.txt",
        "stdout: it is a file of --lengths",
    ),
    (
        "compare --profile easy.toml --lengths corpus:corpus --batches 1 >> corpus/a.txt",
        "stdout: it is a file of --lengths",
    ),
    (
        "bench plan batch.json --cluster gpus.toml --model model.toml >> batch.json",
        "stdout: it is a batch",
    ),
    (
        "bench plan batch.json --cluster gpus.toml --model model.toml >> gpus.toml",
        "stdout: it is the file of --cluster",
    ),
    (
        "bench plan batch.json --profiles . >> easy.toml",
        "stdout: it is a profile",
    ),
    (
        "bench scaling --sizes 4x8 --profile easy.toml --distribution draw.toml >> easy.toml",
        "stdout: it is the profile",
    ),
    (
        "bench scaling --sizes 4x8 --profile easy.toml --distribution draw.toml >> draw.toml",
        "stdout: it is the file of --distribution",
    ),
    (
        "bench emulated run.toml --ranks 4 --emulate cluster.toml >> cluster.toml",
        "stdout: it is the emulated cluster",
    ),
    (
        "report run.jsonl -o page.html >> run.jsonl",
        "stdout: it is a run",
    ),
    ("report run.jsonl -o log >> log", "stdout is written to it"),
];

const MODEL: &str = r#"
name = "small"
num_layers = 8
hidden = 1024
num_heads = 8
ffn = 2816
vocabulary = 32000
"#;

#[test]
fn no_output_is_an_input_or_another_output() {
    let scene = Scene::with_results();
    fs::hard_link(scene.path("run.toml"), scene.path("hard")).unwrap();
    symlink("run.toml", scene.path("soft")).unwrap();
    symlink("x", scene.path("dangling")).unwrap();
    fs::create_dir(scene.path("model")).unwrap();
    scene.file("log", "");
    scene.file("corpus/new.txt", "");
    let settings = scene.text("run.toml");
    scene.file(
        "metrics.toml",
        &format!("{settings}metrics = \"metrics.toml\"\n"),
    );
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (from, to) in [
        ("lengths/wikipedia.toml", "draw.toml"),
        ("batches/wikipedia_384k_7b_0.json", "batch.json"),
        ("clusters/a100-8x8.toml", "gpus.toml"),
    ] {
        fs::copy(examples.join(from), scene.path(to)).unwrap();
    }
    scene.file("model.toml", MODEL);
    let before = scene.files();
    for (line, said) in CLASHES {
        let done = scene.run(line).expect(2, said);
        assert!(done.stderr.contains("hint: "), "{line}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{line}: {}", done.stdout);
        assert!(scene.files() == before, "{line} has changed something");
    }
    // The same commands with outputs of their own are fine.
    for line in [
        "plan --lengths lengths.txt --cluster gpus.toml --model model.toml --certificate new.json",
        "plan --lengths - --profile easy.toml >> new.txt < lengths.txt",
        "compare --profile easy.toml --lengths corpus:corpus --batches 1 --format csv >> corpus/new.csv",
        "bench scaling --sizes 4x8 --profile easy.toml --distribution draw.toml --batches 1 >> table.md",
        "bench plan batch.json --cluster gpus.toml --model model.toml --repetitions 1 --planners static >> table.md",
        "report run.jsonl --plan plan.json --trace steps.json",
        "verify proof.json >> new.txt",
    ] {
        scene.run(line).expect(0, "");
    }
}

/// Every command that writes a file, up to that file's name.
const WRITING: &[&str] = &[
    "train run.toml --metrics",
    "train run.toml --trace",
    "train run.toml --export",
    "profile run.toml --time-budget 300ms -o",
    "plan --lengths lengths.txt --profile easy.toml --certificate",
    "simulate plan.json --profile easy.toml --trace",
    "report run.jsonl -o",
];

#[test]
fn places_that_can_not_be_written_are_refused_before_any_work() {
    let mut scene = Scene::with_results();
    let before = scene.files();
    for line in WRITING {
        // Even the superuser creates nothing there.
        for place in ["/proc/new", "run.toml/new", "run.toml/new/new"] {
            let done = scene.run(&format!("{line} {place}")).expect(2, place);
            assert!(done.stdout.is_empty(), "{line} {place}: {}", done.stdout);
        }
        if !line.ends_with("--export") {
            scene
                .run(&format!("{line} no/new"))
                .expect(2, "its directory does not exist");
            scene
                .run(&format!("{line} corpus"))
                .expect(2, "it is a directory");
        }
        assert!(scene.files() == before, "{line} has changed something");
    }
    for fault in ["full", "eio", "sync"] {
        scene.faults(&format!("new={fault}"));
        for line in WRITING {
            // A directory that is not there yet has no files to try.
            if line.ends_with("--export") {
                continue;
            }
            let done = scene
                .run(&format!("{line} new"))
                .expect(2, "it can't be written: ");
            assert!(done.stdout.is_empty(), "{line}: {}", done.stdout);
            assert!(scene.files() == before, "{line} has changed something");
        }
    }
}

#[test]
fn devices_and_pipes_are_written_as_they_are() {
    let scene = Scene::with_results();
    for line in WRITING {
        if !line.ends_with("--export") {
            scene
                .run(&format!("{line} /dev/full"))
                .expect(3, "No space left on device");
            scene.run(&format!("{line} /dev/null")).expect(0, "");
        }
    }
    let pipe = scene.path("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let running = scene.start("train run.toml --metrics pipe");
    let steps = fs::read_to_string(&pipe).unwrap();
    running.end().expect(0, "");
    assert_eq!(steps.lines().count(), 4);
}

#[test]
fn a_run_that_is_refused_leaves_the_files_of_the_earlier_one() {
    let scene = Scene::new();
    let line = "train run.toml --metrics m.jsonl --trace t.json --export model";
    scene.run(line).expect(0, "");
    let before = scene.files();
    scene.run(line).expect(2, "a model is never overwritten");
    for (more, said) in [
        ("--learning-rate -1", "--learning-rate -1"),
        ("--ranks 0", "ranks"),
        ("--set model.heads=3", "model.heads"),
        ("--profile easy.toml", "easy.toml"),
        ("--profile nowhere.toml", "nowhere.toml"),
        ("--trace-steps 9", "--trace-steps 9"),
        ("--export m.jsonl", "the metrics file is written to it"),
        ("--export run.toml/model", "it can't be written"),
    ] {
        let line = format!("train run.toml --metrics m.jsonl --trace t.json {more}");
        scene.run(&line).expect(2, said);
        assert!(scene.files() == before, "{line} has changed something");
    }
}

#[test]
fn runs_add_to_metrics_and_reports_show_them_apart() {
    let scene = Scene::new();
    scene.run("train run.toml --metrics m.jsonl").expect(0, "");
    scene
        .run("train run.toml --metrics m.jsonl --steps 2")
        .expect(0, "");
    assert_eq!(scene.steps("m.jsonl"), [1, 2, 3, 4, 1, 2]);
    scene.run("report m.jsonl").expect(0, "");
    let page = scene.text("report.html");
    assert!(page.contains("m, run 1") && page.contains("m, run 2"));
    // Empty files, devices and pipes are fine.
    scene.file("empty.jsonl", "");
    scene
        .run("train run.toml --metrics empty.jsonl")
        .expect(0, "");
    assert_eq!(scene.steps("empty.jsonl"), [1, 2, 3, 4]);
    for device in ["/dev/null", "/dev/stderr", "/dev/fd/2"] {
        let line = format!("train run.toml --metrics {device} --trace /dev/null");
        let done = scene.run(&line).expect(0, "");
        let is_printed = done
            .stderr
            .lines()
            .filter(|line| line.starts_with("{\"version\""))
            .count()
            == 4;
        assert_eq!(is_printed, device != "/dev/null", "{}", done.stderr);
    }
}

#[test]
fn torn_lines_are_left_out_and_named() {
    let scene = Scene::new();
    scene.run("train run.toml --metrics m.jsonl").expect(0, "");
    let text = scene.text("m.jsonl");
    for cut in [1, 2, 40, text.lines().last().unwrap().len()] {
        scene.file("cut.jsonl", &text[..text.len() - cut]);
        let done = scene.run("report cut.jsonl");
        match cut {
            // The last line is whole without its end.
            1 => drop(done.expect(0, "")),
            _ => drop(done.expect(0, "cut.jsonl, line 4 is torn and left out")),
        }
        // What comes then is no part of that line.
        scene
            .run("train run.toml --metrics cut.jsonl --steps 1")
            .expect(0, "");
        let done = scene.run("report cut.jsonl").expect(0, "");
        assert_eq!(done.stderr.contains("torn"), cut > 1, "{}", done.stderr);
        assert!(scene.text("report.html").contains("cut, run 2"));
    }
}

#[test]
fn files_have_the_modes_of_new_files_or_of_those_that_were_there() {
    let scene = Scene::new();
    let line = "train run.toml --metrics m.jsonl --trace t.json --export model";
    scene.run(line).expect(0, "");
    scene
        .run("profile run.toml -o p.toml --time-budget 300ms")
        .expect(0, "");
    scene.run("report m.jsonl").expect(0, "");
    scene
        .run("plan --lengths lengths.txt --profile easy.toml --certificate c.json")
        .expect(0, "");
    let usual = scene::mode(&scene.path("run.toml"));
    for name in [
        "m.jsonl",
        "t.json",
        "p.toml",
        "report.html",
        "c.json",
        "model/config.json",
        "model/model.safetensors",
    ] {
        assert_eq!(scene::mode(&scene.path(name)), usual, "{name}");
    }
    let names = fs::read_dir(scene.path("model")).unwrap().count();
    assert_eq!(names, 2);
    use std::os::unix::fs::PermissionsExt;
    for name in ["m.jsonl", "t.json"] {
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    scene
        .run("train run.toml --metrics m.jsonl --trace t.json")
        .expect(0, "");
    for name in ["m.jsonl", "t.json"] {
        assert_eq!(scene::mode(&scene.path(name)), 0o640, "{name}");
    }
}
