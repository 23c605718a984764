//! `lengthwise compare`: planners beside each other, on clusters one need not have.
//!
//! Every plan is simulated. Under a profile, parts of a step take what was measured, and the simulated step is the
//! predicted one. On a described cluster, exchanges, gathers and scatters move their bytes over links that all share:
//! groups then slow each other down, and gathers hide behind computing or do not, which no prediction of single groups
//! knows.

mod figures;
mod paper;
mod progress;
mod row;
mod setting;
mod space_part;
mod static_degree;
mod sweep;
mod text_table;

use std::time::Duration;

use clap::Args;
use lengthwise_core::limits::DEVICE_MEMORY;
use lengthwise_core::{Bytes, Tokens};
use lengthwise_cost::ModelKind;
use lengthwise_inputs::{CostChanges, CostSource, Costs, LengthSource};
use lengthwise_outputs::Outputs;
use lengthwise_plan::{PlannerKind, PlannerOptions};

use crate::arguments::{CostArgs, RuleArgs, duration, several};
use crate::failure::Failure;
use crate::output::Output;
use figures::Contender;
use row::{Format, lines, rows};
use setting::{Batches, Outcome, Setting, outcomes};
use space_part::SpacePart;

const DEVICES: &str = "Numbers of devices, in nodes like those of the profile or cluster";

const CONTEXTS: &str = "Longest sequences, for example 64k,384k: longer ones are dropped. The profile's own by default, \
                        65536 for a model";

/// Arguments of `lengthwise compare`.
#[derive(Debug, Args)]
#[command(
    mut_arg("profile", |arg| several(arg, "FILE,…", "Cost profiles to compare under")),
    mut_arg("cluster", |arg| arg.requires("model")),
    mut_arg("model", |arg| several(arg, "NAME,…", models())),
    mut_arg("devices", |arg| several(arg, "N,…", DEVICES)),
    mut_arg("context", |arg| several(arg, "TOKENS,…", CONTEXTS)),
)]
pub struct CompareArgs {
    /// What planners are compared under.
    #[command(flatten)]
    pub costs: CostArgs,
    /// Where lengths come from: wikipedia, wlbllm, prolong, crawl, code-like, web-like, a file of bins or of lengths,
    /// lognormal:MEDIAN:SIGMA, corpus:PATH.
    #[arg(
        long,
        value_name = "SOURCE,…",
        value_delimiter = ',',
        default_value = "wikipedia"
    )]
    pub lengths: Vec<String>,
    /// The planners; static has one degree for all batches, the smallest that a sequence as long as the context fits.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "static,batch-adaptive,adaptive"
    )]
    pub planners: Vec<PlannerKind>,
    /// Memories of a device in GiB, as the profile or the cluster gives it.
    #[arg(long, value_name = "GIB,…", value_delimiter = ',', value_parser = gib)]
    pub memory: Vec<Bytes>,
    /// Sequences in a global batch.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub sequences: u32,
    /// Batches that are drawn for each setting; results are means over them.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub batches: u64,
    /// The same seed gives the same lengths, to all models and planners.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Lengths are rounded up to a multiple of it; what is then longer than the context is dropped.
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub multiple_of: u64,
    /// How long flexsp may solve for a batch; by default its MILPs stop by their nodes alone, so that its plans do not
    /// depend on the machine.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub flexsp_time: Option<Duration>,
    /// Print the 18 settings that FlexSP was published with, beside the published seconds.
    #[arg(long)]
    pub paper: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// What plans have to keep.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// Compares.
pub fn run(args: CompareArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    if args.paper {
        return paper::run(&args, output);
    }
    let settings = settings(&args)?;
    output.declare(&mut inputs(&args))?;
    let outcomes = outcomes(&settings, batches(&args), output)?;
    let rows: Vec<row::Row> = settings
        .iter()
        .zip(&outcomes)
        .flat_map(|(setting, outcome)| rows(setting, outcome))
        .collect();
    let has_plan = rows.iter().any(|row| row.figures.is_some());
    for line in lines(&rows, args.format)? {
        output.result_line(&line);
    }
    let mut findings = sweep::findings(&rows);
    findings.extend(stopped_milps(&outcomes));
    findings.extend(predicted_alone(&settings));
    if args.format == Format::Table && !findings.is_empty() {
        output.result_line("");
        for line in findings {
            output.result_line(&line);
        }
    }
    if !has_plan {
        return Err(Failure::run("no planner has found a plan in any setting"));
    }
    Ok(())
}

/// What is read.
fn inputs(args: &CompareArgs) -> Outputs {
    let mut outputs = Outputs::new();
    args.costs.declare(&mut outputs);
    for source in &args.lengths {
        for file in LengthSource::files(source) {
            outputs.reads("a file of --lengths", &file);
        }
    }
    outputs
}

