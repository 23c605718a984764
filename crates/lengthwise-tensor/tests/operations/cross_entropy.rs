use lengthwise_tensor::Backend;
use proptest::prelude::*;

use crate::reference::{
    assert_close, device, finite_differences, matmul, random_tensor, transpose,
};

/// The loss of every token.
fn losses(x: &[f64], weight: &[f64], targets: &[u32], vocab: usize) -> Vec<f64> {
    let tokens = targets.len();
    let hidden = weight.len() / vocab;
    let logits = matmul(x, &transpose(weight, vocab, hidden), tokens, hidden, vocab);
    let rows = logits.chunks(vocab).zip(targets);
    rows.map(|(row, &target)| {
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|x| (x - max).exp()).sum();
        max + sum.ln() - row[target as usize]
    })
    .collect()
}

fn targets(seed: u64, tokens: usize, vocab: usize) -> Vec<u32> {
    let numbers = crate::reference::random(seed, tokens);
    let target = |x: &f32| ((x + 1.0) / 2.0 * vocab as f32) as u32;
    numbers
        .iter()
        .map(|x| target(x).min(vocab as u32 - 1))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_and_gradients_match(
        tokens in 0usize..9, hidden in 1usize..12, vocab in 1usize..40, seed: u64,
    ) {
        let device = device();
        let (x, x64) = random_tensor(&device, seed, tokens, hidden);
        let (w, w64) = random_tensor(&device, seed ^ 1, vocab, hidden);
        let targets = targets(seed ^ 2, tokens, vocab);
        let got = device.linear_cross_entropy(&x, &w, &targets, 0.25).unwrap();
        let loss: f64 = losses(&x64, &w64, &targets, vocab).iter().sum();
        prop_assert!((got.loss_sum - loss).abs() <= 1e-6 * loss.max(1.0), "{} for {loss}", got.loss_sum);
        let alone = device.linear_cross_entropy_loss(&x, &w, &targets).unwrap();
        prop_assert_eq!(alone, got.loss_sum);
        let inputs = [x64, w64];
        let f = |inputs: &[Vec<f64>]| losses(&inputs[0], &inputs[1], &targets, vocab);
        let scale = vec![0.25; tokens];
        assert_close("d_x", &got.d_input, tokens, hidden, &finite_differences(f, &inputs, 0, &scale));
        assert_close("d_w", &got.d_weight, vocab, hidden, &finite_differences(f, &inputs, 1, &scale));
    }
}

#[test]
fn blocks_of_tokens_add_up() {
    let device = device();
    // More tokens than one block holds, and a last block that is not full.
    let (tokens, hidden, vocab) = (2500, 6, 1000);
    let (x, x64) = random_tensor(&device, 5, tokens, hidden);
    let (w, w64) = random_tensor(&device, 6, vocab, hidden);
    let targets = targets(7, tokens, vocab);
    let got = device.linear_cross_entropy(&x, &w, &targets, 1.0).unwrap();
    let loss: f64 = losses(&x64, &w64, &targets, vocab).iter().sum();
    assert!(
        (got.loss_sum - loss).abs() <= 1e-6 * loss,
        "{} for {loss}",
        got.loss_sum
    );
    let alone = device.linear_cross_entropy_loss(&x, &w, &targets).unwrap();
    assert_eq!(alone, got.loss_sum);
    let logits = matmul(&x64, &transpose(&w64, vocab, hidden), tokens, hidden, vocab);
    let mut d_logits = Vec::new();
    for (row, &target) in logits.chunks(vocab).zip(&targets) {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        d_logits.extend(
            row.iter()
                .enumerate()
                .map(|(index, x)| x.exp() / sum - f64::from(u8::from(index == target as usize))),
        );
    }
    let d_x = matmul(&d_logits, &w64, tokens, vocab, hidden);
    assert_close("d_x", &got.d_input, tokens, hidden, &d_x);
    let d_w = matmul(
        &transpose(&d_logits, tokens, vocab),
        &x64,
        vocab,
        tokens,
        hidden,
    );
    assert_close("d_w", &got.d_weight, vocab, hidden, &d_w);
}

#[test]
fn large_logits_do_not_overflow() {
    let device = device();
    let x = device.from_slice(1, 1, &[1e4]).unwrap();
    let w = device.from_slice(3, 1, &[1.0, 0.5, -1.0]).unwrap();
    let got = device.linear_cross_entropy(&x, &w, &[1], 1.0).unwrap();
    assert_eq!(got.loss_sum, 5e3);
    assert_eq!(device.to_vec(&got.d_weight), [1e4, -1e4, 0.0]);
}
