//! Calls, bytes and waiting are counted.

use std::thread;
use std::time::Duration;

use lengthwise_comm::{Communicator, ReduceOp};
use lengthwise_core::{Bytes, Rank};

use crate::fixture::{ranks, run};
use lengthwise_tensor::Backend;

#[test]
fn bytes_are_counted_once_for_each_receiver() {
    let result = run(3, |world| {
        let me = world.rank().index();
        let device = world.backend().clone();
        let tensor = |rows| device.zeros(rows, 2).unwrap();
        let row = 8;
        let mut last = world.statistics();
        let mut added = || {
            let now = world.statistics();
            let added = now.since(&last);
            last = now;
            (added.num_calls, added.bytes_sent)
        };
        // To itself it sends nothing.
        world.all_to_all_v((1..4).map(tensor).collect())?;
        assert_eq!(added(), (1, Bytes(row * [5, 4, 3][me])));
        world.all_gather_v(tensor(4))?;
        assert_eq!(added(), (1, Bytes(2 * 4 * row)));
        world.reduce_scatter_v(tensor(6), &[1, 2, 3])?;
        assert_eq!(added(), (1, Bytes(row * [5, 4, 3][me])));
        world.all_reduce(tensor(5))?;
        assert_eq!(added(), (1, Bytes(2 * 5 * row)));
        // Two thirds of it to be added up by others, and its own third to both of them.
        world.all_reduce(tensor(6000))?;
        assert_eq!(added(), (1, Bytes((4000 + 2 * 2000) * row)));
        world.all_reduce_values(&[1.0; 7], ReduceOp::Sum)?;
        assert_eq!(added(), (1, Bytes(2 * 7 * 8)));
        world.broadcast(Rank(1), (me == 1).then(|| tensor(3)))?;
        assert_eq!(added(), (1, Bytes([0, 2 * 3 * row, 0][me])));
        world.barrier()?;
        assert_eq!(added(), (1, Bytes(0)));
        // A group's calls are its members' calls; alone, nothing is sent.
        let alone = world.group(&[world.rank()])?;
        alone.all_reduce(tensor(5))?;
        assert_eq!(added(), (1, Bytes(0)));
        assert_eq!((alone.num_calls(), world.num_calls()), (1, 8));
        Ok(())
    });
    result.unwrap();
}

#[test]
fn groups_are_counted_for_the_whole_world() {
    let result = run(4, |world| {
        let me = world.rank().0;
        world.group(&ranks(&[me & !1, me | 1]))?.barrier()?;
        world.barrier()?;
        Ok(world.statistics().num_groups)
    });
    assert_eq!(result.unwrap(), [3; 4]);
}

#[test]
fn time_is_counted_as_waiting_only_where_others_are_late() {
    let late = Duration::from_millis(60);
    let waits = run(3, |world| {
        if world.rank() == Rank(2) {
            thread::sleep(late);
        }
        world.barrier()?;
        Ok(world.statistics().measured_wait.get())
    });
    let waits = waits.unwrap();
    assert!(
        waits[0] > 0.5 * late.as_secs_f64() && waits[1] > 0.5 * late.as_secs_f64(),
        "{waits:?}"
    );
    assert!(waits[2] < 0.5 * late.as_secs_f64(), "{waits:?}");
}
