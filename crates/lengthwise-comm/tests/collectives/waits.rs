//! Ranks that wait for each other in different calls get one error that says who waits for whom.

use std::thread;
use std::time::Duration;

use lengthwise_comm::{
    CommError, Communicator, FailureCause, Pending, RankFailure, ReduceOp, WorldOptions,
    run_ranks_with,
};
use lengthwise_core::Rank;
use lengthwise_tensor::Backend;

use crate::fixture::{Comm, devices, ranks, run, timed};

type Body = fn(&Comm) -> Result<(), CommError>;

/// The one failure of ranks that can't go on, which is found at once.
fn stuck(num_ranks: usize, body: Body) -> RankFailure<CommError> {
    let (failure, took) = timed(move || run(num_ranks, |world| body(&world)));
    assert!(took < Duration::from_secs(2), "{took:?}");
    failure.unwrap_err()
}

/// What is said of it; which of the ranks finds it is open.
fn message(num_ranks: usize, body: Body) -> String {
    let failure = stuck(num_ranks, body);
    assert!(
        matches!(
            failure.cause,
            FailureCause::Error(CommError::Deadlock { .. })
        ),
        "{failure}"
    );
    failure.cause.to_string()
}

fn in_group(world: &Comm, members: &[u32]) -> Result<(), CommError> {
    world.group(&ranks(members))?.barrier()
}

#[test]
fn two_ranks_have_one_group_and_can_only_differ_in_the_call() {
    let failure = stuck(2, |world| match world.rank() {
        Rank(0) => in_group(world, &[0, 1]),
        _ => {
            let pair = world.group(&ranks(&[1, 0]))?;
            pair.all_reduce_values(&[1.0], ReduceOp::Sum).map(drop)
        }
    });
    insta::assert_snapshot!(failure.cause, @"failed: call 1 of the group [0 1] must be the same on all its ranks, but on rank 0 it is barrier, on rank 1 all_reduce_values (sum) of 1 values");
}

#[test]
fn three_ranks_each_in_a_group_with_the_next() {
    insta::assert_snapshot!(
        message(3, |world| {
            let Rank(me) = world.rank();
            in_group(world, &[me, (me + 1) % 3])
        }),
        @"failed: the ranks wait for each other and can't go on: rank 0 waits for rank 1 in call 1 of the group [0 1] (barrier); rank 1 waits for rank 2 in call 1 of the group [1 2] (barrier); rank 2 waits for rank 0 in call 1 of the group [0 2] (barrier)"
    );
}

#[test]
fn four_ranks_of_which_one_is_gone_from_the_call_of_a_group() {
    // Rank 3 leaves a barrier of its pair out.
    insta::assert_snapshot!(
        message(4, |world| {
            match world.rank().0 {
                me @ (0 | 1) => in_group(world, &[me, 1 - me])?,
                2 => in_group(world, &[2, 3])?,
                _ => {}
            }
            world.all_gather_v(world.backend().zeros(1, 5).unwrap()).map(drop)
        }),
        @"failed: the ranks wait for each other and can't go on: ranks [0 1 3] wait for rank 2 in call 1 of the group [0 1 2 3] (all_gather_v of 5 columns); rank 2 waits for rank 3 in call 1 of the group [2 3] (barrier)"
    );
}

#[test]
fn eight_ranks_in_two_divisions_of_the_world() {
    insta::assert_snapshot!(
        message(8, |world| match world.rank().0 {
            me @ (0 | 1 | 4 | 5) => {
                let first = me & !3;
                in_group(world, &[first, first + 1, first + 2, first + 3])
            }
            _ => in_group(world, &[2, 3, 6, 7]).and_then(|()| world.barrier()),
        }),
        @"failed: the ranks wait for each other and can't go on: ranks [0 1] wait for ranks [2 3] in call 1 of the group [0 1 2 3] (barrier); ranks [2 3 6 7] wait for ranks [0 1 4 5] in call 1 of the group [0 1 2 3 4 5 6 7] (barrier); ranks [4 5] wait for ranks [6 7] in call 1 of the group [4 5 6 7] (barrier)"
    );
}

