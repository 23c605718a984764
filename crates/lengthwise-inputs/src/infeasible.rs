//! Why a batch can't be planned, in the words of the files it came from.

use lengthwise_core::{Bytes, Degree, MemoryModel, Tokens};
use lengthwise_plan::PlanError;

use crate::{InputError, OwnedProblem};

/// No larger cluster is recommended.
const MAX_RECOMMENDED: u32 = 1 << 17;

impl OwnedProblem {
    /// Why there is no plan, in the words of the files that the batch came from.
    pub fn unplannable(&self, error: PlanError) -> InputError {
        let PlanError::DoesNotFit {
            sequence,
            seq_len,
            predicted_memory,
            degree,
            budget,
            limit,
            ..
        } = error
        else {
            return InputError::Unplannable(error);
        };
        let place = self.lengths().place(sequence.index());
        if !self.has_equal_devices() {
            return InputError::UnplannableSequence { place, error };
        }
        let is_largest = Some(degree) == self.costs.space.degrees().last().map(Degree::get);
        let enough_devices = if is_largest {
            self.enough_devices(seq_len)
        } else {
            None
        };
        let num_devices = self.costs.cluster.num_devices();
        let devices_per_rank = self.costs.share.devices_per_rank();
        if let Some((fixed, memory)) = self.filled_devices() {
            return InputError::FilledByModel {
                num_devices,
                devices_per_rank,
                fixed,
                memory,
                enough_devices,
            };
        }
        match self.needed_degree(seq_len, degree) {
            Some(needed) if needed > num_devices => InputError::DegreeBeyondCluster {
                place,
                seq_len,
                needed,
                num_devices,
                devices_per_rank,
                limit,
                enough_devices,
            },
            Some(needed) => InputError::DegreeBeyondChoice {
                place,
                seq_len,
                needed,
                largest: degree,
                largest_known: self.largest_known_degree(),
                limit,
                enough_devices,
                rings_would_do: self.costs.degrees.is_none()
                    && self.costs.other_sizes.is_limited_by_heads(),
            },
            None => InputError::BeyondMemory {
                place,
                seq_len,
                predicted_memory,
                degree,
                budget,
                limit,
                enough_devices,
            },
        }
    }

    fn has_equal_devices(&self) -> bool {
        let devices = self.costs.cluster.devices();
        devices.iter().all(|device| *device == devices[0])
    }

    /// What the model takes of each device and what that has, where there is no room for any sequence.
    fn filled_devices(&self) -> Option<(Bytes, Bytes)> {
        let fixed = Bytes::from_f64_ceil(self.costs.model.costs().fixed_memory_bytes)?;
        let memory = self.costs.cluster.devices()[0].memory();
        (fixed >= memory).then_some((fixed, memory))
    }

    /// The largest degree that there are costs for, whatever was chosen from.
    fn largest_known_degree(&self) -> u32 {
        let num_devices = self.costs.cluster.num_devices();
        let all = self.costs.other_sizes.of(num_devices, None);
        let largest = all.and_then(|(_, _, space)| space.degrees().last().map(Degree::get));
        largest.unwrap_or(0)
    }

    /// The larger degree that would do.
    fn needed_degree(&self, seq_len: Tokens, best: u32) -> Option<u32> {
        let device = &self.costs.cluster.devices()[0];
        (best..=MAX_RECOMMENDED).find(|&degree| {
            let space = Degree::new(degree).and_then(|of| self.costs.other_sizes.space_of(&[of]));
            space.is_ok_and(|space| {
                let mut strategies = space.strategies().iter();
                strategies.any(|&strategy| self.costs.model.fits(device, strategy, seq_len))
            })
        })
    }

    /// The fewest devices like these, of all ranks, on which a sequence fits, over which the model's own memory is shared out.
    fn enough_devices(&self, seq_len: Tokens) -> Option<u32> {
        let fits = |num_devices: u32| {
            let degrees = self.costs.degrees.as_deref();
            let (cluster, cost, space) = self.costs.other_sizes.of(num_devices, degrees)?;
            let device = &cluster.devices()[0];
            let mut strategies = space.strategies().iter();
            strategies
                .any(|&strategy| cost.fits(device, strategy, seq_len))
                .then_some(())
        };
        let mut low = self.costs.cluster.num_devices();
        let mut high = low;
        while fits(high).is_none() {
            low = high;
            high = high
                .checked_mul(2)
                .filter(|&high| high <= MAX_RECOMMENDED)?;
        }
        // It fits on `high`, not on `low`.
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match fits(middle) {
                Some(()) => high = middle,
                None => low = middle,
            }
        }
        high.checked_mul(self.costs.share.devices_per_rank())
    }
}
