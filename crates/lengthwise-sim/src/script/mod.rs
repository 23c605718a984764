//! The step as a program of the engine: which rank does what in which order, and what it costs.

mod group_work;
mod host_link;
mod ops;

use lengthwise_core::{
    Activity, Bytes, Cluster, GlobalBatch, Group, Plan, Rank, Seconds, Speed, TraceEvent, TraceSink,
};
use lengthwise_cost::ExchangeEfficiency;
use lengthwise_network::{Crossing, FlowSpec, LinkPlace, Network, Path, Wiring};

use crate::Overlap;
use crate::costs::{StepCosts, Transport};
use crate::engine::{CallId, Instruction, Program, Stretch, Transfer};
use crate::outcome::Usage;
use group_work::{Copies, GroupPaths, GroupWork};
use host_link::HostLink;
use ops::{Carried, Op, Operations, Role, Site, World};

/// The calls of a channel.
#[derive(Clone, Copy, Debug)]
enum Channel {
    World,
    Group {
        micro_batch: u32,
        group: u32,
    },
    /// Copies of one rank.
    Copies {
        micro_batch: u32,
        group: u32,
        rank: u32,
    },
}

/// Where a rank is.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    micro_batch: u32,
    at: u32,
}

/// One list of operations for every role that a step has.
#[derive(Clone, Debug)]
struct Lists {
    world: World,
    num_layers: u32,
    /// That of ranks that idle is the first.
    roles: Vec<(Role, Operations)>,
}

impl Lists {
    fn new(world: World, num_layers: u32) -> Self {
        let mut lists = Lists {
            world,
            num_layers,
            roles: Vec::new(),
        };
        lists.place(Role::Idle);
        lists
    }

    /// Where the list of a role is.
    fn place(&mut self, role: Role) -> usize {
        let known = self.roles.iter().position(|(known, _)| *known == role);
        known.unwrap_or_else(|| {
            let operations = ops::ops(role, self.world, self.num_layers);
            self.roles.push((role, operations));
            self.roles.len() - 1
        })
    }

