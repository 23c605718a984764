//! Ranks as threads of one process.

use std::sync::Arc;

use lengthwise_core::{Rank, Seconds};
use lengthwise_tensor::{Backend, Tensor, TensorError};

use crate::communicator::{Communicator, Pending, ReduceOp};
use crate::emulation::{Moved, VirtualClock};
use crate::failure::FailureKind;
use crate::host_copy::{ThreadPendingFromHost, ThreadPendingToHost};
use crate::registry::World;
use crate::rendezvous::{Arrival, Group, Parcel, Ticket};
use crate::statistics::Counters;
use crate::{Call, CommError, Statistics};

/// Up to this many elements, every rank adds up all tensors of an all-reduce by itself: that is less work than
/// to meet a second time.
const DIRECT_ALL_REDUCE_ELEMENTS: usize = 8192;

const BYTES_PER_ELEMENT: usize = size_of::<f32>();

type Result<T> = std::result::Result<T, CommError>;

/// One rank's end of a group whose members are threads of this process.
///
/// A call hands over handles of tensors; what a rank computes from others' tensors, it reads where they are:
///
/// | call | each rank copies or adds | shared with others |
/// | --- | --- | --- |
/// | `all_to_all_v` | nothing | every tensor, until its receiver drops it |
/// | `all_gather_v` | all pieces, once | its piece, until the slowest member has copied it |
/// | `reduce_scatter_v` | its rows of every tensor | its tensor, until the slowest member has added it |
/// | `all_reduce` | its share of the elements, then all shares | as in the two above |
/// | `broadcast` | the tensor, except on the root | the root's, until the slowest member has copied it |
///
/// In a group of one, tensors are returned as they came.
#[derive(Clone, Debug)]
pub struct ThreadCommunicator<B: Backend> {
    world: Arc<World<B::Tensor>>,
    pub(crate) group: Arc<Group<B::Tensor>>,
    /// Group rank.
    me: usize,
    pub(crate) backend: B,
    counters: Arc<Counters>,
    /// The rank's clock where the cluster is emulated.
    pub(crate) clock: Option<Arc<VirtualClock>>,
}

/// An all-gather among threads: the piece is posted; to drop it is to do without the others'.
#[derive(Debug)]
pub struct ThreadPendingGather<B: Backend> {
    communicator: ThreadCommunicator<B>,
    call: Call,
    gather: Gather<B::Tensor>,
}

#[derive(Debug)]
enum Gather<T> {
    /// A group of one.
    Alone(T),
    Posted(Ticket<T>),
}

/// An all-to-all among threads: the tensors are posted; to drop it is to do without the others'.
#[derive(Debug)]
pub struct ThreadPendingExchange<B: Backend> {
    communicator: ThreadCommunicator<B>,
    exchange: Exchange<B::Tensor>,
}

#[derive(Debug)]
enum Exchange<T> {
    /// A group of one.
    Alone(Vec<T>),
    Posted(Ticket<T>),
}

impl<B: Backend> ThreadCommunicator<B> {
    /// The end of `rank` in the group of all ranks of `world`.
    pub(crate) fn new(
        world: Arc<World<B::Tensor>>,
        rank: Rank,
        backend: B,
        clock: Option<Arc<VirtualClock>>,
    ) -> Self {
        ThreadCommunicator {
            group: Arc::clone(world.everyone()),
            world,
            me: rank.index(),
            backend,
            counters: Arc::default(),
            clock,
        }
    }

    pub(crate) fn global_rank(&self) -> Rank {
        self.group.members()[self.me]
    }

    fn is_alone(&self) -> bool {
        self.group.members().len() == 1
    }

    /// Begins the next call of this group.
    fn next_call(&self) -> Result<u64> {
        self.counters.count_call();
        let position = self.group.next_call(self.me);
        self.group.fate().check()?;
        Ok(position)
    }

    fn post(
        &self,
        position: u64,
        call: &Call,
        parcel: Parcel<B::Tensor>,
        moved: Moved,
    ) -> Result<Ticket<B::Tensor>> {
        let arrival = self.clock.as_ref().map(|clock| Arrival {
            at: clock.arrival(),
            moved,
        });
        (self.group).post(self.me, position, call.clone(), parcel, arrival)
    }

    fn read<X>(
        &self,
        ticket: &Ticket<B::Tensor>,
        read: impl FnOnce(&mut [Option<Parcel<B::Tensor>>]) -> X,
    ) -> Result<X> {
        let explain = |gave_up| self.world.explain(self.global_rank(), gave_up);
        let Some(clock) = &self.clock else {
            let (waited, result) = ticket.read(read);
            self.counters.count_wait(waited);
            return result.map_err(explain);
        };
        clock.while_waiting(|| {
            let read = ticket.read(read).1.map_err(explain)?;
            if let Some(transfer) = ticket.transfer() {
                let waited = clock.wait(&transfer, self.group.fate())?;
                self.counters.count_wait(waited);
            }
            Ok(read)
        })
    }

