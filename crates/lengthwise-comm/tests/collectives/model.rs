//! Inputs of each rank to the steps of a script, and the outputs it must get, worked out without any rank.

use lengthwise_comm::ReduceOp;

use crate::matrix::Matrix;
use crate::script::{Operation, Step};

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Tensors(Vec<Matrix>),
    Values(Vec<f64>),
}

/// The tensor that group rank `from` passes in step `index`; `to` tells the tensors of an all-to-all apart.
pub fn input(index: usize, operation: &Operation, from: usize, to: usize) -> Matrix {
    let shape = match operation {
        Operation::AllToAll { shapes } => shapes[from][to],
        Operation::AllGather { cols, rows, .. } => (rows[from], *cols),
        Operation::ReduceScatter { cols, row_counts } => (row_counts.iter().sum(), *cols),
        Operation::AllReduce { shape } | Operation::Broadcast { shape, .. } => *shape,
        Operation::AllReduceValues { num_values, .. } => (*num_values, 1),
        Operation::Barrier => (0, 0),
    };
    Matrix::generate([index, from, to], shape)
}

pub fn values(matrix: &Matrix) -> Vec<f64> {
    matrix.elements.iter().map(|&x| f64::from(x)).collect()
}

pub fn expected(index: usize, step: &Step, me: usize) -> Output {
    let size = step.members.len();
    let operation = &step.operation;
    let inputs = |to: usize| -> Vec<Matrix> {
        (0..size)
            .map(|from| input(index, operation, from, to))
            .collect()
    };
    Output::Tensors(match operation {
        Operation::AllToAll { .. } => inputs(me),
        Operation::AllGather { .. } => vec![Matrix::concat(&inputs(0))],
        Operation::ReduceScatter { row_counts, .. } => {
            let start: usize = row_counts[..me].iter().sum();
            vec![Matrix::sum(&inputs(0)).rows(start..start + row_counts[me])]
        }
        Operation::AllReduce { .. } => vec![Matrix::sum(&inputs(0))],
        Operation::Broadcast { root, .. } => vec![input(index, operation, *root as usize, 0)],
        Operation::Barrier => vec![],
        Operation::AllReduceValues { op, .. } => {
            let mut inputs = inputs(0).into_iter().map(|matrix| values(&matrix));
            let mut total = inputs.next().unwrap();
            for input in inputs {
                for (a, b) in total.iter_mut().zip(input) {
                    *a = match op {
                        ReduceOp::Sum => *a + b,
                        ReduceOp::Max => a.max(b),
                    };
                }
            }
            return Output::Values(total);
        }
    })
}
