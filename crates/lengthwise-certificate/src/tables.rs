//! The problem's tables, checked: from here on, figures can be relied on.
//!
//! Sequences of one length are alike, so that all sums go by length. Times and memory must not fall with length; then what
//! fits a group, and what it has time for, are all lengths up to one.
//!
//! A certificate lists the shapes that its bound ranges over. It may leave out strategies (its bound is then one among plans
//! without them, which [`Verified::strategies`](crate::Verified) says), but not a shape of a strategy that it lists.

use std::ops::RangeInclusive;

use lengthwise_core::{Bytes, Cluster, CoreError, Device, GlobalBatch, PlanRules, Speed, Strategy};
use lengthwise_cost::Span;

use crate::format::{Capacity, Certificate, NodeRun, ShapeCosts};
use crate::{Refusal, SpanName};

/// No sequence takes longer, so that sums of times stay numbers.
const MAX_SECONDS: f64 = 1e18;

/// Devices are so many times as fast as those that costs are for.
const SPEEDS: RangeInclusive<f64> = 1e-12..=1e12;

/// A problem as tables.
pub(crate) struct Tables {
    pub(crate) batch: GlobalBatch,
    pub(crate) cluster: Cluster,
    pub(crate) rules: PlanRules,
    /// Seconds of every micro-batch beyond its slowest group.
    pub(crate) overhead: f64,
    /// The different lengths, increasing, and the number of sequences of each.
    pub(crate) lens: Vec<u64>,
    pub(crate) counts: Vec<u32>,
    pub(crate) shapes: Vec<Shape>,
}

/// The shapes that groups can have, and the costs of sequences of every length in each.
pub(crate) struct Shape {
    pub(crate) strategy: Strategy,
    pub(crate) span: Span,
    pub(crate) degree: u32,
    /// Seconds at nominal speed, by length.
    pub(crate) seconds: Vec<f64>,
    /// Bytes on each device, by length; 0 where the rules don't limit memory.
    pub(crate) bytes: Vec<u64>,
    /// The most that any group of this shape has room for; 0 tokens where the cluster has no such group.
    pub(crate) room: Load,
    /// How many of the lengths, the shortest first, fit it.
    pub(crate) num_fitting: usize,
    /// Whether another shape of this degree and span takes no more of anything for any length, and less of something or
    /// comes first. A plan stays one, and takes no longer, where its groups have that one instead; so there is always a best
    /// plan without such groups.
    pub(crate) is_outdone: bool,
}

/// The room that sequences take, or that a group has: bytes on each device, tokens and sequences of the whole group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) bytes: u64,
    pub(crate) tokens: u64,
    pub(crate) sequences: u32,
}

impl Load {
    pub(crate) fn plus(self, other: Load) -> Load {
        Load {
            bytes: self.bytes.saturating_add(other.bytes),
            tokens: self.tokens.saturating_add(other.tokens),
            sequences: self.sequences.saturating_add(other.sequences),
        }
    }

    pub(crate) fn fits(self, room: Load) -> bool {
        self.bytes <= room.bytes && self.tokens <= room.tokens && self.sequences <= room.sequences
    }

    /// The part of it that `capacity` limits.
    pub(crate) fn measure(self, capacity: Capacity) -> u64 {
        match capacity {
            Capacity::Memory => self.bytes,
            Capacity::Tokens => self.tokens,
            Capacity::Sequences => self.sequences.into(),
        }
    }
}

impl Tables {
    pub(crate) fn of(certificate: &Certificate) -> Result<Self, Refusal> {
        let problem = &certificate.problem;
        let seq_lens = certificate.plan.seq_lens_tokens.iter().copied();
        let batch = GlobalBatch::from_lens(seq_lens).map_err(|error| Refusal::Impossible {
            key: "seq_lens_tokens",
            error,
        })?;
        let (lens, counts) = by_length(&batch, &problem.lengths_tokens)?;
        let rules = problem.rules.rules();
        let overhead = problem.micro_batch_overhead_s;
        if !(0.0..=MAX_SECONDS).contains(&overhead) {
            return Err(Refusal::NotATime {
                key: "micro_batch_overhead_s",
                value: overhead,
            });
        }
        let mut tables = Tables {
            batch,
            cluster: cluster(&problem.nodes)?,
            rules,
            overhead,
            lens,
            counts,
            shapes: Vec::new(),
        };
        for (index, costs) in problem.shapes.iter().enumerate() {
            let shape = tables.shape(index, costs)?;
            let same = |other: &Shape| (other.strategy, other.span) == (shape.strategy, shape.span);
            if tables.shapes.iter().any(same) {
                let (strategy, span) = (shape.strategy, costs.span);
                return Err(Refusal::ShapeTwice { strategy, span });
            }
            tables.shapes.push(shape);
        }
        for place in 0..tables.shapes.len() {
            tables.shapes[place].is_outdone = tables.is_outdone(place);
        }
        for strategy in tables.strategies() {
            for span in [SpanName::OneNode, SpanName::ManyNodes] {
                let is_listed = |shape: &Shape| {
                    shape.strategy == strategy && SpanName::from(shape.span) == span
                };
                let can_be = tables.largest_budget(strategy, span.into()).is_some();
                if can_be && !tables.shapes.iter().any(is_listed) {
                    return Err(Refusal::MissingShape { strategy, span });
                }
            }
        }
        Ok(tables)
    }

