//! The step as a program of the engine: which rank does what in which order, and what it costs.

mod group_work;
mod ops;

use lengthwise_core::{
    Activity, Bytes, Cluster, GlobalBatch, Plan, Rank, Seconds, Speed, TraceEvent, TraceSink,
};
use lengthwise_network::{FlowSpec, LinkPlace, Network, Path, Wiring};

use crate::Overlap;
use crate::costs::{StepCosts, Transport};
use crate::engine::{CallId, Instruction, Program, Stretch, Transfer};
use crate::outcome::Usage;
use group_work::GroupWork;
use ops::{Op, Role, Site, World};

/// What the calls of a channel are.
#[derive(Clone, Copy, Debug)]
enum Channel {
    World,
    Group { micro_batch: u32, group: u32 },
}

/// Where a rank is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    micro_batch: u32,
    at: u32,
}

/// One list of operations for every role there is.
#[derive(Clone, Debug)]
struct Lists {
    idle: Vec<Op>,
    working: [Vec<Op>; 4],
}

impl Lists {
    fn new(world: World, num_layers: u32) -> Self {
        let working = |exchanges, recompute| {
            let role = Role::Working {
                exchanges,
                recompute,
            };
            ops::ops(role, world, num_layers)
        };
        Lists {
            idle: ops::ops(Role::Idle, world, num_layers),
            working: [
                working(false, false),
                working(false, true),
                working(true, false),
                working(true, true),
            ],
        }
    }

    fn of(&self, group: Option<&GroupWork>) -> &[Op] {
        match group {
            None => &self.idle,
            Some(group) => {
                let exchanges = usize::from(group.load.degree.get() > 1);
                &self.working[2 * exchanges + usize::from(group.recompute)]
            }
        }
    }
}

/// The step as a program; it keeps account of what ranks do and passes every stretch on to `sink`.
pub struct Script<'a, S> {
    sink: &'a mut S,
    num_layers: u32,
    overhead: Seconds,
    optimizer: Seconds,
    speeds: Vec<Speed>,
    lists: Lists,
    channels: Vec<Channel>,
    micro_batches: Vec<Vec<GroupWork>>,
    /// The group of each rank in each micro-batch.
    group_of: Vec<Vec<Option<u32>>>,
    /// The path and the bytes of a layer's parameters, and of its gradients, on every rank.
    ring: Option<(Path, f64, f64)>,
    cursors: Vec<Cursor>,
    /// What the results are made of.
    pub account: Account,
}

/// What ranks have done.
#[derive(Clone, Debug)]
pub struct Account {
    pub of_ranks: Vec<Usage>,
    pub of_micro_batches: Vec<Usage>,
    /// When each micro-batch had ended on all ranks.
    pub ends: Vec<Seconds>,
}

/// What of the step an engine must know before it runs the script.
pub struct Meetings {
    /// How many members each channel has.
    pub num_members: Vec<u32>,
}

