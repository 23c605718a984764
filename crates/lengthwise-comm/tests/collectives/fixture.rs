//! Worlds for tests.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lengthwise_comm::{CommError, RankFailure, ThreadCommunicator, run_ranks};
use lengthwise_core::{Bytes, Rank};
use lengthwise_tensor::CpuBackend;

pub type Comm = ThreadCommunicator<CpuBackend>;

/// One rank is the control of all others.
pub const WORLD_SIZES: [usize; 6] = [1, 2, 3, 4, 6, 8];

pub fn devices(num_ranks: usize) -> Vec<CpuBackend> {
    (0..num_ranks)
        .map(|_| CpuBackend::new(Bytes::from_mib(1024)))
        .collect()
}

pub fn ranks(members: &[u32]) -> Vec<Rank> {
    members.iter().copied().map(Rank).collect()
}

/// Runs a world whose bodies fail with nothing but what the collectives say.
pub fn run<R: Send>(
    num_ranks: usize,
    body: impl Fn(Comm) -> Result<R, CommError> + Sync,
) -> Result<Vec<R>, RankFailure<CommError>> {
    run_ranks(devices(num_ranks), body)
}

/// The result of `work` and how long it took; a hang becomes a failure of the test.
pub fn timed<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> (R, Duration) {
    let (sender, receiver) = mpsc::channel();
    let began = Instant::now();
    let worker = thread::spawn(move || {
        let result = work();
        let _ = sender.send((result, began.elapsed()));
    });
    match receiver.recv_timeout(Duration::from_secs(20)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let payload = worker.join().expect_err("a result without a panic");
            std::panic::resume_unwind(payload)
        }
    }
}
