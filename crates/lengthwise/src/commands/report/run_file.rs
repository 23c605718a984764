//! The steps of a run, as `lengthwise train --metrics` writes them: one JSON object a line.

use std::path::Path;

use lengthwise_core::Cluster;
use serde::Deserialize;
use serde_json::Value;

use super::source;
use crate::failure::Failure;
use crate::metrics::VERSION;

/// A run to report on; it has at least one step.
#[derive(Debug)]
pub(super) struct Run {
    /// What the report calls it.
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
}

/// What is read of a step. Lines from before a key was written lack it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Step {
    pub(super) step: u64,
    /// `None` where it was no number.
    pub(super) loss: Option<f64>,
    pub(super) tokens: u64,
    pub(super) sequences: u64,
    pub(super) predicted_s: f64,
    pub(super) measured_s: f64,
    /// By the clocks of emulated devices.
    pub(super) emulated_s: Option<f64>,
    /// What the planner made of its plan, where the prediction knows more.
    pub(super) planned_s: Option<f64>,
    /// The part of the prediction that comes beside the micro-batches.
    #[serde(default)]
    pub(super) predicted_step_overhead_s: f64,
    #[serde(default)]
    pub(super) plan_wait_s: f64,
    pub(super) lower_bound_s: Option<f64>,
    pub(super) gap: Option<f64>,
    pub(super) solve_s: Option<f64>,
    pub(super) predicted_peak_memory_bytes: Option<u64>,
    pub(super) measured_peak_memory_bytes: Option<u64>,
    pub(super) groups_created: Option<u64>,
    pub(super) planner: Option<String>,
    #[serde(default)]
    pub(super) plan: Vec<MicroBatch>,
    #[serde(default)]
    pub(super) ranks: RankTimes,
}

/// A micro-batch of a step's plan.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct MicroBatch {
    pub(super) predicted_s: f64,
    pub(super) groups: Vec<Group>,
}

/// A group of a micro-batch.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Group {
    pub(super) ranks: Vec<u32>,
    pub(super) predicted_s: f64,
    pub(super) seq_lens: Vec<u64>,
}

/// What every rank's time went into, by rank.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RankTimes {
    pub(super) compute_s: Vec<f64>,
    pub(super) exchange_s: Vec<f64>,
    pub(super) wait_s: Vec<f64>,
}

impl Run {
    /// Reads a file; a step that is not as `train` writes it is an error that names its line.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = source::read(path, "run")?;
        let steps = steps(&text).map_err(|problem| {
            let failure = Failure::input(format!("run {}{}", path.display(), problem.message));
            match problem.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        Ok(Run {
            name: source::stem(path),
            steps,
        })
    }
}

/// What is wrong with a file, to be put after its name.
#[derive(Debug)]
struct Problem {
    message: String,
    hint: Option<&'static str>,
}

impl Problem {
    fn new(message: String) -> Self {
        Problem {
            message,
            hint: None,
        }
    }
}

/// What writes the files that are expected.
const HINT: &str = "runs are what lengthwise train writes with --metrics";

fn steps(text: &str) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        let step = step(content).map_err(|problem| Problem {
            message: format!(", line {line}: {}", problem.message),
            ..problem
        })?;
        steps.push(step);
    }
    if steps.is_empty() {
        return Err(Problem {
            message: " holds no steps; a report needs at least one".to_owned(),
            hint: Some(HINT),
        });
    }
    Ok(steps)
}

fn step(line: &str) -> Result<Step, Problem> {
    let not_a_step = |message| Problem {
        message,
        hint: Some(HINT),
    };
    let value: Value = serde_json::from_str(line)
        .map_err(|error| not_a_step(format!("it is no JSON object: {}", in_line(&error))))?;
    let fields = value
        .as_object()
        .ok_or_else(|| not_a_step("it is no JSON object".to_owned()))?;
    // Lines without a version are from before there was one, and lack keys only.
    if let Some(version) = fields.get("version")
        && version.as_u64() != Some(VERSION)
    {
        return Err(Problem {
            message: format!("version {version} is not known; it must be {VERSION}"),
            hint: Some("use the version of lengthwise that wrote it"),
        });
    }
    let step = Step::deserialize(&value).map_err(|error| not_a_step(error.to_string()))?;
    step.check().map_err(Problem::new)?;
    Ok(step)
}

/// What the parser says, which knows of one line only.
fn in_line(error: &serde_json::Error) -> String {
    error
        .to_string()
        .replace(" at line 1 column ", " at column ")
}

impl Step {
    /// What it took: by the devices' clocks where they are emulated, since the machine may be late.
    pub(super) fn took_s(&self) -> f64 {
        self.emulated_s.unwrap_or(self.measured_s)
    }

