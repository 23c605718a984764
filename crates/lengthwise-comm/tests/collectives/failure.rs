//! A rank that ends, in whatever way, never leaves others waiting.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use lengthwise_comm::{
    Call, CommError, Communicator, FailureCause, Pending, RankFailure, ReduceOp, run_ranks,
};
use lengthwise_core::Rank;
use lengthwise_tensor::Backend;

use crate::fixture::{Comm, devices, ranks, timed};

/// Every collective in which a rank may wait.
const WAITS: [(&str, Wait); 9] = [
    ("all_to_all_v", |world| {
        world
            .all_to_all_v(vec![zeros(world); world.size()])
            .map(drop)
    }),
    ("all_gather_v", |world| {
        world.all_gather_v(zeros(world)).map(drop)
    }),
    ("pending gather", |world| {
        let pending = world.start_all_gather_v(zeros(world))?;
        pending.wait().map(drop)
    }),
    ("reduce_scatter_v", |world| {
        let counts: Vec<usize> = (0..world.size())
            .map(|rank| usize::from(rank < 3))
            .collect();
        world.reduce_scatter_v(zeros(world), &counts).map(drop)
    }),
    ("all_reduce", |world| {
        world.all_reduce(zeros(world)).map(drop)
    }),
    ("all_reduce of much", |world| {
        let much = world.backend().zeros(300, 300).unwrap();
        world.all_reduce(much).map(drop)
    }),
    ("all_reduce_values", |world| {
        world.all_reduce_values(&[1.0], ReduceOp::Max).map(drop)
    }),
    ("broadcast", |world| {
        world.broadcast(FAILING, None).map(drop)
    }),
    ("barrier", Comm::barrier),
];

type Wait = fn(&Comm) -> Result<(), CommError>;

const NUM_RANKS: usize = 4;
const FAILING: Rank = Rank(2);
/// Long enough for all others to wait by then.
const BEFORE: Duration = Duration::from_millis(15);

fn zeros(world: &Comm) -> <<Comm as Communicator>::Backend as Backend>::Tensor {
    world.backend().zeros(3, 2).unwrap()
}

/// Lets [`FAILING`] end like `end` while all others are in `wait`; what they got, and the failure of the job.
fn fail_during(
    wait: Wait,
    end: fn() -> Result<(), String>,
) -> (Vec<CommError>, RankFailure<String>) {
    let ((seen, failure), took) = timed(move || {
        let seen = Mutex::new(Vec::new());
        let failure = run_ranks(devices(NUM_RANKS), |world| {
            if world.rank() == FAILING {
                thread::sleep(BEFORE);
                return end();
            }
            let error = wait(&world).expect_err("a call without one of its ranks succeeds");
            // It stays that way, on every group.
            assert_eq!(world.barrier().unwrap_err(), error);
            let alone = world.group(&[world.rank()]).unwrap();
            assert_eq!(alone.barrier().unwrap_err(), error);
            seen.lock().unwrap().push(error.clone());
            Err(format!("secondary: {error}"))
        })
        .unwrap_err();
        (seen.into_inner().unwrap(), failure)
    });
    assert!(took < Duration::from_secs(1), "the end took {took:?}");
    (seen, failure)
}

#[test]
fn an_error_ends_all_others_in_every_collective() {
    for (name, wait) in WAITS {
        let (seen, failure) = fail_during(wait, || Err("the disk is full".to_owned()));
        let cause = FailureCause::Error("the disk is full".to_owned());
        assert_eq!(
            failure,
            RankFailure {
                rank: FAILING,
                cause
            },
            "{name}"
        );
        let reason = "the disk is full".to_owned();
        let expected = CommError::PeerFailed {
            rank: FAILING,
            reason,
        };
        assert_eq!(seen, vec![expected; NUM_RANKS - 1], "{name}");
    }
}

#[test]
fn a_panic_ends_all_others_in_every_collective() {
    // The first backtrace of a process reads all its debug information before anything unwinds, which can take
    // longer than what is timed here.
    std::panic::catch_unwind(|| panic!("for a backtrace")).unwrap_err();
    for (name, wait) in WAITS {
        let (seen, failure) = fail_during(wait, || panic!("index {} is out of bounds", 7));
        let message = "index 7 is out of bounds".to_owned();
        let cause = FailureCause::Panicked { message };
        assert_eq!(
            failure,
            RankFailure {
                rank: FAILING,
                cause
            },
            "{name}"
        );
        let reason = "it panicked: index 7 is out of bounds".to_owned();
        let expected = CommError::PeerFailed {
            rank: FAILING,
            reason,
        };
        assert_eq!(seen, vec![expected; NUM_RANKS - 1], "{name}");
    }
}

#[test]
fn a_rank_that_finishes_early_fails_those_that_wait_for_it() {
    for (name, wait) in WAITS {
        let ((), took) = timed(move || {
            let failure = run_ranks(devices(NUM_RANKS), |world| {
                if world.rank() == FAILING {
                    thread::sleep(BEFORE);
                    return Ok(());
                }
                wait(&world)
            })
            .unwrap_err();
            assert_ne!(failure.rank, FAILING, "{name}");
            let FailureCause::Error(error) = failure.cause else {
                panic!("{name}: {failure:?}");
            };
            let CommError::PeerFinished { rank, position, .. } = error else {
                panic!("{name}: {error:?}");
            };
            assert_eq!((rank, position), (FAILING, 1), "{name}");
        });
        assert!(took < Duration::from_secs(1), "the end took {took:?}");
    }
}

