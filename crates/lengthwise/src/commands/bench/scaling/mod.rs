//! `lengthwise bench scaling`: how planning time, gap and predicted step grow with sequences and devices.

mod size;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use lengthwise_core::{Degree, Tokens};
use lengthwise_inputs::{CostChanges, CostSource, Draw, LengthDistribution, Lengths, OwnedProblem};
use lengthwise_outputs::Outputs;
use lengthwise_plan::PlannerKind;
use serde::Serialize;

use crate::arguments::{PlanningLimits, degree};
use crate::failure::Failure;
use crate::output::Output;
use size::{Series, Size, fitted_power};

/// A size whose plans take longer together is not planned again.
const WORTH_REPEATING: Duration = Duration::from_secs(5);

/// Arguments of `lengthwise bench scaling`.
#[derive(Debug, Args)]
pub struct BenchScalingArgs {
    /// What to plan, as SEQUENCESxDEVICES; then each number of sequences on the middle one's devices, and its sequences
    /// on each number of devices.
    #[arg(
        long,
        value_name = "SIZE,…",
        value_delimiter = ',',
        default_value = "512x64,2048x256,8192x1024,32768x4096,131072x16384"
    )]
    sizes: Vec<Size>,
    /// The distribution that lengths are drawn from.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/lengths/wikipedia.toml"
    )]
    pub distribution: PathBuf,
    /// The cost profile.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/profiles/a100-gpt-7b-384k.toml"
    )]
    pub profile: PathBuf,
    /// No length is drawn that is longer; the profile's context by default.
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<Tokens>,
    /// Lengths are rounded up to a multiple of it.
    #[arg(long, value_name = "TOKENS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub multiple_of: u64,
    /// The planner.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub planner: PlannerKind,
    /// The degrees that groups may have; all of the profile's by default.
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = degree)]
    pub degrees: Option<Vec<Degree>>,
    /// What planning may take.
    #[command(flatten)]
    pub limits: PlanningLimits,
    /// Batches that are drawn for each size, of seeds 1, 2, ….
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub batches: u64,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What planning all batches of a size came to.
#[derive(Clone, Copy, Debug, Serialize)]
struct Measured {
    num_sequences: usize,
    num_devices: u32,
    num_batches: usize,
    median_predicted_step_s: f64,
    median_gap: Option<f64>,
    median_solve_s: f64,
    max_solve_s: f64,
    solve_ns_per_sequence: f64,
}

/// A series and its exponent, as JSON has them.
#[derive(Debug, Serialize)]
struct MeasuredSeries {
    growing: &'static str,
    /// Of what grows, in the median time; that of sequences where both grow.
    fitted_exponent: Option<f64>,
    sizes: Vec<Measured>,
}

#[derive(Debug, Serialize)]
struct Scaling<'a> {
    planner: String,
    profile: &'a str,
    distribution: &'a str,
    series: Vec<MeasuredSeries>,
}

