//! Groups of some ranks, side by side and one after the other.

use std::thread;
use std::time::Duration;

use lengthwise_comm::{CommError, Communicator, ReduceOp};
use lengthwise_core::Rank;

use crate::fixture::{WORLD_SIZES, ranks, run, timed};

#[test]
fn members_are_numbered_by_rank_however_they_are_listed() {
    let result = run(4, |world| {
        if world.rank() == Rank(1) {
            return Ok(());
        }
        let group = world.group(&ranks(&[3, 0, 2]))?;
        assert_eq!(group.members(), ranks(&[0, 2, 3]));
        assert_eq!(group.size(), 3);
        assert_eq!(group.members()[group.rank().index()], world.rank());
        // A group of a group is named by ranks of the world, too.
        let pair = group.group(&ranks(&[2, 0]));
        if world.rank() != Rank(3) {
            assert_eq!(pair?.rank().index(), world.rank().index() / 2);
        }
        group.barrier()
    });
    result.unwrap();
}

#[test]
fn ranks_that_list_the_same_members_in_other_orders_meet() {
    for num_ranks in WORLD_SIZES {
        let (sums, _) = timed(move || {
            run(num_ranks, |world| {
                // Every rank begins the list with itself.
                let mut members = world.members().to_vec();
                members.rotate_left(world.rank().index());
                let group = world.group(&members)?;
                assert_eq!(group.rank(), world.rank());
                assert_eq!(world.statistics().num_groups, 1);
                group.all_reduce_values(&[1.0], ReduceOp::Sum)
            })
        });
        assert_eq!(sums.unwrap(), vec![vec![num_ranks as f64]; num_ranks]);
    }
}

#[test]
fn a_member_list_makes_one_group_however_often_it_is_asked_for() {
    for num_ranks in WORLD_SIZES {
        // All but the last, of which there are some from two ranks on.
        let members: Vec<Rank> = (0..num_ranks.max(2) as u32 - 1).map(Rank).collect();
        let statistics = run(num_ranks, |world| {
            if !members.contains(&world.rank()) {
                return Ok(None);
            }
            for _ in 0..50 {
                let group = world.group(&members)?;
                // Calls of all handles of a group are numbered together.
                group.clone().barrier()?;
                world.group(&members)?.barrier()?;
            }
            assert_eq!(world.group(&members)?.num_calls(), 100);
            assert_eq!(world.num_calls(), if num_ranks > 1 { 0 } else { 100 });
            Ok(Some(world.statistics().num_groups))
        });
        for num_groups in statistics.unwrap().into_iter().flatten() {
            assert_eq!(num_groups, if num_ranks > 1 { 2 } else { 1 });
        }
    }
}

#[test]
fn groups_that_overlap_in_time_do_not_disturb_each_other() {
    // Every rank is in three groups at once, and each group advances at its own pace.
    let result = run(6, |world| {
        let me = world.rank().0;
        let pair = world.group(&ranks(&[me & !1, me | 1]))?;
        let triple = world.group(&ranks(&[me % 2, me % 2 + 2, me % 2 + 4]))?;
        let mut sums = [0.0; 3];
        for round in 0..40 {
            if (round + me) % 7 == 0 {
                thread::sleep(Duration::from_micros(200));
            }
            let value = [f64::from(me + round)];
            sums[0] += pair.all_reduce_values(&value, ReduceOp::Sum)?[0];
            if round % 2 == 0 {
                sums[1] += triple.all_reduce_values(&value, ReduceOp::Sum)?[0];
            }
            if round % 5 == 0 {
                sums[2] += world.all_reduce_values(&value, ReduceOp::Max)?[0];
            }
        }
        Ok((me, sums))
    });
    for (me, sums) in result.unwrap() {
        let total = |members: &[u32], every: usize| -> u32 {
            (0..40)
                .step_by(every)
                .map(|round| members.iter().map(|r| r + round).sum::<u32>())
                .sum()
        };
        let pair = total(&[me & !1, me | 1], 1);
        let triple = total(&[me % 2, me % 2 + 2, me % 2 + 4], 2);
        assert_eq!(sums, [pair, triple, total(&[5], 5)].map(f64::from));
    }
}

#[test]
fn a_rank_outside_a_group_need_not_know_of_it() {
    let result = run(3, |world| {
        if world.rank() != Rank(2) {
            let group = world.group(&ranks(&[0, 1]))?;
            for _ in 0..10 {
                group.barrier()?;
            }
        }
        world.barrier()
    });
    result.unwrap();
}

#[test]
fn each_bad_member_list_has_its_own_error_and_fails_nobody() {
    let result = run(3, |world| {
        if world.rank() == Rank(1) {
            let error = |members: &[u32]| world.group(&ranks(members)).unwrap_err().to_string();
            insta::assert_snapshot!(error(&[]), @"a group needs at least one rank; the list of members is empty");
            insta::assert_snapshot!(error(&[0, 2]), @"rank 1 asked for the group [0 2], which it is no member of; only members may use a group");
            insta::assert_snapshot!(error(&[1, 0, 1]), @"the group [1 0 1] lists rank 1 more than once; members must be distinct");
            insta::assert_snapshot!(error(&[1, 3]), @"the group [1 3] lists rank 3; the world has 3 ranks, counted from 0");
            // Also where others have made the group already.
            world.barrier()?;
            let taken = world.group(&ranks(&[2, 0])).unwrap_err();
            assert!(matches!(taken, CommError::NotAMember { rank: Rank(1), .. }));
        } else {
            world.group(&ranks(&[2, 0]))?.barrier()?;
            world.barrier()?;
        }
        world.barrier()
    });
    result.unwrap();
}
