//! Rotary position embedding (Su et al., 2021), in place.

use super::vectorise::{Vectors, vectorised};
use super::{CpuBackend, CpuTensor, Result};
use crate::{Rotation, Tensor};

/// Which way a pair of features turns: forwards by its angle, or back in the gradient.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Forward,
    Backward,
}

pub(super) fn rotate(
    backend: &CpuBackend,
    operation: &'static str,
    x: &mut CpuTensor,
    positions: &[u32],
    rotation: &Rotation,
    direction: Direction,
) -> Result<()> {
    assert_eq!(x.rows(), positions.len(), "positions of {x:?}");
    let (cols, head_dim) = (x.cols(), rotation.head_dim());
    assert!(head_dim > 0, "rotary embedding of heads without features");
    assert!(
        cols.is_multiple_of(head_dim),
        "{cols} features are no whole number of heads of {head_dim}"
    );
    let elements = x.elements_mut(&backend.meter, operation)?;
    if cols == 0 {
        return Ok(());
    }
    let mut angles = Angles::new(rotation);
    for (row, &position) in elements.chunks_exact_mut(cols).zip(positions) {
        angles.move_to(backend.vectors, position);
        rotate_row(backend.vectors, row, &angles, direction);
    }
    Ok(())
}

/// Cosine and sine of every pair's angle at one position.
///
/// The next position turns them by one step in `f64`, which is faster than evaluating them anew and drifts by
/// less than 1e-10 over a million steps; any other position is evaluated.
struct Angles {
    position: u32,
    frequency: Vec<f64>,
    /// Factor on both.
    scale: f64,
    step_cos: Vec<f64>,
    step_sin: Vec<f64>,
    cos: Vec<f64>,
    sin: Vec<f64>,
    cos_f32: Vec<f32>,
    sin_f32: Vec<f32>,
}

impl Angles {
    /// At position 0. Its few vectors of `head_dim / 2` numbers are not counted as device memory.
    fn new(rotation: &Rotation) -> Self {
        let frequency = rotation.frequencies.clone();
        let pairs = frequency.len();
        Self {
            position: 0,
            scale: rotation.scale,
            step_cos: frequency.iter().map(|f| f.cos()).collect(),
            step_sin: frequency.iter().map(|f| f.sin()).collect(),
            frequency,
            cos: vec![1.0; pairs],
            sin: vec![0.0; pairs],
            cos_f32: vec![rotation.scale as f32; pairs],
            sin_f32: vec![0.0; pairs],
        }
    }

    fn move_to(&mut self, vectors: Vectors, position: u32) {
        if position == self.position {
            return;
        }
        if self.position.checked_add(1) == Some(position) {
            step(vectors, self);
        } else {
            let values = self.cos.iter_mut().zip(&mut self.sin);
            for ((cos, sin), frequency) in values.zip(&self.frequency) {
                (*sin, *cos) = (f64::from(position) * frequency).sin_cos();
            }
        }
        self.position = position;
        for (to, from) in self.cos_f32.iter_mut().zip(&self.cos) {
            *to = (*from * self.scale) as f32;
        }
        for (to, from) in self.sin_f32.iter_mut().zip(&self.sin) {
            *to = (*from * self.scale) as f32;
        }
    }
}

vectorised! {
    fn step<'a>(_simd: S, angles: &'a mut Angles) {
        let values = angles.cos.iter_mut().zip(&mut angles.sin);
        let steps = angles.step_cos.iter().zip(&angles.step_sin);
        for ((cos, sin), (step_cos, step_sin)) in values.zip(steps) {
            (*cos, *sin) = (
                *cos * *step_cos - *sin * *step_sin,
                *sin * *step_cos + *cos * *step_sin,
            );
        }
    }
}

vectorised! {
    fn rotate_row<'a>(_simd: S, row: &'a mut [f32], angles: &'a Angles, direction: Direction) {
        let pairs = angles.cos_f32.len();
        let sign = match direction {
            Direction::Forward => 1.0,
            Direction::Backward => -1.0,
        };
        for head in row.chunks_exact_mut(2 * pairs) {
            let (first, second) = head.split_at_mut(pairs);
            let values = first.iter_mut().zip(second);
            for ((a, b), (cos, sin)) in
                values.zip(angles.cos_f32.iter().zip(&angles.sin_f32))
            {
                let sin = *sin * sign;
                (*a, *b) = (*a * *cos - *b * sin, *b * *cos + *a * sin);
            }
        }
    }
}
