//! What a run goes on from, and how it can be gone on with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lengthwise_core::Seconds;
use lengthwise_data::{Batches, DataError, DataFingerprint};
use lengthwise_train::checkpoint::{
    Checkpoint, CheckpointError, Persistence, SaveNotes, SaveOptions, StopRequest, latest,
};

use super::TrainArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::{OverrideSource, Setting, TrainSettings};

/// The checkpoint that the settings say to go on from, checked to be one of such a run; `None` to begin anew.
pub fn checkpoint(
    settings: &TrainSettings,
    batches: &Batches,
    output: &mut Output<'_>,
) -> Result<Option<Arc<Checkpoint>>, Failure> {
    let Some(resume) = &settings.checkpoint.resume else {
        return Ok(None);
    };
    let broken = |error: CheckpointError| refused(resume, &error);
    let opened = match (&resume.value, &settings.checkpoint.directory) {
        (Some(path), _) => {
            let checkpoint = Checkpoint::open(path).map_err(broken)?;
            checkpoint.verify().map_err(broken)?;
            checkpoint
        }
        (None, Some(directory)) => match latest(&directory.value).map_err(broken)? {
            Some(checkpoint) => checkpoint,
            None => {
                let directory = directory.value.display();
                output.note(&format!(
                    "resumed    nothing: {directory} holds no checkpoint, and the run begins with step 1"
                ));
                return Ok(None);
            }
        },
        (None, None) => return Ok(None),
    };
    let options = &settings.options;
    opened
        .check_same(&options.model, &fingerprint(batches)?, options.seed)
        .map_err(broken)?;
    let record = opened.record();
    output.note(&format!(
        "resumed    {}: behind step {} of {}",
        opened.directory().display(),
        record.step,
        options.steps
    ));
    for change in changes(settings, &opened) {
        output.note(&format!("           {change}"));
    }
    Ok(Some(Arc::new(opened)))
}

fn refused(setting: &Setting<Option<std::path::PathBuf>>, error: &CheckpointError) -> Failure {
    let failure = setting.breaks(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What is otherwise than in the run that wrote a checkpoint, and may be.
fn changes(settings: &TrainSettings, checkpoint: &Checkpoint) -> Vec<String> {
    let record = checkpoint.record();
    let (ranks_before, ranks) = (
        record.num_ranks,
        settings.options.cluster.num_devices() as usize,
    );
    let mut changes = Vec::new();
    if ranks_before != ranks {
        changes.push(format!(
            "the number of ranks changed from {ranks_before} to {ranks}"
        ));
    }
    changes.extend(changed_settings(&record.settings, &settings.shown));
    changes
}

/// Settings that differ, as both runs show theirs, in TOML.
fn changed_settings(before: &str, now: &str) -> Vec<String> {
    let (before, now) = (settings_of(before), settings_of(now));
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let value = |settings: &BTreeMap<String, String>, key: &String| {
        settings.get(key).cloned().unwrap_or("unset".to_owned())
    };
    // What to go on from is no change, and ranks are counted.
    keys.into_iter()
        .filter(|key| !["checkpoint.resume", "cluster.ranks"].contains(&key.as_str()))
        .map(|key| (key, value(&before, key), value(&now, key)))
        .filter(|(_, before, now)| before != now)
        .map(|(key, before, now)| format!("{key} changed from {before} to {now}"))
        .collect()
}

/// Each setting as a file writes it.
fn settings_of(shown: &str) -> BTreeMap<String, String> {
    let sections: toml::Table = shown.parse().unwrap_or_default();
    let mut settings = BTreeMap::new();
    for (section, of_section) in sections {
        for (name, value) in of_section.as_table().into_iter().flatten() {
            settings.insert(format!("{section}.{name}"), value.to_string());
        }
    }
    settings
}

/// The batches that follow a checkpoint.
pub fn following(batches: Batches, checkpoint: Option<&Checkpoint>) -> Result<Batches, DataError> {
    match checkpoint {
        Some(checkpoint) => batches.starting_at(checkpoint.record().position()),
        None => Ok(batches),
    }
}

/// How the run survives.
pub fn persistence(
    settings: &TrainSettings,
    batches: &Batches,
    resume: Option<Arc<Checkpoint>>,
    run: &str,
    stop: StopRequest,
) -> Result<Persistence, Failure> {
    let checkpoint = &settings.checkpoint;
    let save = checkpoint.directory.as_ref();
    let save = save.map(|directory| save_options(settings, batches, run, &directory.value));
    Ok(Persistence {
        save: save.transpose()?,
        resume,
        stop,
    })
}

fn save_options(
    settings: &TrainSettings,
    batches: &Batches,
    run: &str,
    directory: &Path,
) -> Result<SaveOptions, Failure> {
    let checkpoint = &settings.checkpoint;
    Ok(SaveOptions {
        directory: directory.to_owned(),
        every: checkpoint.every,
        keep: checkpoint.keep,
        is_async: checkpoint.is_async,
        notes: SaveNotes {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            run: run.to_owned(),
            data: fingerprint(batches)?,
            settings: settings.shown.clone(),
        },
    })
}

/// What tells the batches of a run from those of others.
fn fingerprint(batches: &Batches) -> Result<DataFingerprint, Failure> {
    batches.fingerprint().map_err(|error| {
        let failure = Failure::input(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// What a run can be gone on with, as it is typed.
pub fn command(args: &TrainArgs) -> String {
    let mut words = vec![
        "lengthwise".to_owned(),
        "train".to_owned(),
        quoted(&args.config.to_string_lossy()),
    ];
    for one in &args.overrides.0 {
        match &one.source {
            _ if one.key == "checkpoint.resume" => {}
            OverrideSource::Flag(name) => words.extend([format!("--{name}"), quoted(&one.text)]),
            OverrideSource::Set => {
                words.extend([
                    "--set".to_owned(),
                    quoted(&format!("{}={}", one.key, one.text)),
                ]);
            }
            // It is in the environment still.
            OverrideSource::Variable(_) => {}
        }
    }
    words.extend(["--resume", "latest"].map(str::to_owned));
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:=+@%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What saving took the last time, which a signal asks for from another thread.
#[derive(Clone, Debug, Default)]
pub struct SaveTime(Arc<Mutex<Option<Seconds>>>);

impl SaveTime {
    /// Takes over what is known of a run that went before.
    pub fn of(checkpoint: Option<&Checkpoint>) -> Self {
        let known = checkpoint.and_then(|checkpoint| Seconds::new(checkpoint.record().save_s).ok());
        SaveTime(Arc::new(Mutex::new(known)))
    }

    /// A save took this.
    pub fn set(&self, took: Seconds) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(took);
    }

    /// What the next one is expected to take, in words.
    pub fn expected(&self) -> String {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(took) => format!("saving took {took} the last time"),
            None => "nothing was saved yet that would tell how long it takes".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_settings_are_said_as_a_file_writes_them() {
        let before = "[plan]\nplanner = \"adaptive\" # default\n[train]\nsteps = 8\nclip_norm = 1";
        let now = "[plan]\nplanner = \"static:2\"\n[train]\nsteps = 8 # run.toml:3\n[checkpoint]\nresume = \"latest\"";
        assert_eq!(
            changed_settings(before, now),
            [
                r#"plan.planner changed from "adaptive" to "static:2""#,
                "train.clip_norm changed from 1 to unset",
            ]
        );
    }

    #[test]
    fn words_are_quoted_as_a_shell_takes_them() {
        for (word, expected) in [
            ("runs/a.toml", "runs/a.toml"),
            ("[1, 2]", "'[1, 2]'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
