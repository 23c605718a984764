//! The reasons that planners have for a degree: the strategies that a length needs and may use, and the tokens that devices
//! hold.

use std::ops::Range;

use lengthwise_core::{
    Bytes, Cluster, Degree, PlanRules, Seconds, Strategy, StrategySpace, Tokens,
};
use lengthwise_cost::{CostModel, GroupShape, Span, TimeParts};
use thiserror::Error;

use crate::longest_sequence::{LONGEST, longest_sequence};
use crate::placement::needs_runs;
use crate::{PlanError, Problem};

/// All that a plan may depend on but the lengths.
///
/// ```
/// use lengthwise_core::*;
/// use lengthwise_cost::{FittedCosts, FittedModel, KindCosts};
/// use lengthwise_plan::Setting;
///
/// let cost = FittedModel::new(FittedCosts::of_kind(StrategyKind::ulysses(Activations::Keep), KindCosts {
///     linear_s_per_token: 1e-6,
///     memory_bytes_per_token: vec![(Degree::ONE, 1e6)],
///     ..KindCosts::default()
/// }))?;
/// let setting = Setting {
///     cluster: &Cluster::uniform(1, 4, Device::new(Bytes(4_000_000_000), Speed::NOMINAL))?,
///     cost: &cost,
///     space: &StrategySpace::ulysses_up_to(4, Activations::Keep)?,
///     rules: PlanRules::default(),
/// };
/// // 4,000 tokens a device.
/// let choices = setting.choices(Tokens(9000));
/// let needed = choices.iter().find(|choice| choice.obstacle.is_none());
/// assert_eq!(needed.unwrap().strategy.degree().get(), 3);
/// assert_eq!(setting.token_budget(Degree::new(2)?)?.tokens_per_group, Tokens(8000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Where steps run.
    pub cluster: &'a Cluster,
    /// The costs of sequences on it.
    pub cost: &'a dyn CostModel,
    /// The strategies to choose from.
    pub space: &'a StrategySpace,
    /// The rules of plans beyond memory.
    pub rules: PlanRules,
}

/// A strategy for a sequence, in a group of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// How the group would share it.
    pub strategy: Strategy,
    /// Where: on one node wherever there is one with as many devices and memory.
    pub span: Span,
    /// Its time at nominal speed, without the micro-batch's overhead.
    pub predicted_time: Seconds,
    /// The parts of that time.
    pub predicted_parts: TimeParts,
    /// The memory that each device would need for it.
    pub predicted_memory: Bytes,
    /// The memory that the devices with most of it have for sequences.
    pub budget: Bytes,
    /// The memory of its host that each device would need for it.
    pub predicted_host_memory: Bytes,
    /// The memory of their hosts that those have, the ones with the largest shares, which hold the memory on devices.
    pub host_budget: Bytes,
    /// Why not, if there is a reason.
    pub obstacle: Option<Obstacle>,
}

impl Choice {
    /// The time of all devices of the group together.
    pub fn device_time(&self) -> Seconds {
        self.predicted_time * f64::from(self.strategy.degree().get())
    }
}

/// Why a sequence can't have a group of a strategy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// A degree that the rules forbid.
    #[error("the rules allow only {allowed}")]
    DegreeNotAllowed {
        /// The degrees that they allow.
        allowed: String,
    },
    /// More tokens than the rules allow.
    #[error("{seq_len} tokens are more than the {allowed} that the rules allow")]
    OverTokenCap {
        /// The sequence's.
        seq_len: Tokens,
        /// Of such a group.
        allowed: Tokens,
    },
    /// More memory than devices have.
    #[error("{predicted_memory} on each device are more than the {budget} left for sequences")]
    OverBudget {
        /// The memory that each device would need.
        predicted_memory: Bytes,
        /// The memory that it has.
        budget: Bytes,
    },
    /// More memory of hosts than devices have as their shares.
    #[error(
        "{predicted_memory} of host memory for each device are more than the {budget} that it has of its host"
    )]
    OverHostBudget {
        /// The memory that each device would need there.
        predicted_memory: Bytes,
        /// The memory that it has there.
        budget: Bytes,
    },
}