impl<'a, S: TraceSink> Script<'a, S> {
    /// The script of a plan that can be run, over `wiring` where costs are those of links.
    pub fn new(
        (plan, batch, cluster): (&Plan, &GlobalBatch, &Cluster),
        costs: &StepCosts<'_>,
        overlap: Overlap,
        wiring: Option<&Wiring>,
        network: &mut Network<CallId>,
        sink: &'a mut S,
    ) -> (Self, Meetings) {
        let num_layers = costs.num_layers;
        let num_ranks = cluster.num_devices();
        let (world, overhead, sharded) = match costs.transport {
            Transport::Measured => (World::Barrier, costs.model.micro_batch_overhead(), None),
            Transport::Links {
                micro_batch_overhead,
                sharded,
                ..
            } => (World::Sharded(overlap), micro_batch_overhead, Some(sharded)),
        };
        let ring = wiring.zip(sharded).map(|(wiring, sharded)| {
            // Each rank has its shard already.
            let moved = 1.0 - 1.0 / f64::from(num_ranks);
            let of_layer = |bytes: Bytes| bytes.as_f64() / f64::from(num_layers) * moved;
            let all: Vec<Rank> = cluster.ranks().collect();
            let path = wiring.ring(&all, cluster).path(network);
            (
                path,
                of_layer(sharded.parameters),
                of_layer(sharded.gradients),
            )
        });
        let num_micro_batches = plan.micro_batches().len();
        // The channels of the world come first, one a micro-batch and one for the end of the step.
        let mut channels = vec![Channel::World; num_micro_batches + 1];
        let mut num_members = vec![num_ranks; num_micro_batches + 1];
        let mut group_of = vec![vec![None; num_ranks as usize]; num_micro_batches];
        let mut micro_batches = Vec::with_capacity(num_micro_batches);
        for (index, micro_batch) in plan.micro_batches().iter().enumerate() {
            let mut works = Vec::with_capacity(micro_batch.groups.len());
            for (position, group) in micro_batch.groups.iter().enumerate() {
                for rank in &group.ranks {
                    group_of[index][rank.index()] = Some(position as u32);
                }
                let path = wiring.map(|wiring| {
                    let crossing = wiring.exchange(&group.ranks, cluster);
                    let crossing = match costs.exchange_efficiency() {
                        Some(efficiency) => crossing.at_efficiency(wiring, |place| match place {
                            LinkPlace::Device { .. } => efficiency.in_node(),
                            LinkPlace::Nic { .. } => efficiency.across_nodes(),
                        }),
                        None => crossing,
                    };
                    crossing.path(network)
                });
                let channel = channels.len() as u32;
                works.push(GroupWork::new(group, batch, cluster, costs, path, channel));
                channels.push(Channel::Group {
                    micro_batch: index as u32,
                    group: position as u32,
                });
                num_members.push(group.ranks.len() as u32);
            }
            micro_batches.push(works);
        }
        let script = Script {
            sink,
            num_layers,
            overhead,
            optimizer: costs.optimizer,
            speeds: cluster.devices().iter().map(|d| d.speed()).collect(),
            lists: Lists::new(world, num_layers),
            channels,
            micro_batches,
            group_of,
            ring,
            cursors: vec![Cursor::default(); num_ranks as usize],
            account: Account {
                of_ranks: vec![Usage::default(); num_ranks as usize],
                of_micro_batches: vec![Usage::default(); num_micro_batches],
                ends: vec![Seconds::ZERO; num_micro_batches],
            },
        };
        (script, Meetings { num_members })
    }

    fn group(&self, micro_batch: u32, rank: u32) -> Option<&GroupWork> {
        let group = (*self.group_of.get(micro_batch as usize)?)[rank as usize]?;
        self.micro_batches[micro_batch as usize].get(group as usize)
    }

    /// What a rank receives in a gather or scatter of the world.
    fn bytes_of_shared(&self, call: u32) -> Option<f64> {
        let (_, parameters, gradients) = self.ring?;
        let is_gather = call < ops::num_gathers(self.num_layers);
        Some(if is_gather { parameters } else { gradients })
    }

    /// The optimiser's part of the step, once all micro-batches have ended.
    fn optimizer_step(&mut self, rank: u32, at: u32) -> Option<Instruction<Op>> {
        let call = CallId {
            channel: self.micro_batches.len() as u32,
            call: 0,
        };
        if self.optimizer == Seconds::ZERO {
            return None;
        }
        match at {
            0 => {
                let seconds = (self.optimizer / self.speeds[rank as usize]).get();
                // Its tag only has to tell it from waits.
                Some(Instruction::Work(seconds, Op::End))
            }
            1 => Some(Instruction::Post(call)),
            2 => Some(Instruction::Await(call, Op::AwaitBarrier(0))),
            _ => None,
        }
    }

    fn note(
        &mut self,
        process: u32,
        activity: Activity,
        site: Option<Site>,
        bytes: Option<f64>,
        (from, to): (f64, f64),
    ) {
        if to <= from {
            return;
        }
        let micro_batch = self.cursors[process as usize].micro_batch;
        let in_micro_batch = (micro_batch as usize) < self.micro_batches.len();
        let time = |seconds: f64| Seconds::new(seconds).unwrap_or(Seconds::ZERO);
        let duration = time(to - from);
        let class = activity.class();
        self.account.of_ranks[process as usize].add(class, duration);
        if let Some(usage) = self.account.of_micro_batches.get_mut(micro_batch as usize) {
            usage.add(class, duration);
        }
        let group = self.group(micro_batch, process);
        let event = TraceEvent {
            rank: Rank(process),
            activity,
            start: time(from),
            duration,
            micro_batch: in_micro_batch.then_some(micro_batch),
            layer: site.map(|site| site.layer),
            pass: site.map(|site| site.pass),
            load: group.map(|group| group.load),
            bytes: bytes.and_then(Bytes::from_f64_ceil),
        };
        self.sink.record(&event);
    }
}