    /// Everyone's shared tensor, by group rank.
    fn read_shared(&self, ticket: &Ticket<B::Tensor>) -> Result<Vec<B::Tensor>> {
        self.read(ticket, |parcels| {
            let shared = parcels.iter().filter_map(|parcel| match parcel {
                Some(Parcel::Shared(tensor)) => Some(tensor.clone()),
                _ => None,
            });
            shared.collect()
        })
    }

    fn on_device(
        &self,
        call: &Call,
        result: std::result::Result<B::Tensor, TensorError>,
    ) -> Result<B::Tensor> {
        result.map_err(|error| CommError::Device {
            rank: self.global_rank(),
            call: call.clone(),
            error,
        })
    }

    /// Counts `elements` as sent to each of `num_receivers`.
    fn count_sent(&self, elements: usize, num_receivers: usize) {
        self.counters
            .count_sent((elements * BYTES_PER_ELEMENT * num_receivers) as u64);
    }

    fn num_others(&self) -> usize {
        self.size() - 1
    }

    /// What this rank receives of `elements` in a ring among all members, which each of them needs all of but its part.
    fn received(&self, elements: usize) -> Moved {
        let others = elements as u128 * self.num_others() as u128 / self.size() as u128;
        Moved::Received(others as u64 * BYTES_PER_ELEMENT as u64)
    }

    /// Makes a call. An error has put this rank out of step with the others, so it fails the world.
    pub(crate) fn call<X>(&self, call: impl FnOnce() -> Result<X>) -> Result<X> {
        if let Some(clock) = &self.clock {
            clock.stop();
        }
        let result = call();
        if let Err(error) = &result {
            self.world.fail(
                self.global_rank(),
                FailureKind::Communication(error.clone()),
            );
        }
        if let Some(clock) = &self.clock {
            clock.go_on();
        }
        result
    }

    fn try_start_all_to_all_v(&self, send: Vec<B::Tensor>) -> Result<ThreadPendingExchange<B>> {
        let position = self.next_call()?;
        if send.len() != self.size() {
            return Err(CommError::WrongNumTensors {
                rank: self.global_rank(),
                num_tensors: send.len(),
                size: self.size(),
            });
        }
        let pending = |exchange| ThreadPendingExchange {
            communicator: self.clone(),
            exchange,
        };
        if self.is_alone() {
            return Ok(pending(Exchange::Alone(send)));
        }
        let own_elements = send[self.me].num_elements();
        let all_elements: usize = send.iter().map(Tensor::num_elements).sum();
        self.count_sent(all_elements - own_elements, 1);
        let moved = Moved::Each(send.iter().map(num_bytes).collect());
        let parcel = Parcel::Each(send.into_iter().map(Some).collect());
        let ticket = self.post(position, &Call::AllToAllV, parcel, moved)?;
        Ok(pending(Exchange::Posted(ticket)))
    }

    /// The tensors sent to this rank, by group rank of the sender.
    fn read_mine(&self, ticket: &Ticket<B::Tensor>) -> Result<Vec<B::Tensor>> {
        self.read(ticket, |parcels| {
            let mine = parcels.iter_mut().filter_map(|parcel| match parcel {
                Some(Parcel::Each(tensors)) => tensors[self.me].take(),
                _ => None,
            });
            mine.collect()
        })
    }

    fn try_start_all_gather_v(&self, piece: B::Tensor) -> Result<ThreadPendingGather<B>> {
        let position = self.next_call()?;
        let call = Call::AllGatherV { cols: piece.cols() };
        let gather = if self.is_alone() {
            Gather::Alone(piece)
        } else {
            self.count_sent(piece.num_elements(), self.num_others());
            let moved = Moved::Piece(num_bytes(&piece));
            Gather::Posted(self.post(position, &call, Parcel::Shared(piece), moved)?)
        };
        Ok(ThreadPendingGather {
            communicator: self.clone(),
            call,
            gather,
        })
    }

