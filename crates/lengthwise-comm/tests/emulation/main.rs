//! Emulated clusters: calls take at least what their links need, devices what their part of a core needs, and nothing
//! else changes.

use std::time::{Duration, Instant};

use lengthwise_comm::{
    CommError, Communicator, Emulation, FailureCause, Pending, RankFailure, ReduceOp,
    ThreadCommunicator, WorldOptions, run_ranks, run_ranks_with,
};
use lengthwise_core::{Bytes, Cluster, Device, Rank, Seconds, Speed};
use lengthwise_cost::{ClusterLinks, Link};
use lengthwise_tensor::{Backend, CpuBackend};

type World = ThreadCommunicator<CpuBackend>;

/// Links in bytes a second; no latency.
fn links(device: f64, nic: f64) -> ClusterLinks {
    ClusterLinks {
        device: Link::new(device, Seconds::ZERO).unwrap(),
        nics_per_node: 1,
        nic: Link::new(nic, Seconds::ZERO).unwrap(),
    }
}

fn emulation(nodes: &[&[f64]], links: ClusterLinks, core_fraction: f64) -> Emulation {
    let device = |&speed| Device::new(Bytes::from_mib(8), Speed::new(speed).unwrap());
    let nodes = nodes.iter().map(|node| node.iter().map(device).collect());
    let cluster = Cluster::from_nodes(nodes.collect()).unwrap();
    // The number of cores of this machine does not matter here.
    Emulation::new(cluster, links, Some(core_fraction), 16).unwrap()
}

fn run<R: Send>(
    emulation: &Emulation,
    body: impl Fn(World) -> Result<R, CommError> + Sync,
) -> Vec<R> {
    try_run(emulation, body).unwrap()
}

fn try_run<R: Send>(
    emulation: &Emulation,
    body: impl Fn(World) -> Result<R, CommError> + Sync,
) -> Result<Vec<R>, RankFailure<CommError>> {
    let options = WorldOptions {
        emulation: Some(emulation.clone()),
        ..WorldOptions::default()
    };
    run_ranks_with(backends(emulation.cluster().num_devices()), &options, body)
}

fn backends(num_ranks: u32) -> Vec<CpuBackend> {
    let backend = |_| CpuBackend::new(Bytes::from_mib(8));
    (0..num_ranks).map(backend).collect()
}

/// The time that a call takes.
#[derive(Clone, Copy, Debug)]
struct Took {
    /// In seconds that really pass. How late this thread was when it began to look does not count.
    really: f64,
    /// By the rank's clock, which a busy machine does not delay.
    by_clock: f64,
}

/// The time that `call` takes where all ranks start it at once.
fn timed<X>(world: &World, call: impl FnOnce() -> Result<X, CommError>) -> Result<Took, CommError> {
    world.barrier()?;
    let (start, clock) = (Instant::now(), world.emulated_time().unwrap());
    call()?;
    Ok(Took {
        really: start.elapsed().as_secs_f64(),
        by_clock: (world.emulated_time().unwrap() - clock).get(),
    })
}

/// Whether a call took `seconds`, and a little for what else its rank did.
fn is_about(took: Took, seconds: f64) -> bool {
    (seconds..1.2 * seconds + 0.01).contains(&took.by_clock)
}

/// One tensor of `bytes` for each member.
fn shares(group: &World, bytes: usize) -> Vec<<CpuBackend as Backend>::Tensor> {
    let share = || group.backend().zeros(bytes / 4, 1).unwrap();
    (0..group.size()).map(|_| share()).collect()
}

fn compute(cpu_time: Duration) {
    let thread_time = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let end = thread_time() + cpu_time;
    while thread_time() < end {
        std::hint::spin_loop();
    }
}

#[test]
fn an_exchange_takes_at_least_what_the_links_need() {
    for num_ranks in [2, 3, 4] {
        let speeds = vec![1.0; num_ranks];
        let emulation = emulation(&[&speeds], links(40_000.0, 1.0), 1.0);
        let times = run(&emulation, |world| {
            timed(&world, || world.all_to_all_v(shares(&world, 4000)))
        });
        // Each rank sends 4,000 bytes to every other.
        let least = 0.1 * (num_ranks - 1) as f64;
        for took in times {
            assert!(took.really >= least, "{num_ranks} ranks: {took:?}");
            assert!(is_about(took, least), "{num_ranks} ranks: {took:?}");
        }
    }
}

