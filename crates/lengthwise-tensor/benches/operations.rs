//! Each operation alone: `cargo bench -p lengthwise-tensor --bench operations`.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use lengthwise_core::Bytes;
use lengthwise_tensor::{AdamW, AttentionLayout, Backend, CpuBackend, CpuTensor, Rotation};

const HIDDEN: usize = 512;
const FFN: usize = 1376;
const TOKENS: usize = 1024;
const VOCAB: usize = 256;

fn main() {
    divan::main();
}

fn device() -> CpuBackend {
    CpuBackend::new(Bytes::from_mib(4096))
}

fn random(device: &CpuBackend, rows: usize, cols: usize) -> CpuTensor {
    let mut state = 1u32;
    let elements: Vec<f32> = (0..rows * cols)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    device.from_slice(rows, cols, &elements).unwrap()
}

/// As many sequences of `len` tokens as 4096 tokens hold, 8 heads of 64.
fn layout(len: usize) -> AttentionLayout {
    AttentionLayout::packed(vec![len; 4096 / len], (0..8).collect(), 8, 64)
}

/// Multiply-adds of one product over all visible pairs: the figure shown is multiply-adds per second.
fn multiply_adds(layout: &AttentionLayout, num_products: usize) -> ItemsCount {
    let pairs: usize = layout
        .spans
        .iter()
        .map(|span| span.queries.len() * (span.queries.len() + 1) / 2)
        .sum();
    ItemsCount::new(pairs * 512 * num_products)
}

#[divan::bench(args = [4, 16, 64, 256, 1024, 4096], sample_count = 10)]
fn attention(bencher: Bencher, len: usize) {
    let (device, layout) = (device(), layout(len));
    let x = random(&device, 4096, 512);
    bencher
        .counter(multiply_adds(&layout, 2))
        .bench_local(|| device.attention(&x, &x, &x, &layout).unwrap());
}

#[divan::bench(args = [4, 16, 64, 256, 1024, 4096], sample_count = 10)]
fn attention_backward(bencher: Bencher, len: usize) {
    let (device, layout) = (device(), layout(len));
    let x = random(&device, 4096, 512);
    let (out, lse) = device.attention(&x, &x, &x, &layout).unwrap();
    bencher.counter(multiply_adds(&layout, 5)).bench_local(|| {
        device
            .attention_backward(&x, &x, &x, &out, &lse, &x, &layout)
            .unwrap()
    });
}

#[divan::bench(args = [1, 16, 256, 4096])]
fn linear(bencher: Bencher, tokens: usize) {
    let device = device();
    let (x, w) = (
        random(&device, tokens, HIDDEN),
        random(&device, FFN, HIDDEN),
    );
    bencher
        .counter(ItemsCount::new(tokens * HIDDEN * FFN))
        .bench_local(|| device.linear(&x, &w).unwrap());
}

#[divan::bench(args = [1, 16, 256, 4096])]
fn linear_backward(bencher: Bencher, tokens: usize) {
    let device = device();
    let (x, w) = (
        random(&device, tokens, HIDDEN),
        random(&device, FFN, HIDDEN),
    );
    let d_y = random(&device, tokens, FFN);
    bencher
        .counter(ItemsCount::new(2 * tokens * HIDDEN * FFN))
        .bench_local(|| {
            black_box(device.linear_backward_weight(&d_y, &x).unwrap());
            device.linear_backward_input(&d_y, &w).unwrap()
        });
}

#[divan::bench(args = [256, 32_000])]
fn linear_cross_entropy(bencher: Bencher, vocab: usize) {
    let device = device();
    let (x, w) = (
        random(&device, TOKENS, HIDDEN),
        random(&device, vocab, HIDDEN),
    );
    let targets: Vec<u32> = (0..TOKENS as u32).map(|i| i % VOCAB as u32).collect();
    bencher
        .counter(ItemsCount::new(3 * TOKENS * HIDDEN * vocab))
        .bench_local(|| device.linear_cross_entropy(&x, &w, &targets, 1.0).unwrap());
}

#[divan::bench]
fn rms_norm(bencher: Bencher) {
    let device = device();
    let (x, w) = (random(&device, TOKENS, HIDDEN), random(&device, 1, HIDDEN));
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| device.rms_norm(&x, &w, 1e-5).unwrap());
}

#[divan::bench]
fn rms_norm_backward(bencher: Bencher) {
    let device = device();
    let (x, w) = (random(&device, TOKENS, HIDDEN), random(&device, 1, HIDDEN));
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| device.rms_norm_backward(&x, &w, 1e-5, &x).unwrap());
}

#[divan::bench]
fn rope(bencher: Bencher) {
    let device = device();
    let mut x = random(&device, TOKENS, HIDDEN);
    let positions: Vec<u32> = (0..TOKENS as u32).collect();
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| {
            device
                .rope(&mut x, &positions, &Rotation::plain(64, 1e4))
                .unwrap()
        });
}

#[divan::bench]
fn swiglu(bencher: Bencher) {
    let device = device();
    let x = random(&device, TOKENS, FFN);
    bencher
        .counter(ItemsCount::new(TOKENS * FFN))
        .bench_local(|| device.swiglu(&x, &x).unwrap());
}

#[divan::bench]
fn swiglu_backward(bencher: Bencher) {
    let device = device();
    let x = random(&device, TOKENS, FFN);
    bencher
        .counter(ItemsCount::new(TOKENS * FFN))
        .bench_local(|| device.swiglu_backward(&x, &x, &x).unwrap());
}

#[divan::bench]
fn embedding(bencher: Bencher) {
    let device = device();
    let table = random(&device, VOCAB, HIDDEN);
    let ids: Vec<u32> = (0..TOKENS as u32).map(|i| i * 7 % VOCAB as u32).collect();
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| {
            let rows = device.embedding(&table, &ids).unwrap();
            device.embedding_backward(&rows, &ids, VOCAB).unwrap()
        });
}

#[divan::bench]
fn add_assign(bencher: Bencher) {
    let device = device();
    let mut x = random(&device, TOKENS, HIDDEN);
    let y = random(&device, TOKENS, HIDDEN);
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| device.add_assign(&mut x, &y).unwrap());
}

#[divan::bench]
fn sum_of_squares(bencher: Bencher) {
    let device = device();
    let x = random(&device, TOKENS, HIDDEN);
    bencher
        .counter(ItemsCount::new(TOKENS * HIDDEN))
        .bench_local(|| device.sum_of_squares(&x));
}

#[divan::bench]
fn adamw(bencher: Bencher) {
    let device = device();
    let mut w = random(&device, FFN, HIDDEN);
    let g = random(&device, FFN, HIDDEN);
    let mut m = device.zeros(FFN, HIDDEN).unwrap();
    let mut v = device.zeros(FFN, HIDDEN).unwrap();
    let update = AdamW {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        step: 10,
        gradient_scale: 1.0,
    };
    bencher
        .counter(ItemsCount::new(FFN * HIDDEN))
        .bench_local(|| device.adamw(&mut w, &g, &mut m, &mut v, &update).unwrap());
}
