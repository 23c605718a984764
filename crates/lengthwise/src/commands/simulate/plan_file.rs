//! Plans as `lengthwise plan --json` prints them.

use std::path::Path;

use lengthwise_core::{
    Activations, Degree, Group, MicroBatch, Plan, Rank, SequenceIndex, Strategy,
};
use lengthwise_cost::format::{ActivationsName, FormatVersion};
use serde::Deserialize;

use crate::commands::plan::Lengths;
use crate::failure::Failure;
use crate::input;

/// A plan with the lengths it is for.
pub(super) struct PlanFile {
    pub(super) plan: Plan,
    pub(super) planner: String,
    pub(super) lengths: Lengths,
}

/// What of the JSON is read; predictions are made anew.
#[derive(Deserialize)]
#[serde(expecting = "a plan")]
struct PlanJson {
    version: Option<u32>,
    #[serde(default)]
    planner: Option<String>,
    micro_batches: Vec<MicroBatchJson>,
    seq_lens_tokens: Vec<u64>,
}

#[derive(Deserialize)]
#[serde(expecting = "a micro-batch")]
struct MicroBatchJson {
    groups: Vec<GroupJson>,
}

#[derive(Deserialize)]
#[serde(expecting = "a group")]
struct GroupJson {
    ranks: Vec<u32>,
    strategy: StrategyJson,
    sequences: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(expecting = "a strategy")]
struct StrategyJson {
    ulysses: u32,
    #[serde(default = "one")]
    ring: u32,
    activations: Option<ActivationsName>,
    /// What stood for activations before plans had versions.
    recompute: Option<bool>,
}

fn one() -> u32 {
    1
}

impl PlanFile {
    /// Reads a plan; `-` is stdin.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let (bytes, source) = input::read("plan", path)?;
        Self::parse(&bytes, source)
    }

    fn parse(json: &[u8], source: String) -> Result<Self, Failure> {
        let json: PlanJson = serde_json::from_slice(json).map_err(|error| {
            Failure::input(format!("{source} is no plan in JSON: {error}"))
                .hint("write it with lengthwise plan --json")
        })?;
        FormatVersion::is_current(json.version)
            .map_err(|unknown| Failure::input(format!("{source}: {unknown}")))?;
        if let Some(index) = json.seq_lens_tokens.iter().position(|&len| len == 0) {
            let message =
                format!("{source}, index {index}: 0 tokens; every sequence needs at least 1");
            return Err(Failure::input(message));
        }
        let mut micro_batches = Vec::with_capacity(json.micro_batches.len());
        for (index, micro_batch) in json.micro_batches.iter().enumerate() {
            let groups = micro_batch.groups.iter().enumerate().map(|(at, group)| {
                group.group().map_err(|rule| {
                    Failure::input(format!("{source}, micro-batch {index}, group {at}: {rule}"))
                })
            });
            let groups = groups.collect::<Result<_, _>>()?;
            micro_batches.push(MicroBatch { groups });
        }
        Ok(PlanFile {
            plan: Plan::new(micro_batches),
            planner: json.planner.unwrap_or_else(|| "a plan".to_owned()),
            lengths: Lengths::drawn(json.seq_lens_tokens, source),
        })
    }
}

impl GroupJson {
    fn group(&self) -> Result<Group, String> {
        Ok(Group {
            strategy: self.strategy.strategy()?,
            ranks: self.ranks.iter().copied().map(Rank).collect(),
            sequences: self.sequences.iter().copied().map(SequenceIndex).collect(),
        })
    }
}

impl StrategyJson {
    fn strategy(&self) -> Result<Strategy, String> {
        if self.ring != 1 {
            return Err(format!(
                "strategy.ring is {}; only 1 can be run in this version, groups that exchange heads",
                self.ring
            ));
        }
        let degree =
            Degree::new(self.ulysses).map_err(|error| format!("strategy.ulysses: {error}"))?;
        let activations = match (self.activations, self.recompute) {
            (Some(ActivationsName(activations)), None) => activations,
            (None, Some(true)) => Activations::Recompute,
            (None, Some(false)) => Activations::Keep,
            (Some(_), Some(_)) => {
                return Err(
                    "strategy.activations and strategy.recompute say the same; give the first"
                        .to_owned(),
                );
            }
            (None, None) => return Err("strategy.activations is missing".to_owned()),
        };
        Ok(Strategy::ulysses(degree, activations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plan_is_told_with_its_place() {
        let group = |strategy: &str, lens: &str| {
            format!(
                r#"{{"micro_batches":[{{"groups":[{{"ranks":[0],"sequences":[0],"strategy":{strategy}}}]}}],"seq_lens_tokens":{lens}}}"#
            )
        };
        let good = group(r#"{"ulysses":1,"activations":"keep"}"#, "[7]");
        let file = PlanFile::parse(good.as_bytes(), "p.json".to_owned());
        let file = file.unwrap_or_else(|failure| panic!("{}", failure.message()));
        assert_eq!(
            (file.plan.to_string(), file.planner.as_str()),
            ("[1]".to_owned(), "a plan")
        );
        for (text, complaint) in [
            ("{".to_owned(), "p.json is no plan in JSON: EOF"),
            (
                "[]".to_owned(),
                "p.json is no plan in JSON: invalid length 1",
            ),
            (
                r#"{"micro_batches":[]}"#.to_owned(),
                "p.json is no plan in JSON: missing field `seq_lens_tokens`",
            ),
            (
                group(r#"{"ulysses":1,"recompute":true}"#, "[0]"),
                "p.json, index 0: 0 tokens",
            ),
            (
                group(r#"{"ulysses":0,"recompute":true}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy.ulysses: ",
            ),
            (
                group(r#"{"ulysses":1,"ring":2,"recompute":true}"#, "[1]"),
                "p.json, micro-batch 0, group 0: strategy.ring is 2; only 1",
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
                good.replacen('{', r#"{"version":2,"#, 1),
                "p.json: version is 2; this build reads version 1",
            ),
        ] {
            let failure = PlanFile::parse(text.as_bytes(), "p.json".to_owned()).err();
            let message = failure.map(|failure| failure.message().to_owned());
            let message = message.unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(message.starts_with(complaint), "{message}");
        }
    }
}