fn models() -> String {
    let known = ModelKind::names();
    format!("Models to run on that cluster: files, or known ones of {known}")
}

fn batches(args: &CompareArgs) -> Batches {
    Batches {
        num_sequences: args.sequences as usize,
        num_batches: args.batches,
        first_seed: args.seed,
    }
}

/// Every combination of what was asked for.
fn settings(args: &CompareArgs) -> Result<Vec<Setting>, Failure> {
    let share = args.costs.parallelism.share()?;
    let mut sources = Vec::new();
    for path in &args.costs.profile {
        sources.push(CostSource::profile(path)?.with_share(share)?);
    }
    if let Some(cluster) = &args.costs.cluster {
        for model in &args.costs.model {
            let source = CostSource::described(cluster, model)?;
            sources.push(source.with_share(share)?);
        }
    }
    if sources.is_empty() {
        return Err(Failure::input("there are no costs to compare under").hint(
            "give --profile FILE, or --cluster and --model, such as \
                 --cluster h100-8x8 --model llama-3.1-8b; or --paper",
        ));
    }
    let mut lengths = Vec::new();
    for source in &args.lengths {
        lengths.push(LengthSource::named(source)?);
    }
    let contenders: Vec<Contender> = args
        .planners
        .iter()
        .map(|&kind| contender(kind, args))
        .collect();
    let mut settings = Vec::new();
    for source in &sources {
        for num_devices in each(&args.costs.devices) {
            for memory in each(&args.memory) {
                for context in each(&args.costs.context) {
                    let context = context.unwrap_or(source.usual_context());
                    let changes = CostChanges {
                        num_devices,
                        context: Some(context),
                        memory,
                        ..args.costs.parallelism.changes()
                    };
                    let costs = source.costs(changes, args.costs.degrees.as_deref())?;
                    let contenders = growing(&contenders, &costs);
                    settings.extend(lengths.iter().map(|lengths| Setting {
                        costs: costs.clone(),
                        lengths: lengths.clone(),
                        multiple_of: Tokens(args.multiple_of),
                        longest: None,
                        contenders: contenders.clone(),
                    }));
                }
            }
        }
    }
    Ok(settings)
}

/// The contenders, with the adaptive planner on every part of the strategies that grow up to all of them.
fn growing(contenders: &[Contender], costs: &Costs) -> Vec<Contender> {
    let of_each = contenders.iter().flat_map(|contender| {
        let parts = match contender.kind {
            PlannerKind::Adaptive => SpacePart::growing(&costs.space),
            _ => Vec::new(),
        };
        let on_parts = parts.into_iter().map(|part| Contender {
            part: Some(part),
            ..contender.clone()
        });
        on_parts.chain([contender.clone()]).collect::<Vec<_>>()
    });
    of_each.collect()
}

/// Only flexsp is limited; the others take what they need.
fn contender(kind: PlannerKind, args: &CompareArgs) -> Contender {
    let options = PlannerOptions::default();
    let is_milp = kind.to_string().starts_with("flexsp");
    Contender {
        kind,
        options: match args.flexsp_time {
            Some(time) if is_milp => options.with_time_budget(time),
            _ => options,
        },
        degrees: None,
        part: None,
        rules: args.rules.rules(),
    }
}

/// What is to be known of MILPs that were stopped short of their optimum.
fn stopped_milps(outcomes: &[Outcome]) -> Option<String> {
    let figures = outcomes.iter().flatten().flatten();
    let num: usize = figures.map(|figures| figures.num_stopped_milps).sum();
    (num > 0).then(|| {
        format!("{num} MILPs of flexsp stopped at their limit, with the best solution so far")
    })
}

/// What is to be known of steps that take what is predicted, though their cluster is described.
fn predicted_alone(settings: &[Setting]) -> Option<String> {
    let is_predicted = |setting: &Setting| {
        let costs = &setting.costs;
        costs.transport.is_none() && costs.num_layers.is_some()
    };
    settings.iter().any(is_predicted).then(|| {
        "shares of models are not simulated over links yet: their steps take what is predicted"
            .to_owned()
    })
}

/// Every value, or that there is none.
fn each<T: Copy>(values: &[T]) -> Vec<Option<T>> {
    if values.is_empty() {
        vec![None]
    } else {
        values.iter().copied().map(Some).collect()
    }
}

/// Reads a memory in GiB.
fn gib(text: &str) -> Result<Bytes, String> {
    let bytes = text.trim().parse::<f64>().ok();
    let bytes = bytes.and_then(|gib| Bytes::from_f64_ceil(gib * (1u64 << 30) as f64));
    bytes
        .filter(|&bytes| bytes > Bytes(0) && bytes <= DEVICE_MEMORY)
        .ok_or_else(|| {
            let most = DEVICE_MEMORY.0 >> 30;
            format!("it must be a number of GiB above 0 and at most {most}")
        })
}
