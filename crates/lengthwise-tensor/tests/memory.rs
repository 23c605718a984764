//! Memory that a device counts: every byte held, none that was let go, and never more than its budget.

use lengthwise_core::Bytes;
use lengthwise_tensor::{
    AdamW, AttentionLayout, Backend, CpuBackend, CpuTensor, HostMemory, Rotation, Tensor,
    TensorError,
};

const PLENTY: Bytes = Bytes::from_mib(1024);

fn layout(tokens: usize, heads: usize, head_dim: usize) -> AttentionLayout {
    AttentionLayout::packed([tokens], (0..heads).collect(), heads, head_dim)
}

fn ones(device: &CpuBackend, rows: usize, cols: usize) -> CpuTensor {
    let elements = vec![1.0; rows * cols];
    device.from_slice(rows, cols, &elements).unwrap()
}

#[test]
fn views_share_storage_which_is_held_until_the_last_is_dropped() {
    let device = CpuBackend::new(PLENTY);
    let whole = device
        .from_slice(2, 3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .unwrap();
    let view = device.view(&whole, 1, 2, 2);
    let row = device.slice_rows(&view, 1..2);
    let copy = whole.clone();
    assert_eq!(device.memory().held, Bytes(24));
    assert_eq!(device.to_vec(&row), [4.0, 5.0]);
    drop((whole, copy, view));
    assert_eq!(device.memory().held, Bytes(24));
    drop(row);
    assert_eq!(device.memory().held, Bytes(0));
    assert_eq!(device.memory().peak, Bytes(24));
    device.reset_peak_memory();
    assert_eq!(device.memory().peak, Bytes(0));
}

#[test]
fn changing_a_shared_tensor_copies_only_what_is_changed() {
    let device = CpuBackend::new(PLENTY);
    let whole = ones(&device, 4, 2);
    let mut row = device.slice_rows(&whole, 1..2);
    let added = ones(&device, 1, 2);
    device.add_assign(&mut row, &added).unwrap();
    assert_eq!(device.to_vec(&row), [2.0, 2.0]);
    assert_eq!(device.to_vec(&whole), [1.0; 8]);
    assert_eq!(device.memory().held, Bytes(32 + 8 + 8));
    let held = device.memory().held;
    device.add_assign(&mut row, &added).unwrap();
    assert_eq!(
        device.memory().held,
        held,
        "an exclusive tensor is changed in place"
    );
}

#[test]
fn an_exclusive_view_is_changed_in_place() {
    let device = CpuBackend::new(PLENTY);
    let mut row = device.slice_rows(&ones(&device, 4, 2), 3..4);
    let added = ones(&device, 1, 1);
    device.add_assign_cols(&mut row, 1, &added).unwrap();
    assert_eq!(device.to_vec(&row), [1.0, 2.0]);
    assert_eq!(device.memory().held, Bytes(32 + 4));
}

#[test]
fn bytes_are_held_on_the_device_that_made_the_tensor() {
    let (one, other) = (CpuBackend::new(PLENTY), CpuBackend::new(PLENTY));
    let sum = {
        let a = ones(&one, 1, 8);
        other.add(&a, &a).unwrap()
    };
    assert_eq!(one.memory().held, Bytes(0));
    assert_eq!(other.memory().held, Bytes(32));
    assert_eq!(one.clone().to_vec(&sum), [2.0; 8]);
}

#[test]
fn a_request_past_the_budget_names_operation_request_and_budget() {
    let device = CpuBackend::new(Bytes(4096));
    let held = device.zeros(16, 16).unwrap();
    let error = device.zeros(1, 769).unwrap_err();
    assert_eq!(
        error,
        TensorError::OutOfMemory {
            operation: "zeros",
            request: Bytes(3076),
            held: Bytes(1024),
            budget: Bytes(4096),
        }
    );
    assert_eq!(
        error.to_string(),
        "out of device memory: zeros asks for 3.00 KiB while 1.00 KiB are held; the device has 4.00 KiB"
    );
    drop(held);
    assert!(device.zeros(1, 1024).is_ok());
    assert!(device.zeros(usize::MAX, usize::MAX).is_err());
}

/// Runs every operation that allocates, with all its arguments on another device.
fn run_all(
    device: &CpuBackend,
    arguments: &CpuBackend,
) -> Vec<(&'static str, Option<TensorError>)> {
    let x = ones(arguments, 8, 8);
    let w = ones(arguments, 8, 8);
    let norm = ones(arguments, 1, 8);
    let lse = ones(arguments, 8, 2);
    let layout = layout(8, 2, 4);
    let positions: Vec<u32> = (0..8).collect();
    let update = AdamW {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.9,
        epsilon: 1e-8,
        weight_decay: 0.0,
        step: 1,
        gradient_scale: 1.0,
    };
    let pair = [x.clone(), x.clone()];
    let (mut a, mut b, mut c) = (x.clone(), x.clone(), x.clone());
    let results = vec![
        ("zeros", device.zeros(8, 8).err()),
        ("slice_cols", device.slice_cols(&x, 1..3).err()),
        ("concat_rows", device.concat_rows(&pair).err()),
        ("concat_cols", device.concat_cols(&pair).err()),
        ("concat_flat", device.concat_flat(&pair).err()),
        ("add", device.add(&x, &x).err()),
        ("add_assign", device.add_assign(&mut a, &x).err()),
        (
            "add_assign_cols",
            device.add_assign_cols(&mut b, 0, &x).err(),
        ),
        ("sum", device.sum(&pair).err()),
        ("linear", device.linear(&x, &w).err()),
        (
            "linear_backward_input",
            device.linear_backward_input(&x, &w).err(),
        ),
        (
            "linear_backward_weight",
            device.linear_backward_weight(&x, &x).err(),
        ),
        ("rms_norm", device.rms_norm(&x, &norm, 1e-5).err()),
        (
            "rms_norm_backward",
            device.rms_norm_backward(&x, &norm, 1e-5, &x).err(),
        ),
        (
            "rope",
            device
                .rope(&mut c, &positions, &Rotation::plain(4, 1e4))
                .err(),
        ),
        ("swiglu", device.swiglu(&x, &x).err()),
        ("swiglu_backward", device.swiglu_backward(&x, &x, &x).err()),
        ("embedding", device.embedding(&w, &positions).err()),
        (
            "embedding_backward",
            device.embedding_backward(&x, &positions, 8).err(),
        ),
        ("attention", device.attention(&x, &x, &x, &layout).err()),
        (
            "attention_backward",
            device
                .attention_backward(&x, &x, &x, &x, &lse, &x, &layout)
                .err(),
        ),
        (
            "linear_cross_entropy",
            device.linear_cross_entropy(&x, &w, &positions, 1.0).err(),
        ),
        (
            "adamw",
            device
                .adamw(&mut x.clone(), &x, &mut x.clone(), &mut x.clone(), &update)
                .err(),
        ),
    ];
    drop((a, b, c));
    results
}

#[test]
fn every_operation_refuses_to_pass_the_budget_and_lets_everything_go() {
    let arguments = CpuBackend::new(PLENTY);
    let roomy = CpuBackend::new(PLENTY);
    for (operation, error) in run_all(&roomy, &arguments) {
        assert_eq!(error, None, "{operation}");
    }
    assert_eq!(roomy.memory().held, Bytes(0));
    // One byte less than the smallest result; then enough for a first allocation, but not for all.
    for budget in [63, 300] {
        let tight = CpuBackend::new(Bytes(budget));
        let mut num_refused = 0;
        for (operation, error) in run_all(&tight, &arguments) {
            if let Some(TensorError::OutOfMemory {
                operation: named, ..
            }) = error
            {
                assert_eq!(named, operation);
                num_refused += 1;
            } else {
                assert_eq!(budget, 300, "{operation} passes a budget of {budget} bytes");
            }
        }
        assert!(num_refused > 6, "{num_refused} of a budget of {budget}");
        assert_eq!(tight.memory().held, Bytes(0));
    }
    assert_eq!(arguments.memory().held, Bytes(0));
}

#[test]
fn attention_memory_is_linear_in_length() {
    // Beyond queries, keys, values and gradients: scratch of a fixed size, and lse.
    const TOKENS: [usize; 4] = [2 << 10, 8 << 10, 32 << 10, 64 << 10];
    let mut scratch = Vec::new();
    for tokens in TOKENS {
        let device = CpuBackend::new(PLENTY);
        let layout = layout(tokens, 1, 16);
        let x = device.zeros(tokens, 16).unwrap();
        let matrix = x.num_elements() * 4;
        device.reset_peak_memory();
        let held = device.memory().held;
        let (out, lse) = device.attention(&x, &x, &x, &layout).unwrap();
        let forward = device.memory().peak.0 - held.0;
        let forward = forward - matrix as u64 - 4 * tokens as u64;
        // The backward of the longest would take as long as all other tests together.
        let backward = (tokens <= 8 << 10).then(|| {
            device.reset_peak_memory();
            let held = device.memory().held;
            let gradients = device
                .attention_backward(&x, &x, &x, &out, &lse, &x, &layout)
                .unwrap();
            drop(gradients);
            device.memory().peak.0 - held.0 - 3 * matrix as u64
        });
        scratch.push((tokens, forward, backward));
    }
    // A number for each token, and what a block of queries or keys needs, whatever the length.
    let blocks = 4 << 20;
    for (tokens, forward, backward) in scratch {
        assert!(
            forward <= blocks + 4 * tokens as u64,
            "{forward} bytes of scratch for {tokens} tokens"
        );
        if let Some(backward) = backward {
            assert!(backward <= blocks, "{backward} bytes for {tokens} tokens");
        }
    }
}

#[test]
fn no_operation_holds_more_scratch_than_it_is_said_to() {
    for (tokens, heads, head_dim, vocab) in
        [(5000, 1, 16, 300), (3000, 2, 64, 50_000), (2500, 1, 100, 7)]
    {
        let device = CpuBackend::new(PLENTY);
        let x = ones(&device, tokens, heads * head_dim);
        let layout = layout(tokens, heads, head_dim);
        let per_token = 4 * 2 * (tokens * heads) as u64;
        let scratch_of = |results: u64, operation: &dyn Fn()| {
            device.reset_peak_memory();
            let before = device.memory().held;
            operation();
            let held = device.memory().peak.saturating_sub(before).0;
            let most = device.scratch_memory(head_dim, vocab).0 + per_token + results;
            assert!(held <= most, "{held} bytes held, at most {most} expected");
        };
        let like_x = 4 * (tokens * heads * head_dim) as u64;
        let (out, lse) = device.attention(&x, &x, &x, &layout).unwrap();
        scratch_of(like_x, &|| {
            drop(device.attention(&x, &x, &x, &layout).unwrap())
        });
        scratch_of(3 * like_x, &|| {
            drop(
                device
                    .attention_backward(&x, &x, &x, &out, &lse, &x, &layout)
                    .unwrap(),
            );
        });
        let weight = device.zeros(vocab, 8).unwrap();
        let few = device.zeros(100, 8).unwrap();
        scratch_of(4 * 8 * (vocab + 100) as u64, &|| {
            drop(
                device
                    .linear_cross_entropy(&few, &weight, &[1; 100], 1.0)
                    .unwrap(),
            );
        });
    }
}

#[test]
fn what_is_on_the_host_is_held_there_and_not_on_the_device() {
    let host = HostMemory::new(Bytes(100));
    let device = CpuBackend::new(PLENTY).on_host(host.clone());
    let elements = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let tensor = device.from_slice(3, 2, &elements).unwrap();
    let leaving = device.start_copy_to_host(&tensor).unwrap();
    assert_eq!(host.memory().held, Bytes(24), "held as soon as it is begun");
    let on_host = leaving.wait();
    drop(tensor);
    assert_eq!(device.memory().held, Bytes(0));
    let coming = device.start_copy_from_host(on_host).unwrap();
    assert_eq!(
        device.memory().held,
        Bytes(24),
        "held as soon as it is begun"
    );
    let back = coming.wait();
    assert_eq!((back.rows(), device.to_vec(&back)), (3, elements.to_vec()));
    assert_eq!(device.host_memory().peak, Bytes(24));
    assert_eq!(host.memory().held, Bytes(0));
    device.reset_peak_host_memory();
    assert_eq!(host.memory().peak, Bytes(0));
}

#[test]
fn devices_of_a_node_share_the_memory_of_their_host() {
    let host = HostMemory::new(Bytes(100));
    let [one, other] = [0, 1].map(|_| CpuBackend::new(PLENTY).on_host(host.clone()));
    let held = one.start_copy_to_host(&ones(&one, 4, 4)).unwrap().wait();
    let moved = [&one, &other].map(|device| device.moved_memory().held);
    assert_eq!(moved, [Bytes(64), Bytes(0)]);
    let tensor = ones(&other, 2, 5);
    let error = other.start_copy_to_host(&tensor).unwrap_err();
    assert_eq!(
        error,
        TensorError::OutOfHostMemory {
            request: Bytes(40),
            held: Bytes(64),
            budget: Bytes(100),
        }
    );
    assert_eq!(
        error.to_string(),
        "out of host memory: a copy from a device asks for 40 B while the devices of the node hold 64 B; there are 100 B for \
         all of them"
    );
    drop(held);
    assert!(other.start_copy_to_host(&tensor).is_ok());
}

#[test]
fn copies_come_back_as_they_were_in_any_order() {
    let device = CpuBackend::new(PLENTY);
    // Above and below the size at which memory is reused, and nothing at all.
    let tensors: Vec<CpuTensor> = [0, 1, 5000, 3, 20_000]
        .iter()
        .map(|&rows| {
            let elements: Vec<f32> = (0..2 * rows).map(|index| (rows + index) as f32).collect();
            device.from_slice(rows, 2, &elements).unwrap()
        })
        .collect();
    let expected: Vec<_> = tensors.iter().map(|tensor| device.to_vec(tensor)).collect();
    for _ in 0..3 {
        let leaving: Vec<_> = (tensors.iter())
            .map(|tensor| device.start_copy_to_host(tensor).unwrap())
            .collect();
        let on_host: Vec<_> = leaving.into_iter().map(|copy| copy.wait()).collect();
        let coming: Vec<_> = (on_host.into_iter().rev())
            .map(|tensor| device.start_copy_from_host(tensor).unwrap())
            .collect();
        let back = coming.into_iter().rev().map(|copy| copy.wait());
        let back: Vec<_> = back.map(|tensor| device.to_vec(&tensor)).collect();
        assert_eq!(back, expected);
    }
    assert_eq!(device.host_memory().held, Bytes(0));
}

#[test]
fn a_copy_that_is_dropped_is_let_go_of() {
    let device = CpuBackend::new(PLENTY);
    let tensor = ones(&device, 1000, 10);
    drop(device.start_copy_to_host(&tensor).unwrap());
    // Copies are made one after the other.
    drop(device.start_copy_to_host(&tensor).unwrap().wait());
    assert_eq!(device.host_memory().held, Bytes(0));
}
