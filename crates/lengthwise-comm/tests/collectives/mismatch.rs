//! Ranks that disagree about a call get an error that names both sides.

use lengthwise_comm::{CommError, Communicator, ReduceOp};
use lengthwise_core::Rank;
use lengthwise_tensor::Backend;

use crate::fixture::{Comm, run, timed};

type Tensor = <<Comm as Communicator>::Backend as Backend>::Tensor;

fn zeros(world: &Comm, rows: usize, cols: usize) -> Tensor {
    world.backend().zeros(rows, cols).unwrap()
}

/// The results of two ranks that begin alike and then do these two things.
fn disagree(
    first: impl Fn(&Comm) -> Result<(), CommError> + Send + Sync + 'static,
    second: impl Fn(&Comm) -> Result<(), CommError> + Send + Sync + 'static,
) -> String {
    let (failure, _) = timed(move || {
        run(2, |world| {
            world.barrier()?;
            if world.rank() == Rank(0) {
                first(&world)
            } else {
                second(&world)
            }?;
            world.barrier()
        })
    });
    let failure = failure.unwrap_err();
    // Which of the two notices first is open.
    failure.cause.to_string()
}

/// The result of a rank that does this while the other is in a barrier.
fn misuse(call: impl Fn(&Comm) -> Result<(), CommError> + Send + Sync + 'static) -> String {
    let (failure, _) = timed(move || {
        run(2, |world| match world.rank() {
            Rank(1) => call(&world),
            _ => world.barrier(),
        })
    });
    failure.unwrap_err().to_string()
}

