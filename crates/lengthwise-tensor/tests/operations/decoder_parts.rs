use lengthwise_tensor::{Backend, Rotation};
use proptest::prelude::*;

use crate::reference::{assert_close, device, finite_differences, random_tensor};

const EPSILON: f32 = 1e-5;

fn rms_norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    x.chunks(weight.len().max(1))
        .flat_map(|row| {
            let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
            let rms = (mean + f64::from(EPSILON)).sqrt();
            row.iter().zip(weight).map(move |(x, w)| x / rms * w)
        })
        .collect()
}

fn swiglu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    gate.iter()
        .zip(up)
        .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
        .collect()
}

fn rope(x: &[f64], positions: &[u32], heads: usize, rotation: &Rotation) -> Vec<f64> {
    let mut y = x.to_vec();
    let (head_dim, scale) = (rotation.head_dim(), rotation.scale);
    let half = head_dim / 2;
    for (row, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            for i in 0..half {
                let angle = f64::from(position) * rotation.frequencies[i];
                let at = (row * heads + head) * head_dim + i;
                y[at] = scale * (x[at] * angle.cos() - x[at + half] * angle.sin());
                y[at + half] = scale * (x[at + half] * angle.cos() + x[at] * angle.sin());
            }
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rms_norm_matches(rows in 0usize..6, cols in 1usize..50, seed: u64) {
        let device = device();
        let (x, x64) = random_tensor(&device, seed, rows, cols);
        let (w, w64) = random_tensor(&device, seed ^ 1, 1, cols);
        let (d_y, d_y64) = random_tensor(&device, seed ^ 2, rows, cols);
        let y = device.rms_norm(&x, &w, EPSILON).unwrap();
        assert_close("y", &y, rows, cols, &rms_norm(&x64, &w64));
        let (d_x, d_w) = device.rms_norm_backward(&x, &w, EPSILON, &d_y).unwrap();
        let inputs = [x64, w64];
        let f = |inputs: &[Vec<f64>]| rms_norm(&inputs[0], &inputs[1]);
        assert_close("d_x", &d_x, rows, cols, &finite_differences(f, &inputs, 0, &d_y64));
        assert_close("d_w", &d_w, 1, cols, &finite_differences(f, &inputs, 1, &d_y64));
    }

    #[test]
    fn swiglu_matches(rows in 0usize..5, cols in 0usize..40, seed: u64) {
        let device = device();
        let (gate, gate64) = random_tensor(&device, seed, rows, cols);
        let (up, up64) = random_tensor(&device, seed ^ 1, rows, cols);
        let (d_y, d_y64) = random_tensor(&device, seed ^ 2, rows, cols);
        let y = device.swiglu(&gate, &up).unwrap();
        assert_close("y", &y, rows, cols, &swiglu(&gate64, &up64));
        let (d_gate, d_up) = device.swiglu_backward(&gate, &up, &d_y).unwrap();
        let inputs = [gate64, up64];
        let f = |inputs: &[Vec<f64>]| swiglu(&inputs[0], &inputs[1]);
        assert_close("d_gate", &d_gate, rows, cols, &finite_differences(f, &inputs, 0, &d_y64));
        assert_close("d_up", &d_up, rows, cols, &finite_differences(f, &inputs, 1, &d_y64));
    }

    #[test]
    fn rope_matches_and_its_backward_is_its_inverse(
        lengths in prop::collection::vec((0u32..200_000, 1u32..20), 0..4),
        heads in 0usize..4, half in 1usize..20, scale in 0.5f64..2.0, seed: u64,
    ) {
        let device = device();
        let positions: Vec<u32> = lengths.iter().flat_map(|&(start, len)| start..start + len).collect();
        let (rows, head_dim) = (positions.len(), 2 * half);
        let rotation = Rotation { scale, ..Rotation::plain(head_dim, 10_000.0) };
        let (x, x64) = random_tensor(&device, seed, rows, heads * head_dim);
        let mut y = x.clone();
        device.rope(&mut y, &positions, &rotation).unwrap();
        let expected = rope(&x64, &positions, heads, &rotation);
        assert_close("y", &y, rows, heads * head_dim, &expected);
        // A rotation is orthogonal: its gradient is its inverse, but for the factor, which comes twice.
        device.rope_backward(&mut y, &positions, &rotation).unwrap();
        let scaled: Vec<f64> = x64.iter().map(|x| scale * scale * x).collect();
        assert_close("x", &y, rows, heads * head_dim, &scaled);
        assert_close("the shared input", &x, rows, heads * head_dim, &x64);
    }

    #[test]
    fn embedding_matches(
        ids in prop::collection::vec(0u32..7, 0..30), cols in 0usize..20, seed: u64,
    ) {
        let device = device();
        let (table, table64) = random_tensor(&device, seed, 7, cols);
        let (d_y, d_y64) = random_tensor(&device, seed ^ 1, ids.len(), cols);
        let mut expected = Vec::new();
        let mut d_table = vec![0.0; 7 * cols];
        for (row, &id) in ids.iter().enumerate() {
            let id = id as usize;
            expected.extend_from_slice(&table64[id * cols..(id + 1) * cols]);
            for col in 0..cols {
                d_table[id * cols + col] += d_y64[row * cols + col];
            }
        }
        let y = device.embedding(&table, &ids).unwrap();
        assert_close("y", &y, ids.len(), cols, &expected);
        let got = device.embedding_backward(&d_y, &ids, 7).unwrap();
        assert_close("d_table", &got, 7, cols, &d_table);
    }
}

#[test]
fn rope_stays_exact_over_a_long_sequence() {
    let device = device();
    let positions: Vec<u32> = (0..131_072).collect();
    let (mut x, x64) = random_tensor(&device, 3, positions.len(), 8);
    let rotation = Rotation::plain(8, 500_000.0);
    device.rope(&mut x, &positions, &rotation).unwrap();
    let expected = rope(&x64, &positions, 1, &rotation);
    assert_close("y", &x, positions.len(), 8, &expected);
}

#[test]
fn swiglu_saturates_without_nan() {
    let device = device();
    let gate = device.from_slice(1, 4, &[-1e4, -90.0, 90.0, 1e4]).unwrap();
    let up = device.from_slice(1, 4, &[1.0; 4]).unwrap();
    let y = device.to_vec(&device.swiglu(&gate, &up).unwrap());
    assert_eq!(y, [0.0, 0.0, 90.0, 1e4]);
    let (d_gate, d_up) = device.swiglu_backward(&gate, &up, &up).unwrap();
    assert_eq!(device.to_vec(&d_gate), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(device.to_vec(&d_up), [0.0, 0.0, 90.0, 1e4]);
}
