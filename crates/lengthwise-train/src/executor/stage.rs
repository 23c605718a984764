//! The order in which every rank walks through a micro-batch, whatever its group has to do.
//!
//! Gathers and scatters are collectives of all ranks, so their order is fixed here, apart from the work between
//! them: no plan can make two ranks disagree about which comes next.

use lengthwise_core::{Activity, Pass};

use crate::model::ModelSpec;

/// A stretch of work between collectives on the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Looks up the tokens.
    Embedding,
    /// The forward of a layer.
    Forward(usize),
    /// Final norm, output projection and loss, forward and backward at once.
    Output,
    /// The backward of a layer, after its forward has been recomputed where the strategy says so.
    Backward(usize),
    /// The gradient of the table.
    EmbeddingBackward,
}

impl Stage {
    /// Its place in traces: its activity, the way through the model, the layer.
    pub fn place(self) -> (Activity, Pass, Option<u32>) {
        match self {
            Stage::Embedding => (Activity::Embedding, Pass::Forward, None),
            Stage::Forward(layer) => (Activity::Dense, Pass::Forward, Some(layer as u32)),
            Stage::Output => (Activity::Output, Pass::Forward, None),
            Stage::Backward(layer) => (Activity::Dense, Pass::Backward, Some(layer as u32)),
            Stage::EmbeddingBackward => (Activity::Embedding, Pass::Backward, None),
        }
    }
}

/// A stage with the units whose parameters it needs, and those whose gradients it yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledStage {
    /// The work that is done.
    pub stage: Stage,
    /// Gathered before; what a stage needs beyond these, the rank has kept.
    pub gathers: Vec<usize>,
    /// Scattered after.
    pub scatters: Vec<usize>,
}

/// The stages of a micro-batch that only the loss is wanted of, in order.
pub fn forward_stages(spec: &ModelSpec, tied_output: bool) -> Vec<ScheduledStage> {
    let mut stages = stages(spec, tied_output);
    stages.retain(|stage| stage.stage.place().1 == Pass::Forward);
    for stage in &mut stages {
        stage.scatters.clear();
    }
    stages
}

/// The stages of every micro-batch, in order.
pub fn stages(spec: &ModelSpec, tied_output: bool) -> Vec<ScheduledStage> {
    let layers = spec.units.len() - 2;
    let at = |stage, gathers: &[usize], scatters: &[usize]| ScheduledStage {
        stage,
        gathers: gathers.to_vec(),
        scatters: scatters.to_vec(),
    };
    let output: &[usize] = if tied_output {
        &[spec.output(), ModelSpec::EMBEDDING]
    } else {
        &[spec.output()]
    };
    let layer = ModelSpec::layer;
    // The last layer's backward follows so soon that its parameters stay.
    let gathers_again = |index| {
        if index + 1 == layers {
            vec![]
        } else {
            vec![layer(index)]
        }
    };
    let mut stages = vec![at(Stage::Embedding, &[ModelSpec::EMBEDDING], &[])];
    stages.extend((0..layers).map(|index| at(Stage::Forward(index), &[layer(index)], &[])));
    stages.push(at(Stage::Output, output, output));
    stages.extend((0..layers).rev().map(|index| {
        at(
            Stage::Backward(index),
            &gathers_again(index),
            &[layer(index)],
        )
    }));
    stages.push(at(Stage::EmbeddingBackward, &[], &[ModelSpec::EMBEDDING]));
    stages
}
