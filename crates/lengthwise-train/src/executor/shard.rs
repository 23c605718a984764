//! This rank's shard of the parameters, with their gradients and moments, as ZeRO-3 and FSDP divide them.

use std::ops::Range;

use lengthwise_tensor::{AdamW, Backend, Tensor};

use crate::TrainError;
use crate::checkpoint::{StateKind, UnitState};
use crate::model::exchange::part;
use crate::model::{ModelSpec, UnitSpec};

/// A run of a rank's shard whose elements are all treated alike by the optimiser.
#[derive(Debug)]
struct ShardPart<T> {
    /// `[elements, 1]`, as are the moments.
    parameter: T,
    first_moment: T,
    second_moment: T,
    decays: bool,
}

/// The elements of one unit's flat vector that this rank keeps.
#[derive(Debug)]
struct UnitShard<T> {
    /// First what decays, then what does not; either may be missing.
    parts: Vec<ShardPart<T>>,
    /// Summed over the micro-batches of this step so far.
    gradient: Option<T>,
    num_elements: usize,
}

/// A rank's shard of all units: near-equal ranges of each flat vector, by rank.
#[derive(Debug)]
pub struct ShardedParameters<B: Backend> {
    backend: B,
    spec: ModelSpec,
    rank: usize,
    num_ranks: usize,
    units: Vec<UnitShard<B::Tensor>>,
}

