//! The operations of a rank in a micro-batch, in order.
//!
//! ```text
//! forward    per layer   gather | dense, exchange, attention, exchange, dense
//! backward   per layer   gather | recompute: as forward | dense, exchange, attention, exchange, dense | scatter
//! ```
//!
//! as in the executor: the next layer's gather is started first where gathers are prefetched, the last layer keeps
//! its parameters between its passes, and every rank makes all calls of the world in the same order, whether its
//! group has work or it idles.

use lengthwise_core::{Activity, Pass};

use crate::Overlap;

/// One thing to do. Calls are numbered in the channel of the world, those of exchanges in that of the group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Pays the micro-batch's overhead.
    Overhead,
    /// Computes a share of the group's dense work or attention.
    Compute(Site, Activity, f64),
    /// Comes to an exchange.
    StartExchange(u32),
    /// Waits for it.
    AwaitExchange(Site, u32),
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

/// What a rank has to do, which decides its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is in no group.
    Idle,
    /// It is in one.
    Working { exchanges: bool, recompute: bool },
}

/// What the calls of the world are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// One barrier at the end.
    Barrier,
    /// Gathers, numbered in the order of their use, then scatters.
    Sharded(Overlap),
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

fn passes(recompute: bool) -> &'static [Pass] {
    if recompute {
        &[Pass::Forward, Pass::Recompute, Pass::Backward]
    } else {
        &[Pass::Forward, Pass::Backward]
    }
}

/// How many exchanges a micro-batch has.
#[cfg(test)]
fn num_exchanges(num_layers: u32, recompute: bool) -> u32 {
    2 * num_layers * passes(recompute).len() as u32
}

/// The share of a group's exchanged bytes that moves in its exchange number `call`, in the order of [`ops`].
///
/// Each pass moves as much as any other: what goes to heads in the forward comes back as gradients.
pub fn exchange_share(call: u32, num_layers: u32, recompute: bool) -> f64 {
    let num_passes = passes(recompute).len() as u32;
    let is_first = call.is_multiple_of(2);
    let forward = call < 2 * num_layers;
    // Behind the forward come, layer by layer, the recomputation's two where there is one, and the backward's.
    let per_layer = 2 * (num_passes - 1);
    let is_backward = !forward && (call - 2 * num_layers) % per_layer >= per_layer - 2;
    let part = if is_first == is_backward {
        1.0 - INTO_HEADS
    } else {
        INTO_HEADS
    };
    part / f64::from(num_passes * num_layers)
}

/// How many gathers the micro-batch has, whose numbers come before those of scatters.
pub const fn num_gathers(num_layers: u32) -> u32 {
    2 * num_layers - 1
}

/// The list of a role.
pub fn ops(role: Role, world: World, num_layers: u32) -> Vec<Op> {
    let mut list = List {
        ops: vec![Op::Overhead],
        role,
        world,
        num_layers,
        next_exchange: 0,
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
        list.layer(site);
    }
    for layer in (0..num_layers).rev() {
        let at = |pass| Site { pass, layer };
        if layer + 1 < num_layers {
            list.gather(at(Pass::Backward));
        }
        if let Role::Working {
            recompute: true, ..
        } = role
        {
            list.layer(at(Pass::Recompute));
        }
        list.layer(at(Pass::Backward));
        list.scatter(at(Pass::Backward));
    }
    list.end();
    list.ops
}

struct List {
    ops: Vec<Op>,
    role: Role,
    world: World,
    num_layers: u32,
    next_exchange: u32,
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

    fn layer(&mut self, site: Site) {
        let Role::Working {
            exchanges,
            recompute,
        } = self.role
        else {
            return;
        };
        let all: f64 = passes(recompute).iter().map(|&pass| weight(pass)).sum();
        let share = weight(site.pass) / (all * f64::from(self.num_layers));
        let first = match site.pass {
            Pass::Backward => 1.0 - BEFORE_ATTENTION,
            _ => BEFORE_ATTENTION,
        };
        let compute = |activity, part: f64| Op::Compute(site, activity, part * share);
        self.ops.push(compute(Activity::Dense, first));
        self.exchange(site, exchanges);
        self.ops.push(compute(Activity::Attention, 1.0));
        self.exchange(site, exchanges);
        self.ops.push(compute(Activity::Dense, 1.0 - first));
    }

    fn exchange(&mut self, site: Site, exchanges: bool) {
        if exchanges {
            let call = self.next_exchange;
            self.next_exchange += 1;
            self.ops.push(Op::StartExchange(call));
            self.ops.push(Op::AwaitExchange(site, call));
        }
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

    const ROLES: [Role; 5] = [
        Role::Idle,
        Role::Working {
            exchanges: false,
            recompute: false,
        },
        Role::Working {
            exchanges: false,
            recompute: true,
        },
        Role::Working {
            exchanges: true,
            recompute: false,
        },
        Role::Working {
            exchanges: true,
            recompute: true,
        },
    ];

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
                    let ops = ops(role, world, num_layers);
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
                for role in ROLES {
                    assert_eq!(calls(role), first, "{role:?} in {world:?}");
                }
            }
        }
    }

    #[test]
    fn shares_of_compute_and_of_exchanges_add_up_to_one() {
        for recompute in [false, true] {
            for num_layers in [1, 3] {
                let role = Role::Working {
                    exchanges: true,
                    recompute,
                };
                let ops = ops(role, World::Barrier, num_layers);
                let sum = |which| -> f64 {
                    let shares = ops.iter().map(|op| match op {
                        Op::Compute(_, activity, share) if *activity == which => *share,
                        _ => 0.0,
                    });
                    shares.sum()
                };
                let num_exchanges = num_exchanges(num_layers, recompute);
                let started = ops.iter().filter(|op| matches!(op, Op::StartExchange(_)));
                assert_eq!(started.count(), num_exchanges as usize);
                let exchanged: f64 = (0..num_exchanges)
                    .map(|call| exchange_share(call, num_layers, recompute))
                    .sum();
                for share in [sum(Activity::Dense), sum(Activity::Attention), exchanged] {
                    assert!((share - 1.0).abs() < 1e-12, "{share}");
                }
            }
        }
    }

    #[test]
    fn the_backward_exchanges_the_other_way_round() {
        // One layer, recomputed: forward, recomputation, backward.
        let shares: Vec<f64> = (0..6)
            .map(|call| 3.0 * exchange_share(call, 1, true))
            .collect();
        assert_eq!(shares, [0.75, 0.25, 0.75, 0.25, 0.25, 0.75]);
    }

    #[test]
    fn a_prefetched_gather_starts_before_the_layer_it_follows_is_waited_for() {
        let world = World::Sharded(Overlap::default());
        let role = ROLES[1];
        let shared: Vec<Op> = ops(role, world, 2)
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
