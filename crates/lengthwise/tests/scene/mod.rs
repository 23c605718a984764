//! A directory with one of everything that commands read, and commands that are watched while they run.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![allow(dead_code, reason = "each test needs some of it")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// Until then, whatever is waited for has come.
const LONGEST: Duration = Duration::from_secs(120);

const SETTINGS: &str = r#"
[model]
hidden = 16
layers = 1
heads = 2
context = 128

[data]
paths = ["corpus"]

[batch]
tokens = 256

[cluster]
ranks = 2
device_memory_mib = 16

[train]
steps = 4
"#;

/// 4 ranks on 2 nodes.
const CLUSTER: &str = r#"
name = "two nodes"
num_nodes = 2
devices_per_node = 2

[device]
peak_flops_per_s = 1e9
memory_gib = 1.0
core_fraction = 0.25

[device_link]
bandwidth_bytes_per_s = 1e9

[nic]
per_node = 1
bandwidth_bytes_per_s = 1e9
latency_s = 1e-5
"#;

/// 8 devices with costs that are easy to reckon with.
const PROFILE: &str = include_str!("../easy_profile.toml");

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// 128 and the signal that ended it, as shells have it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn expect(self, code: i32, said: &str) -> Self {
        assert!(
            self.code == code && self.stderr.contains(said),
            "expected exit code {code} and \"{said}\", found {}:\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A directory to run commands in, and another that is theirs for temporary files.
pub struct Scene {
    directory: tempfile::TempDir,
    temporary: tempfile::TempDir,
    faults: String,
}

impl Scene {
    /// `run.toml` trains on `corpus`, `cluster.toml` can be emulated, `easy.toml` is a profile and `lengths.txt` a batch.
    pub fn new() -> Self {
        let scene = Scene {
            directory: tempfile::tempdir().unwrap(),
            temporary: tempfile::tempdir().unwrap(),
            faults: String::new(),
        };
        let text = "the quick brown fox jumps over the lazy dog. ".repeat(8);
        fs::create_dir(scene.path("corpus")).unwrap();
        scene.file("corpus/a.txt", &text[..90]);
        scene.file("corpus/b.txt", &text[..30]);
        scene.file("corpus/c.txt", &text[..70]);
        scene.file("run.toml", SETTINGS);
        scene.file("cluster.toml", CLUSTER);
        scene.file("easy.toml", PROFILE);
        scene.file("lengths.txt", "100\n2000\n300\n4000\n");
        scene
    }

    /// With all that commands write for others to read: `prof.toml`, `run.jsonl`, `steps.json`, `plan.json` and
    /// `proof.json`.
    pub fn with_results() -> Self {
        let scene = Scene::new();
        for line in [
            "profile run.toml -o prof.toml --time-budget 300ms",
            "train run.toml --metrics run.jsonl --trace steps.json",
            "plan --lengths lengths.txt --profile easy.toml --certificate proof.json",
        ] {
            scene.run(line).expect(0, "");
        }
        let plan = scene.run("plan --lengths lengths.txt --profile easy.toml --json");
        scene.file("plan.json", &plan.stdout);
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn temporary(&self, name: &str) -> PathBuf {
        self.temporary.path().join(name)
    }

    pub fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// All files by their paths.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    files.insert(path.clone(), Vec::new());
                    directories.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap_or_default();
                    files.insert(path, bytes);
                }
            }
        }
        files
    }

    /// The names in the directory.
    pub fn names(&self) -> Vec<String> {
        let files = self.files().into_keys();
        let names = files.filter(|path| path.parent() == Some(self.directory.path()));
        let names = names.map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
        names.collect()
    }

    /// What commands meet from now on when they write; `{}` is the directory.
    pub fn faults(&mut self, faults: &str) {
        let directory = fs::canonicalize(self.directory.path()).unwrap();
        self.faults = faults.replace("{}", &directory.display().to_string());
    }

    fn command(&self, line: &str) -> Command {
        let binary = env!("CARGO_BIN_EXE_lengthwise");
        // Shells have their background jobs ignore some signals, tests among them.
        let mut command = if cfg!(target_os = "linux") {
            let mut command = Command::new("env");
            command.args(["--default-signal", binary]);
            command
        } else {
            Command::new(binary)
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LENGTHWISE_") {
                command.env_remove(name);
            }
        }
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) if name.starts_with("LENGTHWISE_") => command.env(name, value),
                _ => command.arg(word),
            };
        }
        command
            .current_dir(self.directory.path())
            .env("OUTPUT_FAULTS", &self.faults)
            .env("TMPDIR", self.temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command. After `>>`, stdout is added to a file, after `<`, stdin comes from one; words with `LENGTHWISE_`
    /// are variables.
    pub fn run(&self, line: &str) -> Done {
        let (line, stdin) = line.split_once(" < ").unwrap_or((line, ""));
        let (line, stdout) = line.split_once(" >> ").unwrap_or((line, ""));
        let mut command = self.command(line);
        if !stdin.is_empty() {
            command.stdin(File::open(self.path(stdin)).unwrap());
        }
        if !stdout.is_empty() {
            let options = File::options().append(true).create(true).clone();
            command.stdout(options.open(self.path(stdout)).unwrap());
        }
        Running::new(command).end()
    }

    /// Starts a command.
    pub fn start(&self, line: &str) -> Running {
        Running::new(self.command(line))
    }

    /// Starts a command of which nobody reads stdout.
    pub fn start_unread(&self, line: &str) -> Running {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = self.command(line);
        command.stdout(writer);
        drop(reader);
        Running::new(command)
    }

    /// Waits for something.
    #[track_caller]
    pub fn wait_for(&self, what: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !what(self) {
            assert!(begun.elapsed() < LONGEST, "waited for in vain");
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits until so many steps are in a file.
    #[track_caller]
    pub fn wait_for_steps(&self, name: &str, steps: usize) {
        self.wait_for(|scene| {
            let text = fs::read_to_string(scene.path(name)).unwrap_or_default();
            text.lines().count() >= steps
        });
    }

    /// The steps that are in a file of metrics, of which all lines are whole.
    #[track_caller]
    pub fn steps(&self, name: &str) -> Vec<u64> {
        let text = self.text(name);
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let lines = text.lines().map(|line| {
            let step: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(step["run"].is_string());
            step["step"].as_u64().unwrap()
        });
        lines.collect()
    }
}

/// A command that goes on; it ends with the test. It is read all the while: a full pipe would stop it.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        Running {
            stdout: child.stdout.take().map(all_of),
            stderr: child.stderr.take().map(all_of),
            child,
        }
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&mut self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether signals that end it no longer do so at once.
    #[cfg(target_os = "linux")]
    pub fn watches_signals(&self) -> bool {
        let pid = self.child.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask >> 14 & 1 == 1)
    }

    /// Waits until it has ended.
    pub fn end(mut self) -> Done {
        let status = self.child.wait().unwrap();
        let signal = status.signal().map(|signal| 128 + signal);
        let text = |reader: Option<JoinHandle<String>>| reader.map(|reader| reader.join().unwrap());
        Done {
            code: status.code().or(signal).unwrap(),
            stdout: text(self.stdout.take()).unwrap_or_default(),
            stderr: text(self.stderr.take()).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pipe to its end.
fn all_of(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// Whether a file has the mode of new ones.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
