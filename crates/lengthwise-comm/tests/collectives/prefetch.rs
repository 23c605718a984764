//! Gathers that are started long before they are waited for.

use std::sync::Mutex;
use std::sync::mpsc;

use lengthwise_comm::{Communicator, Pending};
use lengthwise_core::Rank;
use lengthwise_tensor::Backend;

use crate::fixture::{WORLD_SIZES, run};

#[test]
fn starting_a_gather_never_blocks() {
    // Rank 1 makes its calls only after rank 0 has made all of its own.
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let result = run(2, |world| {
        let device = world.backend().clone();
        if world.rank() == Rank(1) {
            receiver.lock().unwrap().recv().unwrap();
        }
        let pending: Result<Vec<_>, _> = (0..100)
            .map(|call| {
                let piece = device.from_slice(1, 1, &[call as f32]).unwrap();
                world.start_all_gather_v(piece)
            })
            .collect();
        if world.rank() == Rank(0) {
            sender.send(()).unwrap();
        }
        for (call, pending) in pending?.into_iter().enumerate() {
            assert_eq!(device.to_vec(&pending.wait()?), [call as f32; 2]);
        }
        Ok(())
    });
    result.unwrap();
}

#[test]
fn gathers_may_be_waited_for_in_any_order_among_other_calls_or_dropped() {
    for num_ranks in WORLD_SIZES {
        let result = run(num_ranks, |world| {
            let me = world.rank().index();
            let device = world.backend().clone();
            let piece = |call: usize| {
                let elements = vec![(10 * me + call) as f32; me % 2];
                device.from_slice(me % 2, 1, &elements).unwrap()
            };
            let mut pending = Vec::new();
            for call in 0..4 {
                pending.push(Some(world.start_all_gather_v(piece(call))?));
                world.barrier()?;
            }
            // Another order on every rank; two ranks in three drop one of them.
            for at in 0..4 {
                let call = (at * 3 + me) % 4;
                let gather = pending[call].take().unwrap();
                if call == me % 3 {
                    continue;
                }
                let gathered = device.to_vec(&gather.wait()?);
                let odd = (0..num_ranks).filter(|rank| rank % 2 == 1);
                let expected: Vec<f32> = odd.map(|rank| (10 * rank + call) as f32).collect();
                assert_eq!(gathered, expected);
            }
            world.barrier()
        });
        result.unwrap();
    }
}

#[test]
fn exchanges_are_on_their_way_among_other_calls() {
    for num_ranks in WORLD_SIZES {
        let result = run(num_ranks, |world| {
            let me = world.rank().index();
            let device = world.backend().clone();
            // To the next rank alone, and another number in each call.
            let send = |call: usize| {
                let to = (me + 1) % num_ranks;
                let elements = vec![(10 * me + call) as f32];
                let parts = (0..num_ranks).map(|rank| match rank == to {
                    true => device.from_slice(1, 1, &elements),
                    false => device.zeros(0, 1),
                });
                parts.collect::<Result<Vec<_>, _>>().unwrap()
            };
            let first = world.start_all_to_all_v(send(0))?;
            let dropped = world.start_all_to_all_v(send(1))?;
            world.barrier()?;
            let last = world.start_all_to_all_v(send(2))?;
            drop(dropped);
            let from = (me + num_ranks - 1) % num_ranks;
            for (call, pending) in [(2, last), (0, first)] {
                let received = pending.wait()?;
                let received: Vec<_> = received.iter().map(|part| device.to_vec(part)).collect();
                let mut expected = vec![Vec::new(); num_ranks];
                expected[from] = vec![(10 * from + call) as f32];
                assert_eq!(received, expected);
            }
            Ok(())
        });
        result.unwrap();
    }
}
