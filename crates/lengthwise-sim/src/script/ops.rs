//! The operations of a rank in a micro-batch, in order.
//!
//! ```text
//! forward    per layer   gather | dense, exchange, attention, exchange, dense
//! backward   per layer   gather | recompute: as forward | dense, exchange, attention, exchange, dense | scatter
//!
//! attention  in a ring   per step but the last: the block is sent on | attention to it | the next one is waited for
//!            backward    the same, and the block's gradients follow one step behind
//! host       forward     a layer's input starts on its way out, and the one before it is waited for
//!            backward    it is waited for, and that of the layer below starts on its way back
//! ```
//!
//! as in the executor: the next layer's gather is started first where gathers are prefetched, the last layer keeps
//! its parameters and its input between its passes, and every rank makes all calls of the world in the same order, whether
//! its group has work or it idles.

use lengthwise_core::{Activations, Activity, Pass};

use super::host_link::Direction;
use crate::Overlap;

/// One thing to do. Calls are numbered in the channel of the world, those of groups in that of the group, and copies in the
/// rank's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Pays the micro-batch's overhead.
    Overhead,
    /// Computes a share of the group's dense work or attention.
    Compute(Site, Activity, f64),
    /// Comes to an exchange of its group, or sends a block on.
    StartExchange(u32),
    /// Waits for it.
    AwaitExchange(Site, u32),
    /// Has a layer's input copied to the host, or back.
    StartCopy(u32),
    /// Waits for it.
    AwaitCopy(Site, u32),
    /// Comes to a gather or a scatter.
    StartShared(u32),
    /// Waits for it.
    AwaitShared(Site, Activity, u32),
    /// Comes to where all ranks meet.
    StartBarrier(u32),
    /// Waits for the others there.
    AwaitBarrier(u32),
    /// The micro-batch has ended for this rank.
    End,
}

/// Where in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    pub pass: Pass,
    pub layer: u32,
}

/// The role of a rank, which decides its list of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is in no group.
    Idle,
    /// It is in one.
    Working {
        /// Whether it exchanges tokens for heads.
        exchanges: bool,
        /// The places of its ring; 1 where there is none.
        places: u32,
        activations: Activations,
    },
}

/// The calls of the world, and the durations of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// One barrier at the end. Of copies only what is not hidden is known: it is waited for at once.
    Barrier,
    /// Gathers, numbered in the order of their use, then scatters. Copies go on beside computing.
    Sharded(Overlap),
}

/// The part of a layer's bytes that a call of a group carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carried {
    /// This part of what a pass exchanges for heads, and back.
    Heads(f64),
    /// A block of keys and values, while this share of attention is computed. Waiting for it counts with this weight.
    Block { attention: f64, weight: f64 },
    /// The gradients of a block, which follow it.
    Gradients,
}

/// The operations of a role, and what its group's calls carry, by their number.
#[derive(Clone, Debug)]
pub struct Operations {
    pub ops: Vec<Op>,
    pub calls: Vec<Carried>,
    /// Copies of a layer's input.
    pub num_copies: u32,
    /// The sum of the parts that are exchanged for heads, and back.
    pub head_parts: f64,
    /// The sum of the weights of blocks.
    pub block_weights: f64,
}

impl Operations {
    /// Which way a copy goes: all go out before one comes back.
    pub fn direction(&self, copy: u32) -> Direction {
        if copy < self.num_copies / 2 {
            Direction::Out
        } else {
            Direction::Back
        }
    }
}

/// The first of a layer's exchanges passes on queries, keys and values, the second the attended heads: as wide as
/// the queries, where all have the same number of heads. The backward goes the other way.
const INTO_HEADS: f64 = 0.75;

/// Of a layer's dense work, what lies before attention: the projection to queries, keys and values has 3 of the 12
/// squares of the hidden size that a layer with an MLP of 4 times its width has.
const BEFORE_ATTENTION: f64 = 0.25;

/// A backward takes twice its forward: gradients of inputs and of weights, each as many operations.
const fn weight(pass: Pass) -> f64 {
    match pass {
        Pass::Forward | Pass::Recompute => 1.0,
        Pass::Backward => 2.0,
    }
}

/// The passes through every layer.
pub fn passes(recompute: bool) -> &'static [Pass] {
    if recompute {
        &[Pass::Forward, Pass::Recompute, Pass::Backward]
    } else {
        &[Pass::Forward, Pass::Backward]
    }
}

/// How many gathers the micro-batch has, whose numbers come before those of scatters.
pub const fn num_gathers(num_layers: u32) -> u32 {
    2 * num_layers - 1
}

