//! On whose device results are counted, and for how long.

use lengthwise_comm::{CommError, Communicator, FailureCause, run_ranks};
use lengthwise_core::{Bytes, Rank};
use lengthwise_tensor::{Backend, CpuBackend, TensorError};

use crate::fixture::{Comm, WORLD_SIZES, devices, run, timed};

const ELEMENT: u64 = size_of::<f32>() as u64;

fn held(world: &Comm) -> u64 {
    world.backend().memory().held.0
}

#[test]
fn gathered_and_reduced_rows_are_held_by_the_rank_that_receives_them() {
    for num_ranks in WORLD_SIZES.into_iter().filter(|&n| n > 1) {
        let result = run(num_ranks, |world| {
            let me = world.rank().index();
            let size = num_ranks as u64;
            let device = world.backend().clone();
            let piece = device.zeros(me, 5).unwrap();
            let before = held(&world);
            let gathered = world.all_gather_v(piece.clone())?;
            assert_eq!(held(&world) - before, size * (size - 1) / 2 * 5 * ELEMENT);
            drop(gathered);
            assert_eq!(held(&world), before);

            let counts: Vec<usize> = (0..num_ranks).collect();
            let full = device.zeros(counts.iter().sum(), 3).unwrap();
            let before = held(&world);
            let mine = world.reduce_scatter_v(full.clone(), &counts)?;
            assert_eq!(held(&world) - before, me as u64 * 3 * ELEMENT);
            drop(mine);

            // Large enough for the way in two stages, of which nothing else may be left.
            let large = device.zeros(100, 100).unwrap();
            let before = held(&world);
            let sum = world.all_reduce(large.clone())?;
            world.barrier()?;
            assert_eq!(held(&world) - before, 10_000 * ELEMENT);
            drop(sum);

            let before = held(&world);
            let sent = world.broadcast(Rank(0), (me == 0).then(|| large.clone()))?;
            let copied = if me == 0 { 0 } else { 10_000 };
            assert_eq!(held(&world) - before, copied * ELEMENT);
            drop(sent);
            world.barrier()
        });
        result.unwrap();
    }
}

#[test]
fn exchanged_tensors_are_held_by_their_sender_until_the_receiver_drops_them() {
    let result = run(4, |world| {
        let device = world.backend().clone();
        let send = (0..4).map(|_| device.zeros(8, 2).unwrap()).collect();
        let before = held(&world);
        let received = world.all_to_all_v(send)?;
        assert_eq!(held(&world), before);
        world.barrier()?;
        drop(received);
        world.barrier()?;
        assert_eq!(held(&world), 0);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_group_of_one_copies_nothing() {
    let result = run(2, |world| {
        let alone = world.group(&[world.rank()])?;
        let device = world.backend().clone();
        let tensor = device.zeros(100, 100).unwrap();
        let bytes = held(&world);
        let results = (
            alone.all_gather_v(tensor.clone())?,
            alone.reduce_scatter_v(tensor.clone(), &[100])?,
            alone.all_reduce(tensor.clone())?,
            alone.broadcast(Rank(0), Some(tensor.clone()))?,
            alone.all_to_all_v(vec![tensor])?,
        );
        assert_eq!(held(&world), bytes);
        drop(results);
        assert_eq!(held(&world), 0);
        Ok(())
    });
    result.unwrap();
}

#[test]
fn nothing_is_left_behind_by_calls_whose_results_are_gone() {
    let on_devices = devices(4);
    let result = run_ranks(on_devices.clone(), |world| {
        let device = world.backend().clone();
        let tensor = || device.zeros(96, 96).unwrap();
        for _ in 0..20 {
            world.all_gather_v(tensor())?;
            world.reduce_scatter_v(tensor(), &[0, 90, 6, 0])?;
            world.all_reduce(tensor())?;
            world.all_to_all_v((0..4).map(|_| tensor()).collect())?;
            world.broadcast(Rank(3), (world.rank() == Rank(3)).then(tensor))?;
            drop(world.start_all_gather_v(tensor())?);
        }
        Ok::<_, CommError>(())
    });
    result.unwrap();
    for device in on_devices {
        assert_eq!(device.memory().held, Bytes(0));
        // A rank is at most one call ahead of the slowest, so no more than a few tensors are ever alive.
        assert!(
            device.memory().peak <= Bytes(10 * 96 * 96 * ELEMENT),
            "{:?}",
            device.memory()
        );
    }
}

#[test]
fn a_result_that_does_not_fit_names_the_call_and_the_device() {
    let (failure, _) = timed(|| {
        let mut on_devices = devices(3);
        on_devices[1] = CpuBackend::new(Bytes(1000));
        run_ranks(on_devices, |world| {
            let piece = world.backend().zeros(10, 10).unwrap();
            world.all_gather_v(piece).map(drop)
        })
    });
    let failure = failure.unwrap_err();
    assert_eq!(failure.rank, Rank(1));
    let FailureCause::Error(CommError::Device { error, .. }) = &failure.cause else {
        panic!("{failure:?}");
    };
    let TensorError::OutOfMemory {
        request, budget, ..
    } = error
    else {
        panic!("{failure:?}");
    };
    assert_eq!((*request, *budget), (Bytes(1200), Bytes(1000)));
    assert!(
        failure.to_string().starts_with(
            "rank 1 failed: all_gather_v of 10 columns on rank 1: out of device memory"
        )
    );
}
