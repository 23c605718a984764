//! One rank's way through a micro-batch, stage by stage.

use lengthwise_comm::Communicator;
use lengthwise_core::{Activations, Pass};
use lengthwise_tensor::{Backend, Tensor};

use super::offload::OffloadedInputs;
use super::stage::Stage;
use super::work::RankWork;
use crate::TrainError;
use crate::model::exchange::TensorOf;
use crate::model::layer::{self, Layer, SavedLayer};
use crate::model::{LayerParameters, ModelConfig, ModelSpec};
use crate::timeline::Timeline;

/// The purpose of running a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Its loss and gradients; those of the summed loss times `scale`: 1 / labels of the global batch.
    Train { scale: f32 },
    /// Its loss alone, by forward passes that leave nothing behind.
    Evaluate,
}

/// The tensors kept of a layer between its forward and its backward.
enum Kept<T> {
    /// Its input, from which it is recomputed.
    Input(T),
    /// All that its backward needs.
    All(SavedLayer<T>),
}

/// The state of a rank that works in a group: what flows from stage to stage.
pub struct GroupRun<'a, C: Communicator> {
    config: &'a ModelConfig,
    spec: &'a ModelSpec,
    group: C,
    ring: Option<C>,
    timeline: &'a Timeline,
    work: RankWork,
    /// The residual stream on the way forward, its gradient on the way back; `[my tokens, hidden]`.
    stream: Option<TensorOf<C>>,
    kept: Vec<Kept<TensorOf<C>>>,
    /// The inputs of layers where the host keeps them.
    offloaded: OffloadedInputs<C>,
    /// The last layer's parameters between its forward and its backward.
    last_layer: Option<LayerParameters<TensorOf<C>>>,
    purpose: Purpose,
    loss_sum: f64,
}

impl<'a, C: Communicator> GroupRun<'a, C> {
    /// A run that has not begun.
    pub fn new(
        config: &'a ModelConfig,
        spec: &'a ModelSpec,
        group: C,
        ring: Option<C>,
        timeline: &'a Timeline,
        work: RankWork,
        purpose: Purpose,
    ) -> Self {
        GroupRun {
            config,
            spec,
            group,
            ring,
            timeline,
            work,
            stream: None,
            kept: Vec::new(),
            offloaded: OffloadedInputs::default(),
            last_layer: None,
            purpose,
            loss_sum: 0.0,
        }
    }

    /// The loss summed over this rank's labels, once the output stage has run.
    pub fn loss_sum(&self) -> f64 {
        self.loss_sum
    }

    /// Runs a stage with the flat parameters it gathers; returns the flat gradients it scatters. The parameters are dropped
    /// as soon as they have been used.
    pub fn run(
        &mut self,
        stage: Stage,
        parameters: Vec<TensorOf<C>>,
    ) -> Result<Vec<TensorOf<C>>, TrainError> {
        match stage {
            Stage::Embedding => {
                let table =
                    self.spec.units[ModelSpec::EMBEDDING].views(self.backend(), &parameters[0]);
                self.stream = Some(self.backend().embedding(&table[0], &self.work.ids)?);
                Ok(Vec::new())
            }
            Stage::Forward(index) => {
                let parameters = self.layer_parameters(index, &parameters[0]);
                let input = self.take_stream();
                if self.purpose == Purpose::Evaluate {
                    self.stream = Some(layer::forward(self.layer(index), &parameters, input)?.0);
                    return Ok(Vec::new());
                }
                let is_last = index + 1 == self.config.layers;
                match self.work.activations {
                    Activations::Keep => {}
                    Activations::Recompute => self.kept.push(Kept::Input(input.clone())),
                    Activations::Host => {
                        self.offloaded.push(&self.group, input.clone(), is_last)?;
                    }
                }
                let (output, saved) = layer::forward(self.layer(index), &parameters, input)?;
                if self.work.activations == Activations::Keep {
                    self.kept.push(Kept::All(saved));
                }
                self.stream = Some(output);
                if is_last {
                    self.last_layer = Some(parameters);
                }
                Ok(Vec::new())
            }
            Stage::Output => self.output(parameters),
            Stage::Backward(index) => {
                let layer_parameters = match parameters.first() {
                    Some(flat) => self.layer_parameters(index, flat),
                    None => self
                        .last_layer
                        .take()
                        .unwrap_or_else(|| unreachable!("the last layer's forward has kept them")),
                };
                let kept = match self.work.activations {
                    Activations::Host => Some(Kept::Input(self.offloaded.pop(&self.group)?)),
                    Activations::Keep | Activations::Recompute => self.kept.pop(),
                };
                let saved = match kept {
                    Some(Kept::All(saved)) => saved,
                    Some(Kept::Input(input)) => {
                        self.timeline.turn_to_pass(Pass::Recompute);
                        let saved = layer::forward(self.layer(index), &layer_parameters, input)?.1;
                        self.timeline.turn_to_pass(Pass::Backward);
                        saved
                    }
                    None => unreachable!("a layer's forward comes before its backward"),
                };
                let d_output = self.take_stream();
                let (d_input, d_parameters) =
                    layer::backward(self.layer(index), &layer_parameters, saved, d_output)?;
                self.stream = Some(d_input);
                drop((layer_parameters, parameters));
                Ok(vec![d_parameters.into_flat(self.backend())?])
            }
            Stage::EmbeddingBackward => {
                let d_embedded = self.take_stream();
                let table = self.backend().embedding_backward(
                    &d_embedded,
                    &self.work.ids,
                    self.config.vocab,
                )?;
                Ok(vec![self.flat(&table)])
            }
        }
    }