#[test]
fn every_call_of_all_ranks_takes_what_a_ring_needs() {
    // A node of 2 and one of 1: the NICs carry what the other node lacks.
    for (name, least) in [("gather", 0.3), ("scatter", 0.2), ("reduce", 0.4)] {
        let emulation = emulation(&[&[1.0, 1.0], &[1.0]], links(1e9, 20_000.0), 1.0);
        let times = run(&emulation, |world| {
            // 9,000 bytes of which each rank has, or gets, a third. Each of the two nodes lacks at least half as much
            // again as it has in the ring's 6,000 bytes a rank.
            let backend = world.backend().clone();
            timed(&world, || match name {
                "gather" => world.all_gather_v(backend.zeros(750, 1).unwrap()).map(drop),
                "scatter" => {
                    let full = backend.zeros(1500, 1).unwrap();
                    world.reduce_scatter_v(full, &[500, 500, 500]).map(drop)
                }
                _ => world.all_reduce(backend.zeros(1500, 1).unwrap()).map(drop),
            })
        });
        for took in times {
            assert!(took.really >= least, "{name}: {took:?}");
            assert!(is_about(took, least), "{name}: {took:?}");
        }
    }
}

#[test]
fn groups_that_cross_nodes_share_their_nics() {
    let emulation = emulation(&[&[1.0, 1.0], &[1.0, 1.0]], links(1e9, 40_000.0), 1.0);
    let times = run(&emulation, |world| {
        let Rank(me) = world.rank();
        let pair = world.group(&[Rank(me % 2), Rank(me % 2 + 2)])?;
        let both = timed(&world, || pair.all_to_all_v(shares(&pair, 4000)))?;
        let alone = timed(&world, || match me % 2 {
            0 => pair.all_to_all_v(shares(&pair, 4000)).map(drop),
            _ => Ok(()),
        })?;
        let inside = world.group(&[Rank(me / 2 * 2), Rank(me / 2 * 2 + 1)])?;
        let inside = timed(&world, || inside.all_to_all_v(shares(&inside, 4000)))?;
        Ok((both, alone, inside))
    });
    for (rank, (both, alone, inside)) in times.into_iter().enumerate() {
        // One of them starts a little before the other.
        assert!(both.really >= 0.19, "sharing, rank {rank}: {both:?}");
        assert!(is_about(both, 0.19), "sharing, rank {rank}: {both:?}");
        if rank % 2 == 0 {
            assert!(alone.really >= 0.1, "alone, rank {rank}: {alone:?}");
            assert!(is_about(alone, 0.1), "alone, rank {rank}: {alone:?}");
        }
        assert!(
            is_about(inside, 4000.0 / 1e9),
            "inside its node, rank {rank}: {inside:?}"
        );
    }
}

/// Two pairs over NICs of 40,000 bytes a second, one with 8,000 bytes and one with 800 for each other: 20,000 each until
/// the small exchange ends at 0.04 s; all 8,800 bytes take 0.22 s.
#[test]
fn a_small_exchange_does_not_wait_for_a_large_one() {
    let emulation = emulation(&[&[1.0, 1.0], &[1.0, 1.0]], links(1e9, 40_000.0), 1.0);
    let times = run(&emulation, |world| {
        let Rank(me) = world.rank();
        let pair = world.group(&[Rank(me % 2), Rank(me % 2 + 2)])?;
        let bytes = [8000, 800][me as usize % 2];
        timed(&world, || pair.all_to_all_v(shares(&pair, bytes)))
    });
    for (rank, took) in times.into_iter().enumerate() {
        // One of them starts a little before the other.
        let expected = [0.21, 0.035][rank % 2];
        assert!(is_about(took, expected), "rank {rank}: {took:?}");
    }
}

/// Each of three nodes receives 1,000 bytes over its NIC of 40,000 bytes a second, while two of them exchange 4,000:
/// 20,000 each until the gather ends at 0.05 s; all 5,000 bytes take 0.125 s.
#[test]
fn a_small_gather_does_not_wait_for_a_large_exchange() {
    let emulation = emulation(&[&[1.0], &[1.0], &[1.0]], links(1e9, 40_000.0), 1.0);
    let times = run(&emulation, |world| {
        let piece = world.backend().zeros(125, 1).unwrap();
        timed(&world, || {
            let gather = world.start_all_gather_v(piece)?;
            if world.rank() != Rank(2) {
                let pair = world.group(&[Rank(0), Rank(1)])?;
                pair.all_to_all_v(shares(&pair, 4000))?;
            }
            gather.wait().map(drop)
        })
    });
    for (rank, (took, expected)) in times.into_iter().zip([0.12, 0.12, 0.048]).enumerate() {
        // Ranks that exchange start a little after the gather.
        assert!(is_about(took, expected), "rank {rank}: {took:?}");
    }
}

