//! A directory with good and bad files, and what is asked of every run there.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::commands::Run;

/// No run takes longer.
const LONGEST: &str = "60";

/// Nor more memory, in KiB: what would take all there is fails here instead.
const MOST_KIB: &str = "4000000";

/// The longest line that an error may have, in characters.
const LONGEST_LINE: usize = 2100;

pub const PROFILE: &str = "version = 1\nname = \"tiny\"\ncontext_tokens = 4096\n\n[cluster]\nnum_devices = 4\n\
devices_per_node = 4\nmemory_gib = 1.0\n\n[model]\nnum_heads = 4\nsharded_bytes = 1e8\nfixed_bytes = 1e6\n\n\
[overhead]\nmicro_batch_s = 0.01\nstep_s = 0.001\n\n[[costs]]\nexchange = \"ulysses\"\nactivations = \"recompute\"\n\
quadratic_s_per_token2 = 1e-9\nlinear_s_per_token = 1e-6\nexchanged_bytes_per_token = 65536\n\
one_node_bandwidth_bytes_per_s = { 2 = 8e9, 4 = 6e9 }\nmemory_bytes_per_token = 20000\n";

pub const CLUSTER: &str = "name = \"two\"\nnum_nodes = 2\ndevices_per_node = 2\n\n[device]\npeak_flops_per_s = 1e12\n\
memory_gib = 64\nmemory_fraction = 0.9\nefficiency = 0.5\nattention_efficiency = 0.5\ncore_fraction = 0.01\n\n[device_link]\n\
bandwidth_bytes_per_s = 1e11\nlatency_s = 1e-6\nexchange_efficiency = 0.5\n\n[nic]\nper_node = 1\n\
bandwidth_bytes_per_s = 1e10\nlatency_s = 1e-6\n";

const SETTINGS: &str = "data.paths = [\"corpus\"]\nmodel.hidden = 8\nmodel.layers = 1\nmodel.heads = 2\n\
model.context = 64\ncluster.ranks = 2\ntrain.steps = 2\n";

pub const STEP: &str = r#"{"version":1,"planner":"adaptive","step":3,"loss":5.25,"tokens":1000,"sequences":4,"predicted_s":2.0,"measured_s":2.5,"plan_wait_s":0.0,"lower_bound_s":1.9,"gap":0.05,"solve_s":0.001,"groups_created":3,"plan":[{"predicted_s":1.25,"groups":[{"ranks":[0,1,2,3],"predicted_s":1.0,"seq_lens":[700]}]},{"predicted_s":0.75,"groups":[{"ranks":[0,1],"predicted_s":0.5,"seq_lens":[150]},{"ranks":[3],"predicted_s":0.25,"seq_lens":[90,60]}]}],"ranks":{"compute_s":[1.5,1.5,1.0,1.0],"exchange_s":[0.5,0.5,0.5,0.0],"wait_s":[0.5,0.5,1.0,1.5]}}"#;

/// A directory with good and bad files.
pub struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let bench = Bench {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(bench.path().join("corpus")).unwrap();
        for (name, content) in [
            ("corpus/a.txt", "some text"),
            ("lengths.txt", "900\n100\n200\n"),
            ("profile.toml", PROFILE),
            ("a100-tiny-4k.toml", PROFILE),
            (
                "batch.json",
                r#"{"seq_lens_tokens":[900,100],"model":"tiny","context_limit_tokens":4000}"#,
            ),
            (
                "distribution.toml",
                "name = 'd'\nbins = [{ below_tokens = 900, sequences_percent = 100 }]",
            ),
            ("cluster.toml", CLUSTER),
            ("settings.toml", SETTINGS),
            ("run.jsonl", STEP),
            ("empty", ""),
            ("bom-only", "\u{feff}"),
            ("control", "\u{1b}[31m\u{7}\u{8}\r\n\u{9b}2J"),
        ] {
            bench.file(name, content.as_bytes());
        }
        bench.file("zeros", &[0; 1000]);
        bench.file("binary", &(0..=255).cycle().take(5000).collect::<Vec<u8>>());
        bench.file("deep.json", "[".repeat(100_000).as_bytes());
        bench.file("wide", "9".repeat(200_000).as_bytes());
        let words = [
            "plan",
            "--lengths=lengths.txt",
            "--profile=profile.toml",
            "--certificate=certificate.json",
            "--json",
        ];
        let plan = bench.output(&words.map(str::to_owned));
        assert!(plan.status.success(), "{plan:?}");
        bench.file("plan.json", &plan.stdout);
        bench
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.path().join(name), content).unwrap();
    }

    /// What a run prints, which must succeed.
    pub fn succeeds(&self, run: &Run) -> String {
        let output = self.output(&run.words());
        assert!(output.status.success(), "{run:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn output(&self, words: &[String]) -> Output {
        let limited = format!("ulimit -v {MOST_KIB}; exec timeout -s KILL {LONGEST} \"$0\" \"$@\"");
        Command::new("sh")
            .args(["-c", &limited, env!("CARGO_BIN_EXE_lengthwise")])
            .args(words)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs all of them, some at a time, and lists what is not clear of any. Those that are so marked must be refused.
    pub fn walk(&self, runs: Vec<(Run, bool)>) {
        let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some((run, must_fail)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let started = Instant::now();
                let output = self.output(&run.words());
                let slow = started.elapsed() > Duration::from_secs(20);
                let complaint =
                    complaint(&output, *must_fail).or(slow.then(|| "it is slow".to_owned()));
                if let Some(complaint) = complaint {
                    let words: Vec<String> = run
                        .words()
                        .iter()
                        .map(|word| word.chars().take(60).collect())
                        .collect();
                    let stderr: String = String::from_utf8_lossy(&output.stderr)
                        .chars()
                        .take(500)
                        .collect();
                    let complaint = format!("{complaint}: {words:?}\n{stderr}");
                    complaints.lock().unwrap().push(complaint);
                }
            }
        };
        thread::scope(|scope| {
            let others = thread::available_parallelism()
                .map_or(1, usize::from)
                .min(8)
                - 1;
            for _ in 0..others {
                scope.spawn(work);
            }
            work();
        });
        let complaints = complaints.into_inner().unwrap();
        assert!(
            complaints.is_empty(),
            "{} of {} are not clear:\n{}",
            complaints.len(),
            runs.len(),
            complaints.join("\n")
        );
    }
}

/// What is wrong with how a run ended.
fn complaint(output: &Output, must_fail: bool) -> Option<String> {
    let Ok(stderr) = std::str::from_utf8(&output.stderr) else {
        return Some("stderr is no text".to_owned());
    };
    let Some(code) = output.status.code() else {
        return Some(format!("a signal has ended it: {}", output.status));
    };
    let is_harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    let errors = stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .count();
    if !matches!(code, 0..=2) || stderr.contains("panicked") {
        Some(format!("exit code {code}"))
    } else if must_fail && code != 2 {
        Some(format!("it is not refused, exit code {code}"))
    } else if code != 0 && errors != 1 {
        Some(format!("{errors} errors"))
    } else if stderr.chars().any(is_harmful) {
        Some("control characters".to_owned())
    } else if stderr
        .lines()
        .any(|line| line.chars().count() > LONGEST_LINE)
    {
        Some("an endless line".to_owned())
    } else if stderr.contains("non-zero type") || stderr.contains("inf s") {
        Some("unclear words".to_owned())
    } else {
        None
    }
}
