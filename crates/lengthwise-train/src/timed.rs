//! A communicator that counts how long its calls take, and notes them where a step is traced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lengthwise_comm::{CommError, Communicator, Pending, ReduceOp, Statistics};
use lengthwise_core::{Activity, Bytes, Rank, Seconds};
use lengthwise_tensor::Backend;

use crate::stopwatch::Stopwatch;
use crate::timeline::{CallKey, Timeline};

type TensorOf<C> = <<C as Communicator>::Backend as Backend>::Tensor;
type HostTensorOf<C> = <<C as Communicator>::Backend as Backend>::HostTensor;

/// One rank's end of a group, which counts the time that the rank spends in its calls, waiting included.
#[derive(Clone, Debug)]
pub(crate) struct Timed<C> {
    inner: C,
    members: Arc<[Rank]>,
    calls: TimeInCalls,
    timeline: Timeline,
}

/// A call that was started, whose end is counted too.
pub(crate) struct TimedPending<C, P> {
    pending: P,
    timed: Timed<C>,
    activity: Activity,
    /// The call and what it passed on, where it was noted.
    noted: Option<(CallKey, Bytes)>,
}

/// A copy that was started, whose end is counted too.
pub(crate) struct TimedCopy<C, P> {
    pending: P,
    timed: Timed<C>,
}

/// A rank's count over all its groups, in nanoseconds.
#[derive(Clone, Debug, Default)]
struct TimeInCalls(Arc<AtomicU64>);

impl TimeInCalls {
    fn of<C: Communicator, X>(&self, world: &C, call: impl FnOnce() -> X) -> X {
        let stopwatch = Stopwatch::start(world);
        let result = call();
        let taken = stopwatch
            .emulated(world)
            .unwrap_or_else(|| stopwatch.really());
        self.0
            .fetch_add((taken.get() * 1e9) as u64, Ordering::Relaxed);
        result
    }
}

impl<C: Communicator> Timed<C> {
    /// The same end, with a count that begins at 0, whose calls go to `timeline`.
    pub(crate) fn new(inner: C, timeline: Timeline) -> Self {
        Timed {
            members: inner.members().into(),
            inner,
            calls: TimeInCalls::default(),
            timeline,
        }
    }

    fn call<X>(&self, activity: Activity, call: impl FnOnce() -> X) -> X {
        if !self.timeline.is_on() {
            return self.calls.of(&self.inner, call);
        }
        let key = self.next_call();
        let sent = self.bytes_sent();
        self.timeline.come_to(&key);
        let bytes = || Some(self.bytes_sent().saturating_sub(sent));
        let call = || self.calls.of(&self.inner, call);
        self.timeline.during(activity, Some(key), call, bytes)
    }

    fn start<P>(
        &self,
        activity: Activity,
        start: impl FnOnce() -> Result<P, CommError>,
    ) -> Result<TimedPending<C, P>, CommError> {
        let coming = (self.timeline.is_on()).then(|| (self.next_call(), self.bytes_sent()));
        let pending = self.calls.of(&self.inner, start)?;
        let noted = coming.map(|(key, sent)| {
            self.timeline.come_to(&key);
            (key, self.bytes_sent().saturating_sub(sent))
        });
        Ok(TimedPending {
            pending,
            timed: self.clone(),
            activity,
            noted,
        })
    }

    fn copy<P>(
        &self,
        start: impl FnOnce() -> Result<P, CommError>,
    ) -> Result<TimedCopy<C, P>, CommError> {
        Ok(TimedCopy {
            pending: self.calls.of(&self.inner, start)?,
            timed: self.clone(),
        })
    }

    fn next_call(&self) -> CallKey {
        CallKey {
            members: Arc::clone(&self.members),
            number: self.inner.num_calls(),
        }
    }

    fn bytes_sent(&self) -> Bytes {
        self.inner.statistics().bytes_sent
    }

    /// The time of this rank in calls of any group so far, and the part of it in which it waited for others.
    pub(crate) fn time_in_calls(&self) -> (Seconds, Seconds) {
        let calls = Duration::from_nanos(self.calls.0.load(Ordering::Relaxed));
        (calls.into(), self.inner.statistics().measured_wait)
    }
}

impl<C: Communicator> Communicator for Timed<C> {
    type Backend = C::Backend;
    type PendingGather = TimedPending<C, C::PendingGather>;
    type PendingExchange = TimedPending<C, C::PendingExchange>;
    type PendingToHost = TimedCopy<C, C::PendingToHost>;
    type PendingFromHost = TimedCopy<C, C::PendingFromHost>;

    fn backend(&self) -> &C::Backend {
        self.inner.backend()
    }