    fn try_reduce_scatter_v(&self, full: B::Tensor, row_counts: &[usize]) -> Result<B::Tensor> {
        let position = self.next_call()?;
        let rank = self.global_rank();
        if row_counts.len() != self.size() {
            return Err(CommError::WrongNumRowCounts {
                rank,
                num_counts: row_counts.len(),
                size: self.size(),
            });
        }
        let sum = row_counts
            .iter()
            .try_fold(0usize, |sum, &count| sum.checked_add(count));
        if sum != Some(full.rows()) {
            return Err(CommError::WrongRowSum {
                rank,
                row_counts: row_counts.to_vec(),
                rows: full.rows(),
            });
        }
        if self.is_alone() {
            return Ok(full);
        }
        let start: usize = row_counts[..self.me].iter().sum();
        let rows = start..start + row_counts[self.me];
        let of_others = (full.rows() - rows.len()) * full.cols();
        self.count_sent(of_others, 1);
        let moved = Moved::Received((of_others * BYTES_PER_ELEMENT) as u64);
        let call = Call::ReduceScatterV {
            row_counts: row_counts.to_vec(),
            cols: full.cols(),
        };
        let ticket = self.post(position, &call, Parcel::Shared(full), moved)?;
        let parts: Vec<_> = (self.read_shared(&ticket)?.iter())
            .map(|full| self.backend.slice_rows(full, rows.clone()))
            .collect();
        self.on_device(&call, self.backend.sum(&parts))
    }

    fn try_all_reduce(&self, tensor: B::Tensor) -> Result<B::Tensor> {
        let position = self.next_call()?;
        if self.is_alone() {
            return Ok(tensor);
        }
        let (rows, cols, elements) = (tensor.rows(), tensor.cols(), tensor.num_elements());
        let call = Call::AllReduce { rows, cols };
        let is_direct = elements <= DIRECT_ALL_REDUCE_ELEMENTS;
        // However it is done here, a ring reduces and then gathers.
        let moved = self.received(if is_direct { 2 * elements } else { elements });
        let ticket = self.post(position, &call, Parcel::Shared(tensor), moved)?;
        let tensors = self.read_shared(&ticket)?;
        if is_direct {
            self.count_sent(elements, self.num_others());
            return self.on_device(&call, self.backend.sum(&tensors));
        }

        // Each rank adds up its share of the elements, then all gather the shares: 2 N passes over the tensor
        // in total instead of N^2.
        let bound =
            |member: usize| (elements as u128 * member as u128 / self.size() as u128) as usize;
        let (start, end) = (bound(self.me), bound(self.me + 1));
        let parts: Vec<_> = (tensors.iter())
            .map(|tensor| self.backend.view(tensor, start, end - start, 1))
            .collect();
        let share = self.on_device(&call, self.backend.sum(&parts))?;
        drop((parts, tensors, ticket));
        self.count_sent(elements - (end - start), 1);
        self.count_sent(end - start, self.num_others());
        // Every member has posted its tensor, so the same call can meet once more.
        let moved = Moved::Piece(num_bytes(&share));
        let ticket = self.post(position, &call, Parcel::Shared(share), moved)?;
        let shares = self.read_shared(&ticket)?;
        let flat = self.on_device(&call, self.backend.concat_rows(&shares))?;
        Ok(self.backend.view(&flat, 0, rows, cols))
    }

    fn try_all_reduce_values(&self, values: &[f64], op: ReduceOp) -> Result<Vec<f64>> {
        let position = self.next_call()?;
        if self.is_alone() {
            return Ok(values.to_vec());
        }
        self.counters
            .count_sent((size_of_val(values) * self.num_others()) as u64);
        let call = Call::AllReduceValues {
            op,
            num_values: values.len(),
        };
        // A value of the host has two elements' bytes.
        let moved = self.received(2 * 2 * values.len());
        let ticket = self.post(position, &call, Parcel::Values(values.to_vec()), moved)?;
        self.read(&ticket, |parcels| {
            let all_values = parcels.iter().filter_map(|parcel| match parcel {
                Some(Parcel::Values(values)) => Some(values),
                _ => None,
            });
            let reduced = all_values.cloned().reduce(|mut reduced, values| {
                for (a, b) in reduced.iter_mut().zip(values) {
                    *a = op.apply(*a, b);
                }
                reduced
            });
            reduced.unwrap_or_default()
        })
    }

    fn try_broadcast(&self, root: Rank, tensor: Option<B::Tensor>) -> Result<B::Tensor> {
        let position = self.next_call()?;
        let rank = self.global_rank();
        if root.index() >= self.size() {
            return Err(CommError::UnknownRoot {
                rank,
                root,
                size: self.size(),
            });
        }
        let call = Call::Broadcast { root };
        match (root.index() == self.me, tensor) {
            (true, Some(tensor)) => {
                self.count_sent(tensor.num_elements(), self.num_others());
                if !self.is_alone() {
                    let moved = Moved::Received(num_bytes(&tensor));
                    self.post(position, &call, Parcel::Shared(tensor.clone()), moved)?;
                }
                Ok(tensor)
            }
            (false, None) => {
                let ticket = self.post(position, &call, Parcel::Presence, Moved::Nothing)?;
                let tensors = self.read_shared(&ticket)?;
                self.on_device(&call, self.backend.concat_rows(&tensors))
            }
            (true, None) => Err(CommError::MissingTensor { rank }),
            (false, Some(_)) => Err(CommError::UnexpectedTensor { rank, root }),
        }
    }