/// The operations of a role.
pub fn ops(role: Role, world: World, num_layers: u32) -> Operations {
    let mut list = List {
        ops: vec![Op::Overhead],
        role,
        world,
        num_layers,
        calls: Vec::new(),
        num_copies: 0,
        next_gather: 0,
        next_scatter: 0,
    };
    if let World::Sharded(Overlap { prefetch: true, .. }) = world {
        list.ops.push(Op::StartShared(0));
    }
    for layer in 0..num_layers {
        let site = Site {
            pass: Pass::Forward,
            layer,
        };
        list.gather(site);
        list.copy(site);
        list.layer(site);
    }
    for layer in (0..num_layers).rev() {
        let at = |pass| Site { pass, layer };
        if layer + 1 < num_layers {
            list.gather(at(Pass::Backward));
        }
        list.copy(at(Pass::Backward));
        if list.recomputes() {
            list.layer(at(Pass::Recompute));
        }
        list.layer(at(Pass::Backward));
        list.scatter(at(Pass::Backward));
    }
    list.end();
    let (mut head_parts, mut block_weights) = (0.0, 0.0);
    for call in &list.calls {
        match call {
            Carried::Heads(part) => head_parts += part,
            Carried::Block { weight, .. } => block_weights += weight,
            Carried::Gradients => {}
        }
    }
    Operations {
        ops: list.ops,
        calls: list.calls,
        num_copies: list.num_copies,
        head_parts,
        block_weights,
    }
}

struct List {
    ops: Vec<Op>,
    role: Role,
    world: World,
    num_layers: u32,
    calls: Vec<Carried>,
    num_copies: u32,
    next_gather: u32,
    next_scatter: u32,
}

impl List {
    fn gather(&mut self, site: Site) {
        let World::Sharded(overlap) = self.world else {
            return;
        };
        let call = self.next_gather;
        self.next_gather += 1;
        let started = if overlap.prefetch { call + 1 } else { call };
        if started < num_gathers(self.num_layers) {
            self.ops.push(Op::StartShared(started));
        }
        // A rank that idles has no use for parameters.
        if self.role != Role::Idle {
            let wait = Op::AwaitShared(site, Activity::Gather, call);
            self.ops.push(wait);
        }
    }

    fn scatter(&mut self, site: Site) {
        let World::Sharded(overlap) = self.world else {
            return;
        };
        let first = num_gathers(self.num_layers);
        let call = first + self.next_scatter;
        self.next_scatter += 1;
        let wait = |call| Op::AwaitShared(site, Activity::Scatter, call);
        // One may be on its way: its buffer is free again before the next one's gradients need it.
        if overlap.scatters && call > first {
            self.ops.push(wait(call - 1));
        }
        self.ops.push(Op::StartShared(call));
        if !overlap.scatters || self.next_scatter == self.num_layers {
            self.ops.push(wait(call));
        }
    }

    fn recomputes(&self) -> bool {
        match self.role {
            Role::Idle => false,
            Role::Working { activations, .. } => activations.recomputes(),
        }
    }

    /// Starts the copies of this moment, and waits for those that must have ended.
    fn copy(&mut self, site: Site) {
        let Role::Working {
            activations: Activations::Host,
            ..
        } = self.role
        else {
            return;
        };
        if self.world == World::Barrier {
            let copy = self.num_copies;
            self.num_copies += 1;
            self.ops.push(Op::StartCopy(copy));
            self.ops.push(Op::AwaitCopy(site, copy));
            return;
        }
        // The input of the last layer stays, as its backward comes next.
        let num_out = self.num_layers - 1;
        self.num_copies = 2 * num_out;
        let back = |layer: u32| 2 * num_out - 1 - layer;
        let layer = site.layer;
        match site.pass {
            Pass::Forward => {
                if layer < num_out {
                    self.ops.push(Op::StartCopy(layer));
                }
                // The one before must have left, so that there is room for the next.
                let waited = layer.checked_sub(1);
                self.ops
                    .extend(waited.map(|copy| Op::AwaitCopy(site, copy)));
            }
            _ => {
                if layer < num_out {
                    self.ops.push(Op::AwaitCopy(site, back(layer)));
                }
                let fetched = layer.checked_sub(1);
                self.ops
                    .extend(fetched.map(|layer| Op::StartCopy(back(layer))));
            }
        }
    }

