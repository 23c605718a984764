//! `lengthwise plan`: lengths and a cost profile in, a plan out.

mod table;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lengthwise_core::{Cluster, Degree, Tokens};
use lengthwise_inputs::{CostChanges, CostSource, Lengths, OwnedProblem, PlanFile};
use lengthwise_plan::{PlannerKind, PlannerOptions};

use crate::failure::Failure;
use crate::output;

pub(crate) use table::{bytes, counted, seconds};

/// Arguments of `lengthwise plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The lengths of one global batch: one a line, or JSON with `seq_lens_tokens`; `-` reads stdin.
    #[arg(long, value_name = "FILE")]
    pub lengths: PathBuf,
    /// The cost profile, in TOML.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "cluster",
        conflicts_with = "cluster"
    )]
    pub profile: Option<PathBuf>,
    /// A described cluster instead of a profile: costs follow from its devices and links.
    #[arg(long, value_name = "FILE", requires = "model")]
    pub cluster: Option<PathBuf>,
    /// The model on the described cluster: a known one such as llama-3-8b, or a file.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub model: Option<String>,
    /// How many devices to plan for; the profile's own by default.
    #[arg(long, value_name = "N", value_parser = devices)]
    pub devices: Option<u32>,
    /// No sequence may be longer, for example 384k; the profile's own by default.
    #[arg(long, value_name = "TOKENS")]
    pub context: Option<Tokens>,
    /// The planner: adaptive, static, static:D, batch-adaptive, flexsp or exhaustive.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub planner: PlannerKind,
    /// The degrees that groups may have, for example 1,2,4,8; all of the profile's by default.
    #[arg(long, value_name = "D,…", value_delimiter = ',', value_parser = degree)]
    pub degrees: Option<Vec<Degree>>,
    /// What planning may take.
    #[command(flatten)]
    pub limits: PlanningLimits,
    /// Print the plan as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What planning may take.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlanningLimits {
    /// How long planning may take, for example 10ms; by default the effort depends on the batch alone.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_budget: Option<Duration>,
    /// How many threads to plan on; the plan does not depend on it.
    #[arg(long, value_name = "N", default_value_t = NonZero::<usize>::MIN)]
    pub threads: NonZero<usize>,
    /// How many communicators all plans together may need; the adaptive planner then uses only degrees whose groups
    /// recur.
    #[arg(long, value_name = "N")]
    pub max_communicators: Option<u32>,
}

impl PlanningLimits {
    /// What planners are told.
    pub(crate) fn options(self) -> PlannerOptions {
        let mut options = PlannerOptions::default().with_num_threads(self.threads);
        if let Some(time_budget) = self.time_budget {
            options = options.with_time_budget(time_budget);
        }
        if let Some(max_communicators) = self.max_communicators {
            options = options.with_max_communicators(max_communicators);
        }
        options
    }
}

/// Plans and prints.
pub fn run(args: PlanArgs) -> Result<(), Failure> {
    let lengths = Lengths::read(&args.lengths)?;
    let source = match (&args.profile, &args.cluster, &args.model) {
        (Some(profile), _, _) => CostSource::profile(profile)?,
        (None, Some(cluster), Some(model)) => CostSource::described(cluster, model)?,
        _ => {
            return Err(Failure::input(
                "--profile, or --cluster and --model, are missing",
            ));
        }
    };
    let changes = CostChanges {
        num_devices: args.devices,
        context: args.context,
        memory: None,
    };
    let costs = source.costs(changes, args.degrees.as_deref())?;
    let problem = OwnedProblem::new(costs, lengths)?;
    let planner = args.planner.planner_with(args.limits.options());
    let planned = problem.plan(planner.as_ref())?;
    if args.json {
        let json = PlanFile::new(args.planner, planned, &problem).to_json();
        output::result_line(&json.map_err(|error| {
            Failure::run(format!("the plan can't be written as JSON: {error}"))
        })?);
    } else {
        for line in table::lines(args.planner, &planned, &problem) {
            output::result_line(&line);
        }
    }
    Ok(())
}

/// Reads a degree.
pub(crate) fn degree(text: &str) -> Result<Degree, String> {
    let degree: u32 = text
        .trim()
        .parse()
        .map_err(|_| "a degree is a whole number above 0".to_owned())?;
    Degree::new(degree).map_err(|error| error.to_string())
}

/// Reads a number of devices.
pub(crate) fn devices(text: &str) -> Result<u32, String> {
    let devices = text.parse().ok();
    let devices = devices.filter(|devices| (1..=Cluster::MAX_DEVICES).contains(devices));
    devices.ok_or_else(|| {
        format!(
            "it must be a whole number from 1 to {}",
            Cluster::MAX_DEVICES
        )
    })
}

/// Reads `10ms`, `1.5s` or `2min`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        _ => return Err("write it with a unit: us, ms, s or min".to_owned()),
    };
    let seconds = number
        .trim()
        .parse::<f64>()
        .map_err(|_| format!("{number:?} is not a number"))?
        * seconds_per_unit;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be above 0".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_a_positive_number() {
        assert_eq!(duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["10", "ms", "-1s", "0s", "nans", "1h", ""] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}
