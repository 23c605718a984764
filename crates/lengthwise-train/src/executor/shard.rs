//! This rank's shard of the parameters, with their gradients and moments, as ZeRO-3 and FSDP divide them.

use std::ops::Range;

use lengthwise_tensor::{AdamW, Backend, Tensor};

use crate::checkpoint::{Elements, StateKind, UnitState};
use crate::model::exchange::part;
use crate::model::{ModelSpec, ParameterKind, UnitSpec};
use crate::{NoDecay, TrainError};

/// A run of a rank's shard whose elements are all treated alike by the optimiser.
#[derive(Debug)]
struct ShardPart<T> {
    /// `[elements, 1]`, as are the moments.
    parameter: T,
    first_moment: T,
    second_moment: T,
    kind: ParameterKind,
}

/// The elements of one unit's flat vector that this rank keeps.
#[derive(Debug)]
struct UnitShard<T> {
    /// In the order of the flat vector.
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
            let part = |kind, range: Range<usize>| {
                let elements = elements(index, unit, range.clone())?;
                Ok::<_, TrainError>(ShardPart {
                    parameter: backend.from_slice(range.len(), 1, &elements)?,
                    first_moment: backend.zeros(range.len(), 1)?,
                    second_moment: backend.zeros(range.len(), 1)?,
                    kind,
                })
            };
            let parts: Result<Vec<_>, _> = (unit.decay_runs().into_iter())
                .map(|(kind, run)| (kind, run.start.max(shard.start)..run.end.min(shard.end)))
                .filter(|(_, range)| !range.is_empty())
                .map(|(kind, range)| part(kind, range))
                .collect();
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
        self.state_of(|tensors| Elements::Copied(self.joined(tensors)))
    }

    /// The same where it is. The next step must be taken after it is dropped: before, what it changes would be copied.
    pub fn state_in_place(&self) -> Vec<UnitState> {
        self.state_of(|tensors| {
            let backend = self.backend.clone();
            let tensors: Vec<_> = tensors.into_iter().cloned().collect();
            Elements::InPlace(Box::new(move |range, elements| {
                let mut start = 0;
                for tensor in &tensors {
                    let rows = start..start + tensor.rows();
                    let part = range.start.max(rows.start)..range.end.min(rows.end);
                    if !part.is_empty() {
                        let view = backend.view(tensor, part.start - start, part.len(), 1);
                        elements.extend(backend.to_vec(&view));
                    }
                    start = rows.end;
                }
            }))
        })
    }

    fn state_of(&self, elements: impl Fn(Vec<&B::Tensor>) -> Elements) -> Vec<UnitState> {
        let units = self.spec.units.iter().zip(&self.units);
        let state = units.map(|(spec, unit)| {
            let of = |of: fn(&ShardPart<B::Tensor>) -> &B::Tensor| {
                elements(unit.parts.iter().map(of).collect())
            };
            UnitState {
                range: part(spec.num_elements(), self.num_ranks, self.rank),
                elements: [
                    of(|part| &part.parameter),
                    of(|part| &part.first_moment),
                    of(|part| &part.second_moment),
                ],
            }
        });
        state.collect()
    }

    fn joined(&self, tensors: Vec<&B::Tensor>) -> Vec<f32> {
        let mut tensors = tensors.into_iter();
        let mut joined = tensors
            .next()
            .map_or_else(Vec::new, |tensor| self.backend.to_vec(tensor));
        for tensor in tensors {
            joined.extend(self.backend.to_vec(tensor));
        }
        joined
    }

    /// The units these are shards of.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// This rank's contribution to a gather of `unit`.
    pub fn piece(&self, unit: usize) -> Result<B::Tensor, TrainError> {
        Ok(match self.units[unit].parts.as_slice() {
            [part] => part.parameter.clone(),
            parts => {
                let parameters: Vec<_> = parts.iter().map(|part| part.parameter.clone()).collect();
                self.backend.concat_flat(&parameters)?
            }
        })
    }

    /// The number of elements of `unit` that each rank keeps.
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

    /// Updates this rank's parameters and forgets the gradients. The update's weight decay leaves alone what `no_decay` says.
    pub fn update(&mut self, update: &AdamW, no_decay: NoDecay) -> Result<(), TrainError> {
        for unit in &mut self.units {
            let Some(gradient) = unit.gradient.take() else {
                continue;
            };
            debug_assert_eq!(gradient.num_elements(), unit.num_elements);
            let mut offset = 0;
            for part in &mut unit.parts {
                let rows = part.parameter.rows();
                let gradient = self.backend.view(&gradient, offset, rows, 1);
                let update = if no_decay.covers(part.kind) {
                    AdamW {
                        weight_decay: 0.0,
                        ..*update
                    }
                } else {
                    *update
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

#[cfg(test)]
mod tests {
    use lengthwise_core::Bytes;
    use lengthwise_tensor::CpuBackend;

    use super::*;
    use crate::ParameterSpec;

    const START: [f32; 3] = [0.5, -1.25, 2.0];
    const GRADIENTS: [[f32; 3]; 2] = [[0.1, -0.2, 0.0], [0.3, 0.05, -1.5]];

    /// The values that `torch.optim.AdamW` (PyTorch 2.15) makes of `START` in two steps with `GRADIENTS`, in a group
    /// with weight_decay = 0.1 and in one with 0, with lr = 0.01, betas = (0.9, 0.95) and eps = 1e-8.
    const DECAYED: [f32; 3] = [0.479_923_6, -1.232_763_6, 2.003_351_7];
    const KEPT: [f32; 3] = [0.480_913_1, -1.235_252_4, 2.007_349_5];

    fn spec(kinds: &[ParameterKind]) -> UnitSpec {
        let parameters = kinds.iter().map(|&kind| ParameterSpec {
            name: String::new(),
            rows: 3,
            cols: 1,
            kind,
        });
        UnitSpec {
            parameters: parameters.collect(),
        }
    }

    /// The parameters after both updates, in the order of the kinds.
    fn updated(kinds: &[ParameterKind], num_ranks: usize, no_decay: NoDecay) -> Vec<f32> {
        let spec = ModelSpec {
            units: vec![spec(kinds)],
        };
        let backend = CpuBackend::new(Bytes::from_mib(1));
        let all = |three: [f32; 3]| three.repeat(kinds.len());
        let of_rank = |rank| {
            let mut parameters =
                ShardedParameters::new(backend.clone(), spec.clone(), rank, num_ranks, {
                    |_, _, range| Ok(all(START)[range].to_vec())
                })
                .unwrap();
            for (gradient, step) in GRADIENTS.into_iter().zip(1..) {
                let range = part(spec.units[0].num_elements(), num_ranks, rank);
                let gradient = &all(gradient)[range.clone()];
                let gradient = backend.from_slice(range.len(), 1, gradient).unwrap();
                parameters.accumulate(0, gradient).unwrap();
                let update = AdamW {
                    learning_rate: 0.01,
                    beta1: 0.9,
                    beta2: 0.95,
                    epsilon: 1e-8,
                    weight_decay: 0.1,
                    step,
                    gradient_scale: 1.0,
                };
                parameters.update(&update, no_decay).unwrap();
            }
            backend.to_vec(&parameters.piece(0).unwrap())
        };
        (0..num_ranks).flat_map(of_rank).collect()
    }

    #[test]
    fn groups_decay_as_those_of_pytorch() {
        use ParameterKind::{Bias, Embedding, Matrix, Norm, ResidualMatrix};
        let layer = [Matrix, ResidualMatrix, Norm, Bias];
        let rule = |norm, bias, embedding| NoDecay {
            norm,
            bias,
            embedding,
        };
        let (yes, no) = (DECAYED, KEPT);
        for (kinds, no_decay, expected) in [
            (&layer[..], NoDecay::USUAL, [yes, yes, no, no].concat()),
            (
                &layer[..],
                rule(true, false, true),
                [yes, yes, no, yes].concat(),
            ),
            (
                &layer[..],
                rule(false, false, false),
                [yes, yes, yes, yes].concat(),
            ),
            (&[Embedding][..], NoDecay::USUAL, yes.to_vec()),
            (&[Embedding][..], rule(false, false, true), no.to_vec()),
            // Untied, the projection behind the last norm is a matrix like others.
            (
                &[Matrix, Norm][..],
                rule(true, true, true),
                [yes, no].concat(),
            ),
        ] {
            for num_ranks in [1, 2, 3, 5] {
                let updated = updated(kinds, num_ranks, no_decay);
                assert_eq!(updated.len(), expected.len());
                for (got, expected) in updated.iter().zip(&expected) {
                    let apart = (got - expected).abs();
                    assert!(
                        apart < 3e-7,
                        "{kinds:?} on {num_ranks} ranks: {got}, not {expected}"
                    );
                }
            }
        }
    }
}