impl<S: TraceSink> Program for Script<'_, S> {
    type Tag = Op;

    fn next(&mut self, process: u32, now: f64) -> Option<Instruction<Op>> {
        let cursor = &mut self.cursors[process as usize];
        let at = cursor.at;
        cursor.at += 1;
        let Cursor { micro_batch, .. } = *cursor;
        if micro_batch as usize >= self.micro_batches.len() {
            return self.optimizer_step(process, at);
        }
        let group = self.group(micro_batch, process);
        let op = self.lists.of(group)[at as usize];
        let in_world = |call| CallId {
            channel: micro_batch,
            call,
        };
        let in_group = |call| CallId {
            channel: group.map_or(0, |group| group.channel),
            call,
        };
        Some(match op {
            Op::Overhead => Instruction::Work(self.overhead.get(), op),
            Op::Compute(_, activity, share) => {
                let seconds = group.map_or(Seconds::ZERO, |group| match activity {
                    Activity::Attention => group.parts.attention,
                    _ => group.parts.dense,
                });
                let speed = self.speeds[process as usize].get();
                Instruction::Work(seconds.get() * share / speed, op)
            }
            Op::StartExchange(call) => Instruction::Post(in_group(call)),
            Op::AwaitExchange(_, call) => Instruction::Await(in_group(call), op),
            Op::StartShared(call) | Op::StartBarrier(call) => Instruction::Post(in_world(call)),
            Op::AwaitShared(_, _, call) | Op::AwaitBarrier(call) => {
                Instruction::Await(in_world(call), op)
            }
            Op::End => {
                let end = &mut self.account.ends[micro_batch as usize];
                *end = end.max(Seconds::new(now).unwrap_or(Seconds::ZERO));
                self.cursors[process as usize] = Cursor {
                    micro_batch: micro_batch + 1,
                    at: 0,
                };
                return self.next(process, now);
            }
        })
    }

    fn transfer(&self, id: CallId) -> Transfer {
        match self.channels[id.channel as usize] {
            Channel::Group { micro_batch, group } => {
                let group = &self.micro_batches[micro_batch as usize][group as usize];
                match group.path {
                    None => Transfer {
                        latency: group.parts.exchange.get() * group.share(id.call, self.num_layers),
                        flow: None,
                    },
                    Some(path) => over(path, group.bytes_of_exchange(id.call, self.num_layers)),
                }
            }
            Channel::World => match self.ring {
                // What is measured meets in barriers, and so does the end of the step.
                Some((path, ..)) if (id.channel as usize) < self.micro_batches.len() => {
                    over(path, self.bytes_of_shared(id.call).unwrap_or(0.0))
                }
                _ => Transfer {
                    latency: 0.0,
                    flow: None,
                },
            },
        }
    }

    fn passed(&mut self, process: u32, stretch: Stretch, op: Op) {
        match stretch {
            Stretch::Work { start, end } => {
                let (activity, site) = match op {
                    Op::Compute(site, activity, _) => (activity, Some(site)),
                    Op::Overhead => (Activity::Overhead, None),
                    _ => (Activity::Optimizer, None),
                };
                self.note(process, activity, site, None, (start, end));
            }
            Stretch::Wait {
                start,
                transfer,
                end,
            } => {
                let (activity, site, bytes) = match op {
                    Op::AwaitExchange(site, call) => {
                        let group = self.group(self.cursors[process as usize].micro_batch, process);
                        let bytes =
                            group.map(|group| group.bytes_of_exchange(call, self.num_layers));
                        (Activity::Exchange, Some(site), bytes)
                    }
                    Op::AwaitShared(site, activity, call) => {
                        (activity, Some(site), self.bytes_of_shared(call))
                    }
                    _ => (Activity::Wait, None, None),
                };
                let on_its_way = transfer.clamp(start, end);
                self.note(process, Activity::Wait, site, None, (start, on_its_way));
                self.note(process, activity, site, bytes, (on_its_way, end));
            }
        }
    }
}

fn over(path: Path, volume: f64) -> Transfer {
    let flow = FlowSpec {
        volume,
        route: path.route,
    };
    Transfer {
        latency: path.latency.get(),
        flow: (volume > 0.0).then_some(flow),
    }
}
