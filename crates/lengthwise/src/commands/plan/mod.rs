//! `lengthwise plan`: lengths and costs in, a plan out.

mod certificate_file;
mod table;

use std::path::PathBuf;

use clap::Args;
use lengthwise_inputs::{Lengths, OwnedProblem, PlanFile};
use lengthwise_outputs::Outputs;
use lengthwise_plan::PlannerKind;

use self::certificate_file::CertificateFile;
use crate::arguments::{CostArgs, PlanningLimits, RuleArgs};
use crate::failure::Failure;
use crate::output::Output;

/// Arguments of `lengthwise plan`.
#[derive(Debug, Args)]
#[command(
    mut_arg("profile", |arg| arg.required_unless_present("cluster")),
    mut_arg("cluster", |arg| arg.requires("model")),
)]
pub struct PlanArgs {
    /// The lengths of one global batch: one a line, or JSON with `seq_lens_tokens`; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub lengths: PathBuf,
    /// What the sequences cost.
    #[command(flatten)]
    pub costs: CostArgs,
    /// The planner: adaptive, static, static:D, batch-adaptive, flexsp, megatron or exhaustive.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub planner: PlannerKind,
    /// What planning may take.
    #[command(flatten)]
    pub limits: PlanningLimits,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write why no plan takes less than the bound, as JSON that `lengthwise verify` checks.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// What plans have to keep.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// Plans and prints.
pub fn run(args: PlanArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let lengths = Lengths::read(&args.lengths)?;
    let problem = OwnedProblem::new(args.costs.costs()?, lengths)?.with_rules(args.rules.rules());
    let planner = args
        .planner
        .planner_with(args.limits.options(&[args.planner])?);
    let mut outputs = Outputs::new();
    outputs.reads("the file of --lengths", &args.lengths);
    args.costs.declare(&mut outputs);
    output.declare(&mut outputs)?;
    let certificate = args.certificate.as_deref();
    let certificate = certificate
        .map(|path| CertificateFile::new(path, &mut outputs))
        .transpose()?;
    let planned = match &certificate {
        Some(_) => problem.plan_certified(planner.as_ref())?,
        None => problem.plan(planner.as_ref())?,
    };
    let written = certificate.map(|file| file.write(&planned)).transpose()?;
    if args.json {
        let json = PlanFile::new(args.planner, planned, &problem).to_json();
        output.result_line(&json.map_err(|error| {
            Failure::run(format!("the plan can't be written as JSON: {error}"))
        })?);
    } else {
        for line in table::lines(args.planner, &planned, &problem) {
            output.result_line(&line);
        }
    }
    if let Some(written) = written {
        output.note(&written.note()?);
    }
    Ok(())
}