    fn try_barrier(&self) -> Result<()> {
        let position = self.next_call()?;
        if self.is_alone() {
            return Ok(());
        }
        let ticket = self.post(position, &Call::Barrier, Parcel::Presence, Moved::Nothing)?;
        self.read(&ticket, |_| ())
    }
}

impl<B: Backend> Communicator for ThreadCommunicator<B> {
    type Backend = B;
    type PendingGather = ThreadPendingGather<B>;
    type PendingExchange = ThreadPendingExchange<B>;
    type PendingToHost = ThreadPendingToHost<B>;
    type PendingFromHost = ThreadPendingFromHost<B>;

    fn backend(&self) -> &B {
        &self.backend
    }

    fn rank(&self) -> Rank {
        Rank(self.me as u32)
    }

    fn size(&self) -> usize {
        self.group.members().len()
    }

    fn members(&self) -> &[Rank] {
        self.group.members()
    }

    fn num_calls(&self) -> u64 {
        self.group.num_calls(self.me)
    }

    fn statistics(&self) -> Statistics {
        self.counters.statistics(self.world.num_groups())
    }

    fn emulated_time(&self) -> Option<Seconds> {
        self.clock.as_ref().map(|clock| clock.now())
    }

    fn group(&self, members: &[Rank]) -> Result<Self> {
        let (group, me) = self.world.group(members, self.global_rank())?;
        Ok(ThreadCommunicator {
            group,
            me,
            ..self.clone()
        })
    }

    fn start_all_to_all_v(&self, send: Vec<B::Tensor>) -> Result<ThreadPendingExchange<B>> {
        self.call(|| self.try_start_all_to_all_v(send))
    }

    fn start_all_gather_v(&self, piece: B::Tensor) -> Result<ThreadPendingGather<B>> {
        self.call(|| self.try_start_all_gather_v(piece))
    }

    fn reduce_scatter_v(&self, full: B::Tensor, row_counts: &[usize]) -> Result<B::Tensor> {
        self.call(|| self.try_reduce_scatter_v(full, row_counts))
    }

    fn all_reduce(&self, tensor: B::Tensor) -> Result<B::Tensor> {
        self.call(|| self.try_all_reduce(tensor))
    }

    fn all_reduce_values(&self, values: &[f64], op: ReduceOp) -> Result<Vec<f64>> {
        self.call(|| self.try_all_reduce_values(values, op))
    }

    fn broadcast(&self, root: Rank, tensor: Option<B::Tensor>) -> Result<B::Tensor> {
        self.call(|| self.try_broadcast(root, tensor))
    }

    fn barrier(&self) -> Result<()> {
        self.call(|| self.try_barrier())
    }

    fn start_copy_to_host(&self, tensor: B::Tensor) -> Result<ThreadPendingToHost<B>> {
        ThreadPendingToHost::start(self, tensor)
    }

    fn start_copy_from_host(&self, tensor: B::HostTensor) -> Result<ThreadPendingFromHost<B>> {
        ThreadPendingFromHost::start(self, tensor)
    }
}

impl<B: Backend> Pending for ThreadPendingExchange<B> {
    type Output = Vec<B::Tensor>;

    fn wait(self) -> Result<Vec<B::Tensor>> {
        let communicator = &self.communicator;
        communicator.call(|| match self.exchange {
            Exchange::Alone(tensors) => communicator.group.fate().check().map(|()| tensors),
            Exchange::Posted(ticket) => communicator.read_mine(&ticket),
        })
    }
}

impl<B: Backend> Pending for ThreadPendingGather<B> {
    type Output = B::Tensor;

    fn wait(self) -> Result<B::Tensor> {
        let communicator = &self.communicator;
        communicator.call(|| match self.gather {
            Gather::Alone(piece) => communicator.group.fate().check().map(|()| piece),
            Gather::Posted(ticket) => communicator.read_shared(&ticket).and_then(|pieces| {
                communicator.on_device(&self.call, communicator.backend.concat_rows(&pieces))
            }),
        })
    }
}

pub(crate) fn num_bytes(tensor: &impl Tensor) -> u64 {
    (tensor.num_elements() * BYTES_PER_ELEMENT) as u64
}
