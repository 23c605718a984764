//! Plans as JSON holds them: what `lengthwise plan --json` prints and other commands read.
//!
//! ```json
//! {"version": 1, "planner": "adaptive", "predicted_step_s": 1.1, "lower_bound_s": 1.1, "gap": 0.0, "solve_s": 0.001,
//!  "stop_reason": "optimal",
//!  "micro_batches": [{"predicted_s": 1.1, "groups": [
//!    {"degree": 2, "ranks": [0, 1], "strategy": {"ulysses": 2, "ring": 1, "activations": "recompute"},
//!     "predicted_s": 0.6, "memory_bytes": 196608000, "sequences": [0, 1]}]}],
//!  "seq_lens_tokens": [4000, 1000]}
//! ```
//!
//! Sequences are indices of `seq_lens_tokens`. `rules` stands beside `planner` where the plan keeps some. Whoever writes a plan by hand may leave out the planner and all figures.

use std::path::Path;

use lengthwise_core::{
    Bytes, Cluster, Device, GlobalBatch, Group, MemoryModel, Plan, PlanRules, Seconds, Speed,
    Tokens,
};
use lengthwise_cost::format::FormatVersion;
use lengthwise_cost::{predict_group, predict_micro_batch};
use lengthwise_plan::{Planned, PlannerKind};
use serde::Deserialize;

use crate::plan_json::PlanJson;
use crate::{InputError, Lengths, OwnedProblem, source};

/// A plan with the lengths it is for.
#[derive(Clone, Debug)]
pub struct PlanFile {
    /// The plan.
    pub plan: Plan,
    /// The lengths that its sequences are indices of.
    pub lengths: Lengths,
    /// The planner.
    pub planner: Option<String>,
    /// The rules that the plan keeps beyond memory; its bound holds for plans that do.
    pub rules: PlanRules,
    /// The prediction, where all of it was written.
    pub predictions: Option<PlanPredictions>,
}

/// The prediction of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanPredictions {
    /// The time of the step.
    pub predicted_step: Seconds,
    /// The lower bound of all plans.
    pub lower_bound: Option<Seconds>,
    /// By what part of the bound the step exceeds it.
    pub gap: Option<f64>,
    /// The time that planning took.
    pub solve_time: Option<Seconds>,
    /// Why it ended.
    pub stop_reason: Option<String>,
    /// The plan's micro-batches in their order.
    pub micro_batches: Vec<MicroBatchPrediction>,
}

/// The prediction of a micro-batch.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroBatchPrediction {
    /// The time of its slowest group and its overhead.
    pub predicted_makespan: Seconds,
    /// Its groups in their order.
    pub groups: Vec<GroupPrediction>,
}

/// The prediction of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupPrediction {
    /// Its time.
    pub predicted_time: Seconds,
    /// The memory it needs on each of its devices.
    pub predicted_memory: Bytes,
    /// The memory it needs on its hosts for each of its devices.
    pub predicted_host_memory: Bytes,
}

impl PlanFile {
    /// A planner's plan of a problem.
    pub fn new(planner: PlannerKind, planned: Planned, problem: &OwnedProblem) -> Self {
        let (batch, costs) = (&problem.batch, &problem.costs);
        let Planned { plan, report, .. } = planned;
        let group = |group: &Group| GroupPrediction {
            predicted_time: predict_group(group, batch, &costs.cluster, &costs.model),
            predicted_memory: costs.model.group_memory(group, batch),
            predicted_host_memory: costs.model.group_host_memory(group, batch),
        };
        let micro_batches = plan.micro_batches().iter();
        let micro_batches = micro_batches.map(|micro_batch| MicroBatchPrediction {
            predicted_makespan: predict_micro_batch(
                micro_batch,
                batch,
                &costs.cluster,
                &costs.model,
            ),
            groups: micro_batch.groups.iter().map(group).collect(),
        });
        let predictions = PlanPredictions {
            predicted_step: report.predicted_step,
            lower_bound: Some(report.lower_bound),
            gap: report.gap(),
            solve_time: Some(report.solve_time),
            stop_reason: Some(report.stop_reason.name().to_owned()),
            micro_batches: micro_batches.collect(),
        };
        PlanFile {
            plan,
            lengths: problem.lengths().clone(),
            planner: Some(planner.to_string()),
            rules: problem.rules,
            predictions: Some(predictions),
        }
    }

