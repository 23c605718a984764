//! Why a batch can't be planned, in the words of the files it came from.

use lengthwise_core::{Bytes, Degree, MemoryModel, SequenceIndex, Tokens};
use lengthwise_plan::PlanError;

use super::table::counted;
use super::{Lengths, OwnedProblem};
use crate::failure::Failure;

/// No larger cluster is recommended.
const MAX_RECOMMENDED: u32 = 1 << 17;

impl OwnedProblem {
    /// The failure of a command for whose batch there is no plan.
    pub(crate) fn unplannable(&self, error: &PlanError, lengths: &Lengths) -> Failure {
        match *error {
            PlanError::DoesNotFit {
                sequence,
                seq_len,
                predicted_memory,
                degree,
                budget,
                ..
            } if self.has_equal_devices() => {
                let is_bound = Some(degree) != self.space.degrees().last().map(Degree::get);
                let devices = if is_bound {
                    None
                } else {
                    self.enough_devices(seq_len)
                };
                let devices = devices.map_or_else(
                    || "larger degrees".to_owned(),
                    |devices| format!("{devices} devices or more"),
                );
                if let Some(message) = self.fixed_memory_alone() {
                    let hint = format!("use {devices}, or devices with more memory");
                    return Failure::input(message).hint(hint);
                }
                let message = self
                    .degree_too_small(lengths, sequence, seq_len, degree)
                    .unwrap_or_else(|| {
                        format!(
                            "{}: {seq_len} tokens need {predicted_memory} on each device even at degree {degree}, the \
                             best there is; {budget} are left for them",
                            lengths.place(sequence.index())
                        )
                    });
                let hint =
                    format!("use {devices}, devices with more memory, or split longer sequences");
                Failure::input(message).hint(hint)
            }
            PlanError::DoesNotFit { sequence, .. } => {
                let failure =
                    Failure::input(format!("{}: {error}", lengths.place(sequence.index())));
                with_hint(failure, error)
            }
            _ => with_hint(Failure::input(error.to_string()), error),
        }
    }

    fn has_equal_devices(&self) -> bool {
        let devices = self.cluster.devices();
        devices.iter().all(|device| *device == devices[0])
    }

    /// What all devices have for sequences, where they are equal.
    fn budget(&self) -> Bytes {
        self.cost.budget(&self.cluster.devices()[0])
    }

    /// Where devices have no room for any sequence.
    fn fixed_memory_alone(&self) -> Option<String> {
        let fixed = Bytes::from_f64_ceil(self.cost.costs().fixed_memory_bytes)?;
        let memory = self.cluster.devices()[0].memory();
        (fixed >= memory).then(|| {
            format!(
                "with {} in the cluster, each device holds {fixed} of the model before any sequence; it has {memory}",
                counted(self.cluster.num_devices() as usize, "device")
            )
        })
    }

    /// Where a larger degree would do.
    fn degree_too_small(
        &self,
        lengths: &Lengths,
        sequence: SequenceIndex,
        seq_len: Tokens,
        best: u32,
    ) -> Option<String> {
        let budget = self.budget();
        let needed = (best..=MAX_RECOMMENDED).find(|&degree| {
            let space = Degree::new(degree).map(|degree| self.profile.space_of(&[degree]));
            let Ok(Ok(space)) = space else { return false };
            let mut strategies = space.strategies().iter();
            strategies.any(|&strategy| self.cost.sequence_memory(strategy, seq_len) <= budget)
        })?;
        let num_devices = self.cluster.num_devices();
        let place = lengths.place(sequence.index());
        Some(if needed > num_devices {
            format!(
                "{place}: {seq_len} tokens need degree {needed}; the cluster has {num_devices} devices"
            )
        } else {
            format!(
                "{place}: {seq_len} tokens need degree {needed}; the largest to choose from is {best}"
            )
        })
    }

    /// The fewest devices like these on which a sequence fits, over which the model's own memory is shared out.
    fn enough_devices(&self, seq_len: Tokens) -> Option<u32> {
        let fits = |num_devices: u32| {
            let cluster = self.profile.cluster(Some(num_devices)).ok()?;
            let cost = self.profile.model(&cluster).ok()?;
            let space = match &self.degrees {
                Some(degrees) => {
                    let space = self.profile.space_of(degrees).ok()?;
                    space.limited_to(num_devices).ok()?
                }
                None => self.profile.space(&cluster).ok()?,
            };
            let budget = cost.budget(&cluster.devices()[0]);
            let mut strategies = space.strategies().iter();
            strategies
                .any(|&strategy| cost.sequence_memory(strategy, seq_len) <= budget)
                .then_some(())
        };
        let mut low = self.cluster.num_devices();
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
        Some(high)
    }
}

fn with_hint(failure: Failure, error: &PlanError) -> Failure {
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
