//! `lengthwise report`: runs in, one HTML file out that needs nothing else.
//!
//! ```text
//! run_file, plan_file, trace_file   what files hold, checked
//! figures, series, histogram, timeline   what is shown of it: pure functions
//! data      all of it, as the page's scripts read it
//! page      the HTML: tables with exact figures, places for charts, the data, styles and scripts
//! assets/   styles and scripts, which draw the charts in the browser
//! ```

mod data;
mod escape;
mod figures;
mod histogram;
mod page;
mod plan_file;
mod quantity;
mod run_file;
mod series;
mod source;
mod tables;
mod timeline;
mod trace_file;

use std::path::PathBuf;

use clap::Args;
use lengthwise_outputs::Outputs;

use self::data::ReportData;
use self::run_file::{Run, RunFile};
use crate::failure::Failure;
use crate::output::Output;
use crate::saved::check_saved;

/// Arguments of `lengthwise report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Runs to show beside each other: what `train --metrics` has written.
    #[arg(value_name = "RUN.jsonl", required = true)]
    pub runs: Vec<PathBuf>,
    /// Where the page is written.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    pub output: PathBuf,
    /// Steps whose ranks' work is shown as it was traced or simulated.
    #[arg(long, value_name = "TRACE.json")]
    pub trace: Vec<PathBuf>,
    /// A plan that is offered beside those of the runs: what `plan --json` has printed.
    #[arg(long, value_name = "PLAN.json")]
    pub plan: Vec<PathBuf>,
    /// The step whose plan is shown first; that of the first run with the most groups by default.
    #[arg(long, value_name = "N")]
    pub step: Option<u64>,
    /// What the page is called; by default after the runs.
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}

/// Reads all files and writes the page.
pub fn run(args: &ReportArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut outputs = Outputs::new();
    for (what, paths) in [
        ("a run", &args.runs),
        ("a trace", &args.trace),
        ("a plan", &args.plan),
    ] {
        for path in paths {
            outputs.reads(what, path);
        }
    }
    output.declare(&mut outputs)?;
    let file = outputs.file("--output", &args.output)?;
    let mut runs = Vec::new();
    for path in &args.runs {
        let read = RunFile::read(path)?;
        for torn in &read.unreadable {
            output.warning(torn);
        }
        runs.extend(read.runs);
    }
    name_apart(&mut runs);
    if let Some(step) = args.step
        && !runs[0].steps.iter().any(|known| known.step == step)
    {
        let message = format!(
            "--step: {} has no step {step}; it has {} to {}",
            args.runs[0].display(),
            runs[0].steps[0].step,
            runs[0].steps[runs[0].steps.len() - 1].step
        );
        return Err(Failure::input(message));
    }
    let plans = args.plan.iter().map(|path| plan_file::read(path));
    let traces = args.trace.iter().map(|path| trace_file::read(path));
    let data = ReportData::new(
        args.title.as_deref(),
        &runs,
        plans.collect::<Result<_, _>>()?,
        traces.collect::<Result<Vec<_>, _>>()?.concat(),
        args.step,
    );
    let page = page::page(&data, &runs)?;
    check_saved("the report", &file.write(page.as_bytes()))?;
    output.result_line(&format!("{} shows {}", args.output.display(), data.title));
    Ok(())
}

/// Gives runs whose files have the same name the whole path as theirs, and those of one file a number.
fn name_apart(runs: &mut [Run]) {
    let files: Vec<(String, PathBuf)> = runs
        .iter()
        .map(|run| (run.name.clone(), run.path.clone()))
        .collect();
    for (index, run) in runs.iter_mut().enumerate() {
        let has_twin = |(name, path): &(String, PathBuf)| *name == run.name && *path != run.path;
        let of_file = |(_, path): &&(String, PathBuf)| *path == run.path;
        if files.iter().any(has_twin) {
            run.name = run.path.display().to_string();
        }
        if files.iter().filter(of_file).count() > 1 {
            let number = 1 + files[..index].iter().filter(of_file).count();
            run.name = format!("{}, run {number}", run.name);
        }
    }
}