#[test]
fn a_rank_that_has_finished_already_fails_those_that_come_later() {
    let (failure, _) = timed(|| {
        run_ranks(devices(2), |world| {
            if world.rank() == Rank(1) {
                return Ok(());
            }
            thread::sleep(BEFORE);
            world.barrier()
        })
    });
    insta::assert_snapshot!(failure.unwrap_err(), @"rank 0 failed: call 1 of the group [0 1] is barrier, but rank 1 has finished without making it");
}

#[test]
fn a_call_that_nobody_waits_in_and_not_all_make_is_an_error_too() {
    let (failure, _) = timed(|| {
        run_ranks(devices(3), |world| {
            if world.rank() == Rank(0) {
                world.broadcast(Rank(0), Some(zeros(&world)))?;
            }
            Ok::<_, CommError>(())
        })
    });
    let failure = failure.unwrap_err();
    assert!(matches!(failure.cause, FailureCause::Communication(_)));
    insta::assert_snapshot!(failure, @"rank 0 failed: call 1 of the group [0 1 2] is broadcast from group rank 0, but rank 1 has finished without making it");
}

#[test]
fn ranks_that_wait_in_other_groups_are_ended_too() {
    let (failure, took) = timed(|| {
        run_ranks(devices(6), |world| match world.rank().0 {
            // Two groups that miss a member which waits elsewhere, and a failure in neither.
            0 | 1 => world
                .group(&ranks(&[0, 1, 2]))
                .and_then(|group| group.barrier()),
            2 => world
                .group(&ranks(&[2, 3]))
                .and_then(|group| group.barrier()),
            3 | 4 => world
                .group(&ranks(&[3, 4, 5]))
                .and_then(|group| group.barrier()),
            _ => {
                thread::sleep(BEFORE);
                panic!("no more");
            }
        })
    });
    assert!(took < Duration::from_secs(1), "the end took {took:?}");
    insta::assert_snapshot!(failure.unwrap_err(), @"rank 5 panicked: no more");
}

#[test]
fn an_error_that_a_body_keeps_to_itself_still_fails_the_job() {
    let (failure, _) = timed(|| {
        run_ranks(devices(2), |world| {
            if world.rank() == Rank(1) {
                let too_few = world.all_to_all_v(vec![]).unwrap_err();
                assert!(matches!(too_few, CommError::WrongNumTensors { .. }));
                return Ok(());
            }
            world.barrier()
        })
    });
    let failure = failure.unwrap_err();
    assert!(matches!(failure.cause, FailureCause::Communication(_)));
    insta::assert_snapshot!(failure, @"rank 1 failed: all_to_all_v on rank 1 was given 0 tensors for a group of 2; it needs one for each rank");
}

#[test]
fn the_causes_of_an_error_are_part_of_the_reason() {
    struct Chain;
    impl std::fmt::Display for Chain {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no plan")?;
            if f.alternate() {
                f.write_str(": out of memory")
            } else {
                Ok(())
            }
        }
    }
    let (reason, _) = timed(|| {
        let seen = Mutex::new(String::new());
        let failure = run_ranks(devices(2), |world| -> Result<(), Chain> {
            if world.rank() == Rank(0) {
                *seen.lock().unwrap() = world.barrier().unwrap_err().to_string();
            }
            Err(Chain)
        });
        assert_eq!(failure.err().unwrap().rank, Rank(1));
        seen.into_inner().unwrap()
    });
    insta::assert_snapshot!(reason, @"rank 1 failed: no plan: out of memory");
}

#[test]
fn the_first_of_many_failures_is_the_one_returned() {
    for _ in 0..50 {
        let (failure, _) = timed(|| {
            run_ranks(devices(8), |world| -> Result<(), String> {
                let me = world.rank();
                // Rank 5 fails, and then all others that see it do.
                if me == Rank(5) {
                    return Err("original".to_owned());
                }
                match world.barrier() {
                    Ok(()) => Ok(()),
                    Err(error) if me.0 % 2 == 0 => panic!("secondary: {error}"),
                    Err(error) => Err(format!("secondary: {error}")),
                }
            })
        });
        let cause = FailureCause::Error("original".to_owned());
        assert_eq!(
            failure.unwrap_err(),
            RankFailure {
                rank: Rank(5),
                cause
            }
        );
    }
}

#[test]
fn a_world_of_no_ranks_has_nothing_to_return() {
    assert_eq!(
        run_ranks(devices(0), |_| Ok::<(), CommError>(())),
        Ok(vec![])
    );
}

#[cfg(target_os = "linux")]
#[test]
fn waiting_uses_no_processor_time() {
    let on_processor_ns = || -> u64 {
        let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        schedule.split(' ').next().unwrap().parse().unwrap()
    };
    let used = run_ranks(devices(8), |world| {
        if world.rank() == Rank(7) {
            thread::sleep(Duration::from_millis(200));
        }
        let before = on_processor_ns();
        world.barrier()?;
        Ok::<_, CommError>(on_processor_ns() - before)
    });
    for used in used.unwrap() {
        assert!(used < 10_000_000, "{used} ns");
    }
}

#[test]
fn the_call_in_an_error_is_data() {
    let (failure, _) = timed(|| {
        run_ranks(devices(2), |world| match world.rank() {
            Rank(0) => world
                .all_reduce_values(&[1.0, 2.0], ReduceOp::Sum)
                .map(drop),
            _ => Ok(()),
        })
    });
    let expected = CommError::PeerFinished {
        rank: Rank(1),
        call: Call::AllReduceValues {
            op: ReduceOp::Sum,
            num_values: 2,
        },
        position: 1,
        members: ranks(&[0, 1]),
    };
    assert_eq!(failure.unwrap_err().cause, FailureCause::Error(expected));
}
