//! `lengthwise bench contexts`: the longest sequences that models can be trained on, and how fast.

use std::path::Path;

use clap::Args;
use lengthwise_core::{Activations, StrategyFamily};
use lengthwise_cost::Logits;
use lengthwise_inputs::{
    ActivationChoices, CostChanges, CostSource, Lengths, OwnedProblem, StrategyFamilies,
};
use lengthwise_outputs::Outputs;
use lengthwise_plan::PlannerKind;
use serde::Serialize;

use crate::arguments::logits;
use crate::failure::Failure;
use crate::output::Output;
use crate::quantity::{grouped, seconds};

/// Arguments of `lengthwise bench contexts`.
#[derive(Debug, Args)]
pub struct BenchContextsArgs {
    /// The models: files, or known ones.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "llama-3-8b,llama-3-70b"
    )]
    pub models: Vec<String>,
    /// The clusters: files, or nodes of a known device.
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "a100-40-1x8,a100-40-8x8,a100-40-64x8,h100-80-1x8,h100-80-8x8,h100-80-64x8"
    )]
    pub clusters: Vec<String>,
    /// Whose logits a device holds at once: whole, those of all its tokens, or chunked, those of 1,024 tokens at a time.
    #[arg(long, value_name = "WHICH", default_value_t, value_parser = logits)]
    pub logits: Logits,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The longest sequence of a model on a cluster, alone in its step.
#[derive(Clone, Debug, Serialize)]
struct Longest {
    tokens: u64,
    /// Of the group that the planner gives it.
    strategy: String,
    predicted_step_s: f64,
    simulated_step_s: f64,
}

/// A model on a cluster.
#[derive(Clone, Debug, Serialize)]
struct Row {
    model: String,
    cluster: String,
    num_devices: u32,
    /// Where groups exchange tokens for heads and recompute layers.
    ulysses: Option<Longest>,
    /// Where groups may do all that there are costs of.
    all: Option<Longest>,
}

#[derive(Debug, Serialize)]
struct Contexts {
    logits: &'static str,
    rows: Vec<Row>,
}

/// Finds the longest sequence of every model on every cluster and prints it.
pub(super) fn run(args: &BenchContextsArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let mut outputs = Outputs::new();
    for cluster in &args.clusters {
        outputs.reads("a file of --clusters", Path::new(cluster));
    }
    for model in &args.models {
        outputs.reads("a file of --models", Path::new(model));
    }
    output.declare(&mut outputs)?;
    let mut sources = Vec::new();
    for model in &args.models {
        for cluster in &args.clusters {
            sources.push((cluster, CostSource::described(cluster, model)?));
        }
    }
    if !args.json {
        output.result_line(
            "| model | cluster | Ulysses, recomputing | strategy | step | all strategies | strategy | step | simulated | ratio |",
        );
        output.result_line("| --- | --- | ---: | --- | ---: | ---: | --- | ---: | ---: | ---: |");
    }
    let mut rows = Vec::new();
    for (cluster, source) in &sources {
        let row = row(cluster, source, args.logits)?;
        if !args.json {
            output.result_line(&line(&row));
        }
        rows.push(row);
    }
    if args.json {
        let contexts = Contexts {
            logits: args.logits.name(),
            rows,
        };
        let json = serde_json::to_string_pretty(&contexts)
            .map_err(|error| Failure::run(format!("can't be written as JSON: {error}")))?;
        output.result_line(&json);
        return Ok(());
    }
    output.result_line("");
    output.result_line(&format!(
        "Tokens of the longest sequence that has a plan, alone in its step; one token more has none. Logits are {}.",
        args.logits
    ));
    Ok(())
}

fn row(cluster: &str, source: &CostSource, logits: Logits) -> Result<Row, Failure> {
    let changes = CostChanges {
        logits: Some(logits),
        ..CostChanges::default()
    };
    let ulysses = CostChanges {
        strategies: Some(StrategyFamilies::only(StrategyFamily::Ulysses)),
        activations: Some(ActivationChoices::only(Activations::Recompute)),
        ..changes
    };
    let all = CostChanges {
        strategies: Some(StrategyFamilies::default()),
        activations: Some(ActivationChoices::default()),
        ..changes
    };
    let costs = source.costs(ulysses, None)?;
    Ok(Row {
        model: costs.name.clone(),
        cluster: cluster.to_owned(),
        num_devices: costs.num_devices(),
        ulysses: longest(source, ulysses)?,
        all: longest(source, all)?,
    })
}

/// The longest sequence with these changes, as it is planned and simulated.
fn longest(source: &CostSource, changes: CostChanges) -> Result<Option<Longest>, Failure> {
    let Some(tokens) = source.longest_context(changes)? else {
        return Ok(None);
    };
    let context = Some(tokens);
    let costs = source.costs(CostChanges { context, ..changes }, None)?;
    let lengths = Lengths::drawn(vec![tokens], format!("{tokens} tokens"));
    let problem = OwnedProblem::new(costs, lengths)?;
    let planned = problem.plan(PlannerKind::default().planner().as_ref())?;
    let simulated = problem.simulated(&planned.plan);
    let simulated = simulated.map_err(|error| Failure::run(error.to_string()))?;
    let groups = planned.plan.micro_batches().iter();
    let mut groups = groups.flat_map(|micro_batch| &micro_batch.groups);
    let strategy = groups.find(|group| !group.sequences.is_empty());
    let strategy = strategy.map(|group| group.strategy.short(Activations::Recompute));
    Ok(Some(Longest {
        tokens: tokens.0,
        strategy: strategy.unwrap_or_default(),
        predicted_step_s: planned.report.predicted_step.get(),
        simulated_step_s: simulated.step.get(),
    }))
}

fn line(row: &Row) -> String {
    let longest = |longest: &Option<Longest>| match longest {
        None => ["no room", "", "", ""].map(str::to_owned),
        Some(longest) => [
            grouped(longest.tokens),
            longest.strategy.clone(),
            seconds(longest.predicted_step_s),
            seconds(longest.simulated_step_s),
        ],
    };
    let ratio = match (&row.ulysses, &row.all) {
        (Some(ulysses), Some(all)) => format!("{:.2}", all.tokens as f64 / ulysses.tokens as f64),
        _ => "-".to_owned(),
    };
    let [tokens, strategy, step, _] = longest(&row.ulysses);
    let of_all = longest(&row.all).join(" | ");
    format!(
        "| {} | {} | {tokens} | {strategy} | {step} | {of_all} | {ratio} |",
        row.model, row.cluster
    )
}
