//! Inputs of layers in the memory of the host, from a layer's forward to its backward.
//!
//! ```text
//! forward     layer 0    layer 1    layer 2    layer 3     backward   layer 3    layer 2    layer 1    layer 0
//! to the host    0          1          2                   back          2          1          0
//! ```
//!
//! Copies are made while layers compute. The device has two inputs at a time: that of the layer at hand, and one that is on
//! its way. The last layer's stays there, since its backward comes next.

use lengthwise_comm::{Communicator, Pending};
use lengthwise_tensor::Backend;

use crate::TrainError;
use crate::model::exchange::TensorOf;

type HostTensorOf<C> = <<C as Communicator>::Backend as Backend>::HostTensor;

/// The inputs of the layers whose forward has been run and whose backward has not.
pub struct OffloadedInputs<C: Communicator> {
    /// Those of the first layers.
    on_host: Vec<HostTensorOf<C>>,
    /// That of the next layer.
    leaving: Option<C::PendingToHost>,
    /// That of the layer after these, on its way back.
    coming: Option<C::PendingFromHost>,
    /// That of the last layer.
    last: Option<TensorOf<C>>,
}

impl<C: Communicator> Default for OffloadedInputs<C> {
    fn default() -> Self {
        OffloadedInputs {
            on_host: Vec::new(),
            leaving: None,
            coming: None,
            last: None,
        }
    }
}

impl<C: Communicator> OffloadedInputs<C> {
    /// Takes the input of the next layer, whose forward is about to be run.
    pub fn push(&mut self, rank: &C, input: TensorOf<C>, is_last: bool) -> Result<(), TrainError> {
        if is_last {
            self.last = Some(input);
            return Ok(());
        }
        // The copy after it waits for nothing, and the link has something to do.
        let leaving = self.leaving.replace(rank.start_copy_to_host(input)?);
        self.on_host.extend(leaving.map(Pending::wait).transpose()?);
        Ok(())
    }

    /// Gives the input of the last layer that is left, whose backward is about to be run, and fetches the one before.
    pub fn pop(&mut self, rank: &C) -> Result<TensorOf<C>, TrainError> {
        let input = match (self.last.take(), self.coming.take()) {
            (Some(last), _) => last,
            (None, Some(coming)) => coming.wait()?,
            (None, None) => unreachable!("a layer's forward comes before its backward"),
        };
        self.on_host
            .extend(self.leaving.take().map(Pending::wait).transpose()?);
        let before = self.on_host.pop();
        self.coming = before
            .map(|before| rank.start_copy_from_host(before))
            .transpose()?;
        Ok(input)
    }
}
