//! Parameters gathered one unit ahead of their use.

use std::collections::VecDeque;

use lengthwise_comm::{Communicator, Pending};

use super::shard::ShardedParameters;
use super::stage::ScheduledStage;
use crate::TrainError;

/// Hands out the gathered units of a micro-batch in order, and always has the next one on its way.
pub struct Gathers<C: Communicator> {
    world: C,
    /// Units that are still to be started.
    order: VecDeque<usize>,
    /// The unit that is on its way.
    pending: Option<C::PendingGather>,
}

impl<C: Communicator> Gathers<C> {
    /// Starts the first gather of these stages.
    pub fn start(
        world: &C,
        stages: &[ScheduledStage],
        parameters: &ShardedParameters<C::Backend>,
    ) -> Result<Self, TrainError> {
        let order = stages
            .iter()
            .flat_map(|stage| &stage.gathers)
            .copied()
            .collect();
        let mut gathers = Gathers {
            world: world.clone(),
            order,
            pending: None,
        };
        gathers.pending = gathers.start_next(parameters)?;
        Ok(gathers)
    }

    /// The next unit's gathered flat vector, `None` for a rank that has no use for it.
    ///
    /// The gather after it is started first, so that it is on its way while this one is used.
    pub fn next(
        &mut self,
        parameters: &ShardedParameters<C::Backend>,
        is_used: bool,
    ) -> Result<Option<<C::PendingGather as Pending>::Output>, TrainError> {
        let next = self.start_next(parameters)?;
        let current = std::mem::replace(&mut self.pending, next);
        match current {
            Some(gather) if is_used => Ok(Some(gather.wait()?)),
            _ => Ok(None),
        }
    }

    fn start_next(
        &mut self,
        parameters: &ShardedParameters<C::Backend>,
    ) -> Result<Option<C::PendingGather>, TrainError> {
        let Some(unit) = self.order.pop_front() else {
            return Ok(None);
        };
        Ok(Some(
            self.world.start_all_gather_v(parameters.piece(unit)?)?,
        ))
    }
}