fn with_host(bandwidth: f64) -> Emulation {
    let link = Link::new(bandwidth, Seconds::ZERO).unwrap();
    emulation(&[&[1.0, 1.0]], links(1e9, 1.0), 1.0).with_host_link(link)
}

#[test]
fn copies_to_the_host_and_back_take_what_their_link_needs() {
    let times = run(&with_host(40_000.0), |world| {
        let tensor = world.backend().zeros(1000, 1).unwrap();
        let there = |tensor| world.start_copy_to_host(tensor)?.wait();
        let one_way = timed(&world, || there(tensor.clone()).map(drop))?;
        // One direction does not wait for the other, nor a device for its neighbour; what goes the same way does.
        let on_host = there(tensor.clone())?;
        let both_ways = timed(&world, || {
            let leaving = world.start_copy_to_host(tensor.clone())?;
            let coming = world.start_copy_from_host(on_host)?;
            coming.wait()?;
            leaving.wait().map(drop)
        })?;
        let twice = timed(&world, || {
            let first = world.start_copy_to_host(tensor.clone())?;
            world.start_copy_to_host(tensor.clone())?.wait()?;
            first.wait().map(drop)
        })?;
        Ok([one_way, both_ways, twice])
    });
    for (rank, took) in times.into_iter().enumerate() {
        for (took, expected) in took.into_iter().zip([0.1, 0.1, 0.2]) {
            assert!(took.really >= expected, "rank {rank}: {took:?}");
            assert!(is_about(took, expected), "rank {rank}: {took:?}");
        }
    }
}

#[test]
fn computing_hides_a_copy_that_is_faster() {
    for (bandwidth, expected) in [(80_000.0, 0.1), (20_000.0, 0.2)] {
        let times = run(&with_host(bandwidth), |world| {
            let tensor = world.backend().zeros(1000, 1).unwrap();
            timed(&world, || {
                let leaving = world.start_copy_to_host(tensor)?;
                compute(Duration::from_millis(100));
                leaving.wait().map(drop)
            })
        });
        for took in times {
            assert!(is_about(took, expected), "{bandwidth}: {took:?}");
        }
    }
}

#[test]
fn a_tensor_is_held_on_the_device_until_it_has_left_by_the_clock() {
    run(&with_host(40_000.0), |world| {
        let backend = world.backend();
        let leaving = world.start_copy_to_host(backend.zeros(1000, 1).unwrap())?;
        assert_eq!(backend.memory().held, Bytes(4000));
        let on_host = leaving.wait()?;
        assert_eq!(backend.memory().held, Bytes(0));
        assert_eq!(backend.host_memory().held, Bytes(4000));
        let back = world.start_copy_from_host(on_host)?.wait()?;
        assert_eq!(backend.memory().held, Bytes(4000));
        assert_eq!(backend.to_vec(&back), [0.0; 1000]);
        Ok(())
    });
}

