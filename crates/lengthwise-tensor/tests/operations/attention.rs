use lengthwise_core::Bytes;
use lengthwise_tensor::{
    AttentionLayout, AttentionSpan, Backend, CpuBackend, CpuTensor, TensorError, VectorWidth,
};
use proptest::prelude::*;

use crate::reference::{assert_close, device, finite_differences, random_tensor};

/// Output and log-sum-exp, row by row over full score rows.
fn attention(q: &[f64], k: &[f64], v: &[f64], layout: &AttentionLayout) -> (Vec<f64>, Vec<f64>) {
    let (heads, dim) = (layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (heads * dim, layout.num_kv_heads * dim);
    let mut out = vec![0.0; layout.num_queries * q_cols];
    let mut lse = vec![f64::NEG_INFINITY; layout.num_queries * heads];
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
    /// The first key that is seen, and the row of the query.
    start: usize,
    token: usize,
}

/// For every head and each query that sees keys: the probabilities of these from the first on, and the log-sum-exp. One row
/// at a time: all of a long sequence are more than memory holds.
fn rows<'a>(
    q: &'a [f64],
    k: &'a [f64],
    layout: &'a AttentionLayout,
) -> impl Iterator<Item = (usize, Row, Vec<f64>, f64)> + 'a {
    let (heads, dim) = (layout.num_heads(), layout.head_dim);
    let (q_cols, kv_cols) = (heads * dim, layout.num_kv_heads * dim);
    let places = layout.spans.iter().flat_map(move |span| {
        (0..heads).flat_map(move |head| {
            span.queries.clone().filter_map(move |token| {
                let end = token - span.queries.start + span.lead + 1;
                let start = end.saturating_sub(layout.window.unwrap_or(usize::MAX));
                let seen = start..end.min(span.keys.len());
                let keys = span.keys.start + seen.start..span.keys.start + seen.end;
                (!seen.is_empty()).then_some((
                    head,
                    Row {
                        start: keys.start,
                        token,
                    },
                    keys,
                ))
            })
        })
    });
    places.map(move |(head, row, keys)| {
        let query = &q[row.token * q_cols + head * dim..][..dim];
        let scores: Vec<f64> = keys
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
    AttentionLayout::packed(lengths.iter().copied(), kv_head_of, num_kv_heads, head_dim)
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

/// Queries and keys that are blocks of longer sequences, with rows between them that belong to none.
fn blocks(max_len: usize, max_head_dim: usize) -> impl Strategy<Value = AttentionLayout> {
    let span = (0usize..9, 0..max_len, 0..max_len, 0usize..9, 0..2 * max_len);
    let spans = prop::collection::vec(span, 0..4);
    (layouts(Just(Vec::new()), max_head_dim), spans, 0usize..9).prop_map(|(layout, parts, rest)| {
        let num_keys = parts.iter().map(|part| part.2 + part.3).max().unwrap_or(0);
        let mut end = 0;
        let spans = parts
            .into_iter()
            .map(|(gap, queries, keys, first_key, lead)| {
                let start = end + gap;
                end = start + queries;
                AttentionSpan {
                    queries: start..end,
                    // Several spans may see the same keys.
                    keys: first_key..first_key + keys,
                    lead,
                }
            });
        AttentionLayout {
            spans: spans.collect(),
            num_queries: end + rest,
            num_keys,
            ..layout
        }
    })
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
    let (queries, keys) = (layout.num_queries, layout.num_keys);
    let heads = layout.num_heads();
    let (q_cols, kv_cols) = (
        heads * layout.head_dim,
        layout.num_kv_heads * layout.head_dim,
    );
    let (q, q64) = random_tensor(device, seed, queries, q_cols);
    let (k, k64) = random_tensor(device, seed ^ 1, keys, kv_cols);
    let (v, v64) = random_tensor(device, seed ^ 2, keys, kv_cols);
    let (d_out, d_out64) = random_tensor(device, seed ^ 3, queries, q_cols);
    let (out, lse) = device.attention(&q, &k, &v, layout).unwrap();
    let (out64, lse64) = attention(&q64, &k64, &v64, layout);
    assert_close("out", &out, queries, q_cols, &out64);
    assert_lse(device, &lse, queries, heads, &lse64);
    let (d_q, d_k, d_v) = device
        .attention_backward(&q, &k, &v, &out, &lse, &d_out, layout)
        .unwrap();
    let [d_q64, d_k64, d_v64] = attention_backward(&q64, &k64, &v64, &d_out64, layout);
    assert_close("d_q", &d_q, queries, q_cols, &d_q64);
    assert_close("d_k", &d_k, keys, kv_cols, &d_k64);
    assert_close("d_v", &d_v, keys, kv_cols, &d_v64);
}

/// As [`assert_close`], with minus infinity exactly where no key is seen.
fn assert_lse(device: &CpuBackend, lse: &CpuTensor, rows: usize, heads: usize, expected: &[f64]) {
    let got = device.to_vec(lse);
    let unseen = |x: f64| x == f64::NEG_INFINITY;
    for (row, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(
            unseen(f64::from(got)),
            unseen(expected),
            "lse[{row}] is {got}, expected {expected}"
        );
    }
    let finite: Vec<f32> = got.iter().map(|x| x.max(f32::MIN)).collect();
    let finite = device.from_slice(rows, heads, &finite).unwrap();
    let expected: Vec<f64> = expected
        .iter()
        .map(|x| x.max(f64::from(f32::MIN)))
        .collect();
    assert_close("lse", &finite, rows, heads, &expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn attention_over_short_sequences_matches(
        layout in layouts(prop::collection::vec(0usize..50, 0..8), 40), seed: u64,
    ) {
        check(&layout, seed);
    }

    #[test]
    fn attention_to_blocks_of_other_keys_matches(layout in blocks(60, 20), seed: u64) {
        check(&layout, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn attention_to_blocks_of_several_tiles_matches(layout in blocks(900, 20), seed: u64) {
        check(&layout, seed);
    }

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
        let tokens = layout.num_queries;
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
    assert_lse(&device, &lse, 200, 1, &lse64);
}

/// Attention to some keys and to the others, merged, is attention to all of them, and its gradients add up.
#[test]
fn attention_to_parts_of_the_keys_adds_up() {
    let device = device();
    for window in [None, Some(7), Some(40)] {
        let whole = AttentionLayout {
            window,
            ..layout(&[90], vec![0, 1, 1], 2, 12)
        };
        let (q, _) = random_tensor(&device, 1, 90, 36);
        let (k, _) = random_tensor(&device, 2, 90, 24);
        let (v, _) = random_tensor(&device, 3, 90, 24);
        let (d_out, _) = random_tensor(&device, 4, 90, 36);
        let (expected, expected_lse) = device.attention(&q, &k, &v, &whole).unwrap();
        // The keys of each part, and who sees them: everybody from there on.
        let parts = [0..30, 30..31, 31..90].map(|keys| AttentionLayout {
            spans: vec![AttentionSpan {
                queries: keys.start..90,
                keys: 0..keys.len(),
                lead: 0,
            }],
            num_keys: keys.len(),
            ..whole.clone()
        });
        let rows = [0..30, 30..31, 31..90];
        let of = |x: &CpuTensor, part: usize| device.slice_rows(x, rows[part].clone());
        let (mut out, mut lse) = device
            .attention(&q, &of(&k, 0), &of(&v, 0), &parts[0])
            .unwrap();
        for (index, part) in parts.iter().enumerate().skip(1) {
            let (other, other_lse) = device
                .attention(&q, &of(&k, index), &of(&v, index), part)
                .unwrap();
            device
                .merge_attention(&mut out, &mut lse, &other, &other_lse)
                .unwrap();
        }
        let wide = |x: &CpuTensor| crate::reference::wide(&device.to_vec(x));
        assert_close("out", &out, 90, 36, &wide(&expected));
        assert_close("lse", &lse, 90, 3, &wide(&expected_lse));

        let backward = |k: &CpuTensor, v: &CpuTensor, layout: &AttentionLayout| {
            device
                .attention_backward(&q, k, v, &out, &lse, &d_out, layout)
                .unwrap()
        };
        let (expected_d_q, expected_d_k, expected_d_v) = backward(&k, &v, &whole);
        let gradients = [0, 1, 2].map(|part| backward(&of(&k, part), &of(&v, part), &parts[part]));
        let d_q = device
            .sum(&gradients.each_ref().map(|(d_q, _, _)| d_q.clone()))
            .unwrap();
        assert_close("d_q", &d_q, 90, 36, &wide(&expected_d_q));
        let d_k = device
            .concat_rows(&gradients.each_ref().map(|(_, d_k, _)| d_k.clone()))
            .unwrap();
        assert_close("d_k", &d_k, 90, 24, &wide(&expected_d_k));
        let d_v = device
            .concat_rows(&gradients.each_ref().map(|(_, _, d_v)| d_v.clone()))
            .unwrap();
        assert_close("d_v", &d_v, 90, 24, &wide(&expected_d_v));
    }
}