/// Plans batches of every size and prints how the figures grow.
pub(super) fn run(args: &BenchScalingArgs, output: &mut Output<'_>) -> Result<(), Failure> {
    let distribution = LengthDistribution::read(&args.distribution)?;
    let source = CostSource::profile(&args.profile)?;
    let mut outputs = Outputs::new();
    outputs.reads("the file of --distribution", &args.distribution);
    outputs.reads("the profile", &args.profile);
    output.declare(&mut outputs)?;
    if !args.json {
        output.result_line(
            "| growing | sequences | devices | predicted step | gap | solve time | slowest | a sequence |",
        );
        output.result_line("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    }
    let mut all = Vec::new();
    let mut known: Vec<Measured> = Vec::new();
    for Series { growing, sizes } in Series::all(&args.sizes) {
        let mut measured = Vec::with_capacity(sizes.len());
        for size in sizes {
            let is_size = |known: &&Measured| {
                (known.num_sequences, known.num_devices) == (size.num_sequences, size.num_devices)
            };
            let of_size = match known.iter().find(is_size) {
                Some(&known) => known,
                None => {
                    let new = measure(args, &distribution, &source, size)?;
                    known.push(new);
                    new
                }
            };
            if !args.json {
                output.result_line(&row(growing.name(), &of_size));
            }
            measured.push(of_size);
        }
        let points = measured.iter().map(|measured| {
            let size = Size {
                num_sequences: measured.num_sequences,
                num_devices: measured.num_devices,
            };
            (growing.quantity(size), measured.median_solve_s)
        });
        all.push(MeasuredSeries {
            growing: growing.name(),
            fitted_exponent: fitted_power(&points.collect::<Vec<_>>()),
            sizes: measured,
        });
    }
    if args.json {
        let scaling = Scaling {
            planner: args.planner.to_string(),
            profile: &args.profile.to_string_lossy(),
            distribution: &distribution.name,
            series: all,
        };
        let json = serde_json::to_string(&scaling)
            .map_err(|error| Failure::run(format!("can't be written as JSON: {error}")))?;
        output.result_line(&json);
        return Ok(());
    }
    output.result_line("");
    for series in &all {
        let Some(exponent) = series.fitted_exponent else {
            continue;
        };
        output.result_line(&match series.growing {
            "both" => {
                format!("With sequences and devices together, time grows as (both)^{exponent:.2}.")
            }
            growing => format!("With {growing} alone, time grows as ({growing})^{exponent:.2}."),
        });
    }
    Ok(())
}

fn measure(
    args: &BenchScalingArgs,
    distribution: &LengthDistribution,
    source: &CostSource,
    size: Size,
) -> Result<Measured, Failure> {
    let planner = args
        .planner
        .planner_with(args.limits.options(&[args.planner])?);
    let changes = CostChanges {
        num_devices: Some(size.num_devices),
        context: args.context,
        ..CostChanges::default()
    };
    let costs = source.costs(changes, args.degrees.as_deref())?;
    let (mut steps, mut gaps, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let started = Instant::now();
    for seed in 1..=args.batches {
        let seq_lens = distribution.draw(Draw {
            num_sequences: size.num_sequences,
            longest: costs.context,
            multiple_of: Tokens(args.multiple_of),
            seed,
        })?;
        let lengths = Lengths::drawn(seq_lens, format!("{size}, seed {seed}"));
        let problem = OwnedProblem::new(costs.clone(), lengths)?;
        let begun = Instant::now();
        let planned = problem.plan(planner.as_ref())?;
        times.push(begun.elapsed().as_secs_f64());
        steps.push(planned.report.predicted_step.get());
        gaps.extend(planned.report.gap());
        if started.elapsed() > WORTH_REPEATING {
            break;
        }
    }
    let median_solve_s = median(&mut times).unwrap_or(0.0);
    Ok(Measured {
        num_sequences: size.num_sequences,
        num_devices: size.num_devices,
        num_batches: times.len(),
        median_predicted_step_s: median(&mut steps).unwrap_or(0.0),
        median_gap: median(&mut gaps),
        median_solve_s,
        max_solve_s: times.iter().copied().fold(0.0, f64::max),
        solve_ns_per_sequence: median_solve_s * 1e9 / size.num_sequences as f64,
    })
}

/// The middle one, or of two middle ones the smaller.
fn median(figures: &mut [f64]) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

fn row(growing: &str, measured: &Measured) -> String {
    let gap = measured
        .median_gap
        .map_or("-".to_owned(), |gap| format!("{:.2} %", gap * 100.0));
    format!(
        "| {growing} | {} | {} | {:.3} s | {gap} | {:.1} ms | {:.1} ms | {:.0} ns |",
        measured.num_sequences,
        measured.num_devices,
        measured.median_predicted_step_s,
        measured.median_solve_s * 1e3,
        measured.max_solve_s * 1e3,
        measured.solve_ns_per_sequence,
    )
}
