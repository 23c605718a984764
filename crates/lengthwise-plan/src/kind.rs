//! Planners by the names they have on the command line and in files.

use std::fmt;
use std::str::FromStr;

use lengthwise_core::Degree;
use thiserror::Error;

use crate::{
    Adaptive, BatchAdaptive, Exhaustive, FlexSp, Megatron, Planner, PlannerOptions, Static,
};

/// Which planner to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlannerKind {
    /// Mixed degrees inside every micro-batch.
    #[default]
    Adaptive,
    /// One degree for all: the given one, or the smallest that the longest sequence fits.
    Static(Option<Degree>),
    /// The best single degree for each batch.
    BatchAdaptive,
    /// The published algorithm: contiguous micro-batches, a MILP for each.
    FlexSp,
    /// The same with HiGHS as its solver; there with the cargo feature `highs`.
    #[cfg(feature = "highs")]
    FlexSpHighs,
    /// The rule of Megatron-Core's dynamic context parallelism.
    Megatron,
    /// Everything tried, for tiny batches.
    Exhaustive,
}

/// A name that no planner has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name:?} is no planner; there are {}", PlannerKind::NAMES.join(", "))]
pub struct UnknownPlanner {
    /// The name as written.
    pub name: String,
}

impl PlannerKind {
    /// The names that [`FromStr`] reads; `D` stands for a degree.
    pub const NAMES: &[&str] = &[
        "adaptive",
        "static",
        "static:D",
        "batch-adaptive",
        "flexsp",
        #[cfg(feature = "highs")]
        "flexsp:highs",
        "megatron",
        "exhaustive",
    ];

    /// Whether it keeps [`PlannerOptions::max_communicators`]; all others plan as if there were none.
    pub const fn keeps_max_communicators(self) -> bool {
        matches!(self, PlannerKind::Adaptive)
    }

    /// The planner itself.
    pub fn planner(self) -> Box<dyn Planner> {
        self.planner_with(PlannerOptions::default())
    }

    /// The planner itself, with options where it has any.
    pub fn planner_with(self, options: PlannerOptions) -> Box<dyn Planner> {
        match self {
            PlannerKind::Adaptive => Box::new(Adaptive::new(options)),
            PlannerKind::BatchAdaptive => Box::new(BatchAdaptive),
            PlannerKind::FlexSp => Box::new(FlexSp::new(options)),
            #[cfg(feature = "highs")]
            PlannerKind::FlexSpHighs => {
                Box::new(FlexSp::new(options).with_solver(crate::MilpSolver::Highs))
            }
            PlannerKind::Megatron => Box::new(Megatron),
            PlannerKind::Exhaustive => Box::new(Exhaustive),
            PlannerKind::Static(None) => Box::new(Static::longest_decides()),
            PlannerKind::Static(Some(degree)) => Box::new(Static::with_degree(degree)),
        }
    }
}

impl FromStr for PlannerKind {
    type Err = UnknownPlanner;

    fn from_str(name: &str) -> Result<Self, UnknownPlanner> {
        let unknown = || UnknownPlanner {
            name: name.to_owned(),
        };
        match name.split_once(':') {
            None => match name {
                "adaptive" => Ok(PlannerKind::Adaptive),
                "batch-adaptive" => Ok(PlannerKind::BatchAdaptive),
                "flexsp" => Ok(PlannerKind::FlexSp),
                "megatron" => Ok(PlannerKind::Megatron),
                "exhaustive" => Ok(PlannerKind::Exhaustive),
                "static" => Ok(PlannerKind::Static(None)),
                _ => Err(unknown()),
            },
            #[cfg(feature = "highs")]
            Some(("flexsp", "highs")) => Ok(PlannerKind::FlexSpHighs),
            Some(("static", degree)) => {
                let degree = degree.parse().map_err(|_| unknown())?;
                let degree = Degree::new(degree).map_err(|_| unknown())?;
                Ok(PlannerKind::Static(Some(degree)))
            }
            Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for PlannerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlannerKind::Adaptive => f.write_str("adaptive"),
            PlannerKind::BatchAdaptive => f.write_str("batch-adaptive"),
            PlannerKind::FlexSp => f.write_str("flexsp"),
            #[cfg(feature = "highs")]
            PlannerKind::FlexSpHighs => f.write_str("flexsp:highs"),
            PlannerKind::Megatron => f.write_str("megatron"),
            PlannerKind::Exhaustive => f.write_str("exhaustive"),
            PlannerKind::Static(None) => f.write_str("static"),
            PlannerKind::Static(Some(degree)) => write!(f, "static:{degree}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip() {
        for name in [
            "adaptive",
            "static",
            "static:8",
            "batch-adaptive",
            "flexsp",
            #[cfg(feature = "highs")]
            "flexsp:highs",
            "megatron",
            "exhaustive",
        ] {
            assert_eq!(name.parse::<PlannerKind>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "static:",
            "static:0",
            "static:x",
            "adaptive:2",
            "greedy",
        ] {
            assert!(
                name.parse::<PlannerKind>().is_err(),
                "{name:?} was accepted"
            );
        }
    }
}
