//! Collectives on 8 ranks beside a plain copy of the same bytes by 8 threads.
//!
//! Every rank moves [`BYTES_PER_RANK`] a round. A copy into memory that is used again and again is the fastest
//! anything could be; one into fresh memory pays for its pages, as does every result that a device allocates.

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
    ("copy into used memory", |_, _, memory| {
        let (from, to) = memory.split_at_mut(BYTES_PER_RANK / size_of::<f32>());
        to.copy_from_slice(black_box(from));
        Ok(())
    }),
    ("copy into fresh memory", |_, _, memory| {
        let (from, _) = memory.split_at(BYTES_PER_RANK / size_of::<f32>());
        black_box(from.to_vec());
        Ok(())
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
    let best = |round| {
        (0..5)
            .map(|_| time_rounds(ROUNDS, round))
            .min()
            .unwrap_or_default()
            / ROUNDS as u32
    };
    let times: Vec<_> = MOVES
        .iter()
        .map(|&(name, round)| (name, best(round)))
        .collect();
    println!(
        "\n{NUM_RANKS} ranks, {} each; ratios to a copy of the same bytes into used and into fresh memory",
        Bytes(BYTES_PER_RANK as u64)
    );
    let (used, fresh) = (times[0].1.as_secs_f64(), times[1].1.as_secs_f64());
    for (name, time) in times {
        let time = time.as_secs_f64();
        println!(
            "{name:30} {:8.3} ms {:6.2} {:6.2}",
            time * 1e3,
            time / used,
            time / fresh
        );
    }
    println!(
        "all_reduce_values of one value {:8.1} us",
        time_small_call().as_secs_f64() * 1e6
    );
    let slowest = (0..20).map(|_| time_failure()).max().unwrap_or_default();
    println!(
        "a failure reaches all others   {:8.1} us, at most of 20",
        slowest.as_secs_f64() * 1e6
    );
}

fn main() {
    divan::main();
    // Only where divan measures, too.
    if std::env::args().any(|arg| arg == "--bench") {
        print_ratios();
    }
}