    /// The strategies that there are costs of.
    pub(crate) fn strategies(&self) -> Vec<Strategy> {
        let mut strategies: Vec<Strategy> =
            self.shapes.iter().map(|shape| shape.strategy).collect();
        strategies.sort_unstable();
        strategies.dedup();
        strategies
    }

    fn shape(&self, index: usize, costs: &ShapeCosts) -> Result<Shape, Refusal> {
        let strategy = costs.strategy.0;
        let (num, degree) = (self.lens.len(), strategy.degree());
        let limits_memory = self.rules.limits_memory();
        let bytes = if limits_memory {
            costs.bytes.clone()
        } else {
            vec![0; num]
        };
        for (key, found) in [("seconds", costs.seconds.len()), ("bytes", bytes.len())] {
            if found != num {
                let num_lengths = num;
                return Err(Refusal::TableSize {
                    shape: index,
                    key,
                    found,
                    num_lengths,
                });
            }
        }
        let bad = |key, value, class: usize| Refusal::BadCost {
            shape: index,
            key,
            value,
            seq_len: self.lens[class],
        };
        for class in 0..num {
            let before = class.checked_sub(1);
            let least = before.map_or(0.0, |before| costs.seconds[before]);
            if !(least..=MAX_SECONDS).contains(&costs.seconds[class]) {
                return Err(bad("seconds", costs.seconds[class], class));
            }
            if before.is_some_and(|before| bytes[class] < bytes[before]) {
                return Err(bad("bytes", bytes[class] as f64, class));
            }
        }
        let budget = self.largest_budget(strategy, costs.span.into());
        let room = budget.map_or(Load::default(), |bytes| Load {
            bytes,
            tokens: self.rules.most_tokens(degree).0,
            sequences: self.rules.most_sequences(),
        });
        let fits = |(&bytes, &tokens): (&u64, &u64)| {
            let load = Load {
                bytes,
                tokens,
                sequences: 1,
            };
            load.fits(room)
        };
        Ok(Shape {
            strategy,
            span: costs.span.into(),
            degree: degree.get(),
            seconds: costs.seconds.clone(),
            num_fitting: bytes
                .iter()
                .zip(&self.lens)
                .take_while(|&cost| fits(cost))
                .count(),
            bytes,
            room,
            is_outdone: false,
        })
    }

    /// Whether the shape at this place is outdone by another.
    fn is_outdone(&self, place: usize) -> bool {
        let that = &self.shapes[place];
        self.shapes.iter().enumerate().any(|(other, this)| {
            let seconds = this.seconds.iter().zip(&that.seconds);
            let bytes = this.bytes.iter().zip(&that.bytes);
            other != place
                && (this.degree, this.span) == (that.degree, that.span)
                && seconds.clone().all(|(this, that)| this <= that)
                && bytes.clone().all(|(this, that)| this <= that)
                && (other < place
                    || seconds.into_iter().any(|(this, that)| this < that)
                    || bytes.into_iter().any(|(this, that)| this < that))
        })
    }

    /// The largest budget that every device of a group can have; `None` where no group has this strategy and span.
    fn largest_budget(&self, strategy: Strategy, span: Span) -> Option<u64> {
        let (degree, cluster) = (strategy.degree().as_usize(), &self.cluster);
        if !self.rules.allows_degree(strategy.degree()) {
            return None;
        }
        let budgets = self.budgets();
        if self.rules.aligned_powers_of_two {
            let starts = (0..budgets.len()).step_by(degree);
            let runs = starts.filter(|start| start + degree <= budgets.len());
            let nodes: Vec<usize> = cluster
                .ranks()
                .filter_map(|rank| cluster.node_of(rank))
                .collect();
            let is_far = |start: &usize| nodes[*start] != nodes[*start + degree - 1];
            let runs = runs.filter(|start| is_far(start) == (span == Span::ManyNodes));
            return runs
                .filter_map(|start| budgets[start..start + degree].iter().min().copied())
                .max();
        }
        // The group of the devices with most memory, of some node or of all.
        let weakest = |mut budgets: Vec<u64>| {
            budgets.sort_unstable_by(|a, b| b.cmp(a));
            budgets.get(degree - 1).copied()
        };
        match span {
            Span::OneNode => {
                let nodes = (0..cluster.num_nodes()).filter_map(|node| cluster.node_ranks(node));
                nodes
                    .filter_map(|ranks| {
                        weakest(budgets[ranks.start as usize..ranks.end as usize].to_vec())
                    })
                    .max()
            }
            Span::ManyNodes => (cluster.num_nodes() > 1 && degree > 1)
                .then(|| weakest(budgets))
                .flatten(),
        }
    }