    fn rank(&self) -> Rank {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn members(&self) -> &[Rank] {
        self.inner.members()
    }

    fn num_calls(&self) -> u64 {
        self.inner.num_calls()
    }

    fn statistics(&self) -> Statistics {
        self.inner.statistics()
    }

    fn emulated_time(&self) -> Option<Seconds> {
        self.inner.emulated_time()
    }

    fn group(&self, members: &[Rank]) -> Result<Self, CommError> {
        let inner = self.inner.group(members)?;
        Ok(Timed {
            members: inner.members().into(),
            inner,
            calls: self.calls.clone(),
            timeline: self.timeline.clone(),
        })
    }

    fn all_to_all_v(&self, send: Vec<TensorOf<C>>) -> Result<Vec<TensorOf<C>>, CommError> {
        self.call(Activity::Exchange, || self.inner.all_to_all_v(send))
    }

    fn start_all_to_all_v(
        &self,
        send: Vec<TensorOf<C>>,
    ) -> Result<Self::PendingExchange, CommError> {
        self.start(Activity::Exchange, || self.inner.start_all_to_all_v(send))
    }

    fn start_all_gather_v(&self, piece: TensorOf<C>) -> Result<Self::PendingGather, CommError> {
        self.start(Activity::Gather, || self.inner.start_all_gather_v(piece))
    }

    fn reduce_scatter_v(
        &self,
        full: TensorOf<C>,
        row_counts: &[usize],
    ) -> Result<TensorOf<C>, CommError> {
        self.call(Activity::Scatter, || {
            self.inner.reduce_scatter_v(full, row_counts)
        })
    }

    fn all_reduce(&self, tensor: TensorOf<C>) -> Result<TensorOf<C>, CommError> {
        self.call(Activity::Wait, || self.inner.all_reduce(tensor))
    }

    fn all_reduce_values(&self, values: &[f64], op: ReduceOp) -> Result<Vec<f64>, CommError> {
        self.call(Activity::Wait, || self.inner.all_reduce_values(values, op))
    }

    fn broadcast(&self, root: Rank, tensor: Option<TensorOf<C>>) -> Result<TensorOf<C>, CommError> {
        self.call(Activity::Wait, || self.inner.broadcast(root, tensor))
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.call(Activity::Wait, || self.inner.barrier())
    }

    fn start_copy_to_host(&self, tensor: TensorOf<C>) -> Result<Self::PendingToHost, CommError> {
        self.copy(|| self.inner.start_copy_to_host(tensor))
    }

    fn start_copy_from_host(
        &self,
        tensor: HostTensorOf<C>,
    ) -> Result<Self::PendingFromHost, CommError> {
        self.copy(|| self.inner.start_copy_from_host(tensor))
    }
}

impl<C: Communicator, P: Pending> Pending for TimedPending<C, P> {
    type Output = P::Output;

    fn wait(self) -> Result<P::Output, CommError> {
        let TimedPending {
            pending,
            timed,
            activity,
            noted,
        } = self;
        let wait = || timed.calls.of(&timed.inner, || pending.wait());
        match noted {
            Some((key, bytes)) if timed.timeline.is_on() => {
                (timed.timeline).during(activity, Some(key), wait, || Some(bytes))
            }
            _ => wait(),
        }
    }
}

impl<C: Communicator, P: Pending> Pending for TimedCopy<C, P> {
    type Output = P::Output;

    fn wait(self) -> Result<P::Output, CommError> {
        let TimedCopy { pending, timed } = self;
        let wait = || timed.calls.of(&timed.inner, || pending.wait());
        if timed.timeline.is_on() {
            (timed.timeline).during(Activity::HostCopy, None, wait, || None)
        } else {
            wait()
        }
    }
}

#[cfg(test)]
mod tests {
    use lengthwise_comm::run_ranks;
    use lengthwise_core::Bytes;
    use lengthwise_tensor::CpuBackend;

    use super::*;

    #[test]
    fn waiting_for_a_late_rank_is_counted_in_every_group() {
        const LATE: Duration = Duration::from_millis(30);
        let backends = (0..3)
            .map(|_| CpuBackend::new(Bytes::from_mib(1)))
            .collect();
        let times = run_ranks(backends, |world| -> Result<_, CommError> {
            let world = Timed::new(world, Timeline::default());
            let is_late = world.rank() == Rank(2);
            if is_late {
                std::thread::sleep(LATE);
            }
            let everyone = world.members().to_vec();
            world.group(&everyone)?.barrier()?;
            Ok(world.time_in_calls())
        });
        let times = times.unwrap();
        for (calls, waited) in &times[..2] {
            assert!(*waited >= Seconds::from(LATE / 2), "{waited}");
            assert!(calls >= waited, "{calls} and {waited}");
        }
        assert!(times[2].0 < Seconds::from(LATE / 2), "{}", times[2].0);
    }
}
