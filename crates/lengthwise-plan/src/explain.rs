//! The reasons that planners have for a degree: the strategies that a length needs and may use, and the tokens that devices
//! hold.

use lengthwise_core::{
    Bytes, Cluster, Degree, Device, PlanRules, Seconds, Strategy, StrategySpace, Tokens,
};
use lengthwise_cost::{CostModel, GroupShape, Span, TimeParts};
use thiserror::Error;

use crate::PlanError;
use crate::longest_sequence::{LONGEST, longest_sequence};

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
    /// The memory that the largest devices have for sequences.
    pub budget: Bytes,
    /// The memory of its host that each device would need for it.
    pub predicted_host_memory: Bytes,
    /// The memory of their hosts that the devices with the largest shares have for sequences.
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

/// Where a group can be, and what its devices have for sequences there.
#[derive(Clone, Copy)]
struct Place {
    span: Span,
    /// On the devices with most memory, of which it is the least.
    memory: Bytes,
    /// Of hosts, of those with the largest shares.
    host_memory: Bytes,
}

impl Place {
    fn holds(&self, memory: Bytes, host_memory: Bytes) -> bool {
        memory <= self.memory && host_memory <= self.host_memory
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
    /// The memory of devices.
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

impl Setting<'_> {
    /// All strategies for a sequence of this length, by increasing degree, each with what it costs and why it can't be.
    pub fn choices(&self, seq_len: Tokens) -> Vec<Choice> {
        let strategies = self.space.strategies().iter();
        let choices = strategies.filter_map(|&strategy| {
            let predicted_memory = self.cost.sequence_memory(strategy, seq_len);
            let predicted_host_memory = self.cost.host_memory(strategy, seq_len);
            let places = self.places(strategy.degree());
            let mut holding = places.iter();
            let holding =
                holding.find(|place| place.holds(predicted_memory, predicted_host_memory));
            let largest = places.iter().rev().max_by_key(|place| place.memory);
            let place = holding.or(largest)?;
            let shape = GroupShape {
                strategy,
                span: place.span,
            };
            let mut choice = Choice {
                strategy,
                span: place.span,
                predicted_time: self.cost.sequence_time(shape, seq_len),
                predicted_parts: self.cost.time_parts(shape, seq_len),
                predicted_memory,
                budget: place.memory,
                predicted_host_memory,
                host_budget: place.host_memory,
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

    /// Where groups of a degree can be, one node before many.
    fn places(&self, degree: Degree) -> Vec<Place> {
        let nth_largest = |devices: &[Device], budget: &dyn Fn(&Device) -> Bytes| {
            let mut budgets: Vec<Bytes> = devices.iter().map(budget).collect();
            budgets.sort_unstable_by(|a, b| b.cmp(a));
            budgets.get(degree.as_usize() - 1).copied()
        };
        let budgets = |ranks: std::ops::Range<u32>| {
            let devices = &self.cluster.devices()[ranks.start as usize..ranks.end as usize];
            let memory = nth_largest(devices, &|device| self.cost.budget(device))?;
            let host_memory = nth_largest(devices, &|device| self.cost.host_budget(device))?;
            Some((memory, host_memory))
        };
        let nodes = (0..self.cluster.num_nodes()).filter_map(|node| self.cluster.node_ranks(node));
        let one_node = nodes.filter_map(budgets).max();
        let many_nodes = budgets(0..self.cluster.num_devices())
            .filter(|_| degree > Degree::ONE && self.cluster.num_nodes() > 1);
        let places = [(Span::OneNode, one_node), (Span::ManyNodes, many_nodes)];
        let places = places.into_iter().filter_map(|(span, budgets)| {
            let (memory, host_memory) = budgets?;
            Some(Place {
                span,
                memory,
                host_memory,
            })
        });
        places.collect()
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
