//! Collectives on 8 ranks beside a plain copy of the same bytes by 8 threads.
//!
//! Every rank moves [`BYTES_PER_RANK`] a round. The first reference copies into memory that is used again and
//! again; the second into a new tensor of the rank's device, as collectives do for their results. Both end their
//! rounds with a barrier: ranks that run in step share the caches, which a collective can't avoid either.

#![allow(missing_docs, reason = "divan's macros make undocumented items")]
#![allow(clippy::print_stdout, reason = "the table of ratios is the product")]

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use divan::Bencher;
use divan::counter::BytesCount;
use lengthwise_comm::{CommError, Communicator, ReduceOp, ThreadCommunicator, run_ranks};
use lengthwise_core::{Bytes, Rank};
use lengthwise_tensor::{Backend, CpuBackend};

type Comm = ThreadCommunicator<CpuBackend>;
type Tensor = <CpuBackend as Backend>::Tensor;

const NUM_RANKS: usize = 8;
const COLS: usize = 512;
/// Of each rank's part.
const ROWS: usize = 256;
const BYTES_PER_RANK: usize = NUM_RANKS * ROWS * COLS * size_of::<f32>();
const ROUNDS: usize = 8;

/// One round of a rank, on a tensor of `NUM_RANKS * ROWS` rows.
type Round = fn(&Comm, &Tensor, &mut Vec<f32>) -> Result<(), CommError>;

const MOVES: [(&str, Round); 7] = [
    ("copy", |world, _, memory| {
        let (from, to) = memory.split_at_mut(BYTES_PER_RANK / size_of::<f32>());
        to.copy_from_slice(black_box(from));
        black_box(to);
        world.barrier()
    }),
    ("copy to a new tensor", |world, full, _| {
        let full = std::slice::from_ref(full);
        black_box(world.backend().concat_rows(full).expect("enough memory"));
        world.barrier()
    }),
    ("all_gather_v", |world, full, _| {
        let piece = world.backend().slice_rows(full, 0..ROWS);
        world.all_gather_v(piece).map(drop)
    }),
    ("reduce_scatter_v", |world, full, _| {
        world
            .reduce_scatter_v(full.clone(), &[ROWS; NUM_RANKS])
            .map(drop)
    }),
    ("all_to_all_v", |world, full, _| {
        world.all_to_all_v(parts(world, full)).map(drop)
    }),
    ("all_to_all_v, then one tensor", |world, full, _| {
        let received = world.all_to_all_v(parts(world, full))?;
        black_box(
            world
                .backend()
                .concat_rows(&received)
                .expect("enough memory"),
        );
        Ok(())
    }),
    ("all_reduce", |world, full, _| {
        world.all_reduce(full.clone()).map(drop)
    }),
];

fn parts(world: &Comm, full: &Tensor) -> Vec<Tensor> {
    let part = |rank| {
        world
            .backend()
            .slice_rows(full, rank * ROWS..(rank + 1) * ROWS)
    };
    (0..NUM_RANKS).map(part).collect()
}

fn devices() -> Vec<CpuBackend> {
    (0..NUM_RANKS)
        .map(|_| CpuBackend::new(Bytes::from_mib(256)))
        .collect()
}

/// Time of a world's `rounds` rounds, without its beginning.
fn time_rounds(rounds: usize, round: Round) -> Duration {
    let times = run_ranks(devices(), |world| {
        let elements = vec![1.0; BYTES_PER_RANK / size_of::<f32>()];
        let full = world
            .backend()
            .from_slice(NUM_RANKS * ROWS, COLS, &elements);
        let full = full.expect("enough memory");
        let mut memory = [elements.clone(), elements].concat();
        round(&world, &full, &mut memory)?;
        world.barrier()?;
        let began = Instant::now();
        for _ in 0..rounds {
            round(&world, &full, &mut memory)?;
        }
        world.barrier()?;
        Ok::<_, CommError>(began.elapsed())
    });
    times.expect("no rank fails")[0]
}

#[divan::bench(args = MOVES.map(|(name, _)| name), sample_count = 10, sample_size = 1)]
fn eight_ranks(bencher: Bencher, name: &str) {
    let (_, round) = MOVES
        .into_iter()
        .find(|(other, _)| *other == name)
        .expect("a name of the list");
    bencher
        .counter(BytesCount::new(NUM_RANKS * BYTES_PER_RANK * (ROUNDS + 1)))
        .bench(|| time_rounds(ROUNDS, round));
}

/// Without anything to move: what a call itself costs.
fn time_small_call() -> Duration {
    const CALLS: u32 = 2000;
    time_rounds(1, |world, _, _| {
        for _ in 0..CALLS {
            world.all_reduce_values(&[1.0], ReduceOp::Sum)?;
        }
        Ok(())
    }) / CALLS
}

/// From the panic of one rank to the moment the last of the others has its error.
fn time_failure() -> Duration {
    let seen = Mutex::new(Vec::new());
    let failing = Mutex::new(None);
    let failure = run_ranks(devices(), |world| {
        if world.rank() == Rank(5) {
            std::thread::sleep(Duration::from_millis(20));
            *failing.lock().expect("no panic") = Some(Instant::now());
            return Err::<(), _>("killed".to_owned());
        }
        let error = world.barrier().expect_err("the barrier is short of a rank");
        seen.lock().expect("no panic").push(Instant::now());
        Err(error.to_string())
    });
    assert_eq!(failure.expect_err("a rank fails").rank, Rank(5));
    let began = failing.into_inner().expect("no panic").expect("rank 5 ran");
    let last = seen
        .into_inner()
        .expect("no panic")
        .into_iter()
        .max()
        .expect("others ran");
    last.duration_since(began)
}

fn print_ratios() {
    // All in turn, again and again: what else runs on the machine then slows all of them alike.
    let mut times = MOVES.map(|(name, _)| (name, Duration::MAX));
    for _ in 0..10 {
        for ((_, best), (_, round)) in times.iter_mut().zip(MOVES) {
            *best = time_rounds(ROUNDS, round).min(*best);
        }
    }
    println!(
        "\n{NUM_RANKS} ranks, {} each: time of a round and its ratio to both copies, best of 10",
        Bytes(BYTES_PER_RANK as u64)
    );
    let copies = [times[0].1, times[1].1];
    for (name, time) in times {
        let [ratio, ratio_to_new] = copies.map(|copy| time.as_secs_f64() / copy.as_secs_f64());
        let milliseconds = time.as_secs_f64() * 1e3 / ROUNDS as f64;
        println!("{name:30} {milliseconds:8.3} ms {ratio:6.2} {ratio_to_new:6.2}");
    }
    let call = (0..5).map(|_| time_small_call()).min().unwrap_or_default();
    println!(
        "all_reduce_values of one value {:8.1} us",
        call.as_secs_f64() * 1e6
    );
    let mut failures: Vec<_> = (0..21).map(|_| time_failure()).collect();
    failures.sort();
    println!(
        "a failure reaches all others   {:8.1} us, at most {:.1} us in 21 trials",
        failures[10].as_secs_f64() * 1e6,
        failures[20].as_secs_f64() * 1e6
    );
}

fn main() {
    divan::main();
    // Only where divan measures, too.
    if std::env::args().any(|arg| arg == "--bench") {
        print_ratios();
    }
}