    fn output(&mut self, parameters: Vec<TensorOf<C>>) -> Result<Vec<TensorOf<C>>, TrainError> {
        let backend = self.backend().clone();
        let output = self.spec.units[self.spec.output()].views(&backend, &parameters[0]);
        let (projection, norm) = match (output.as_slice(), parameters.as_slice()) {
            ([projection, norm], [_]) => (projection.clone(), norm.clone()),
            ([norm], [_, table]) => (
                backend.view(table, 0, self.config.vocab, self.config.hidden),
                norm.clone(),
            ),
            _ => unreachable!("the output is tied to the embedding or has a projection of its own"),
        };
        let x = self.labelled_stream()?;
        let epsilon = self.config.norm_epsilon as f32;
        let normed = backend.rms_norm(&x, &norm, epsilon)?;
        let targets = &self.work.targets;
        let Purpose::Train { scale } = self.purpose else {
            self.loss_sum = backend.linear_cross_entropy_loss(&normed, &projection, targets)?;
            return Ok(Vec::new());
        };
        let loss = backend.linear_cross_entropy(&normed, &projection, targets, scale)?;
        drop((normed, projection));
        let (d_x, d_norm) = backend.rms_norm_backward(&x, &norm, epsilon, &loss.d_input)?;
        let is_tied = parameters.len() == 2;
        drop((x, loss.d_input, norm, output, parameters));
        self.loss_sum = loss.loss_sum;
        self.stream = Some(match &self.work.labelled {
            Some(rows) => backend.embedding_backward(&d_x, rows, self.work.ids.len())?,
            None => d_x,
        });
        Ok(if is_tied {
            vec![d_norm, self.flat(&loss.d_weight)]
        } else {
            vec![backend.concat_flat(&[loss.d_weight, d_norm])?]
        })
    }

    /// The rows of the stream whose token has a label: all else takes no part in the loss, and has a gradient of 0.
    fn labelled_stream(&mut self) -> Result<TensorOf<C>, TrainError> {
        let x = self.take_stream();
        Ok(match &self.work.labelled {
            Some(rows) => self.backend().embedding(&x, rows)?,
            None => x,
        })
    }

    fn layer(&self, index: usize) -> Layer<'_, C> {
        Layer {
            config: self.config,
            group: &self.group,
            ring: self.ring.as_ref(),
            tokens: &self.work.tokens,
            index,
            timeline: self.timeline,
        }
    }

    fn layer_parameters(&self, index: usize, flat: &TensorOf<C>) -> LayerParameters<TensorOf<C>> {
        LayerParameters::from_flat(
            self.backend(),
            self.config,
            &self.spec.units[ModelSpec::layer(index)],
            flat,
        )
    }

    /// All elements as one column, sharing the storage.
    fn flat(&self, tensor: &TensorOf<C>) -> TensorOf<C> {
        self.backend().view(tensor, 0, tensor.num_elements(), 1)
    }

    fn take_stream(&mut self) -> TensorOf<C> {
        self.stream
            .take()
            .unwrap_or_else(|| unreachable!("every stage after the embedding has a stream"))
    }

    fn backend(&self) -> &C::Backend {
        self.group.backend()
    }
}
