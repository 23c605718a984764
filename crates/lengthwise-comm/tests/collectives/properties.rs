//! Random scripts give what the model says, on every rank.

use lengthwise_comm::{CommError, Communicator, Pending, ThreadPendingGather};
use lengthwise_core::Rank;
use lengthwise_tensor::CpuBackend;
use proptest::prelude::*;

use crate::fixture::{Comm, ranks, run};
use crate::matrix::Matrix;
use crate::model::{Output, expected, input, values};
use crate::script::{Operation, Script, Step, scripts};

struct Prefetched {
    index: usize,
    due: usize,
    gather: ThreadPendingGather<CpuBackend>,
}

/// Does the steps of `script` that `world`'s rank takes part in, and returns what each gave.
fn play(world: &Comm, script: &Script) -> Result<Vec<(usize, Output)>, CommError> {
    let mut outputs = Vec::new();
    let mut prefetched: Vec<Prefetched> = Vec::new();
    let download = |tensor| Matrix::download(world.backend(), &tensor);
    for (index, step) in script.steps.iter().enumerate() {
        if !step.members.contains(&world.rank().0) {
            continue;
        }
        let group = world.group(&ranks(&step.members))?;
        let now = outputs.len();
        match start(&group, index, step)? {
            Started::Done(output) => outputs.push((index, output)),
            Started::Pending(gather, after) => prefetched.push(Prefetched {
                index,
                due: now + after,
                gather,
            }),
        }
        // Newest first: in another order than they were started in.
        for at in (0..prefetched.len()).rev() {
            if prefetched[at].due <= now {
                let Prefetched { index, gather, .. } = prefetched.remove(at);
                outputs.push((index, Output::Tensors(vec![download(gather.wait()?)])));
            }
        }
    }
    while let Some(Prefetched { index, gather, .. }) = prefetched.pop() {
        outputs.push((index, Output::Tensors(vec![download(gather.wait()?)])));
    }
    Ok(outputs)
}

enum Started {
    Done(Output),
    Pending(ThreadPendingGather<CpuBackend>, usize),
}

fn start(group: &Comm, index: usize, step: &Step) -> Result<Started, CommError> {
    let device = group.backend();
    let me = group.rank().index();
    let input = |to| input(index, &step.operation, me, to);
    let tensor = || input(0).upload(device);
    let download = |tensor| Matrix::download(device, &tensor);
    let tensors = match &step.operation {
        Operation::AllToAll { .. } => {
            let send = (0..group.size()).map(|to| input(to).upload(device));
            let received = group.all_to_all_v(send.collect())?;
            received.into_iter().map(download).collect()
        }
        Operation::AllGather { prefetched: 0, .. } => vec![download(group.all_gather_v(tensor())?)],
        Operation::AllGather { prefetched, .. } => {
            return Ok(Started::Pending(
                group.start_all_gather_v(tensor())?,
                *prefetched,
            ));
        }
        Operation::ReduceScatter { row_counts, .. } => {
            vec![download(group.reduce_scatter_v(tensor(), row_counts)?)]
        }
        Operation::AllReduce { .. } => vec![download(group.all_reduce(tensor())?)],
        Operation::AllReduceValues { op, .. } => {
            let reduced = group.all_reduce_values(&values(&input(0)), *op)?;
            return Ok(Started::Done(Output::Values(reduced)));
        }
        Operation::Broadcast { root, .. } => {
            let tensor = (*root as usize == me).then(tensor);
            vec![download(group.broadcast(Rank(*root), tensor)?)]
        }
        Operation::Barrier => {
            group.barrier()?;
            vec![]
        }
    };
    Ok(Started::Done(Output::Tensors(tensors)))
}

fn check(script: &Script) -> Result<(), TestCaseError> {
    let results = run(script.num_ranks, |world| play(&world, script));
    let results = results.map_err(|failure| TestCaseError::fail(failure.to_string()))?;
    for (rank, outputs) in results.into_iter().enumerate() {
        let mut num_outputs = 0;
        for (index, output) in outputs {
            let step = &script.steps[index];
            let me = step.members.iter().filter(|&&r| (r as usize) < rank);
            let expected = expected(index, step, me.count());
            prop_assert_eq!(output, expected, "step {} on rank {}", index, rank);
            num_outputs += 1;
        }
        let takes_part = |step: &&Step| step.members.contains(&(rank as u32));
        prop_assert_eq!(num_outputs, script.steps.iter().filter(takes_part).count());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, fork: false, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rank_gets_what_the_model_says(script in scripts()) {
        check(&script)?;
    }
}
