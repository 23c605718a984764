//! Rings on emulated links: what is sent travels while blocks are computed.

use lengthwise_comm::{Communicator, Emulation, WorldOptions, run_ranks_with};
use lengthwise_core::{Bytes, Cluster, Device, Seconds, Speed};
use lengthwise_cost::{ClusterLinks, Link};
use lengthwise_tensor::{AttentionLayout, Backend, CpuBackend};

use super::{Attended, KeyValues, Places, backward, forward};
use crate::TrainError;

const PLACES: usize = 8;
const TOKENS: usize = 4096;
const HEADS: usize = 4;
const HEAD_DIM: usize = 32;

/// The keys and values of a place.
const BLOCK_BYTES: f64 = (2 * TOKENS / PLACES * HEADS * HEAD_DIM * 4) as f64;

/// The emulated time that attention takes in a ring, forward and backward, on links in bytes a second.
fn times(bandwidth: f64) -> [f64; 2] {
    let link = Link::new(bandwidth, Seconds::ZERO).unwrap();
    let links = ClusterLinks {
        device: link,
        nics_per_node: 1,
        nic: link,
    };
    let device = Device::new(Bytes::from_mib(256), Speed::NOMINAL);
    let cluster = Cluster::uniform(1, PLACES as u32, device).unwrap();
    let emulation = Emulation::new(cluster, links, Some(0.125), 2).unwrap();
    let options = WorldOptions {
        emulation: Some(emulation),
        ..WorldOptions::default()
    };
    let backends = vec![(); PLACES].into_iter();
    let backends = backends
        .map(|()| CpuBackend::new(device.memory()))
        .collect();
    let of_ranks = run_ranks_with(backends, &options, |ring| {
        let backend = ring.backend();
        let place = ring.rank().index();
        let places = Places::new([TOKENS], PLACES);
        let heads = AttentionLayout::packed([], (0..HEADS).collect(), HEADS, HEAD_DIM);
        let layouts: Vec<_> = (0..PLACES)
            .map(|source| places.attention(place, source, &heads))
            .collect();
        let tensor = || {
            let width = HEADS * HEAD_DIM;
            let rows = places.num_tokens(place);
            let elements: Vec<f32> = (0..rows * width).map(|at| (at % 7) as f32 / 7.0).collect();
            backend.from_slice(rows, width, &elements)
        };
        let (q, d_out) = (tensor()?, tensor()?);
        let mine = KeyValues {
            k: tensor()?,
            v: tensor()?,
        };
        let now = || ring.emulated_time().unwrap_or(Seconds::ZERO).get();
        ring.barrier()?;
        let began = now();
        let (out, lse) = forward(backend, Some(&ring), &layouts, &q, &mine)?;
        let forward_took = now() - began;
        let attended = Attended {
            out: &out,
            lse: &lse,
            d_out: &d_out,
        };
        ring.barrier()?;
        let began = now();
        backward(backend, Some(&ring), &layouts, &q, mine, attended)?;
        Ok::<_, TrainError>([forward_took, now() - began])
    });
    let of_ranks = of_ranks.unwrap_or_else(|failure| panic!("{failure}"));
    [0, 1].map(|way| of_ranks.iter().map(|took| took[way]).fold(0.0, f64::max))
}

/// Other processes may get in the way of one attempt.
const ATTEMPTS: usize = 8;

/// On links with which a hop's sending takes as long as its computing, the forward takes as long as computing alone, and the
/// backward that and the way home of the last gradients, which is half a hop. If the seven hops that send did so before or
/// after they compute, either would take 1.88 times as long.
#[test]
fn a_hop_takes_as_long_as_the_longer_of_computing_and_sending() {
    // In the backward the gradients of a block travel behind it.
    let sent = [BLOCK_BYTES, 2.0 * BLOCK_BYTES];
    for way in [0, 1] {
        let mut ratios = Vec::new();
        let overlaps = (0..ATTEMPTS).any(|_| {
            // Before and after: what slows this machine down meanwhile slows both.
            let before = times(1e12)[way];
            let took = times(sent[way] / (before / PLACES as f64))[way];
            let ratio = took / before.max(times(1e12)[way]);
            ratios.push(ratio);
            (0.75..=1.25).contains(&ratio)
        });
        assert!(overlaps, "{ratios:?}");
    }
}
