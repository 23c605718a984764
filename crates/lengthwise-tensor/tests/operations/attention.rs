use lengthwise_core::Bytes;
use lengthwise_tensor::{AttentionLayout, Backend, CpuBackend, TensorError, VectorWidth};
use proptest::prelude::*;

use crate::reference::{assert_close, device, finite_differences, random_tensor};

/// Output and log-sum-exp, row by row over full score rows.
fn attention(q: &[f64], k: &[f64], v: &[f64], layout: &AttentionLayout) -> (Vec<f64>, Vec<f64>) {
    let (heads, dim) = (layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (heads * dim, layout.num_kv_heads * dim);
    let mut out = vec![0.0; layout.num_tokens() * q_cols];
    let mut lse = vec![0.0; layout.num_tokens() * heads];
    for (head, i, probabilities, log_sum) in rows(q, k, layout) {
        lse[i.token * heads + head] = log_sum;
        for (offset, p) in probabilities.iter().enumerate() {
            let value = (i.start + offset) * kv_cols + layout.kv_head_of[head] * dim;
            for x in 0..dim {
                out[i.token * q_cols + head * dim + x] += p * v[value + x];
            }
        }
    }
    (out, lse)
}

struct Row {
    start: usize,
    token: usize,
}

/// For every head and token: the probabilities of the keys from the first it sees on, and the log-sum-exp. One row at a
/// time: all of a long sequence are more than memory holds.
fn rows<'a>(
    q: &'a [f64],
    k: &'a [f64],
    layout: &'a AttentionLayout,
) -> impl Iterator<Item = (usize, Row, Vec<f64>, f64)> + 'a {
    let (heads, dim) = (layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (heads * dim, layout.num_kv_heads * dim);
    let places = layout.sequences.iter().flat_map(move |sequence| {
        (0..heads).flat_map(move |head| {
            sequence.clone().map(move |token| {
                let seen = layout.window.unwrap_or(usize::MAX).min(token + 1);
                let start = sequence.start.max(token + 1 - seen);
                (head, Row { start, token })
            })
        })
    });
    places.map(move |(head, row)| {
        let query = &q[row.token * q_cols + head * dim..][..dim];
        let scores: Vec<f64> = (row.start..=row.token)
            .map(|key| {
                let key = &k[key * kv_cols + layout.kv_head_of[head] * dim..][..dim];
                let product: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                product / (dim as f64).sqrt()
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        let probabilities = scores.iter().map(|s| (s - lse).exp()).collect();
        (head, row, probabilities, lse)
    })
}

fn attention_backward(
    q: &[f64],
    k: &[f64],
    v: &[f64],
    d_out: &[f64],
    layout: &AttentionLayout,
) -> [Vec<f64>; 3] {
    let (heads, dim) = (layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (heads * dim, layout.num_kv_heads * dim);
    let (mut d_q, mut d_k, mut d_v) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    for (head, Row { start, token }, probabilities, _) in rows(q, k, layout) {
        let query = token * q_cols + head * dim;
        let d_out = &d_out[query..query + dim];
        let key_at = |offset: usize| (start + offset) * kv_cols + layout.kv_head_of[head] * dim;
        let d_p: Vec<f64> = (0..probabilities.len())
            .map(|offset| (0..dim).map(|x| d_out[x] * v[key_at(offset) + x]).sum())
            .collect();
        let mean: f64 = d_p.iter().zip(&probabilities).map(|(d, p)| d * p).sum();
        for (offset, p) in probabilities.iter().enumerate() {
            let d_s = p * (d_p[offset] - mean) / (dim as f64).sqrt();
            let key = key_at(offset);
            for x in 0..dim {
                d_v[key + x] += p * d_out[x];
                d_k[key + x] += d_s * q[query + x];
                d_q[query + x] += d_s * k[key + x];
            }
        }
    }
    [d_q, d_k, d_v]
}

fn layout(
    lengths: &[usize],
    kv_head_of: Vec<usize>,
    num_kv_heads: usize,
    head_dim: usize,
) -> AttentionLayout {
    let mut end = 0;
    let sequences = lengths
        .iter()
        .map(|len| {
            end += len;
            end - len..end
        })
        .collect();
    AttentionLayout {
        sequences,
        kv_head_of,
        num_kv_heads,
        head_dim,
        window: None,
    }
}

/// Any map from query to key/value heads, also such that leave a key/value head unread.
fn layouts(
    lengths: impl Strategy<Value = Vec<usize>>,
    max_head_dim: usize,
) -> impl Strategy<Value = AttentionLayout> {
    let window = prop_oneof![
        Just(None),
        (1usize..300).prop_map(Some),
        (1usize..20).prop_map(Some)
    ];
    (1usize..4, 1..=max_head_dim, lengths, window).prop_flat_map(
        |(num_kv_heads, head_dim, lengths, window)| {
            prop::collection::vec(0..num_kv_heads, 0..5).prop_map(move |map| AttentionLayout {
                window,
                ..layout(&lengths, map, num_kv_heads, head_dim)
            })
        },
    )
}

/// With vectors of every width that the machine has.
fn check(layout: &AttentionLayout, seed: u64) {
    for width in VectorWidth::ALL {
        match CpuBackend::with_vectors(Bytes::from_mib(1024), width) {
            Ok(device) => check_on(&device, layout, seed),
            Err(error) => assert_eq!(error, TensorError::NoSuchVectors { width }),
        }
    }
    check_on(&device(), layout, seed);
}

fn check_on(device: &CpuBackend, layout: &AttentionLayout, seed: u64) {
    let tokens = layout.num_tokens();
    let heads = layout.num_heads();
    let (q_cols, kv_cols) = (
        heads * layout.head_dim,
        layout.num_kv_heads * layout.head_dim,
    );
    let (q, q64) = random_tensor(device, seed, tokens, q_cols);
    let (k, k64) = random_tensor(device, seed ^ 1, tokens, kv_cols);
    let (v, v64) = random_tensor(device, seed ^ 2, tokens, kv_cols);
    let (d_out, d_out64) = random_tensor(device, seed ^ 3, tokens, q_cols);
    let (out, lse) = device.attention(&q, &k, &v, layout).unwrap();
    let (out64, lse64) = attention(&q64, &k64, &v64, layout);
    assert_close("out", &out, tokens, q_cols, &out64);
    assert_close("lse", &lse, tokens, heads, &lse64);
    let (d_q, d_k, d_v) = device
        .attention_backward(&q, &k, &v, &out, &lse, &d_out, layout)
        .unwrap();
    let [d_q64, d_k64, d_v64] = attention_backward(&q64, &k64, &v64, &d_out64, layout);
    assert_close("d_q", &d_q, tokens, q_cols, &d_q64);
    assert_close("d_k", &d_k, tokens, kv_cols, &d_k64);
    assert_close("d_v", &d_v, tokens, kv_cols, &d_v64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn attention_over_short_sequences_matches(
        layout in layouts(prop::collection::vec(0usize..50, 0..8), 40), seed: u64,
    ) {
        check(&layout, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn attention_over_several_tiles_matches(
        layout in layouts(prop::collection::vec(1usize..700, 1..3), 70), seed: u64,
    ) {
        check(&layout, seed);
    }

    #[test]
    fn the_naive_backward_is_the_derivative_of_the_naive_forward(
        layout in layouts(prop::collection::vec(0usize..6, 0..3), 4), seed: u64,
    ) {
        let device = device();
        let tokens = layout.num_tokens();
        let (q_cols, kv_cols) =
            (layout.num_heads() * layout.head_dim, layout.num_kv_heads * layout.head_dim);
        let inputs = [
            random_tensor(&device, seed, tokens, q_cols).1,
            random_tensor(&device, seed ^ 1, tokens, kv_cols).1,
            random_tensor(&device, seed ^ 2, tokens, kv_cols).1,
        ];
        let d_out = random_tensor(&device, seed ^ 3, tokens, q_cols).1;
        let gradients = attention_backward(&inputs[0], &inputs[1], &inputs[2], &d_out, &layout);
        let f = |inputs: &[Vec<f64>]| attention(&inputs[0], &inputs[1], &inputs[2], &layout).0;
        for (which, gradient) in gradients.iter().enumerate() {
            let expected = finite_differences(f, &inputs, which, &d_out);
            for (got, expected) in gradient.iter().zip(expected) {
                prop_assert!((got - expected).abs() < 1e-7, "{got} for {expected}");
            }
        }
    }
}

#[test]
fn usual_head_sizes_match() {
    for head_dim in [16, 32, 64, 96, 128] {
        check(&layout(&[1, 130, 257], vec![0, 0, 1], 2, head_dim), 11);
    }
}

/// Keys are packed in blocks of 2,304, queries of the backward in blocks of 1,920; what is carried from one block to the
/// next is kept per head.
#[test]
fn several_heads_over_several_blocks_match() {
    // One token more than a block of either kind, one less, and both blocks again after them.
    check_on(
        &device(),
        &layout(&[2305, 1921, 2303, 1919], vec![1, 0, 1], 2, 16),
        13,
    );
    // Three blocks of either kind, after a start that is no multiple of anything.
    check_on(&device(), &layout(&[3, 5000], vec![0, 2, 1, 0], 3, 5), 12);
}

#[test]
fn scores_far_apart_do_not_overflow() {
    let device = device();
    let layout = layout(&[200], vec![0], 1, 1);
    // Scores from -400 to 400: every row sees a new maximum, later ones first rise, then fall.
    let keys: Vec<f32> = (0..200)
        .map(|i| if i < 100 { 8 * i - 400 } else { 1200 - 8 * i } as f32)
        .collect();
    let values: Vec<f32> = (0..200).map(|i| i as f32).collect();
    let q = device.from_slice(200, 1, &[1.0; 200]).unwrap();
    let k = device.from_slice(200, 1, &keys).unwrap();
    let v = device.from_slice(200, 1, &values).unwrap();
    let (out, lse) = device.attention(&q, &k, &v, &layout).unwrap();
    let (out64, lse64) = attention(
        &[1.0; 200],
        &crate::reference::wide(&keys),
        &crate::reference::wide(&values),
        &layout,
    );
    assert_close("out", &out, 200, 1, &out64);
    assert_close("lse", &lse, 200, 1, &lse64);
}