    /// The JSON, on one line.
    ///
    /// # Errors
    ///
    /// Figures that JSON has no form for.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&PlanJson::new(self))
    }

    /// Reads a plan; `-` is stdin.
    ///
    /// # Errors
    ///
    /// The part that can't be read, or the micro-batch and group of what breaks a rule.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        let (bytes, name) = source::read("plan", path)?;
        Self::parse(&bytes, name)
    }

    /// The plan that JSON holds; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// The part that is no plan, or the micro-batch and group of what breaks a rule.
    pub fn parse(json: &[u8], name: impl Into<String>) -> Result<Self, InputError> {
        let name = name.into();
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        // A later version may have any other keys.
        let versioned: Result<Versioned, _> = serde_json::from_slice(json);
        if let Ok(Versioned { version }) = versioned
            && let Err(error) = FormatVersion::is_current(version)
        {
            return Err(InputError::UnknownVersion { name, error });
        }
        let json: PlanJson = match serde_json::from_slice(json) {
            Ok(json) => json,
            Err(error) => return Err(InputError::NotAPlan { name, error }),
        };
        let seq_lens = json.seq_lens_tokens.iter().copied().map(Tokens).collect();
        let lengths = Lengths::drawn(seq_lens, name.as_str()).checked()?;
        let plan = json.plan(&name)?;
        check_assignment(&plan, &lengths, &name)?;
        Ok(PlanFile {
            plan,
            lengths,
            predictions: json.predictions(&name)?,
            rules: json
                .rules
                .map_or(PlanRules::default(), |rules| rules.rules()),
            planner: json.planner,
        })
    }
}

/// Checks that a plan does not contradict itself: that it could be run on some cluster.
fn check_assignment(plan: &Plan, lengths: &Lengths, name: &str) -> Result<(), InputError> {
    let batch = GlobalBatch::new(lengths.seq_lens().to_vec()).map_err(InputError::Batch)?;
    let groups = plan.micro_batches().iter().flat_map(|one| &one.groups);
    let ranks = groups.flat_map(|group| &group.ranks).map(|rank| rank.0);
    let num_devices = ranks.max().unwrap_or(0).saturating_add(1);
    let device = Device::new(Bytes(0), Speed::NOMINAL);
    let cluster = Cluster::with_num_devices(num_devices.min(Cluster::MAX_DEVICES), 1, device);
    let cluster = cluster.map_err(InputError::Batch)?;
    plan.validate_assignment(&batch, &cluster)
        .map_err(|violation| InputError::InvalidPlan {
            name: name.to_owned(),
            violation,
        })
}

/// The key of a plan's version.
#[derive(Deserialize)]
struct Versioned {
    version: Option<u32>,
}

#[cfg(test)]
mod tests {
    use lengthwise_core::Activations;

    use super::*;
    use crate::{CostChanges, CostSource, StrategyFamilies};
    use lengthwise_core::StrategyFamily;