impl<B: Backend> ShardedParameters<B> {
    /// The parameters that `rank` of `num_ranks` keeps; `elements` gives those of a range of a unit's flat vector.
    pub fn new(
        backend: B,
        spec: ModelSpec,
        rank: usize,
        num_ranks: usize,
        elements: impl Fn(usize, &UnitSpec, Range<usize>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Self, TrainError> {
        let units = spec.units.iter().enumerate().map(|(index, unit)| {
            let shard = part(unit.num_elements(), num_ranks, rank);
            let part = |range: Range<usize>, decays| {
                let elements = elements(index, unit, range.clone())?;
                Ok::<_, TrainError>(ShardPart {
                    parameter: backend.from_slice(range.len(), 1, &elements)?,
                    first_moment: backend.zeros(range.len(), 1)?,
                    second_moment: backend.zeros(range.len(), 1)?,
                    decays,
                })
            };
            let border = unit.num_decaying().clamp(shard.start, shard.end);
            let ranges = [(shard.start..border, true), (border..shard.end, false)];
            let parts = ranges.into_iter().filter(|(range, _)| !range.is_empty());
            let parts: Result<Vec<_>, _> =
                parts.map(|(range, decays)| part(range, decays)).collect();
            Ok::<_, TrainError>(UnitShard {
                parts: parts?,
                gradient: None,
                num_elements: shard.len(),
            })
        });
        let units = units.collect::<Result<_, _>>()?;
        Ok(ShardedParameters {
            backend,
            spec,
            rank,
            num_ranks,
            units,
        })
    }

    /// Gives the moments of AdamW other values than 0: `elements` gives those of a range of a unit's flat vector.
    pub fn restore_moments(
        &mut self,
        elements: impl Fn(StateKind, &UnitSpec, Range<usize>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<(), TrainError> {
        for (spec, unit) in self.spec.units.iter().zip(&mut self.units) {
            let mut start = part(spec.num_elements(), self.num_ranks, self.rank).start;
            for part in &mut unit.parts {
                let rows = part.parameter.rows();
                let moment = |kind| {
                    let elements = elements(kind, spec, start..start + rows)?;
                    Ok::<_, TrainError>(self.backend.from_slice(rows, 1, &elements)?)
                };
                part.first_moment = moment(StateKind::FirstMoment)?;
                part.second_moment = moment(StateKind::SecondMoment)?;
                start += rows;
            }
        }
        Ok(())
    }

    /// A copy of all that an optimiser step goes on from.
    pub fn state(&self) -> Vec<UnitState> {
        let units = self.spec.units.iter().zip(&self.units);
        let state = units.map(|(spec, unit)| {
            let joined = |of: fn(&ShardPart<B::Tensor>) -> &B::Tensor| {
                let parts = unit.parts.iter();
                parts
                    .flat_map(|part| self.backend.to_vec(of(part)))
                    .collect()
            };
            UnitState {
                range: part(spec.num_elements(), self.num_ranks, self.rank),
                elements: [
                    joined(|part| &part.parameter),
                    joined(|part| &part.first_moment),
                    joined(|part| &part.second_moment),
                ],
            }
        });
        state.collect()
    }

    /// The units these are shards of.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// What this rank contributes to a gather of `unit`.
    pub fn piece(&self, unit: usize) -> Result<B::Tensor, TrainError> {
        Ok(match self.units[unit].parts.as_slice() {
            [part] => part.parameter.clone(),
            parts => {
                let parameters: Vec<_> = parts.iter().map(|part| part.parameter.clone()).collect();
                self.backend.concat_flat(&parameters)?
            }
        })
    }

    /// How many elements of `unit` each rank keeps.
    pub fn row_counts(&self, unit: usize) -> Vec<usize> {
        let num_elements = self.unit(unit).num_elements();
        (0..self.num_ranks)
            .map(|rank| part(num_elements, self.num_ranks, rank).len())
            .collect()
    }

    /// A zero gradient for all of `unit`, which an idle rank contributes.
    pub fn no_gradient(&self, unit: usize) -> Result<B::Tensor, TrainError> {
        Ok(self.backend.zeros(self.unit(unit).num_elements(), 1)?)
    }

    /// Adds a micro-batch's gradient of this rank's shard of `unit`.
    pub fn accumulate(&mut self, unit: usize, gradient: B::Tensor) -> Result<(), TrainError> {
        match &mut self.units[unit].gradient {
            Some(total) => self.backend.add_assign(total, &gradient)?,
            none => *none = Some(gradient),
        }
        Ok(())
    }

    /// The gradient of this rank's shard of `unit`; `None` before the first micro-batch.
    pub fn gradient(&self, unit: usize) -> Option<&B::Tensor> {
        self.units[unit].gradient.as_ref()
    }

    /// The sum of the squares of this rank's gradients.
    pub fn gradient_sum_of_squares(&self) -> f64 {
        let gradients = self.units.iter().filter_map(|unit| unit.gradient.as_ref());
        gradients
            .map(|gradient| self.backend.sum_of_squares(gradient))
            .sum()
    }

    /// Whether all parameters that this rank keeps are finite numbers.
    pub fn is_finite(&self) -> bool {
        // In `f64`, squares of finite `f32`s have finite sums.
        let mut parts = self.units.iter().flat_map(|unit| &unit.parts);
        parts.all(|part| self.backend.sum_of_squares(&part.parameter).is_finite())
    }

    /// Updates this rank's parameters and forgets the gradients. The update's weight decay holds for matrices.
    pub fn update(&mut self, update: &AdamW) -> Result<(), TrainError> {
        for unit in &mut self.units {
            let Some(gradient) = unit.gradient.take() else {
                continue;
            };
            debug_assert_eq!(gradient.num_elements(), unit.num_elements);
            let mut offset = 0;
            for part in &mut unit.parts {
                let rows = part.parameter.rows();
                let gradient = self.backend.view(&gradient, offset, rows, 1);
                let update = if part.decays {
                    *update
                } else {
                    AdamW {
                        weight_decay: 0.0,
                        ..*update
                    }
                };
                let ShardPart {
                    parameter,
                    first_moment,
                    second_moment,
                    ..
                } = part;
                self.backend
                    .adamw(parameter, &gradient, first_moment, second_moment, &update)?;
                offset += rows;
            }
        }
        Ok(())
    }

    /// Forgets the gradients without an update.
    pub fn discard_gradients(&mut self) {
        for unit in &mut self.units {
            unit.gradient = None;
        }
    }

    fn unit(&self, unit: usize) -> &UnitSpec {
        &self.spec.units[unit]
    }
}