#[test]
fn a_rank_that_waits_for_its_host_ends_when_another_fails() {
    let start = Instant::now();
    // For a minute, but for the failure.
    let failed = try_run(&with_host(4000.0 / 60.0), |world| {
        if world.rank() == Rank(1) {
            let tensor = world.backend().zeros(1000, 1).unwrap();
            return world.start_copy_to_host(tensor)?.wait().map(drop);
        }
        std::thread::sleep(Duration::from_millis(20));
        Err(CommError::EmptyGroup)
    });
    assert_eq!(failed.unwrap_err().rank, Rank(0));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn devices_keep_their_speeds() {
    let emulation = emulation(&[&[1.0, 0.5, 0.25]], links(1e9, 1.0), 0.2);
    let work = || {
        compute(Duration::from_millis(10));
        Ok(())
    };
    let times = run(&emulation, |world| timed(&world, work));
    for (rank, (took, seconds)) in times.into_iter().zip([0.05, 0.1, 0.2]).enumerate() {
        assert!(
            is_about(took, seconds),
            "rank {rank}: {took:?} of {seconds} s"
        );
    }
    // All wait for the slowest, really.
    let times = run(&emulation, |world| {
        timed(&world, || {
            work().and_then(|()| world.all_reduce_values(&[1.0], ReduceOp::Sum))
        })
    });
    for took in times {
        // A thread may be late when it looks at the clock first, and make up for it while computing.
        assert!(took.really >= 0.15, "{took:?}");
        assert!(is_about(took, 0.2), "{took:?}");
    }
}

#[test]
fn what_is_gathered_ahead_hides_behind_computing() {
    let emulation = emulation(&[&[1.0], &[1.0]], links(1e9, 40_000.0), 0.1);
    let times = run(&emulation, |world| {
        let piece = || world.backend().zeros(1000, 1).unwrap();
        let ahead = timed(&world, || {
            let gather = world.start_all_gather_v(piece())?;
            compute(Duration::from_millis(15));
            gather.wait().map(drop)
        })?;
        let at_once = timed(&world, || {
            world.all_gather_v(piece())?;
            compute(Duration::from_millis(15));
            Ok(())
        })?;
        Ok((ahead, at_once))
    });
    for (ahead, at_once) in times {
        // 0.1 s on the NICs, 0.15 s of computing.
        assert!(is_about(ahead, 0.15), "{ahead:?}");
        assert!(is_about(at_once, 0.25), "{at_once:?}");
    }
}

#[test]
fn results_are_those_of_any_other_run() {
    let body = |world: World| {
        let me = world.rank().index();
        let backend = world.backend().clone();
        let tensor = |rows: usize| {
            let elements: Vec<f32> = (0..rows).map(|row| (row * 7 + me) as f32 * 0.1).collect();
            backend.from_slice(rows, 1, &elements).unwrap()
        };
        let sent = (0..world.size()).map(|to| tensor(to + 1)).collect();
        let mut results: Vec<Vec<f32>> = Vec::new();
        results.extend(world.all_to_all_v(sent)?.iter().map(|x| backend.to_vec(x)));
        results.push(backend.to_vec(&world.all_gather_v(tensor(me))?));
        results.push(backend.to_vec(&world.all_reduce(tensor(5))?));
        results.push(backend.to_vec(&world.all_reduce(tensor(10_000))?));
        let sent = (me == 1).then(|| tensor(3));
        results.push(backend.to_vec(&world.broadcast(Rank(1), sent)?));
        let counts = vec![2; world.size()];
        results.push(backend.to_vec(&world.reduce_scatter_v(tensor(2 * world.size()), &counts)?));
        Ok::<_, CommError>(results)
    };
    for num_ranks in [2, 3, 4] {
        let speeds = vec![1.0; num_ranks - 1];
        let emulation = emulation(&[&speeds, &[0.5]], links(1e6, 1e6), 0.5);
        let plain = run_ranks(backends(num_ranks as u32), body).unwrap();
        assert_eq!(run(&emulation, body), plain);
    }
}

#[test]
fn a_rank_that_fails_ends_calls_that_are_under_way() {
    for num_ranks in [2, 3, 4] {
        let speeds = vec![1.0; num_ranks];
        // The exchange would take days.
        let emulation = emulation(&[&speeds], links(0.01, 1.0), 1.0);
        let start = Instant::now();
        let failure = try_run(&emulation, |world| {
            let gather = world.start_all_gather_v(world.backend().zeros(1000, 1).unwrap())?;
            if world.rank() == Rank(1) {
                std::thread::sleep(Duration::from_millis(50));
                return Err(CommError::EmptyGroup);
            }
            gather.wait()
        });
        assert_eq!(failure.unwrap_err().rank, Rank(1));
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn fewer_cores_than_ranks_make_nobody_wait_for_ever() {
    let device = Device::new(Bytes::from_mib(8), Speed::NOMINAL);
    let cluster = Cluster::uniform(2, 4, device).unwrap();
    let emulation = Emulation::new(cluster, links(1e6, 1e5), None, 1).unwrap();
    let rounds = run(&emulation, |world| {
        for _ in 0..20 {
            compute(Duration::from_micros(200));
            world.all_reduce_values(&[1.0], ReduceOp::Sum)?;
            let Rank(me) = world.rank();
            let pair = world.group(&[Rank(me % 4), Rank(me % 4 + 4)])?;
            pair.all_to_all_v(shares(&pair, 40))?;
        }
        Ok(world.num_calls())
    });
    assert_eq!(rounds, [20; 8]);
}

#[test]
fn ranks_that_wait_for_each_other_are_found_out_at_the_pace_of_a_cluster_too() {
    for num_ranks in [3, 4, 8] {
        let speeds = vec![1.0; num_ranks as usize];
        let emulation = emulation(&[&speeds], links(1e6, 1e6), 1.0);
        let start = Instant::now();
        let failure = try_run(&emulation, |world| {
            let Rank(me) = world.rank();
            world.barrier()?;
            let with_next = world.group(&[Rank(me), Rank((me + 1) % num_ranks)])?;
            with_next.barrier()
        });
        assert!(start.elapsed() < Duration::from_secs(2));
        let cause = failure.unwrap_err().cause;
        let FailureCause::Error(CommError::Deadlock { waits }) = cause else {
            panic!("{cause}");
        };
        assert_eq!(waits.len(), num_ranks as usize);
    }
}