    fn layer(&mut self, site: Site) {
        let Role::Working {
            exchanges,
            places,
            activations,
        } = self.role
        else {
            return;
        };
        let passes = passes(activations.recomputes()).iter();
        let all: f64 = passes.map(|&pass| weight(pass)).sum();
        let share = weight(site.pass) / (all * f64::from(self.num_layers));
        let (first, into) = match site.pass {
            Pass::Backward => (1.0 - BEFORE_ATTENTION, 1.0 - INTO_HEADS),
            _ => (BEFORE_ATTENTION, INTO_HEADS),
        };
        let dense = |part: f64| Op::Compute(site, Activity::Dense, part * share);
        self.ops.push(dense(first));
        self.exchange(site, exchanges, into);
        self.attention(site, places, share);
        self.exchange(site, exchanges, 1.0 - into);
        self.ops.push(dense(1.0 - first));
    }

    /// Attention of one layer, in as many steps as the ring has places.
    fn attention(&mut self, site: Site, places: u32, share: f64) {
        let step = share / f64::from(places);
        let mut gradients = None;
        for index in 0..places {
            let block = (index + 1 < places).then(|| {
                self.start(Carried::Block {
                    attention: step,
                    weight: weight(site.pass),
                })
            });
            self.ops.push(Op::Compute(site, Activity::Attention, step));
            if site.pass == Pass::Backward && places > 1 {
                // Those of the block at hand, from the places that have had it before.
                self.wait(site, gradients.take());
                gradients = Some(self.start(Carried::Gradients));
            }
            self.wait(site, block);
        }
        self.wait(site, gradients);
    }

    fn exchange(&mut self, site: Site, exchanges: bool, part: f64) {
        if exchanges {
            let call = self.start(Carried::Heads(part));
            self.wait(site, Some(call));
        }
    }

    fn start(&mut self, carried: Carried) -> u32 {
        let call = self.calls.len() as u32;
        self.calls.push(carried);
        self.ops.push(Op::StartExchange(call));
        call
    }

    fn wait(&mut self, site: Site, call: Option<u32>) {
        self.ops
            .extend(call.map(|call| Op::AwaitExchange(site, call)));
    }

