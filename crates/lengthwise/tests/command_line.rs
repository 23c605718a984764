//! Whole commands: what a user types, and what the terminal shows.

mod session;

use std::fs;
use std::path::Path;
use std::process::Command;

use session::Session;

/// A run that would work, with something more.
fn settings(more: &str) -> String {
    format!("[data]\npaths = [\"corpus\"]\n{more}")
}

#[test]
fn misspelt_settings_are_named_with_what_was_probably_meant() {
    let mut session = Session::new();
    session.train("[model]\nhiden = 64\n");
    session.train("[modle]\nhidden = 64\n");
    session.train("steps = 10\n");
    session.train("model = 3\n");
    session.train("[batch]\nsteps = 10\n");
    session.train("[plan]\nwhatever = 10\n");
    session.train("[train]\nrecompute = true\n");
    session.train_with(&settings(""), "--set heads=4");
    session.train_with(&settings(""), "--stesp 4");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn values_of_the_wrong_type_are_named_with_what_was_expected() {
    let mut session = Session::new();
    session.train("[model]\nhidden = \"big\"\n");
    session.train("[model]\nhidden = -64\n");
    session.train("[model]\ncontext = \"16 thousand\"\n");
    session.train("[data]\npaths = \"corpus\"\n");
    session.train(&settings("overlong = \"cut\"\n"));
    session.train(&settings("[train]\nactivations = \"disk\"\n"));
    session.train(&settings("[plan]\nstrategies = [\"ring\", \"rings\"]\n"));
    session.train_with(&settings(""), "--strategies ring,ring");
    session.train(&settings("[train]\nbetas = [\n  0.9, # one\n  \"x\",\n]\n"));
    session.train(&settings("[train]\nactivations = 1\nsteps = 2.5\n"));
    session.train(&settings("[plan]\nplanner = \"greedy\"\n"));
    session.train_with(&settings(""), "LENGTHWISE_RANKS=many");
    session.train_with(&settings(""), "--learning-rate fast");
    session.train_with(&settings(""), "--degrees 1,two");
    session.train("[model\n");
    session.train("[model]\nhidden = 1\nhidden = 2\n");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn impossible_sizes_are_named_with_the_rule_they_break() {
    let mut session = Session::new();
    for more in [
        "[model]\nheads = 7\n",
        "[model]\nhidden = 0\n",
        "[model]\nkv_heads = 3\n",
        "[model]\nhidden = 8\n",
        "[model]\ncontext = 0\n",
        "min_tokens = 1_000_000\n",
        "[batch]\ntokens = 0\n",
        "[batch]\ntokens = 9\nsequences = 9\n",
        "[cluster]\nranks = 0\n",
        "[cluster]\nranks = 1000000\n",
        "[cluster]\ndevices_per_node = 0\n",
        "[cluster]\ndevice_memory_mib = 0\n",
        "[cluster]\nhost_memory_mib = 0\n",
        "[plan]\nstrategies = \"hybrid\"\ndegrees = [3]\n",
        "[cluster]\ndevice_memory_mib = 1\n",
        "[plan]\ndegrees = [1, 16]\n",
        "[plan]\nahead = 1\n",
        "[plan]\nplanner = \"static:16\"\n",
        "[train]\nsteps = 0\n",
        "[train]\nsteps = 5\nwarmup_steps = 6\n",
        "[train]\nlearning_rate = 0\n",
        "[train]\nbetas = [0.9, 1.0]\n",
        "[train]\nclip_norm = 0\n",
        "[train]\nno_decay = [\"norm\", \"embeddings\"]\n",
        "validation = []\n",
        "validation = [\"corpus\"]\nvalidation_tokens = 0\n",
        "validation = [\"corpus\"]\n[train]\nvalidate_every = 0\n",
        "validation = [\"corpus/a.txt\"]\n",
        "validation = [\"nowhere\"]\n",
    ] {
        session.train(&settings(more));
    }
    session.train_with(&settings(""), "--ranks 2 --set cluster.ranks=4");
    session.train_with(&settings(""), "LENGTHWISE_STEPS=0");
    session.train_with(&settings("[train]\nsteps = 0\n"), "--steps 0");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn settings_that_have_no_effect_are_refused() {
    let mut session = Session::new();
    for more in [
        "[train]\nschedule = \"constant\"\nmin_learning_rate = 1e-4\n",
        "[train]\ndecay_steps = 3\n",
        "[train]\nschedule = \"constant\"\ndecay_steps = 3\n",
        "[train]\nsteps = 10\nschedule = \"wsd\"\nwarmup_steps = 4\ndecay_steps = 7\n",
        "[train]\nschedule = \"step\"\n",
        "validation_tokens = 100\n",
        "[train]\nvalidate_every = 3\n",
    ] {
        session.train(&settings(more));
    }
    insta::assert_snapshot!(session.transcript());
}

#[cfg(unix)] // The system's own texts are in the messages.
#[test]
fn files_that_are_not_there_are_named() {
    let mut session = Session::new();
    session.run("train nowhere.toml");
    session.train("[data]\npaths = [\"nowhere\"]\n");
    session.train("[data]\npaths = [\"${LENGTHWISE_TEST_UNSET}/corpus\"]\n");
    session.train("[data]\npaths = [\"corpus\"]\nextensions = [\"rs\"]\n");
    session.train("[model]\nhidden = 64\n");
    session.file(
        "corpus/b.jsonl",
        "{\"text\": \"fine\"}\n{\"txt\": \"not\"}\n",
    );
    session.train(&settings(""));
    session.file("corpus/b.jsonl", "");
    session.file("corpus/a.txt", "");
    session.train(&settings(""));
    session.file("corpus/a.txt", "some text");
    session.train_with(&settings(""), "--metrics missing/metrics.jsonl");
    session.file("run.toml", [b'\n', 0xff]);
    session.run("train run.toml");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let mut session = Session::new();
    let settings =
        settings("[cluster]\nranks = 3\n[train]\nsteps = 3\nseed = 3\n[batch]\ntokens = 9\n");
    session.train_with(
        &settings,
        "--show-settings LENGTHWISE_RANKS=2 LENGTHWISE_STEPS=2 --steps 1 --sequences 5 --set model.kv_heads=2",
    );
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn help_says_what_counts_most() {
    let mut session = Session::new();
    session.run("--help");
    session.run("train --help");
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn a_run_shows_its_steps_and_writes_them_down() {
    let session = Session::new();
    let text = "the quick brown fox jumps over the lazy dog. ".repeat(20);
    session.file("corpus/b.txt", &text);
    session.file("corpus/c.txt", &text[..70]);
    session.file(
        "run.toml",
        settings(
            "[model]\nhidden = 16\nlayers = 1\nheads = 2\ncontext = 256\n[batch]\ntokens = 512\n\
             [cluster]\nranks = 2\ndevice_memory_mib = 32\n[train]\nsteps = 3\n",
        ),
    );
    let output = Command::new(env!("CARGO_BIN_EXE_lengthwise"))
        .args(["train", "run.toml", "--metrics", "metrics.jsonl"])
        .current_dir(session.directory())
        .output()
        .unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{stderr}");
    for step in ["1/3 ", "2/3 ", "3/3 "] {
        assert!(
            stdout.lines().any(|line| line.starts_with(step)),
            "{stdout}"
        );
    }
    assert!(stdout.contains("\ntrained "), "{stdout}");
    assert!(stderr.contains("3 documents in 3 files"), "{stderr}");
    assert!(
        stderr.contains("1 document of more than 256 tokens split"),
        "{stderr}"
    );
    check_metrics(&session.directory().join("metrics.jsonl"));
}

#[test]
fn a_rank_that_fails_ends_the_run_with_one_error() {
    let mut session = Session::new();
    session.file(
        "run.toml",
        settings(
            "[model]\nhidden = 16\nlayers = 1\nheads = 2\ncontext = 256\n\
             [cluster]\nranks = 2\ndevice_memory_mib = 32\n[train]\nsteps = 3\n",
        ),
    );
    session.run("train run.toml --inject-failure 1:1");
    let errors: Vec<&str> = session
        .transcript()
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(
        errors,
        ["error: rank 1 fails before step 1, as it was told to"]
    );
    assert!(
        session.transcript().contains("[exit code 1]"),
        "{}",
        session.transcript()
    );
}

fn check_metrics(path: &Path) {
    let metrics = fs::read_to_string(path).unwrap();
    let steps: Vec<serde_json::Value> = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.len(), 3);
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step["step"], index as u64 + 1);
        for key in ["loss", "predicted_s", "measured_s", "plan_wait_s"] {
            assert!(
                step[key].as_f64().is_some_and(|value| value >= 0.0),
                "{key} in {step}"
            );
        }
        assert!(
            step["tokens"]
                .as_u64()
                .is_some_and(|tokens| (1..=512).contains(&tokens))
        );
        let degrees = step["micro_batches"].as_array().unwrap();
        assert!(degrees.iter().all(|degrees| {
            degrees
                .as_array()
                .is_some_and(|degrees| !degrees.is_empty())
        }));
    }
}
