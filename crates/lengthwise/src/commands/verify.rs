//! `lengthwise verify`: a certificate in, what it proves out.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use lengthwise_certificate::{Certificate, Proof, Refusal, Verified, check_source, verify};
use lengthwise_core::Strategy;
use lengthwise_inputs::{Costs, read_certificate};
use lengthwise_outputs::Outputs;

use crate::arguments::CostArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::quantity::{counted, seconds};

/// Arguments of `lengthwise verify`.
#[derive(Debug, Args)]
#[command(
    mut_arg("cluster", |arg| arg.requires("model")),
    // Without costs there is nothing that these could change.
    group(ArgGroup::new("source").args(["profile", "cluster"])),
    mut_arg("devices", |arg| arg.requires("source")),
    mut_arg("context", |arg| arg.requires("source")),
    mut_arg("degrees", |arg| arg.requires("source")),
    mut_arg("strategies", |arg| arg.requires("source")),
    mut_arg("activations", |arg| arg.requires("source")),
    mut_arg("tensor_parallel", |arg| arg.requires("source")),
    mut_arg("pipeline_parallel", |arg| arg.requires("source")),
    mut_arg("logits", |arg| arg.requires("source")),
    next_help_heading = "Costs to compare the tables of the certificate with"
)]
pub struct VerifyArgs {
    /// A certificate as `lengthwise plan --certificate` writes it; `-` reads stdin.
    #[arg(value_name = "CERTIFICATE.json", help_heading = "Arguments")]
    pub certificate: PathBuf,
    /// The costs that it was planned with. Without them, its tables are taken for granted.
    #[command(flatten)]
    pub costs: CostArgs,
}

/// Checks and prints.
pub fn run(args: VerifyArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let (json, name) = read_certificate(&args.certificate)?;
    let refused = |refusal: Refusal| {
        let failure = Failure::input(format!("{name}: {refusal}"));
        match refusal.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let certificate = Certificate::parse(&json).map_err(refused)?;
    let verified = verify(&certificate).map_err(refused)?;
    let has_source = !args.costs.profile.is_empty() || args.costs.cluster.is_some();
    let costs = has_source.then(|| args.costs.costs()).transpose()?;
    if let Some(costs) = &costs {
        check_source(&certificate, &costs.cluster, &costs.model).map_err(refused)?;
    }
    let mut outputs = Outputs::new();
    outputs.reads("the certificate", &args.certificate);
    args.costs.declare(&mut outputs);
    output.declare(&mut outputs)?;
    for line in lines(&certificate, &verified) {
        output.result_line(&line);
    }
    let Some(costs) = costs else {
        output.result_line(
            "costs are those of its tables; --profile, or --cluster and --model, compares them",
        );
        return Ok(());
    };
    output.result_line("costs are those of the model and the devices that were named");
    let left_out = left_out(&verified, &costs);
    if !left_out.is_empty() {
        output.result_line("plans with groups of these strategies may take less:");
        list(&left_out).for_each(|line| output.result_line(&line));
    }
    Ok(())
}

/// The strategies of the costs that the bound does not range over, though the rules allow them.
fn left_out(verified: &Verified, costs: &Costs) -> Vec<Strategy> {
    let strategies = costs.space.strategies().iter().copied();
    let left_out = strategies.filter(|strategy| {
        strategy.degree().get() <= verified.num_devices
            && verified.rules.allows_degree(strategy.degree())
            && !verified.strategies.contains(strategy)
    });
    left_out.collect()
}

/// Strategies, six a line.
fn list(strategies: &[Strategy]) -> impl Iterator<Item = String> {
    strategies.chunks(6).map(|some| {
        let names: Vec<String> = some.iter().map(Strategy::to_string).collect();
        format!("  {}", names.join(", "))
    })
}

fn lines(certificate: &Certificate, verified: &Verified) -> Vec<String> {
    let gap = verified.gap();
    let gap = gap.map_or("unknown".to_owned(), |gap| format!("{:.2} %", gap * 100.0));
    let proof = match certificate.proof {
        Proof::Tree { .. } => format!("a tree of {}", counted(verified.num_leaves, "leaf")),
        Proof::Patterns { ref buckets, .. } => {
            format!("prices of {}", counted(buckets.len(), "bucket"))
        }
    };
    let mut lines = vec![
        format!(
            "verified: the step takes {}, and no plan less than {} (gap {gap})",
            seconds(verified.plan_step.get()),
            seconds(verified.bound.get()),
        ),
        format!(
            "by {}; {}, {}",
            proof.replace("leafs", "leaves"),
            counted(verified.num_sequences, "sequence"),
            counted(verified.num_devices as usize, "device"),
        ),
        "all plans have groups of these strategies:".to_owned(),
    ];
    lines.extend(list(&verified.strategies));
    if !verified.rules.is_empty() {
        lines.push("all plans keep these rules:".to_owned());
        let rules = verified.rules.to_string();
        lines.extend(rules.split(", ").map(|rule| format!("  {rule}")));
    }
    lines
}
