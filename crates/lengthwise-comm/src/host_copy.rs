//! Copies of one rank between its device and the memory of its host.

use lengthwise_tensor::{Backend, BackgroundCopy, HostTensor, TensorError};

use crate::emulation::{CopyEnd, HostDirection};
use crate::thread::num_bytes;
use crate::{CommError, Pending, ThreadCommunicator};

type Result<T> = std::result::Result<T, CommError>;

/// A tensor on its way to the host.
#[derive(Debug)]
pub struct ThreadPendingToHost<B: Backend> {
    under_way: UnderWay<B, B::HostTensor>,
    /// Held on the device for as long as it is leaving by the rank's clock.
    leaving: B::Tensor,
}

/// A tensor on its way from the host.
#[derive(Debug)]
pub struct ThreadPendingFromHost<B: Backend> {
    under_way: UnderWay<B, B::Tensor>,
}

#[derive(Debug)]
struct UnderWay<B: Backend, T> {
    communicator: ThreadCommunicator<B>,
    copy: BackgroundCopy<T>,
    /// When it ends, where the cluster is emulated.
    end: Option<CopyEnd>,
}

impl<B: Backend> ThreadPendingToHost<B> {
    pub(crate) fn start(communicator: &ThreadCommunicator<B>, tensor: B::Tensor) -> Result<Self> {
        let copy = || communicator.backend.start_copy_to_host(&tensor);
        let bytes = num_bytes(&tensor);
        let under_way = UnderWay::start(communicator, HostDirection::ToHost, bytes, copy)?;
        Ok(ThreadPendingToHost {
            under_way,
            leaving: tensor,
        })
    }
}

impl<B: Backend> ThreadPendingFromHost<B> {
    pub(crate) fn start(
        communicator: &ThreadCommunicator<B>,
        tensor: B::HostTensor,
    ) -> Result<Self> {
        let bytes = tensor.bytes().0;
        let copy = || communicator.backend.start_copy_from_host(tensor);
        let under_way = UnderWay::start(communicator, HostDirection::FromHost, bytes, copy)?;
        Ok(ThreadPendingFromHost { under_way })
    }
}

impl<B: Backend, T> UnderWay<B, T> {
    fn start(
        communicator: &ThreadCommunicator<B>,
        direction: HostDirection,
        bytes: u64,
        copy: impl FnOnce() -> std::result::Result<BackgroundCopy<T>, TensorError>,
    ) -> Result<Self> {
        communicator.call(|| {
            communicator.group.fate().check()?;
            let copy = copy().map_err(|error| CommError::HostCopy {
                rank: communicator.global_rank(),
                error,
            })?;
            let clock = communicator.clock.as_ref();
            Ok(UnderWay {
                communicator: communicator.clone(),
                copy,
                end: clock.map(|clock| clock.begin_copy(direction, bytes)),
            })
        })
    }

    fn wait(self) -> Result<T> {
        let UnderWay {
            communicator,
            copy,
            end,
        } = self;
        communicator.call(|| {
            let fate = communicator.group.fate();
            fate.check()?;
            if let (Some(clock), Some(end)) = (&communicator.clock, end) {
                clock.while_waiting(|| clock.wait_for_copy(end, fate))?;
            }
            Ok(copy.wait())
        })
    }
}

impl<B: Backend> Pending for ThreadPendingToHost<B> {
    type Output = B::HostTensor;

    fn wait(self) -> Result<B::HostTensor> {
        let on_host = self.under_way.wait()?;
        drop(self.leaving);
        Ok(on_host)
    }
}

impl<B: Backend> Pending for ThreadPendingFromHost<B> {
    type Output = B::Tensor;

    fn wait(self) -> Result<B::Tensor> {
        self.under_way.wait()
    }
}