#[test]
fn a_gather_and_a_broadcast_that_wait_for_each_other() {
    insta::assert_snapshot!(
        message(3, |world| {
            let pair = ranks(&[0, 1]);
            match world.rank() {
                Rank(0) => {
                    let piece = world.backend().zeros(1, 1).unwrap();
                    world.start_all_gather_v(piece)?.wait().map(drop)
                }
                Rank(1) => world.group(&pair)?.broadcast(Rank(0), None).map(drop),
                _ => world.all_gather_v(world.backend().zeros(1, 1).unwrap()).map(drop),
            }
        }),
        @"failed: the ranks wait for each other and can't go on: ranks [0 2] wait for rank 1 in call 1 of the group [0 1 2] (all_gather_v of 1 columns); rank 1 waits for rank 0 in call 1 of the group [0 1] (broadcast from group rank 0)"
    );
}

#[test]
fn ranks_that_have_finished_are_no_way_out() {
    // Nobody waits for rank 3, which finishes last.
    insta::assert_snapshot!(
        message(4, |world| match world.rank().0 {
            3 => {
                thread::sleep(Duration::from_millis(30));
                Ok(())
            }
            me => in_group(world, &[me, (me + 1) % 3]),
        }),
        @"failed: the ranks wait for each other and can't go on: rank 0 waits for rank 1 in call 1 of the group [0 1] (barrier); rank 1 waits for rank 2 in call 1 of the group [1 2] (barrier); rank 2 waits for rank 0 in call 1 of the group [0 2] (barrier)"
    );
}

#[test]
fn a_rank_that_has_finished_is_named_where_others_wait_for_each_other_too() {
    for _ in 0..20 {
        // Rank 3 finishes, for which rank 2 waits; ranks 0 and 1 wait for rank 2.
        let failure = stuck(4, |world| match world.rank().0 {
            0 | 1 => in_group(world, &[0, 1, 2]),
            2 => in_group(world, &[2, 3]),
            _ => {
                thread::sleep(Duration::from_millis(5));
                Ok(())
            }
        });
        assert!(
            matches!(
                failure.cause,
                FailureCause::Error(CommError::PeerFinished { rank: Rank(3), .. })
            ),
            "{failure}"
        );
    }
}

#[test]
fn the_ranks_that_do_not_find_it_get_it_from_the_one_that_does() {
    let (failure, _) = timed(|| {
        run(4, |world| {
            let Rank(me) = world.rank();
            let error = in_group(&world, &[me, (me + 1) % 4]).unwrap_err();
            // It stays that way.
            assert!(matches!(world.barrier(), Err(CommError::PeerFailed { .. })));
            Err::<(), _>(error)
        })
    });
    let failure = failure.unwrap_err();
    let FailureCause::Error(CommError::Deadlock { waits }) = failure.cause else {
        panic!("{failure}");
    };
    let waiting: Vec<_> = waits.iter().flat_map(|wait| wait.ranks.clone()).collect();
    assert_eq!(waiting, ranks(&[0, 1, 2, 3]));
    assert!(
        waits
            .iter()
            .all(|wait| wait.position == 1 && wait.members.len() == 2)
    );
}

/// Ranks of which the last computes for as long as it says, while the others wait for it no longer than `longest_wait`.
fn late(num_ranks: usize, longest_wait: Duration, late: Duration) -> Result<(), String> {
    let (result, _) = timed(move || {
        let options = WorldOptions {
            longest_wait,
            ..WorldOptions::default()
        };
        run_ranks_with(devices(num_ranks), &options, |world| {
            if world.rank().index() + 1 == num_ranks {
                thread::sleep(late);
            }
            world.barrier()
        })
    });
    result
        .map(drop)
        .map_err(|failure| failure.cause.to_string())
}

#[test]
fn who_computes_for_too_long_is_named_with_those_that_wait() {
    let after = |num_ranks| {
        late(
            num_ranks,
            Duration::from_millis(200),
            Duration::from_secs(1),
        )
        .unwrap_err()
    };
    insta::assert_snapshot!(after(2), @"failed: rank 0 has waited for 200ms, which is as long as a call may wait: rank 0 waits for rank 1 in call 1 of the group [0 1] (barrier); rank 1 waits for nobody");
    for num_ranks in [3, 4, 8] {
        assert!(after(num_ranks).ends_with(&format!("rank {} waits for nobody", num_ranks - 1)));
    }
}

#[test]
fn who_computes_for_less_than_that_is_waited_for() {
    for num_ranks in [2, 3, 4, 8] {
        late(
            num_ranks,
            Duration::from_secs(10),
            Duration::from_millis(100),
        )
        .unwrap();
    }
}