    #[test]
    fn a_plan_that_was_written_reads_back_as_it_was() {
        let profile = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/profiles/a100-gpt-7b-384k.toml"
        );
        let costs = CostSource::profile(profile.as_ref()).unwrap();
        let costs = costs.costs(CostChanges::default(), None).unwrap();
        let lengths = [200_000, 90_000, 4000, 300].map(Tokens).to_vec();
        let problem = OwnedProblem::new(costs, Lengths::drawn(lengths, "lengths")).unwrap();
        let kind = PlannerKind::default();
        let planned = problem.plan(kind.planner().as_ref()).unwrap();
        let written = PlanFile::new(kind, planned, &problem);
        let json = written.to_json().unwrap();
        let read = PlanFile::parse(json.as_bytes(), "p.json").unwrap();
        assert_eq!(read.plan, written.plan);
        assert_eq!(read.planner, written.planner);
        assert_eq!(read.predictions, written.predictions);
        assert_eq!(read.lengths.seq_lens(), written.lengths.seq_lens());
        assert_eq!(read.to_json().unwrap(), json);
    }

    #[test]
    fn plans_of_rings_are_read_back() {
        let costs = CostSource::described("h100-8x8", "llama-3.1-8b").unwrap();
        let changes = CostChanges {
            context: Some(Tokens(1_000_000)),
            strategies: Some(StrategyFamilies::only(StrategyFamily::Ring)),
            ..CostChanges::default()
        };
        let costs = costs.costs(changes, None).unwrap();
        let lengths = Lengths::drawn(vec![Tokens(1_000_000)], "lengths");
        let problem = OwnedProblem::new(costs, lengths).unwrap();
        let kind = PlannerKind::default();
        let planned = problem.plan(kind.planner().as_ref()).unwrap();
        let written = PlanFile::new(kind, planned, &problem);
        let json = written.to_json().unwrap();
        let read = PlanFile::parse(json.as_bytes(), "p.json").unwrap();
        assert_eq!(read.plan, written.plan);
        let ring = read.plan.micro_batches()[0].groups[0]
            .strategy
            .ring_degree();
        assert!(ring.get() > 32, "{json}");
    }

    fn group(strategy: &str, lens: &str) -> String {
        format!(
            r#"{{"micro_batches":[{{"groups":[{{"ranks":[0],"sequences":[0],"strategy":{strategy}}}]}}],"seq_lens_tokens":{lens}}}"#
        )
    }

    #[test]
    fn a_plan_needs_no_figures() {
        let json = group(r#"{"ulysses":1,"activations":"keep"}"#, "[7]");
        let file = PlanFile::parse(json.as_bytes(), "p.json").unwrap();
        assert_eq!(file.plan.to_string(), "[1]");
        assert_eq!((file.planner, file.predictions), (None, None));
    }

    #[test]
    fn plans_without_a_version_are_read() {
        for (recompute, activations) in [(true, Activations::Recompute), (false, Activations::Keep)]
        {
            let strategy = format!(r#"{{"ulysses":1,"ring":1,"recompute":{recompute}}}"#);
            let file = PlanFile::parse(group(&strategy, "[7]").as_bytes(), "p.json").unwrap();
            let group = &file.plan.micro_batches()[0].groups[0];
            assert_eq!(group.strategy.activations(), activations);
        }
    }

    #[test]
    fn what_is_no_plan_is_told_with_its_place() {
        let good = r#"{"ulysses":1,"activations":"keep"}"#;
        for (text, complaint) in [
            ("{".to_owned(), "p.json is no plan in JSON: EOF"),
            (
                "[]".to_owned(),
                "p.json is no plan in JSON: invalid length 0",
            ),
            (
                r#"{"micro_batches":[]}"#.to_owned(),
                "p.json is no plan in JSON: missing field `seq_lens_tokens`",
            ),
            (group(good, "[0]"), "p.json, index 0: 0 tokens"),
            (
                group(r#"{"ulysses":0,"recompute":true}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy.ulysses: ",
            ),
            (
                group(r#"{"ulysses":1,"ring":0,"recompute":true}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy.ring: ",
            ),
            (
                group(r#"{"ulysses":70000,"ring":70000,"recompute":true}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy: ulysses 70000 times ring 70000",
            ),
            (
                group(
                    r#"{"ulysses":1,"activations":"keep","recompute":true}"#,
                    "[1]",
                ),
                "p.json, micro-batch 0, group 0: strategy.activations and",
            ),
            (
                group(r#"{"ulysses":1}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy.activations is missing",
            ),
            (
                group(good, r#"[1],"version":2"#),
                "p.json: version is 2; this build reads version 1",
            ),
            (
                r#"{"version":2}"#.to_owned(),
                "p.json: version is 2; this build reads version 1",
            ),
            (
                group(good, r#"[1],"predicted_step_s":-1"#),
                "p.json: predicted_step_s: -1 is not a duration",
            ),
        ] {
            let file = PlanFile::parse(text.as_bytes(), "p.json");
            let error = file.map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(complaint), "{error}");
        }
    }
}