    fn of(&self, group: Option<&GroupWork>) -> &Operations {
        &self.roles[group.map_or(0, |group| group.operations)].1
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
    /// The link of each device to its host's memory; none where copies take their measured time, or none at all.
    hosts: Hosts,
    cursors: Vec<Cursor>,
    /// The figures that results are made of.
    pub account: Account,
}

/// How layer inputs get to host memory and back.
#[derive(Clone, Debug)]
enum Hosts {
    /// In the time that was measured not to be hidden.
    Measured,
    /// In no time, as no link is described.
    NoTime,
    /// Over a link for each device.
    Links(Vec<HostLink>),
}

/// The time of ranks so far, by use.
#[derive(Clone, Debug)]
pub struct Account {
    pub of_ranks: Vec<Usage>,
    pub of_micro_batches: Vec<Usage>,
    /// When each micro-batch had ended on all ranks.
    pub ends: Vec<Seconds>,
}

/// The meetings of a step, which an engine must know before it runs the script.
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
        let hosts = match costs.transport {
            Transport::Measured => Hosts::Measured,
            Transport::Links { host, .. } => host.map_or(Hosts::NoTime, |link| {
                Hosts::Links(vec![HostLink::new(link); num_ranks as usize])
            }),
        };
        let mut lists = Lists::new(world, num_layers);
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
                let in_micro_batch = (index as u32, position as u32);
                let mut work = GroupWork::new(group, batch, cluster, costs);
                work.operations = lists.place(group_work::role(group));
                work.paths = wiring.map(|wiring| {
                    let [heads, hop] = crossings(group, cluster, wiring);
                    let heads = match costs.exchange_efficiency() {
                        Some(efficiency) => at_efficiency(heads, wiring, efficiency),
                        None => heads,
                    };
                    GroupPaths {
                        heads: heads.path(network),
                        hop: hop.path(network),
                    }
                });
                work.channel = channels.len() as u32;
                channels.push(Channel::Group {
                    micro_batch: in_micro_batch.0,
                    group: in_micro_batch.1,
                });
                num_members.push(group.ranks.len() as u32);
                if group_work::copies(group) {
                    work.copies = Some(Copies {
                        first_channel: channels.len() as u32,
                        ranks: group.ranks.clone(),
                    });
                    channels.extend(group.ranks.iter().map(|rank| Channel::Copies {
                        micro_batch: in_micro_batch.0,
                        group: in_micro_batch.1,
                        rank: rank.0,
                    }));
                    num_members.extend(group.ranks.iter().map(|_| 1));
                }
                works.push(work);
            }
            micro_batches.push(works);
        }
        let script = Script {
            sink,
            num_layers,
            overhead,
            optimizer: costs.optimizer,
            speeds: cluster.devices().iter().map(|d| d.speed()).collect(),
            lists,
            channels,
            micro_batches,
            group_of,
            ring,
            hosts,
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

    /// The bytes that a rank receives in a gather or scatter of the world.
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
        let op = self.lists.of(group).ops[at as usize];
        let in_world = |call| CallId {
            channel: micro_batch,
            call,
        };
        let in_group = |call| CallId {
            channel: group.map_or(0, |group| group.channel),
            call,
        };
        let own = |call| CallId {
            channel: group
                .and_then(|group| group.copies.as_ref()?.channel(process))
                .unwrap_or(0),
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
            Op::StartCopy(copy) => Instruction::Post(own(copy)),
            Op::AwaitCopy(_, copy) => Instruction::Await(own(copy), op),
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

    fn transfer(&mut self, id: CallId, now: f64) -> Transfer {
        match self.channels[id.channel as usize] {
            Channel::Group { micro_batch, group } => {
                let group = &self.micro_batches[micro_batch as usize][group as usize];
                let operations = self.lists.of(Some(group));
                let carried = operations.calls[id.call as usize];
                match group.paths {
                    None => after(group.measured_s(carried, operations)),
                    Some(GroupPaths { heads, hop }) => {
                        let path = match carried {
                            Carried::Heads(_) => heads,
                            Carried::Block { .. } | Carried::Gradients => hop,
                        };
                        over(path, group.bytes_of_call(carried, self.num_layers))
                    }
                }
            }
            Channel::Copies {
                micro_batch,
                group,
                rank,
            } => {
                let group = &self.micro_batches[micro_batch as usize][group as usize];
                let operations = self.lists.of(Some(group));
                match &mut self.hosts {
                    Hosts::Measured => after(group.measured_copy_s(operations)),
                    Hosts::NoTime => after(0.0),
                    Hosts::Links(links) => {
                        let direction = operations.direction(id.call);
                        let bytes = group.bytes_of_copy(self.num_layers);
                        after(links[rank as usize].end(direction, bytes, now) - now)
                    }
                }
            }
            Channel::World => match self.ring {
                // What is measured meets in barriers, and so does the end of the step.
                Some((path, ..)) if (id.channel as usize) < self.micro_batches.len() => {
                    over(path, self.bytes_of_shared(id.call).unwrap_or(0.0))
                }
                _ => after(0.0),
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
                        let bytes = group.map(|group| {
                            let carried = self.lists.of(Some(group)).calls[call as usize];
                            group.bytes_of_call(carried, self.num_layers)
                        });
                        (Activity::Exchange, Some(site), bytes)
                    }
                    Op::AwaitCopy(site, _) => {
                        let group = self.group(self.cursors[process as usize].micro_batch, process);
                        let bytes = group.map(|group| group.bytes_of_copy(self.num_layers));
                        (Activity::HostCopy, Some(site), bytes)
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

/// The bytes that cross each link in calls of a group, for each byte that each rank passes on: within places, for heads; and
/// from each place to the next.
///
/// Neighbours share a place, as in the executor: rank `i` is at place `i / ulysses`.
fn crossings(group: &Group, cluster: &Cluster, wiring: &Wiring) -> [Crossing; 2] {
    let ulysses = group.strategy.ulysses_degree().as_usize();
    let places = group.strategy.ring_degree().as_usize();
    let heads = |from: usize, to: usize| {
        let share = 1.0 / ulysses as f64;
        if from / ulysses == to / ulysses {
            share
        } else {
            0.0
        }
    };
    let hop = |from: usize, to: usize| {
        let is_neighbour = (from / ulysses + 1) % places == to / ulysses;
        let goes_there = places > 1 && is_neighbour && from % ulysses == to % ulysses;
        if goes_there { 1.0 } else { 0.0 }
    };
    let ranks = &group.ranks;
    let heads = if places == 1 {
        wiring.exchange(ranks, cluster)
    } else {
        wiring.uneven_exchange(ranks, cluster, heads)
    };
    [heads, wiring.uneven_exchange(ranks, cluster, hop)]
}

fn at_efficiency(crossing: Crossing, wiring: &Wiring, part: ExchangeEfficiency) -> Crossing {
    crossing.at_efficiency(wiring, |place| match place {
        LinkPlace::Device { .. } => part.in_node(),
        LinkPlace::Nic { .. } => part.across_nodes(),
    })
}

fn after(seconds: f64) -> Transfer {
    Transfer {
        latency: seconds,
        flow: None,
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