#[test]
fn different_collectives() {
    insta::assert_snapshot!(
        disagree(
            |world| world.barrier(),
            |world| world.all_gather_v(zeros(world, 1, 5)).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is barrier, on rank 1 all_gather_v of 5 columns"
    );
    insta::assert_snapshot!(
        disagree(
            |world| world.all_to_all_v(vec![zeros(world, 0, 0), zeros(world, 1, 1)]).map(drop),
            |world| world.broadcast(Rank(0), None).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_to_all_v, on rank 1 broadcast from group rank 0"
    );
    insta::assert_snapshot!(
        disagree(
            |world| world.all_reduce(zeros(world, 2, 3)).map(drop),
            |world| world.all_reduce_values(&[1.0], ReduceOp::Max).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_reduce of 2 x 3, on rank 1 all_reduce_values (max) of 1 values"
    );
}

#[test]
fn columns_of_pieces() {
    insta::assert_snapshot!(
        disagree(
            |world| world.all_gather_v(zeros(world, 2, 3)).map(drop),
            |world| world.all_gather_v(zeros(world, 0, 4)).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_gather_v of 3 columns, on rank 1 all_gather_v of 4 columns"
    );
}

#[test]
fn a_gather_that_is_only_started_is_compared_too() {
    insta::assert_snapshot!(
        disagree(
            |world| world.start_all_gather_v(zeros(world, 2, 3)).map(drop),
            |world| world.start_all_gather_v(zeros(world, 2, 4)).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_gather_v of 3 columns, on rank 1 all_gather_v of 4 columns"
    );
}

#[test]
fn row_counts_and_columns_of_what_is_reduced() {
    insta::assert_snapshot!(
        disagree(
            |world| world.reduce_scatter_v(zeros(world, 3, 2), &[1, 2]).map(drop),
            |world| world.reduce_scatter_v(zeros(world, 3, 2), &[2, 1]).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is reduce_scatter_v of 2 columns to row counts [1 2], on rank 1 reduce_scatter_v of 2 columns to row counts [2 1]"
    );
    insta::assert_snapshot!(
        disagree(
            |world| world.reduce_scatter_v(zeros(world, 3, 2), &[1, 2]).map(drop),
            |world| world.reduce_scatter_v(zeros(world, 3, 1), &[1, 2]).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is reduce_scatter_v of 2 columns to row counts [1 2], on rank 1 reduce_scatter_v of 1 columns to row counts [1 2]"
    );
}

#[test]
fn shapes_of_what_is_reduced_even_where_only_one_side_is_large() {
    insta::assert_snapshot!(
        disagree(
            |world| world.all_reduce(zeros(world, 200, 200)).map(drop),
            |world| world.all_reduce(zeros(world, 1, 2)).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_reduce of 200 x 200, on rank 1 all_reduce of 1 x 2"
    );
    insta::assert_snapshot!(
        disagree(
            |world| world.all_reduce_values(&[0.0; 3], ReduceOp::Sum).map(drop),
            |world| world.all_reduce_values(&[0.0; 3], ReduceOp::Max).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is all_reduce_values (sum) of 3 values, on rank 1 all_reduce_values (max) of 3 values"
    );
}

#[test]
fn roots() {
    insta::assert_snapshot!(
        disagree(
            |world| world.broadcast(Rank(0), Some(zeros(world, 1, 1))).map(drop),
            |world| world.broadcast(Rank(1), Some(zeros(world, 1, 1))).map(drop),
        ),
        @"failed: call 2 of the group [0 1] must be the same on all its ranks, but on rank 0 it is broadcast from group rank 0, on rank 1 broadcast from group rank 1"
    );
}

#[test]
fn arguments_that_do_not_fit_the_group() {
    insta::assert_snapshot!(
        misuse(|world| world.all_to_all_v(vec![zeros(world, 1, 1); 3]).map(drop)),
        @"rank 1 failed: all_to_all_v on rank 1 was given 3 tensors for a group of 2; it needs one for each rank"
    );
    insta::assert_snapshot!(
        misuse(|world| world.reduce_scatter_v(zeros(world, 3, 1), &[1, 1, 1]).map(drop)),
        @"rank 1 failed: reduce_scatter_v on rank 1 was given 3 row counts for a group of 2; it needs one for each rank"
    );
    insta::assert_snapshot!(
        misuse(|world| world.reduce_scatter_v(zeros(world, 3, 1), &[1, 1]).map(drop)),
        @"rank 1 failed: reduce_scatter_v on rank 1 was given row counts [1 1] for a tensor of 3 rows; they must add up to that"
    );
    insta::assert_snapshot!(
        misuse(|world| world.reduce_scatter_v(zeros(world, 3, 1), &[usize::MAX, 4]).map(drop)),
        @"rank 1 failed: reduce_scatter_v on rank 1 was given row counts [18446744073709551615 4] for a tensor of 3 rows; they must add up to that"
    );
}

#[test]
fn a_broadcast_with_too_many_or_too_few_tensors() {
    insta::assert_snapshot!(misuse(|world| world.broadcast(Rank(1), None).map(drop)), @"rank 1 failed: broadcast on rank 1 was given no tensor; the root must pass one");
    insta::assert_snapshot!(
        misuse(|world| world.broadcast(Rank(0), Some(zeros(world, 1, 1))).map(drop)),
        @"rank 1 failed: broadcast on rank 1 was given a tensor; only the root, group rank 0, passes one"
    );
    insta::assert_snapshot!(misuse(|world| world.broadcast(Rank(2), None).map(drop)), @"rank 1 failed: broadcast on rank 1 names group rank 2 as its root; the group has 2 ranks, counted from 0");
}

#[test]
fn a_group_of_one_keeps_the_same_rules() {
    let alone =
        |call: fn(&Comm) -> Result<(), CommError>| run(1, |world| call(&world)).unwrap_err();
    alone(|world| world.all_to_all_v(vec![]).map(drop));
    alone(|world| world.reduce_scatter_v(zeros(world, 2, 1), &[1]).map(drop));
    alone(|world| world.broadcast(Rank(0), None).map(drop));
    alone(|world| world.broadcast(Rank(1), None).map(drop));
}
