//! `lengthwise checkpoint`: what a checkpoint holds, whether it is whole, and a model of it.

mod export;
mod table;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use lengthwise_outputs::Outputs;
use lengthwise_train::ModelSpec;
use lengthwise_train::checkpoint::{Checkpoint, CheckpointError, RECORD_FILE, name_of, steps_in};
use serde_json::{Value, json};

use self::export::ExportArgs;
use crate::failure::Failure;
use crate::output::Output;

/// Arguments of `lengthwise checkpoint`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CheckpointArgs {
    /// A checkpoint, or a directory of checkpoints: all of their files are read and checked.
    #[arg(value_name = "DIRECTORY", required = true)]
    pub checkpoint: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// What else to do.
    #[command(subcommand)]
    pub command: Option<CheckpointCommand>,
}

/// What else is done with a checkpoint.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Writes the model of a checkpoint in the form of Hugging Face, with config and tokenizer.
    Export(ExportArgs),
}

/// Shows and checks.
pub fn run(args: CheckpointArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    match (args.command, args.checkpoint) {
        (Some(CheckpointCommand::Export(args)), _) => export::run(&args, output),
        (None, Some(directory)) => show(&directory, args.json, output),
        (None, None) => Err(Failure::input("there is no checkpoint to show")),
    }
}

fn show(directory: &Path, as_json: bool, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut outputs = Outputs::new();
    let is_one = directory.join(RECORD_FILE).exists();
    let steps = match is_one {
        true => Vec::new(),
        false => steps_in(directory).map_err(|error| refused(&error))?,
    };
    let directories: Vec<PathBuf> = match steps.is_empty() {
        true => vec![directory.to_owned()],
        false => steps
            .iter()
            .map(|&step| directory.join(name_of(step)))
            .collect(),
    };
    let checked: Vec<_> = directories.iter().map(|one| (one, whole(one))).collect();
    for (_, checkpoint) in &checked {
        let paths = checkpoint.iter().flat_map(Checkpoint::paths);
        paths.for_each(|path| outputs.reads("a file of the checkpoint", &path));
    }
    output.declare(&mut outputs)?;
    let mut broken = None;
    let mut listed = Vec::new();
    for (path, checkpoint) in checked {
        match checkpoint {
            Ok(checkpoint) if as_json => listed.push(in_json(&checkpoint)),
            Ok(checkpoint) => {
                for line in table::lines(&checkpoint) {
                    output.result_line(&line);
                }
            }
            Err(error) => {
                if as_json && !steps.is_empty() {
                    listed.push(json!({
                        "directory": path.to_string_lossy(),
                        "is_whole": false,
                        "reason": error.to_string(),
                    }));
                } else if !steps.is_empty() {
                    output.result_line(&format!("{}: broken: {error}", path.display()));
                }
                broken.get_or_insert(error);
            }
        }
    }
    match (as_json, steps.is_empty(), listed.len()) {
        (true, true, 1) => output.result_line(&listed[0].to_string()),
        (true, false, _) => output.result_line(&Value::from(listed).to_string()),
        _ => {}
    }
    match broken {
        Some(error) => Err(refused(&error)),
        None => Ok(()),
    }
}

/// A checkpoint, all of whose files are as they were written.
fn whole(directory: &Path) -> Result<Checkpoint, CheckpointError> {
    let checkpoint = Checkpoint::open(directory)?;
    checkpoint.verify()?;
    Ok(checkpoint)
}

fn in_json(checkpoint: &Checkpoint) -> Value {
    json!({
        "directory": checkpoint.directory().to_string_lossy(),
        "is_whole": true,
        "num_parameters": ModelSpec::new(checkpoint.model()).num_parameters(),
        "num_bytes": checkpoint.record().num_bytes(),
        "trainer": serde_json::to_value(checkpoint.record()).unwrap_or_default(),
    })
}

fn refused(error: &CheckpointError) -> Failure {
    let failure = Failure::input(error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