    /// The memory for sequences of every device.
    pub(crate) fn budgets(&self) -> Vec<u64> {
        let budget = |device: &Device| device.memory().0;
        if self.rules.limits_memory() {
            self.cluster.devices().iter().map(budget).collect()
        } else {
            vec![0; self.cluster.devices().len()]
        }
    }

    /// The speeds of all devices, the fastest first.
    pub(crate) fn speeds(&self) -> Vec<f64> {
        let devices = self.cluster.devices().iter();
        let mut speeds: Vec<f64> = devices.map(|device| device.speed().get()).collect();
        speeds.sort_unstable_by(|a, b| b.total_cmp(a));
        speeds
    }

    /// The room that a sequence takes in a group.
    pub(crate) fn load(&self, shape: usize, class: usize) -> Load {
        Load {
            bytes: self.shapes[shape].bytes[class],
            tokens: self.lens[class],
            sequences: 1,
        }
    }

    /// The sequences of every length but so many of the longest.
    pub(crate) fn left_without_longest(&self, mut num: usize) -> Vec<u32> {
        let mut left = self.counts.clone();
        for left in left.iter_mut().rev() {
            let taken = num.min(*left as usize);
            *left -= taken as u32;
            num -= taken;
        }
        left
    }

    /// The length of the next one after so many of the longest; `None` where there is none.
    pub(crate) fn class_of_longest(&self, mut before: usize) -> Option<usize> {
        (0..self.counts.len()).rev().find(|&class| {
            let count = self.counts[class] as usize;
            let is_it = before < count;
            before = before.saturating_sub(count);
            is_it
        })
    }

    /// Whether there is a limit of this kind.
    pub(crate) fn check_capacity(&self, capacity: Capacity) -> Result<(), Refusal> {
        let (is_limited, name) = match capacity {
            Capacity::Memory => (self.rules.limits_memory(), "memory"),
            Capacity::Tokens => (self.rules.token_cap.is_some(), "tokens"),
            Capacity::Sequences => (self.rules.max_sequences_per_group.is_some(), "sequences"),
        };
        if is_limited {
            Ok(())
        } else {
            Err(Refusal::NoCapacity(name))
        }
    }

    /// For every number of devices how many of them groups can have together: with degrees 3 and 6, 15 of 16.
    pub(crate) fn usable_devices(&self) -> Vec<u32> {
        let mut usable = vec![0; self.cluster.devices().len() + 1];
        for devices in 1..usable.len() {
            let degrees = self.shapes.iter().map(|shape| shape.degree);
            let degrees = degrees.filter(|&degree| degree as usize <= devices);
            let used = degrees.map(|degree| degree + usable[devices - degree as usize]);
            usable[devices] = used.max().unwrap_or(0);
        }
        usable
    }
}

/// The different lengths of a batch, which must be those that are listed, and the number of sequences of each.
fn by_length(batch: &GlobalBatch, listed: &[u64]) -> Result<(Vec<u64>, Vec<u32>), Refusal> {
    let mut seq_lens: Vec<u64> = batch.seq_lens().iter().map(|seq_len| seq_len.0).collect();
    seq_lens.sort_unstable();
    let runs = seq_lens.chunk_by(|a, b| a == b);
    let (lens, counts): (Vec<u64>, Vec<u32>) = runs.map(|run| (run[0], run.len() as u32)).unzip();
    if lens == listed {
        return Ok((lens, counts));
    }
    let same = lens
        .iter()
        .zip(listed)
        .take_while(|(found, listed)| found == listed);
    let position = same.count();
    let word = |lens: &[u64]| lens.get(position).map_or("none".to_owned(), u64::to_string);
    Err(Refusal::OtherLengths {
        position,
        found: word(&lens),
        listed: word(listed),
    })
}

fn cluster(runs: &[NodeRun]) -> Result<Cluster, Refusal> {
    let impossible = |error| Refusal::Impossible {
        key: "nodes",
        error,
    };
    let num_devices = runs.iter().fold(0u128, |sum, run| {
        let of_node: u128 = run
            .devices
            .iter()
            .map(|devices| u128::from(devices.count))
            .sum();
        sum + of_node.max(1) * u128::from(run.count)
    });
    if num_devices > Cluster::MAX_DEVICES.into() {
        return Err(impossible(CoreError::TooManyDevices { num_devices }));
    }
    let mut nodes = Vec::new();
    for run in runs {
        let mut node = Vec::new();
        for devices in &run.devices {
            let speed = Speed::new(devices.speed).map_err(impossible)?;
            if !SPEEDS.contains(&devices.speed) {
                return Err(Refusal::BadSpeed {
                    speed: devices.speed,
                });
            }
            let device = Device::new(Bytes(devices.budget_bytes), speed);
            node.extend(std::iter::repeat_n(device, devices.count as usize));
        }
        nodes.extend(std::iter::repeat_n(node, run.count as usize));
    }
    Cluster::from_nodes(nodes).map_err(impossible)
}
