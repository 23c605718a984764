//! Groups of some ranks, side by side and one after the other.

use std::thread;
use std::time::Duration;

use lengthwise_comm::{CommError, Communicator, ReduceOp};
use lengthwise_core::Rank;

use crate::fixture::{WORLD_SIZES, ranks, run};

#[test]
fn members_are_numbered_in_the_order_of_the_list() {
    let result = run(4, |world| {
        if world.rank() == Rank(1) {
            return Ok(());
        }
        let group = world.group(&ranks(&[3, 0, 2]))?;
        assert_eq!(group.members(), ranks(&[3, 0, 2]));
        assert_eq!(group.size(), 3);
        assert_eq!(group.members()[group.rank().index()], world.rank());
        // A group of a group is named by ranks of the world, too.
        let pair = group.group(&ranks(&[0, 2, 3]))?;
        assert_eq!(pair.rank().index(), [0, 9, 1, 2][world.rank().index()]);
        pair.barrier()
    });
    result.unwrap();
}

#[test]
fn a_member_list_makes_one_group_however_often_it_is_asked_for() {
    for num_ranks in WORLD_SIZES {
        let members: Vec<Rank> = (0..num_ranks as u32).rev().map(Rank).collect();
        let statistics = run(num_ranks, |world| {
            for _ in 0..50 {
                let group = world.group(&members)?;
                // Calls of all handles of a group are numbered together.
                group.clone().barrier()?;
                world.group(&members)?.barrier()?;
            }
            assert_eq!(world.group(&members)?.num_calls(), 100);
            let one_more = usize::from(num_ranks > 1);
            assert_eq!(world.num_calls(), if num_ranks > 1 { 0 } else { 100 });
            Ok((world.statistics().num_groups, 1 + one_more))
        });
        for (num_groups, expected) in statistics.unwrap() {
            assert_eq!(num_groups, expected);
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
