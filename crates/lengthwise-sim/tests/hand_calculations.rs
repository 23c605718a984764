//! Small steps, worked out by hand: each test's comment is the calculation.
#![allow(missing_docs, reason = "a test has nobody to document it for")]

mod common;

use common::{Described, KeepingActivations, group, model, plan, uniform};
use lengthwise_core::{
    Activations, Activity, Degree, GlobalBatch, Group, Pass, Seconds, Strategy, TraceEvent,
};
use lengthwise_cost::{
    ExchangeEfficiency, FittedCosts, FittedModel, HopCosts, HostCosts, KindCosts, Link, RingCosts,
    TokenBytes, predict_step,
};
use lengthwise_sim::{Overlap, SimulatedStep, StepCosts, simulate};

fn close(figure: f64, expected: f64) {
    assert!(
        (figure - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        "{figure} is not {expected}"
    );
}

fn makespans(step: &SimulatedStep) -> Vec<f64> {
    step.micro_batches
        .iter()
        .map(|micro_batch| micro_batch.makespan.get())
        .collect()
}

const NO_OVERLAP: Overlap = Overlap {
    prefetch: false,
    scatters: false,
};

/// Costs: 1 ms a token, 1 us a token squared, an exchange of 0.1 ms a token at degree 2, 0.05 s a micro-batch.
///
/// Micro-batch 0: ranks 0 and 1 share 300 tokens: (300 + 90) / 2 = 195 ms of computing, 30 ms of exchange, 225 ms.
/// Rank 2 has 100 tokens: 100 + 10 = 110 ms. Makespan 50 + 225 = 275 ms; rank 2 idles for 115 ms.
/// Micro-batch 1: rank 0 has 200 tokens: 200 + 40 = 240 ms. Makespan 290 ms; ranks 1 and 2 idle for 240 ms.
#[test]
fn measured_costs_two_micro_batches() {
    let model = model(1e-3, 1e-6, &[(2, 1e-4)], 0.05);
    let batch = GlobalBatch::from_lens([300, 100, 200]).unwrap();
    let plan = plan(vec![
        vec![group(&[0, 1], &[0]), group(&[2], &[1])],
        vec![group(&[0], &[2])],
    ]);
    let costs = StepCosts::measured(&model, 3, 1000.0).unwrap();
    let step = simulate(
        &plan,
        &batch,
        &uniform(1, 3),
        &costs,
        Overlap::default(),
        &mut (),
    )
    .unwrap();
    close(step.step.get(), 0.565);
    let [first, second] = makespans(&step)[..] else {
        panic!("there are two micro-batches");
    };
    close(first, 0.275);
    close(second, 0.290);
    let usage = |rank: usize| step.ranks[rank].usage;
    close(usage(0).compute.get(), 0.195 + 0.240);
    close(usage(0).exposed_communication.get(), 0.030);
    close(usage(0).idle.get(), 0.0);
    close(usage(1).idle.get(), 0.240);
    close(usage(2).idle.get(), 0.115 + 0.240);
    close(usage(2).overhead.get(), 0.1);
}

/// Two nodes of two devices, a NIC each of 1000 bytes a second. Groups {0, 2} and {1, 3} cross; nothing is computed,
/// nothing gathered. A token passes on 8 bytes in all, over the group's two devices together, without recomputation.
///
/// The first group has 500 tokens: each device shares out 2000 bytes, of which the half for the other node crosses its
/// NIC: 1000. The second group has 1500 tokens: 3000 bytes a NIC. Together they have 500 bytes a second each.
/// One layer has exchanges of 3/8, 1/8, 1/8 and 3/8 of that, but a group goes from one to the next at once, so
/// the first is through with 1000 bytes after 2 s. By then the second has moved 1000; the 2000 left take 2 s alone.
/// The step takes 4 s; the NICs carried 4000 bytes in it, all they could.
#[test]
fn groups_that_cross_share_the_nic() {
    let model = model(0.0, 0.0, &[], 0.0);
    let batch = GlobalBatch::from_lens([500, 1500]).unwrap();
    let groups = vec![
        group(&[0, 2], &[0]).keeping_activations(),
        group(&[1, 3], &[1]).keeping_activations(),
    ];
    let described = Described {
        nic_bytes_per_s: 1000.0,
        ..Described::default()
    };
    let costs = described.costs(&model, 1, 8.0);
    let mut events: Vec<TraceEvent> = Vec::new();
    let cluster = uniform(2, 2);
    let step = simulate(
        &plan(vec![groups]),
        &batch,
        &cluster,
        &costs,
        NO_OVERLAP,
        &mut events,
    )
    .unwrap();
    close(step.step.get(), 4.0);
    let last_exchange = |rank: u32| {
        let of_rank = events.iter().filter(|event| event.rank.0 == rank);
        of_rank
            .filter(|event| event.bytes.is_some())
            .map(|event| event.end().get())
            .fold(0.0, f64::max)
    };
    close(last_exchange(0), 2.0);
    close(last_exchange(3), 4.0);
    let nics: Vec<_> = step.links.iter().skip(4).collect();
    assert_eq!(nics.len(), 2);
    for nic in nics {
        close(nic.bytes, 4000.0);
        close(nic.utilisation, 1.0);
        close(nic.peak_load, 1.0);
    }
}

/// One node of two devices whose links carry 100 bytes a second; three layers of 400 bytes each, of which each rank
/// receives the half it lacks: 200 bytes, 2 s. Gradients are as large: 2 s. Each rank has a sequence of its own
/// with 12 s of computing, not recomputed: per layer 12 / 3 = 4 s, 4/3 s forward and 8/3 s backward.
///
/// Nothing overlaps: forward 3 (2 + 4/3) = 10; backward 3 (8/3 + 2), and two gathers of 2, the last layer's
/// parameters being there: 18. Together 28 s.
///
/// Prefetched, each gather starts when the layer before the one it is for begins, before that waits for its own:
/// ```text
/// 0     gathers 0 and 1 start and share the link: both end at 4
/// 4     forward 0, to 16/3
/// 16/3  gather 2 starts; forward 1, to 20/3
/// 20/3  gather 3, layer 1's for its backward, starts; gather 2 has 200/3 bytes left, at 50 a second: to 8
/// 8     forward 2, to 28/3; gather 3 has 400/3 bytes left: to 28/3
/// 28/3  backward 2, to 12; scatter 2, to 14
/// 14    gather 4, layer 0's, starts: to 16; backward 1, to 50/3; scatter 1, to 56/3
/// 56/3  backward 0, to 64/3; scatter 0, to 70/3
/// ```
/// With scatters overlapped as well, it is as before until backward 2 ends:
/// ```text
/// 12    scatter 2 and gather 4 start and share the link: both end at 16; backward 1, to 44/3
/// 44/3  scatter 1 may start only once scatter 2 has ended: at 16, to 18
/// 16    backward 0, to 56/3; scatter 0, to 62/3
/// ```
#[test]
fn gathers_hide_behind_computing() {
    let model = model(12.0 / 100.0, 0.0, &[], 0.0);
    let batch = GlobalBatch::from_lens([100, 100]).unwrap();
    let groups = vec![
        group(&[0], &[0]).keeping_activations(),
        group(&[1], &[1]).keeping_activations(),
    ];
    let plan = plan(vec![groups]);
    let described = Described {
        device_bytes_per_s: 100.0,
        parameter_bytes: 1200,
        ..Described::default()
    };
    let costs = described.costs(&model, 3, 0.0);
    let time = |overlap| {
        let step = simulate(&plan, &batch, &uniform(1, 2), &costs, overlap, &mut ()).unwrap();
        step.step.get()
    };
    close(time(NO_OVERLAP), 28.0);
    close(time(Overlap::default()), 70.0 / 3.0);
    let both = Overlap {
        prefetch: true,
        scatters: true,
    };
    close(time(both), 62.0 / 3.0);
}

/// One node of two devices whose links carry 100 bytes a second; two layers of 400 bytes each, so each gather brings
/// each rank 200 bytes. The ranks share 100 tokens of 16 bytes without computing: each shares out 800 bytes, of which
/// half crosses its link: 100 in each layer forward and 100 backward.
/// ```text
/// 0     gathers 0 and 1 start and share the link: both end at 4
/// 4     forward 0, to 5
/// 5     gather 2, layer 0's for its backward, and forward 1 start and share the link: forward 1 to 7
/// 7     backward 1 starts; it and the gather have 100 bytes left each: both end at 9
/// ```
#[test]
fn an_exchange_and_a_gather_share_a_link_by_bytes() {
    let model = model(0.0, 0.0, &[], 0.0);
    let batch = GlobalBatch::from_lens([100]).unwrap();
    let plan = plan(vec![vec![group(&[0, 1], &[0]).keeping_activations()]]);
    let described = Described {
        device_bytes_per_s: 100.0,
        parameter_bytes: 800,
        ..Described::default()
    };
    let costs = described.costs(&model, 2, 16.0);
    let mut events: Vec<TraceEvent> = Vec::new();
    simulate(
        &plan,
        &batch,
        &uniform(1, 2),
        &costs,
        Overlap::default(),
        &mut events,
    )
    .unwrap();
    let end_of_exchanges = |layer, pass| {
        let of_pass = events
            .iter()
            .filter(|event| event.activity == Activity::Exchange)
            .filter(|event| (event.layer, event.pass) == (Some(layer), Some(pass)));
        of_pass.map(|event| event.end().get()).fold(0.0, f64::max)
    };
    close(end_of_exchanges(0, Pass::Forward), 5.0);
    close(end_of_exchanges(1, Pass::Forward), 7.0);
    close(end_of_exchanges(1, Pass::Backward), 9.0);
}

/// Ranks 0 and 1 share 100 tokens of 40 ms, ranks 2 and 3 as many; an exchange takes 2 ms a token. At nominal speed a
/// group computes for 2 s and exchanges for 0.2 s. Rank 1 at half speed computes for 4 s, and rank 0 waits 2 s for it:
/// the group takes 4.2 s, and the other, after its 2.2 s, idles for 2 s. An optimiser of 0.5 s takes rank 1 a second.
#[test]
fn a_straggler_holds_its_group_back_and_nobody_else() {
    let model = model(0.04, 0.0, &[(2, 2e-3)], 0.0);
    let batch = GlobalBatch::from_lens([100, 100]).unwrap();
    let plan = plan(vec![vec![group(&[0, 1], &[0]), group(&[2, 3], &[1])]]);
    let cluster = common::with_speeds(2, &[1.0, 0.5, 1.0, 1.0]);
    let costs = StepCosts::measured(&model, 2, 0.0)
        .unwrap()
        .with_optimizer(Seconds::new(0.5).unwrap());
    let step = simulate(&plan, &batch, &cluster, &costs, NO_OVERLAP, &mut ()).unwrap();
    close(makespans(&step)[0], 4.2);
    close(step.step.get(), 5.2);
    close(step.ranks[0].usage.compute.get(), 2.5);
    close(step.ranks[0].usage.idle.get(), 2.0 + 0.5);
    close(step.ranks[1].usage.compute.get(), 5.0);
    close(step.ranks[1].usage.idle.get(), 0.0);
    close(step.ranks[2].usage.idle.get(), 2.0 + 0.5);
    close(step.ranks[2].usage.exposed_communication.get(), 0.2);
}

/// Two nodes of two devices, two NICs each of 50 bytes a second, links of devices of 30; latencies of 0.25 s to the
/// network and 0.1 s inside a node. The model has one layer of 1200 bytes. A gather gives each rank 900: a node
/// receives the 600 it lacks over its two NICs, 300 each, which take 6 s; of a device's 900 bytes 300 come by its own
/// NIC and 600 over its link: 20 s. The link decides, after 0.25 s. The scatter of the gradients takes as long.
///
/// One group of all four ranks with 40 tokens of 6 bytes and no computing: each device shares out 60 bytes, 15 to each
/// rank, over two exchanges forward and two backward. 15 bytes go over its link, 0.5 s, and 30 over its NIC, 0.6 s, which
/// decides. Four exchanges pay 0.25 s each: 1.6 s. In all 2 x 20.25 + 1.6 = 42.1 s.
///
/// Where exchanges reach half of the links and 0.3 of the NICs, they take 1 s and 2 s: in all 2 x 20.25 + 3 = 43.5 s.
#[test]
fn the_fullest_link_of_a_path_decides() {
    let model = model(0.0, 0.0, &[], 0.0);
    let batch = GlobalBatch::from_lens([40]).unwrap();
    let plan = plan(vec![vec![group(&[0, 1, 2, 3], &[0]).keeping_activations()]]);
    let described = Described {
        device_bytes_per_s: 30.0,
        nic_bytes_per_s: 50.0,
        nics_per_node: 2,
        device_latency_s: 0.1,
        nic_latency_s: 0.25,
        parameter_bytes: 1200,
    };
    let costs = described.costs(&model, 1, 6.0);
    let step = simulate(&plan, &batch, &uniform(2, 2), &costs, NO_OVERLAP, &mut ()).unwrap();
    close(step.step.get(), 42.1);
    // By a NIC went 30 bytes of exchanges and twice 300; over a device's link 15 and twice 600.
    for link in &step.links[..4] {
        close(link.bytes, 1215.0);
    }
    for nic in &step.links[4..] {
        close(nic.bytes, 630.0);
    }
    let efficiency = ExchangeEfficiency::new(0.5, 0.3).unwrap();
    let costs = costs.with_exchange_efficiency(efficiency);
    let step = simulate(&plan, &batch, &uniform(2, 2), &costs, NO_OVERLAP, &mut ()).unwrap();
    close(step.step.get(), 43.5);
}

#[test]
fn groups_whose_costs_are_not_known_are_refused() {
    let model = model(1e-3, 1e-6, &[(2, 1e-4)], 0.05);
    let batch = GlobalBatch::from_lens([300]).unwrap();
    let mut host = group(&[0, 1], &[0]);
    host.strategy = Strategy::ulysses(host.degree(), Activations::Host);
    let plan = plan(vec![vec![host]]);
    let costs = StepCosts::measured(&model, 3, 1000.0).unwrap();
    let overlap = Overlap::default();
    let step = simulate(&plan, &batch, &uniform(1, 2), &costs, overlap, &mut ());
    assert_eq!(
        step.unwrap_err().to_string(),
        "group 0 of micro-batch 0 has the strategy 2 host, of which the costs say nothing"
    );
}

/// A ring of four devices whose links carry `bandwidth` bytes a second, with a layer of which a block has 1000 bytes.
///
/// Attention takes each rank 12 s: 4 s forward and 8 s backward, in steps of 1 and 2 s.
fn ring_step(bandwidth: f64) -> f64 {
    let degree = Degree::new(4).unwrap();
    let strategy = Strategy::ring(degree, Activations::Keep);
    let costs = KindCosts {
        quadratic_s_per_token2: 3e-6,
        ..KindCosts::default()
    };
    let model = FittedModel::new(FittedCosts::of_kind(strategy.kind(), costs)).unwrap();
    let ring = Group {
        strategy,
        ..group(&[0, 1, 2, 3], &[0])
    };
    let described = Described {
        device_bytes_per_s: bandwidth,
        ..Described::default()
    };
    let bytes = TokenBytes {
        key_values: 1.0,
        ..TokenBytes::default()
    };
    let costs = described.costs(&model, 1, 0.0).with_token_volume(&bytes);
    let batch = GlobalBatch::from_lens([4000]).unwrap();
    let plan = plan(vec![vec![ring]]);
    let cluster = uniform(1, 4);
    let step = simulate(&plan, &batch, &cluster, &costs, NO_OVERLAP, &mut ());
    step.unwrap().step.get()
}

/// At 1000 bytes a second a block takes a second, as long as a step of the forward, which takes 4 s.
///
/// In the backward, whose steps take 2 s, the gradients of a block follow it one step behind: from the second step on both
/// are on the link, each for 2 s, and the last gradients, with which nothing else is on its way, take a second behind the
/// last step: 9 s.
///
/// At 100 bytes a second a block takes 10 s. The forward takes three of them and a step: 31 s. In the backward the first
/// block has the link to itself for 2 s, then shares it with its gradients: 2 s of it are done, so 8 s take 16. Then the
/// next block sets out at 18, and shares with what is left of the gradients, 2 s of it, until 22; and so on to 38 and 58. The
/// fourth step ends at 60, with the third gradients; the last take 10 s: 70 s.
#[test]
fn steps_of_a_ring_overlap_with_blocks_on_their_way() {
    close(ring_step(1e18), 12.0);
    close(ring_step(1000.0), 4.0 + 9.0);
    close(ring_step(100.0), 31.0 + 70.0);
}

/// A ring of two places of two ranks each, on two nodes, where a place is a node: tokens are exchanged for heads inside the
/// nodes, and blocks cross. A layer passes 8 bytes of a token to heads and back, of which half leave a rank, and blocks
/// have 1 byte of a token. Each rank has 1000 tokens; nothing is computed, activations are kept.
///
/// Over devices' links of 1000 bytes a second 3/4 of 4000 bytes take 3 s, 1/4 1 s: 4 s a pass. Both ranks of a place send
/// their block over the NIC of 1000 bytes a second: 2 s forward; backward 2 s for the block, with the gradients behind it
/// 2 s, and another 2 s for the last ones: 6 s.
#[test]
fn a_place_exchanges_heads_inside_and_passes_blocks_on_outside() {
    let degree = Degree::new(2).unwrap();
    let strategy = Strategy::new(degree, degree, Activations::Keep).unwrap();
    let costs = FittedCosts::of_kind(strategy.kind(), KindCosts::default());
    let model = FittedModel::new(costs).unwrap();
    let both = Group {
        strategy,
        ..group(&[0, 1, 2, 3], &[0])
    };
    let described = Described {
        device_bytes_per_s: 1000.0,
        nic_bytes_per_s: 1000.0,
        ..Described::default()
    };
    let bytes = TokenBytes {
        heads: 8.0,
        key_values: 1.0,
        layer_inputs: 0.0,
    };
    let costs = described.costs(&model, 1, 0.0).with_token_volume(&bytes);
    let batch = GlobalBatch::from_lens([4000]).unwrap();
    let plan = plan(vec![vec![both]]);
    let cluster = uniform(2, 2);
    let step = simulate(&plan, &batch, &cluster, &costs, NO_OVERLAP, &mut ()).unwrap();
    close(step.step.get(), 2.0 * 4.0 + 2.0 + 6.0);
}

/// Three layers of 4 s each on one device: forward 1 s, recomputation and backward 3 s. A layer's input of 2000 bytes takes
/// 2 s over a link of 1000 bytes a second.
///
/// The first input leaves from 0 to 2, the second, which is there at 1, from 2 to 4. The second layer begins at 2, as the
/// first input has left, the third at 4, as the second has; its own input stays. The backward begins at 5; the second input
/// comes back until 7, while the third layer's backward runs until 8; then the first, until 10. The step ends at 5 + 3 x 3.
///
/// By what is measured only the waiting is known, here 1 s.
#[test]
fn layer_inputs_leave_and_come_back_beside_computing() {
    let strategy = Strategy::ulysses(Degree::ONE, Activations::Host);
    let costs = |copy_s_per_token| KindCosts {
        linear_s_per_token: 12e-3,
        host: Some(HostCosts {
            forward_share: 0.25,
            copy_s_per_token,
            bytes_per_token: 0.0,
        }),
        ..KindCosts::default()
    };
    let model =
        |copy| FittedModel::new(FittedCosts::of_kind(strategy.kind(), costs(copy))).unwrap();
    let offloading = Group {
        strategy,
        ..group(&[0], &[0])
    };
    let bytes = TokenBytes {
        layer_inputs: 6.0,
        ..TokenBytes::default()
    };
    let batch = GlobalBatch::from_lens([1000]).unwrap();
    let plan = plan(vec![vec![offloading]]);
    let cluster = uniform(1, 1);
    let host = Link::new(1000.0, Seconds::ZERO).unwrap();
    let alone = model(0.0);
    let over_links = Described::default()
        .costs(&alone, 3, 0.0)
        .with_token_volume(&bytes);
    let exposing = model(4e-3);
    let measured = StepCosts::measured(&exposing, 3, 0.0).unwrap();
    for (costs, seconds) in [
        (over_links, 12.0),
        (over_links.with_host_link(Some(host)), 14.0),
        (measured, 13.0),
    ] {
        let mut events: Vec<TraceEvent> = Vec::new();
        let step = simulate(&plan, &batch, &cluster, &costs, NO_OVERLAP, &mut events).unwrap();
        close(step.step.get(), seconds);
        let copies = events
            .iter()
            .filter(|event| event.activity == Activity::HostCopy);
        let waited: f64 = copies.map(|event| event.duration.get()).sum();
        close(waited, seconds - 12.0);
    }
}

/// With measured costs, a ring takes what its hops leave unhidden beside what it computes: the predicted time.
#[test]
fn measured_rings_take_their_predicted_time() {
    for (ulysses, ring) in [(1, 4), (2, 2)] {
        let degree = |degree| Degree::new(degree).unwrap();
        let recompute = Activations::Recompute;
        let strategy = Strategy::new(degree(ulysses), degree(ring), recompute).unwrap();
        let costs = KindCosts {
            quadratic_s_per_token2: 3e-6,
            linear_s_per_token: 1e-3,
            exchange_s_per_token: vec![(degree(4), 2e-4)],
            ring: Some(RingCosts {
                forward_share: 0.5,
                one_node: HopCosts {
                    forward_s_per_token: vec![(degree(4), 5e-3)],
                    backward_s_per_token: vec![(degree(4), 1e-3)],
                },
                many_nodes: HopCosts::default(),
            }),
            ..KindCosts::default()
        };
        let model = FittedModel::new(FittedCosts::of_kind(strategy.kind(), costs)).unwrap();
        let ring = Group {
            strategy,
            ..group(&[0, 1, 2, 3], &[0])
        };
        let batch = GlobalBatch::from_lens([4000]).unwrap();
        let plan = plan(vec![vec![ring]]);
        let costs = StepCosts::measured(&model, 2, 0.0).unwrap();
        let step = simulate(&plan, &batch, &uniform(1, 4), &costs, NO_OVERLAP, &mut ()).unwrap();
        let predicted = predict_step(&plan, &batch, &uniform(1, 4), &model).get();
        let hidden = 1e-3 * 1000.0 + 3e-6 * 4000.0 * 1000.0 + 2e-4 * 4000.0;
        assert!(predicted > hidden + 1.0, "{predicted} hides all");
        close(step.step.get(), predicted);
    }
}