    fn end(&mut self) {
        if self.world == World::Barrier {
            self.ops.push(Op::StartBarrier(0));
            self.ops.push(Op::AwaitBarrier(0));
        }
        self.ops.push(Op::End);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn working(exchanges: bool, places: u32, activations: Activations) -> Role {
        Role::Working {
            exchanges,
            places,
            activations,
        }
    }

    fn roles() -> Vec<Role> {
        let mut roles = vec![Role::Idle];
        for activations in Activations::ALL {
            for places in [1, 2, 5] {
                roles.push(working(false, places, activations));
                roles.push(working(true, places, activations));
            }
        }
        roles
    }

    fn worlds() -> Vec<World> {
        let mut worlds = vec![World::Barrier];
        for prefetch in [false, true] {
            for scatters in [false, true] {
                worlds.push(World::Sharded(Overlap { prefetch, scatters }));
            }
        }
        worlds
    }

    #[test]
    fn every_role_makes_all_calls_of_the_world_once_and_in_one_order() {
        for world in worlds() {
            for num_layers in [1, 2, 5] {
                let calls = |role| -> Vec<u32> {
                    let ops = ops(role, world, num_layers).ops;
                    let posted = ops.iter().filter_map(|op| match op {
                        Op::StartShared(call) | Op::StartBarrier(call) => Some(*call),
                        _ => None,
                    });
                    posted.collect()
                };
                let first = calls(Role::Idle);
                let mut sorted = first.clone();
                sorted.sort_unstable();
                let expected = match world {
                    World::Barrier => 1,
                    World::Sharded(_) => num_gathers(num_layers) + num_layers,
                };
                assert_eq!(sorted, (0..expected).collect::<Vec<_>>(), "{world:?}");
                for role in roles() {
                    assert_eq!(calls(role), first, "{role:?} in {world:?}");
                }
            }
        }
    }

    #[test]
    fn shares_of_compute_and_of_exchanges_add_up_to_one() {
        for role in roles() {
            let Role::Working {
                exchanges,
                places,
                activations,
            } = role
            else {
                continue;
            };
            for num_layers in [1, 3] {
                let list = ops(role, World::Barrier, num_layers);
                let sum = |which| -> f64 {
                    let shares = list.ops.iter().map(|op| match op {
                        Op::Compute(_, activity, share) if *activity == which => *share,
                        _ => 0.0,
                    });
                    shares.sum()
                };
                for share in [sum(Activity::Dense), sum(Activity::Attention)] {
                    assert!((share - 1.0).abs() < 1e-12, "{share} of {role:?}");
                }
                let started = list.ops.iter().filter_map(|op| match op {
                    Op::StartExchange(call) => Some(*call),
                    _ => None,
                });
                let all: Vec<u32> = (0..list.calls.len() as u32).collect();
                assert_eq!(started.collect::<Vec<_>>(), all, "{role:?}");
                let num_passes = passes(activations.recomputes()).len() as u32;
                let count = |which: fn(&Carried) -> bool| {
                    list.calls.iter().filter(|call| which(call)).count() as u32
                };
                let heads: f64 = (list.calls.iter())
                    .map(|call| match call {
                        Carried::Heads(part) => *part,
                        _ => 0.0,
                    })
                    .sum();
                let in_passes = f64::from(num_passes * num_layers * u32::from(exchanges));
                assert!((heads - in_passes).abs() < 1e-12, "{heads} of {role:?}");
                let blocks = count(|call| matches!(call, Carried::Block { .. }));
                assert_eq!(blocks, num_layers * num_passes * (places - 1));
                let gradients = if places > 1 { num_layers * places } else { 0 };
                assert_eq!(count(|call| *call == Carried::Gradients), gradients);
            }
        }
    }

    #[test]
    fn whatever_is_started_is_waited_for_once_and_later() {
        for world in worlds() {
            for role in roles() {
                for num_layers in [1, 2, 5] {
                    let list = ops(role, world, num_layers).ops;
                    for (at, op) in list.iter().enumerate() {
                        let waits = |other: &Op| match (op, other) {
                            (Op::StartExchange(call), Op::AwaitExchange(_, waited))
                            | (Op::StartCopy(call), Op::AwaitCopy(_, waited)) => call == waited,
                            _ => false,
                        };
                        let places: Vec<usize> = (0..list.len())
                            .filter(|&place| waits(&list[place]))
                            .collect();
                        if matches!(op, Op::StartExchange(_) | Op::StartCopy(_)) {
                            assert!(places.len() == 1 && places[0] > at, "{op:?} of {role:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_backward_exchanges_the_other_way_round() {
        // One layer, recomputed: forward, recomputation, backward.
        let list = ops(working(true, 1, Activations::Recompute), World::Barrier, 1);
        let expected = [0.75, 0.25, 0.75, 0.25, 0.25, 0.75].map(Carried::Heads);
        assert_eq!(list.calls, expected);
    }

    #[test]
    fn two_inputs_are_on_their_way_at_most_and_none_comes_back_before_it_has_left() {
        let role = working(false, 1, Activations::Host);
        let list = ops(role, World::Sharded(Overlap::default()), 4);
        let copies: Vec<String> = (list.ops.iter())
            .filter_map(|op| match op {
                Op::StartCopy(copy) => Some(format!("start {copy}")),
                Op::AwaitCopy(site, copy) => {
                    Some(format!("wait {copy} {} {}", site.pass.name(), site.layer))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            copies,
            [
                "start 0",
                "start 1",
                "wait 0 forward 1",
                "start 2",
                "wait 1 forward 2",
                "wait 2 forward 3",
                "start 3",
                "wait 3 backward 2",
                "start 4",
                "wait 4 backward 1",
                "start 5",
                "wait 5 backward 0",
            ]
        );
        assert_eq!(list.num_copies, 6);
    }

    #[test]
    fn a_prefetched_gather_starts_before_the_layer_it_follows_is_waited_for() {
        let world = World::Sharded(Overlap::default());
        let role = working(false, 1, Activations::Keep);
        let shared: Vec<Op> = ops(role, world, 2)
            .ops
            .into_iter()
            .filter(|op| matches!(op, Op::StartShared(_) | Op::AwaitShared(..)))
            .collect();
        let at = |pass, layer| Site { pass, layer };
        let gather = |pass, layer, call| Op::AwaitShared(at(pass, layer), Activity::Gather, call);
        let scatter =
            |layer, call| Op::AwaitShared(at(Pass::Backward, layer), Activity::Scatter, call);
        // Gathers 0 and 1 are the forward's, 2 is layer 0's for the backward; 3 and 4 are scatters.
        assert_eq!(
            shared,
            [
                Op::StartShared(0),
                Op::StartShared(1),
                gather(Pass::Forward, 0, 0),
                Op::StartShared(2),
                gather(Pass::Forward, 1, 1),
                Op::StartShared(3),
                scatter(1, 3),
                gather(Pass::Backward, 0, 2),
                Op::StartShared(4),
                scatter(0, 4),
            ]
        );
    }
}