    /// The rule that some figure breaks.
    fn check(&self) -> Result<(), String> {
        let groups = || self.plan.iter().flat_map(|micro_batch| &micro_batch.groups);
        let named = [
            ("predicted_s", self.predicted_s),
            ("measured_s", self.measured_s),
            ("emulated_s", self.emulated_s.unwrap_or(0.0)),
            ("planned_s", self.planned_s.unwrap_or(0.0)),
            ("predicted_step_overhead_s", self.predicted_step_overhead_s),
            ("plan_wait_s", self.plan_wait_s),
            ("lower_bound_s", self.lower_bound_s.unwrap_or(0.0)),
        ];
        let planned = self.plan.iter().map(|micro_batch| micro_batch.predicted_s);
        let planned = planned.chain(groups().map(|group| group.predicted_s));
        let times = named.into_iter();
        let times = times.chain(planned.map(|time| ("plan: predicted_s", time)));
        let ranks = &self.ranks;
        let columns = [
            ("ranks.compute_s", &ranks.compute_s),
            ("ranks.exchange_s", &ranks.exchange_s),
            ("ranks.wait_s", &ranks.wait_s),
        ];
        let by_rank = columns
            .into_iter()
            .flat_map(|(key, column)| column.iter().map(move |&time| (key, time)));
        if let Some((key, time)) = times.chain(by_rank).find(|&(_, time)| time < 0.0) {
            return Err(format!("{key} is {time}; times must not be negative"));
        }
        if columns
            .iter()
            .any(|(_, column)| column.len() != ranks.compute_s.len())
        {
            return Err(
                "the lists of ranks differ in length; each must have a figure for every rank"
                    .to_owned(),
            );
        }
        let beyond = |&rank: &u32| rank >= Cluster::MAX_DEVICES;
        let all_ranks = groups().flat_map(|group| &group.ranks).copied();
        if let Some(rank) = all_ranks.clone().find(beyond) {
            let most = Cluster::MAX_DEVICES;
            return Err(format!("plan: rank {rank} must be below {most}"));
        }
        if groups().any(|group| group.ranks.is_empty()) {
            return Err("plan: a group has no ranks; it must have at least one".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A step of two micro-batches, the second of two groups.
    pub(in super::super) const LINE: &str = r#"{"version":1,"planner":"adaptive","step":3,"loss":5.25,
        "tokens":1000,"sequences":4,"predicted_s":2.0,"measured_s":2.5,"plan_wait_s":0.0,"lower_bound_s":1.9,"gap":0.05,
        "solve_s":0.001,"predicted_peak_memory_bytes":3000,"measured_peak_memory_bytes":2000,"groups_created":3,
        "plan":[{"predicted_s":1.25,"groups":[{"ranks":[0,1,2,3],"predicted_s":1.0,"seq_lens":[700]}]},
        {"predicted_s":0.75,"groups":[{"ranks":[0,1],"predicted_s":0.5,"seq_lens":[150]},
        {"ranks":[3],"predicted_s":0.25,"seq_lens":[90,60]}]}],
        "ranks":{"compute_s":[1.5,1.5,1.0,1.0],"exchange_s":[0.5,0.5,0.5,0.0],"wait_s":[0.5,0.5,1.0,1.5]}}"#;

    /// A step that took so long, of which nothing else is known.
    pub(in super::super) fn step(step: u64, measured_s: f64) -> Step {
        Step {
            step,
            measured_s,
            ..Step::default()
        }
    }

    /// The line of a step, on one line, with other figures.
    pub(in super::super) fn line(replacements: &[(&str, &str)]) -> String {
        let line = LINE.replace('\n', "");
        replacements.iter().fold(line, |line, (from, to)| {
            assert!(line.contains(from), "{from} is not in the line");
            line.replace(from, to)
        })
    }

    fn complaint(text: &str) -> String {
        steps(text).unwrap_err().message
    }

    #[test]
    fn steps_are_read_and_older_ones_lack_keys_only() {
        let text = format!(
            "{}\n\n{}\n",
            line(&[]),
            r#"{"step":4,"loss":null,"tokens":9,"sequences":1,"predicted_s":1,"measured_s":1}"#
        );
        let steps = steps(&text).unwrap();
        assert_eq!((steps[0].step, steps[0].plan.len()), (3, 2));
        assert_eq!((steps[1].step, steps[1].loss), (4, None));
        assert!(steps[1].plan.is_empty() && steps[1].ranks.wait_s.is_empty());
    }

    #[test]
    fn what_is_not_a_run_is_named_with_line_and_rule() {
        for (text, expected) in [
            (String::new(), "holds no steps"),
            ("\n \n".to_owned(), "holds no steps"),
            (
                "loss 5.2".to_owned(),
                "line 1: it is no JSON object: expected value at column 1",
            ),
            ("[]".to_owned(), "line 1: it is no JSON object"),
            (format!("{}\n{{", line(&[])), "line 2: it is no JSON object"),
            (
                line(&[("\"version\":1", "\"version\":2")]),
                "line 1: version 2 is not known; it must be 1",
            ),
            (
                line(&[("\"version\":1", "\"version\":\"x\"")]),
                "version \"x\" is not known",
            ),
            (line(&[("\"step\":3", "\"stp\":3")]), "missing field `step`"),
            (
                line(&[("\"measured_s\":2.5", "\"measured_s\":-2.5")]),
                "measured_s is -2.5; times must not be negative",
            ),
            (
                line(&[("\"wait_s\":[0.5,", "\"wait_s\":[")]),
                "the lists of ranks differ in length",
            ),
            (
                line(&[("\"ranks\":[3]", "\"ranks\":[4294967295]")]),
                "rank 4294967295 must be below",
            ),
            (line(&[("\"ranks\":[3]", "\"ranks\":[]")]), "no ranks"),
        ] {
            let message = complaint(&text);
            assert!(message.contains(expected), "{message}");
        }
    }
}
