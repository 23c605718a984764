//! `lengthwise bench plan`: recorded batches, several planners, one table.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use lengthwise_core::{Degree, Tokens};
use lengthwise_cost::text_file::read_text;
use lengthwise_inputs::{CostSource, Costs, Lengths, OwnedProblem};
use lengthwise_outputs::Outputs;
use lengthwise_plan::PlannerKind;
use serde::Deserialize;

use crate::arguments::{ParallelismArgs, PlanningLimits, RuleArgs, degree};
use crate::failure::Failure;
use crate::output::Output;

/// A planner that answers sooner than this is run again, for a median.
const WORTH_REPEATING: Duration = Duration::from_millis(500);

/// Arguments of `lengthwise bench plan`.
#[derive(Debug, Args)]
pub struct BenchPlanArgs {
    /// Batches as JSON, with `seq_lens_tokens`, `model` and `context_limit_tokens`.
    #[arg(value_name = "BATCH.json", required = true)]
    pub batches: Vec<PathBuf>,
    /// Where the profiles are; that of a batch is named a100-MODEL-CONTEXT.toml.
    #[arg(long, value_name = "FOLDER", default_value = "examples/profiles")]
    pub profiles: PathBuf,
    /// A described cluster instead, with --model: a file, or a known one such as h100-8x8.
    #[arg(long, value_name = "NAME", requires = "model")]
    pub cluster: Option<String>,
    /// The model on that cluster, for all batches: a file, or a known one such as llama-3.1-8b.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub model: Option<String>,
    /// What groups may be like, and what each device has of the model.
    #[command(flatten)]
    pub parallelism: ParallelismArgs,
    /// The planners to compare.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "adaptive,batch-adaptive,static,megatron"
    )]
    pub planners: Vec<PlannerKind>,
    /// The degrees that groups may have.
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = degree)]
    pub degrees: Option<Vec<Degree>>,
    /// What planning may take.
    #[command(flatten)]
    pub limits: PlanningLimits,
    /// Plans of which the median time is shown.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub repetitions: u32,
    /// What plans have to keep.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// What a batch file holds beside its lengths.
#[derive(Debug, Deserialize)]
struct Recorded {
    model: String,
    context_limit_tokens: u64,
    #[serde(default)]
    peers_under_flexsp_cost_model: Peers,
}

#[derive(Debug, Default, Deserialize)]
struct Peers {
    flexsp: Option<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    predicted_step_ms: f64,
}

/// What is read.
fn inputs(args: &BenchPlanArgs) -> Outputs {
    let mut outputs = Outputs::new();
    for batch in &args.batches {
        outputs.reads("a batch", batch);
    }
    match (&args.cluster, &args.model) {
        (Some(cluster), Some(model)) => {
            outputs.reads("the file of --cluster", Path::new(cluster));
            outputs.reads("the file of --model", Path::new(model));
        }
        _ => {
            let entries = fs::read_dir(&args.profiles).into_iter().flatten();
            let paths = entries.flatten().map(|entry| entry.path());
            for path in paths.filter(|path| path.extension().is_some_and(|end| end == "toml")) {
                outputs.reads("a profile", &path);
            }
        }
    }
    outputs
}

/// Plans every batch with every planner.
pub(super) fn run(args: &BenchPlanArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let options = args.limits.options(&args.planners)?;
    output.declare(&mut inputs(args))?;
    let mut has_plan = false;
    output.result_line(
        "| batch | planner | predicted step | ratio to FlexSP | bound | gap | solve time |",
    );
    output.result_line("| --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut totals: Vec<Vec<(f64, f64)>> = vec![Vec::new(); args.planners.len()];
    for path in &args.batches {
        let recorded = read(path)?;
        let lengths = Lengths::read(path)?;
        let problem =
            OwnedProblem::new(costs(args, &recorded)?, lengths)?.with_rules(args.rules.rules());
        // What was published is a ratio to nothing but the published costs.
        let published = recorded.peers_under_flexsp_cost_model.flexsp;
        let published = published.filter(|_| args.cluster.is_none());
        let published_s = published.map(|peer| peer.predicted_step_ms / 1e3);
        let name = path
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        for (&kind, totals) in args.planners.iter().zip(&mut totals) {
            let planner = kind.planner_with(options);
            let mut times = Vec::new();
            let planned = loop {
                let started = Instant::now();
                let planned = problem.plan(planner.as_ref());
                times.push(started.elapsed());
                let is_enough = times.len() >= args.repetitions as usize;
                if planned.is_err() || is_enough || times[0] > WORTH_REPEATING {
                    break planned;
                }
            };
            let planned = match planned {
                Ok(planned) => planned,
                // Some rules and batches are beyond some planners; the others are still compared.
                Err(error) => {
                    output.result_line(&format!("| {name} | {kind} | no plan: {error} | | | | |"));
                    continue;
                }
            };
            has_plan = true;
            times.sort_unstable();
            let report = planned.report;
            let ratio = published_s.map(|published| report.predicted_step.get() / published);
            if let (Some(ratio), Some(gap)) = (ratio, report.gap()) {
                totals.push((ratio, gap));
            }
            output.result_line(&format!(
                "| {name} | {kind} | {:.3} s | {} | {:.3} s | {} | {:.1} ms |",
                report.predicted_step.get(),
                ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
                report.lower_bound.get(),
                report
                    .gap()
                    .map_or("-".to_owned(), |gap| format!("{:.2} %", gap * 100.0)),
                times[times.len() / 2].as_secs_f64() * 1e3
            ));
        }
    }
    if !has_plan {
        return Err(Failure::run("no planner has found a plan of any batch"));
    }
    for (kind, totals) in args
        .planners
        .iter()
        .zip(&totals)
        .filter(|(_, totals)| !totals.is_empty())
    {
        let count = totals.len() as f64;
        let ratio = (totals.iter().map(|(ratio, _)| ratio.ln()).sum::<f64>() / count).exp();
        let gap = totals.iter().map(|(_, gap)| gap).sum::<f64>() / count;
        output.result_line(&format!(
            "| all | {kind} | | {ratio:.3} | | {:.2} % | |",
            gap * 100.0
        ));
    }
    Ok(())
}

/// The costs of the batch's profile, or of the described cluster.
fn costs(args: &BenchPlanArgs, recorded: &Recorded) -> Result<Costs, Failure> {
    let mut changes = args.parallelism.changes();
    let source = if let (Some(cluster), Some(model)) = (&args.cluster, &args.model) {
        changes.context = Some(Tokens(recorded.context_limit_tokens));
        CostSource::described(cluster, model)?
    } else {
        let context = recorded.context_limit_tokens / 1000;
        let profile = args
            .profiles
            .join(format!("a100-{}-{context}k.toml", recorded.model));
        CostSource::profile(&profile)?
    };
    let source = source.with_share(args.parallelism.share()?)?;
    Ok(source.costs(changes, args.degrees.as_deref())?)
}

fn read(path: &Path) -> Result<Recorded, Failure> {
    let text = read_text(path).map_err(|error| {
        Failure::input(format!("batch {} can't be read: {error}", path.display()))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        Failure::input(format!("{} is no recorded batch: {error}", path.display()))
    })
}
