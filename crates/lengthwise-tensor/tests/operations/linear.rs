use lengthwise_tensor::Backend;
use proptest::prelude::*;

use crate::reference::{assert_close, device, matmul, random_tensor, transpose};

proptest! {
    #[test]
    fn linear_maps_match_the_naive_product(
        tokens in 0usize..40, inputs in 0usize..40, outputs in 0usize..40, seed: u64,
    ) {
        let device = device();
        let (x, x64) = random_tensor(&device, seed, tokens, inputs);
        let (w, w64) = random_tensor(&device, seed ^ 1, outputs, inputs);
        let (d_y, d_y64) = random_tensor(&device, seed ^ 2, tokens, outputs);
        let y = matmul(&x64, &transpose(&w64, outputs, inputs), tokens, inputs, outputs);
        assert_close("y", &device.linear(&x, &w).unwrap(), tokens, outputs, &y);
        let d_x = matmul(&d_y64, &w64, tokens, outputs, inputs);
        let got = device.linear_backward_input(&d_y, &w).unwrap();
        assert_close("d_x", &got, tokens, inputs, &d_x);
        let d_w = matmul(&transpose(&d_y64, tokens, outputs), &x64, outputs, tokens, inputs);
        let got = device.linear_backward_weight(&d_y, &x).unwrap();
        assert_close("d_w", &got, outputs, inputs, &d_w);
    }
}

proptest! {
    #[test]
    fn a_bias_is_added_to_every_row_and_its_gradient_is_their_sum(
        rows in 0usize..40, cols in 0usize..40, seed: u64,
    ) {
        let device = device();
        let (x, x64) = random_tensor(&device, seed, rows, cols);
        let (bias, bias64) = random_tensor(&device, seed ^ 1, cols, 1);
        let mut y = x.clone();
        device.add_bias(&mut y, &bias).unwrap();
        let at = |index: usize| index % cols;
        let expected: Vec<f64> = (0..rows * cols).map(|i| x64[i] + bias64[at(i)]).collect();
        assert_close("y", &y, rows, cols, &expected);
        assert_close("the shared input", &x, rows, cols, &x64);
        let mut sum = vec![0.0; cols];
        for (index, x) in x64.iter().enumerate() {
            sum[at(index)] += x;
        }
        assert_close("d_bias", &device.bias_backward(&x).unwrap(), cols, 1, &sum);
    }
}

#[test]
fn products_larger_than_a_cache_match_the_naive_product() {
    let device = device();
    let (tokens, inputs, outputs) = (300, 700, 260);
    let (x, x64) = random_tensor(&device, 1, tokens, inputs);
    let (w, w64) = random_tensor(&device, 2, outputs, inputs);
    let y = matmul(
        &x64,
        &transpose(&w64, outputs, inputs),
        tokens,
        inputs,
        outputs,
    );
    let got = device.linear(&x, &w).unwrap();
    assert_close("y", &got, tokens, outputs, &y);
}
