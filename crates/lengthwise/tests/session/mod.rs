//! Commands as a user types them, and what the terminal shows.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]
#![allow(dead_code, reason = "each test needs some of it")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory to run commands in, and a transcript of them.
pub struct Session {
    directory: tempfile::TempDir,
    transcript: String,
}

impl Session {
    /// An empty directory but for a small corpus.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("corpus")).unwrap();
        fs::write(directory.path().join("corpus/a.txt"), "some text").unwrap();
        Session {
            directory,
            transcript: String::new(),
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All commands so far and what they printed.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Notes something in the transcript.
    pub fn note(&mut self, line: &str) {
        writeln!(self.transcript, "{line}").unwrap();
    }

    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Runs `lengthwise` with what is piped into it; words with `LENGTHWISE_` are variables.
    pub fn output(&self, line: &str, stdin: &[u8]) -> Output {
        let words = line.split_whitespace();
        let (variables, args): (Vec<_>, Vec<_>) =
            words.partition(|word| word.starts_with("LENGTHWISE_"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_lengthwise"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LENGTHWISE_") {
                command.env_remove(name);
            }
        }
        command.envs(
            variables
                .iter()
                .filter_map(|variable| variable.split_once('=')),
        );
        let mut child = command
            .args(args)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails before it reads closes its end.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child.wait_with_output().unwrap()
    }

    /// Runs `lengthwise` and notes all it prints and its exit code.
    pub fn run(&mut self, line: &str) {
        let output = self.output(line, b"");
        let code = output.status.code().unwrap_or(-1);
        let printed = [output.stdout, output.stderr].concat();
        // File names are as the platform writes them; its own error texts are not.
        let printed = String::from_utf8(printed).unwrap().replace('\\', "/");
        let printed = without_times(&printed);
        writeln!(self.transcript, "$ {line}\n{printed}[exit code {code}]\n").unwrap();
    }

    /// Runs `lengthwise train` with these settings.
    pub fn train(&mut self, settings: &str) {
        self.train_with(settings, "");
    }

    pub fn train_with(&mut self, settings: &str, more: &str) {
        self.file("run.toml", settings);
        writeln!(self.transcript, "{}", settings.trim_end()).unwrap();
        self.run(format!("train run.toml {more}").trim_end());
    }
}

/// How long planning took differs from run to run, and what bound it proves is tested elsewhere.
fn without_times(printed: &str) -> String {
    let mut text = String::new();
    for line in printed.split_inclusive('\n') {
        let end_of_time = line.contains(" after ").then(|| line.find(';')).flatten();
        match (line.find(", and no plan less than"), end_of_time) {
            (Some(bound), _) => text.extend([&line[..bound], ", [bound]\n"]),
            (None, Some(end)) => text.extend(["[stop reason and time]", &line[end..]]),
            (None, None) => text.push_str(line),
        }
    }
    text
}

/// A file of the repository's examples.
pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples")
        .join(name)
}

/// A profile of 8 devices on 2 nodes, whose costs are easy to reckon with: 0.1 ms a token, 0.5 s a micro-batch, and room
/// for 8192 tokens on each device.
pub const EASY_PROFILE: &str = include_str!("../easy_profile.toml");
