//! `lengthwise simulate`: a plan and costs in, what every rank does when out.

mod activity_times;
mod report;
mod scenario;
mod straggler;
mod table;

use std::path::PathBuf;

use clap::Args;
use lengthwise_cost::DeviceKind;
use lengthwise_outputs::Outputs;
use lengthwise_plan::PlannerKind;
use lengthwise_sim::{Overlap, simulate};

use self::activity_times::ActivityTimes;
use self::report::Report;
use self::scenario::Scenario;
use self::straggler::Straggler;
use crate::arguments::{CostArgs, PlanningLimits, RuleArgs, duration};
use crate::failure::Failure;
use crate::output::Output;
use crate::saved::check_saved;
use crate::trace_file::TraceFile;

const PROFILE: &str = "What devices need to compute, and exchanges where no cluster is described: a cost profile, in TOML";

fn on_cluster() -> String {
    let devices = DeviceKind::names();
    format!(
        "A cluster, whose links all that travels shares, and whose devices may differ: a file, or nodes of a known device, \
         such as h100-8x8; there are {devices}"
    )
}

/// Arguments of `lengthwise simulate`.
#[derive(Debug, Args)]
#[command(
    mut_arg("profile", |arg| arg.required_unless_present("cluster").help(PROFILE)),
    mut_arg("cluster", |arg| arg.help(on_cluster())),
)]
pub struct SimulateArgs {
    /// A plan as `lengthwise plan --json` prints it; `-` reads stdin. Without one, it is planned here.
    #[arg(value_name = "PLAN.json", required_unless_present = "lengths")]
    pub plan: Option<PathBuf>,
    /// The lengths of one global batch to plan: one a line, or JSON with `seq_lens_tokens`; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub lengths: Option<PathBuf>,
    /// What the parts of a step cost.
    #[command(flatten)]
    pub costs: CostArgs,
    /// Who plans, where no plan is given: adaptive, static, static:D, batch-adaptive, flexsp, megatron or exhaustive.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub planner: PlannerKind,
    /// What planning may take.
    #[command(flatten)]
    pub limits: PlanningLimits,
    /// What is unlike the plan.
    #[command(flatten)]
    pub conditions: Conditions,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
    /// Write what every rank does when as Chrome-trace JSON, which Perfetto (ui.perfetto.dev) opens.
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// What a plan that is made here has to keep.
    #[command(flatten)]
    pub rules: RuleArgs,
}

/// How a step goes, beside its plan.
#[derive(Args, Clone, Debug)]
pub struct Conditions {
    /// A device that turns out slower than planned with: rank 3 takes twice as long with 3=2.
    #[arg(long, value_name = "RANK=FACTOR,…", value_delimiter = ',', value_parser = straggler::parse)]
    pub slow: Vec<Straggler>,
    /// Gather parameters when they are needed, not a layer ahead.
    #[arg(long, requires = "cluster")]
    pub no_prefetch: bool,
    /// Scatter a layer's gradients while the next layer's backward runs.
    #[arg(long, requires = "cluster")]
    pub overlap_scatters: bool,
    /// What a micro-batch takes beside all that is simulated, for example 10ms.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "cluster")]
    pub overhead: Option<std::time::Duration>,
    /// Layers of the model; those of the known model, or 32 for a profile, which doesn't say.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub layers: Option<u32>,
}

impl Conditions {
    fn overlap(&self) -> Overlap {
        Overlap {
            prefetch: !self.no_prefetch,
            scatters: self.overlap_scatters,
        }
    }
}

/// Simulates and prints.
pub fn run(args: SimulateArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let scenario = Scenario::new(&args)?;
    let cluster = straggler::slowed(&scenario.problem.costs.cluster, &args.conditions.slow)?;
    let costs = scenario
        .costs()
        .map_err(|error| Failure::input(error.to_string()))?;
    let mut outputs = Outputs::new();
    if let Some(plan) = &args.plan {
        outputs.reads("the plan", plan);
    }
    if let Some(lengths) = &args.lengths {
        outputs.reads("the file of --lengths", lengths);
    }
    args.costs.declare(&mut outputs);
    output.declare(&mut outputs)?;
    let trace = match &args.trace {
        Some(path) => Some(TraceFile::create(outputs.file("--trace", path)?, &cluster)?),
        None => None,
    };
    let mut sink = ActivityTimes::new(trace);
    let simulated = simulate(
        &scenario.plan,
        &scenario.problem.batch,
        &cluster,
        &costs,
        args.conditions.overlap(),
        &mut sink,
    );
    let simulated = simulated.map_err(|error| {
        let plan = args.plan.as_ref();
        let place = plan.map_or_else(String::new, |plan| format!("{}: ", plan.display()));
        Failure::input(format!("{place}{error}"))
    })?;
    let (activities, trace) = sink.finish();
    let saved = match trace.map(TraceFile::finish) {
        Some(Ok(saved)) => check_saved("the trace", &saved),
        Some(Err(failure)) => Err(failure),
        None => Ok(()),
    };
    let report = Report::new(&scenario, &cluster, &simulated, &activities);
    if args.json {
        output.result_line(&report.to_json()?);
    } else {
        for line in table::lines(&report) {
            output.result_line(&line);
        }
        if let (Some(path), Ok(())) = (&args.trace, &saved) {
            output.note(&format!(
                "trace      {}; open it at https://ui.perfetto.dev",
                path.display()
            ));
        }
    }
    saved
}