/// The memory that a sequence needs of each device of a group of its own, and what there is, where the group can be.
#[derive(Clone, Copy)]
pub(crate) struct NeededMemory {
    span: Span,
    pub(crate) on_device: Bytes,
    /// On the devices with most memory, of which it is the least.
    pub(crate) budget: Bytes,
    pub(crate) on_host: Bytes,
    /// Of those that have the memory on devices, or as much as any, the ones with the largest shares.
    pub(crate) host_budget: Bytes,
}

impl NeededMemory {
    fn is_there(&self) -> bool {
        self.on_device <= self.budget && self.on_host <= self.host_budget
    }

    /// The bytes that are lacking on each device, and of its host.
    pub(crate) fn lacking(&self) -> [Bytes; 2] {
        [
            self.on_device.saturating_sub(self.budget),
            self.on_host.saturating_sub(self.host_budget),
        ]
    }
}

/// How many tokens the devices of a group can hold at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBudget {
    /// The strategy of the degree under which they hold most.
    pub strategy: Strategy,
    /// Of all sequences of a group together, wherever the group is. Memory is counted for one sequence; each further one
    /// may need a byte more, as bytes are rounded up.
    pub tokens_per_group: Tokens,
    /// The limit that binds; `None` where nothing does.
    pub limit: Option<TokenLimit>,
}

/// The limit of a group's tokens that binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLimit {
    /// The memory of devices, or of their hosts.
    Memory,
    /// The rules.
    Rules,
}

impl TokenBudget {
    /// The share of each device, in whole tokens.
    pub fn tokens_per_device(&self) -> Tokens {
        Tokens(self.tokens_per_group.0 / u64::from(self.strategy.degree().get()))
    }
}

impl<'a> Setting<'a> {
    /// All of a problem but the lengths.
    pub(crate) fn of(problem: Problem<'a>) -> Self {
        Setting {
            cluster: problem.cluster,
            cost: problem.cost,
            space: problem.space,
            rules: problem.rules,
        }
    }

    /// All strategies for a sequence of this length, by increasing degree, each with what it costs and why it can't be.
    pub fn choices(&self, seq_len: Tokens) -> Vec<Choice> {
        let strategies = self.space.strategies().iter();
        let choices = strategies.filter_map(|&strategy| {
            let needed = self.needed_memory(strategy, seq_len)?;
            let span = needed.span;
            let shape = GroupShape { strategy, span };
            let mut choice = Choice {
                strategy,
                span,
                predicted_time: self.cost.sequence_time(shape, seq_len),
                predicted_parts: self.cost.time_parts(shape, seq_len),
                predicted_memory: needed.on_device,
                budget: needed.budget,
                predicted_host_memory: needed.on_host,
                host_budget: needed.host_budget,
                obstacle: None,
            };
            choice.obstacle = self.obstacle(&choice, seq_len);
            Some(choice)
        });
        choices.collect()
    }

    fn obstacle(&self, choice: &Choice, seq_len: Tokens) -> Option<Obstacle> {
        let degree = choice.strategy.degree();
        let allowed = self.rules.most_tokens(degree);
        if !self.rules.allows_degree(degree) {
            let allowed = self.rules.allowed_degrees();
            Some(Obstacle::DegreeNotAllowed { allowed })
        } else if seq_len > allowed {
            Some(Obstacle::OverTokenCap { seq_len, allowed })
        } else if !self.rules.limits_memory() {
            None
        } else if choice.predicted_memory > choice.budget {
            Some(Obstacle::OverBudget {
                predicted_memory: choice.predicted_memory,
                budget: choice.budget,
            })
        } else if choice.predicted_host_memory > choice.host_budget {
            Some(Obstacle::OverHostBudget {
                predicted_memory: choice.predicted_host_memory,
                budget: choice.host_budget,
            })
        } else {
            None
        }
    }

