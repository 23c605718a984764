//! A script for a world, as data: collectives on groups, one after the other.

use lengthwise_comm::ReduceOp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::WORLD_SIZES;
use crate::matrix::Shape;

#[derive(Clone, Debug)]
pub struct Script {
    pub num_ranks: usize,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Global ranks, in any order.
    pub members: Vec<u32>,
    pub operation: Operation,
}

/// Lists have one item for each group rank.
#[derive(Clone, Debug)]
pub enum Operation {
    AllToAll {
        /// From, to.
        shapes: Vec<Vec<Shape>>,
    },
    AllGather {
        cols: usize,
        rows: Vec<usize>,
        /// The number of its later steps that a rank takes before it waits.
        prefetched: usize,
    },
    ReduceScatter {
        cols: usize,
        row_counts: Vec<usize>,
    },
    AllReduce {
        shape: Shape,
    },
    AllReduceValues {
        op: ReduceOp,
        num_values: usize,
    },
    Broadcast {
        root: u32,
        shape: Shape,
    },
    Barrier,
}

pub fn scripts() -> impl Strategy<Value = Script> {
    prop::sample::select(&WORLD_SIZES[..]).prop_flat_map(|num_ranks| {
        vec(step(num_ranks), 1..24).prop_map(move |steps| Script { num_ranks, steps })
    })
}

fn step(num_ranks: usize) -> impl Strategy<Value = Step> {
    let everyone: Vec<u32> = (0..num_ranks as u32).collect();
    let members = prop_oneof![
        2 => Just(everyone.clone()),
        5 => (Just(everyone).prop_shuffle(), 1..=num_ranks)
            .prop_map(|(ranks, size)| ranks[..size].to_vec()),
    ];
    members.prop_flat_map(|members| {
        operation(members.len()).prop_map(move |operation| Step {
            members: members.clone(),
            operation,
        })
    })
}

fn operation(size: usize) -> impl Strategy<Value = Operation> {
    let count = || prop_oneof![1 => Just(0usize), 3 => 1..6usize];
    let shape = move || (count(), count());
    let reduced_shape = prop_oneof![
        3 => shape(),
        // Too many elements for every rank to add all of them.
        1 => (90..100usize, 95..120usize),
        1 => (1..3usize, 8_200..8_300usize),
    ];
    prop_oneof![
        vec(vec(shape(), size), size).prop_map(|shapes| Operation::AllToAll { shapes }),
        (count(), vec(count(), size), 0..4usize).prop_map(|(cols, rows, prefetched)| {
            Operation::AllGather {
                cols,
                rows,
                prefetched,
            }
        }),
        (count(), vec(count(), size))
            .prop_map(|(cols, row_counts)| Operation::ReduceScatter { cols, row_counts }),
        reduced_shape.prop_map(|shape| Operation::AllReduce { shape }),
        (
            prop::sample::select(&[ReduceOp::Sum, ReduceOp::Max][..]),
            count()
        )
            .prop_map(|(op, num_values)| Operation::AllReduceValues { op, num_values }),
        (0..size as u32, shape()).prop_map(|(root, shape)| Operation::Broadcast { root, shape }),
        Just(Operation::Barrier),
    ]
}
