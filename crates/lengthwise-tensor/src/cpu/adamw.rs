//! AdamW (Loshchilov & Hutter, 2019), in place.

use super::vectorise::vectorised;
use super::{CpuBackend, CpuTensor, Result};
use crate::{AdamW, Tensor};

pub(super) fn update(
    backend: &CpuBackend,
    parameter: &mut CpuTensor,
    gradient: &CpuTensor,
    first_moment: &mut CpuTensor,
    second_moment: &mut CpuTensor,
    update: &AdamW,
) -> Result<()> {
    let (rows, cols) = (parameter.rows(), parameter.cols());
    gradient.expect_shape("the gradient of a parameter", rows, cols);
    first_moment.expect_shape("the first moment of a parameter", rows, cols);
    second_moment.expect_shape("the second moment of a parameter", rows, cols);
    assert!(update.step > 0, "steps are counted from 1");
    // All three are made exclusive before any is changed, so that running out of memory changes nothing.
    let parameter = parameter.elements_mut(&backend.meter, "adamw")?;
    let first_moment = first_moment.elements_mut(&backend.meter, "adamw")?;
    let second_moment = second_moment.elements_mut(&backend.meter, "adamw")?;
    step(
        backend.vectors,
        parameter,
        gradient.elements(),
        first_moment,
        second_moment,
        *update,
    );
    Ok(())
}

vectorised! {
    fn step<'a>(
        _simd: S,
        parameter: &'a mut [f32],
        gradient: &'a [f32],
        first_moment: &'a mut [f32],
        second_moment: &'a mut [f32],
        update: AdamW,
    ) {
        // The corrections approach 1 from far below it: in f32 the first steps would lose digits.
        let steps = update.step as f64;
        let first_correction = 1.0 - f64::from(update.beta1).powf(steps);
        let second_correction = 1.0 - f64::from(update.beta2).powf(steps);
        let rate = (f64::from(update.learning_rate) / first_correction) as f32;
        let inverse_root = (1.0 / second_correction.sqrt()) as f32;
        let kept = 1.0 - update.learning_rate * update.weight_decay;
        let state = first_moment.iter_mut().zip(second_moment);
        for ((w, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(state) {
            let g = *g * update.gradient_scale;
            *m = g.mul_add(1.0 - update.beta1, *m * update.beta1);
            *v = (g * g).mul_add(1.0 - update.beta2, *v * update.beta2);
            let root = v.sqrt().mul_add(inverse_root, update.epsilon);
            *w = *w * kept - rate * *m / root;
        }
    }
}