    /// What a sequence needs in a group of its own, on one node wherever there is one with as many devices and memory, else
    /// where there is most; `None` where there are no such groups.
    pub(crate) fn needed_memory(
        &self,
        strategy: Strategy,
        seq_len: Tokens,
    ) -> Option<NeededMemory> {
        let on_device = self.cost.sequence_memory(strategy, seq_len);
        let on_host = self.cost.host_memory(strategy, seq_len);
        let degree = strategy.degree().as_usize();
        let nth_largest = |mut budgets: Vec<Bytes>| {
            budgets.sort_unstable_by(|a, b| b.cmp(a));
            budgets.get(degree - 1).copied()
        };
        let of = |(span, ranks): (Span, Range<u32>)| {
            let devices = &self.cluster.devices()[ranks.start as usize..ranks.end as usize];
            let budgets = devices.iter().map(|device| self.cost.budget(device));
            let budget = nth_largest(budgets.collect())?;
            let holding = devices
                .iter()
                .filter(|device| self.cost.budget(device) >= on_device.min(budget));
            let host_budgets = holding.map(|device| self.cost.host_budget(device));
            Some(NeededMemory {
                span,
                on_device,
                budget,
                on_host,
                host_budget: nth_largest(host_budgets.collect())?,
            })
        };
        let places: Vec<NeededMemory> = self.places(strategy.degree()).filter_map(of).collect();
        let there = places.iter().find(|needed| needed.is_there());
        let most = |needed: &&NeededMemory| (needed.budget, needed.host_budget);
        // Of equal ones the first, that of one node.
        let largest = places.iter().rev().max_by_key(most);
        there.or(largest).copied()
    }

    /// The ranks that groups of a degree are chosen from, one node before many.
    fn places(&self, degree: Degree) -> impl Iterator<Item = (Span, Range<u32>)> {
        let (cluster, degree) = (self.cluster, degree.get());
        let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
        let nodes: Vec<Range<u32>> = nodes.collect();
        let mut places: Vec<(Span, Range<u32>)> = if needs_runs(cluster, &self.rules) {
            let runs = (0..cluster.num_devices()).step_by(degree as usize);
            let runs = runs.map(|first| first..first + degree);
            let of_run = |run: Range<u32>| {
                let is_inside = |node: &Range<u32>| node.start <= run.start && run.end <= node.end;
                match nodes.iter().any(is_inside) {
                    true => (Span::OneNode, run),
                    false => (Span::ManyNodes, run),
                }
            };
            let within = runs.filter(|run| run.end <= cluster.num_devices());
            within.map(of_run).collect()
        } else {
            let many = (degree > 1 && nodes.len() > 1)
                .then(|| (Span::ManyNodes, 0..cluster.num_devices()));
            let one = nodes.into_iter().map(|node| (Span::OneNode, node));
            one.chain(many).collect()
        };
        places.sort_by_key(|&(span, _)| span == Span::ManyNodes);
        places.into_iter()
    }

    /// The degrees that groups may have, by the space, the cluster and the rules.
    pub fn degrees(&self) -> impl Iterator<Item = Degree> + '_ {
        let num_devices = self.cluster.num_devices();
        let degrees = self.space.degrees();
        degrees
            .filter(move |&degree| degree.get() <= num_devices && self.rules.allows_degree(degree))
    }

    /// How many tokens a group of this degree can hold at once, wherever it is: the device with least memory decides.
    ///
    /// # Errors
    ///
    /// No group can have this degree.
    pub fn token_budget(&self, degree: Degree) -> Result<TokenBudget, PlanError> {
        if !self.degrees().any(|allowed| allowed == degree) {
            let available: Vec<String> = self.degrees().map(|degree| degree.to_string()).collect();
            return Err(PlanError::DegreeNotAvailable {
                degree: degree.get(),
                available: available.join(", "),
            });
        }
        let strategies = self.space.strategies().iter();
        let of_degree = strategies.filter(|strategy| strategy.degree() == degree);
        let held = |&strategy: &Strategy| {
            let by_memory = if self.rules.limits_memory() {
                longest_sequence(self.cost, strategy, self.cluster)
            } else {
                LONGEST
            };
            let by_rules = self.rules.most_tokens(degree).0;
            TokenBudget {
                strategy,
                tokens_per_group: Tokens(by_memory.min(by_rules)),
                limit: match (by_memory, by_rules) {
                    (_, rules) if rules <= by_memory => Some(TokenLimit::Rules),
                    (LONGEST, _) => None,
                    _ => Some(TokenLimit::Memory),
                },
            }
        };
        let most = of_degree.map(held).max_by_key(|held| held.tokens_per_group);
        most.ok_or(PlanError::DegreeNotAvailable {
            degree: degree.get(),
            available: String::new(),
        })
    }
}
