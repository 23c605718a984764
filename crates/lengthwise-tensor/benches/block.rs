//! One decoder block, forward and backward on one thread, beside PyTorch; and a product of 2048^3 beside `gemm`.
//!
//! `cargo bench -p lengthwise-tensor --bench block`. PyTorch is looked for in `$LENGTHWISE_PYTHON`, else
//! `python3`. Seconds are those the thread was running, where the system tells, so that a machine busy with
//! other work does not blur the ratios. Runs of both alternate, and ratios to PyTorch are medians of
//! [`RUNS`] pairs; all other figures are those of the best run. `LENGTHWISE_SIMD` (`scalar`, `avx2`,
//! `avx512`) sets the vectors of all but matrix products, for which `gemm` takes the widest.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use lengthwise_core::Bytes;
use lengthwise_tensor::{AttentionLayout, Backend, CpuBackend, CpuTensor, Rotation, TensorError};

const TOKENS: usize = 4096;
const HIDDEN: usize = 512;
const HEADS: usize = 8;
const HEAD_DIM: usize = HIDDEN / HEADS;
const FFN: usize = 1376;
const RUNS: usize = 9;
const EPSILON: f32 = 1e-5;
const THETA: f64 = 10_000.0;

fn main() -> Result<(), TensorError> {
    let peak = product_beside_gemm()?;
    block(peak)
}

/// With the vectors that `LENGTHWISE_SIMD` names, else the widest of the machine.
fn device(budget: Bytes) -> Result<CpuBackend, TensorError> {
    let Ok(name) = std::env::var("LENGTHWISE_SIMD") else {
        return Ok(CpuBackend::new(budget));
    };
    let Ok(width) = name.parse() else {
        println!("LENGTHWISE_SIMD={name} is neither scalar, avx2 nor avx512");
        std::process::exit(2);
    };
    CpuBackend::with_vectors(budget, width)
}

/// The clock of this thread's running time where the system has one, else of the day.
struct Clock(Instant);

impl Clock {
    fn seconds(&self) -> f64 {
        // The system accounts for a running thread's time when it could schedule another.
        std::thread::yield_now();
        std::fs::read_to_string("/proc/thread-self/schedstat")
            .ok()
            .and_then(|line| line.split(' ').next()?.parse::<f64>().ok())
            .map_or_else(|| self.0.elapsed().as_secs_f64(), |ns| ns * 1e-9)
    }
}

/// Seconds and operations of the parts of one run; 2 FLOP per multiply-add of matrix products, no others.
struct Parts {
    clock: Clock,
    parts: BTreeMap<(&'static str, &'static str), (f64, f64)>,
}

impl Parts {
    fn new() -> Self {
        Self {
            clock: Clock(Instant::now()),
            parts: BTreeMap::new(),
        }
    }

    fn time<T>(
        &mut self,
        pass: &'static str,
        part: &'static str,
        flops: f64,
        run: impl FnOnce() -> T,
    ) -> T {
        let start = self.clock.seconds();
        let result = run();
        let entry = self.parts.entry((pass, part)).or_default();
        entry.0 += self.clock.seconds() - start;
        entry.1 += flops;
        result
    }

    fn seconds(&self, pass: &str) -> f64 {
        let of_pass = self.parts.iter().filter(|((p, _), _)| *p == pass);
        of_pass.map(|(_, (seconds, _))| seconds).sum()
    }
}

/// Prints the ratio and returns the FLOP/s of bare `gemm`.
fn product_beside_gemm() -> Result<f64, TensorError> {
    const N: usize = 2048;
    let device = CpuBackend::new(Bytes::from_mib(256));
    let elements: Vec<f32> = (0..N * N).map(|i| (i % 17) as f32 - 8.0).collect();
    let (x, weight) = (
        device.from_slice(N, N, &elements)?,
        device.from_slice(N, N, &elements)?,
    );
    let mut product = vec![0.0f32; N * N];
    let clock = Clock(Instant::now());
    let (mut ours, mut bare) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..RUNS {
        let start = clock.seconds();
        black_box(device.linear(&x, &weight)?);
        let middle = clock.seconds();
        // SAFETY: all three slices hold N x N elements; the strides are those of row-major x and product and of
        // the transposed weight, so every index stays below N * N; `product` overlaps neither operand.
        unsafe {
            gemm::gemm(
                N,
                N,
                N,
                product.as_mut_ptr(),
                1,
                N as isize,
                false,
                elements.as_ptr(),
                1,
                N as isize,
                elements.as_ptr(),
                N as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
        black_box(&mut product);
        ours = ours.min(middle - start);
        bare = bare.min(clock.seconds() - middle);
    }
    let flops = 2.0 * (N as f64).powi(3);
    println!(
        "linear, {N}^3: {ours:.3} s, {:.1} GFLOP/s; gemm alone {bare:.3} s, {:.1} GFLOP/s; ratio {:.3}",
        flops / ours * 1e-9,
        flops / bare * 1e-9,
        ours / bare
    );
    Ok(flops / bare)
}

struct Weights {
    norm1: CpuTensor,
    q: CpuTensor,
    k: CpuTensor,
    v: CpuTensor,
    o: CpuTensor,
    norm2: CpuTensor,
    gate: CpuTensor,
    up: CpuTensor,
    down: CpuTensor,
}

fn random(
    device: &CpuBackend,
    rows: usize,
    cols: usize,
    scale: f32,
) -> Result<CpuTensor, TensorError> {
    let mut state = (rows * 31 + cols) as u32;
    let elements: Vec<f32> = (0..rows * cols)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect();
    device.from_slice(rows, cols, &elements)
}

/// Prints the parts of the best run, and how long PyTorch takes for the same block, where it is installed.
fn block(peak: f64) -> Result<(), TensorError> {
    let device = device(Bytes::from_mib(1024))?;
    // Uniform numbers up to sqrt(3 / n) have the variance 1 / n.
    let weight = |rows, cols| random(&device, rows, cols, (3.0 / cols as f32).sqrt());
    let weights = Weights {
        norm1: random(&device, 1, HIDDEN, 1.0)?,
        q: weight(HIDDEN, HIDDEN)?,
        k: weight(HIDDEN, HIDDEN)?,
        v: weight(HIDDEN, HIDDEN)?,
        o: weight(HIDDEN, HIDDEN)?,
        norm2: random(&device, 1, HIDDEN, 1.0)?,
        gate: weight(FFN, HIDDEN)?,
        up: weight(FFN, HIDDEN)?,
        down: weight(HIDDEN, FFN)?,
    };
    let x = random(&device, TOKENS, HIDDEN, 1.7)?;
    let d_y = random(&device, TOKENS, HIDDEN, 1.7)?;
    let mut torch = Torch::start();
    let mut pairs = Vec::new();
    let mut best: Option<Parts> = None;
    for _ in 0..RUNS {
        let mut parts = Parts::new();
        run_block(&device, &mut parts, &weights, &x, &d_y)?;
        if let Some(theirs) = torch.as_mut().and_then(Torch::run) {
            pairs.push((
                [parts.seconds("forward"), parts.seconds("backward")],
                theirs,
            ));
        }
        let total = |parts: &Parts| parts.seconds("forward") + parts.seconds("backward");
        if best.as_ref().is_none_or(|best| total(&parts) < total(best)) {
            best = Some(parts);
        }
    }
    let best = best.expect("there is one run or more");
    println!(
        "\nblock: {TOKENS} tokens, hidden {HIDDEN}, {HEADS} heads, FFN {FFN}, one sequence, one thread"
    );
    for ((pass, part), (seconds, flops)) in &best.parts {
        if *flops > 0.0 {
            let rate = flops / seconds;
            println!(
                "  {pass:8} {part:10} {seconds:.4} s {:6.1} GFLOP/s, {:.2} of gemm's 2048^3",
                rate * 1e-9,
                rate / peak
            );
        } else {
            println!("  {pass:8} {part:10} {seconds:.4} s");
        }
    }
    let flops: f64 = best.parts.values().map(|(_, flops)| flops).sum();
    let (forward, backward) = (best.seconds("forward"), best.seconds("backward"));
    let total = forward + backward;
    println!(
        "ours: {total:.3} s (forward {forward:.3}, backward {backward:.3}) for {:.1} GFLOP: {:.1} GFLOP/s, {:.2} of gemm's 2048^3",
        flops * 1e-9,
        flops / total * 1e-9,
        flops / total / peak
    );
    compare(&pairs);
    Ok(())
}

fn run_block(
    device: &CpuBackend,
    parts: &mut Parts,
    w: &Weights,
    x: &CpuTensor,
    d_y: &CpuTensor,
) -> Result<(), TensorError> {
    let positions: Vec<u32> = (0..TOKENS as u32).collect();
    let layout = AttentionLayout::packed([TOKENS], (0..HEADS).collect(), HEADS, HEAD_DIM);
    let square = 2.0 * (TOKENS * HIDDEN * HIDDEN) as f64;
    let wide = 2.0 * (TOKENS * HIDDEN * FFN) as f64;
    // One product over all visible pairs of query and key.
    let pairs = 2.0 * (TOKENS * (TOKENS + 1) / 2 * HIDDEN) as f64;

    let pass = "forward";
    let h1 = parts.time(pass, "norm", 0.0, || device.rms_norm(x, &w.norm1, EPSILON))?;
    let (mut q, mut k, v) = parts.time(pass, "projection", 3.0 * square, || {
        Ok::<_, TensorError>((
            device.linear(&h1, &w.q)?,
            device.linear(&h1, &w.k)?,
            device.linear(&h1, &w.v)?,
        ))
    })?;
    parts.time(pass, "rope", 0.0, || {
        device.rope(&mut q, &positions, &Rotation::plain(HEAD_DIM, THETA))?;
        device.rope(&mut k, &positions, &Rotation::plain(HEAD_DIM, THETA))
    })?;
    let (a, lse) = parts.time(pass, "attention", 2.0 * pairs, || {
        device.attention(&q, &k, &v, &layout)
    })?;
    let mut x1 = parts.time(pass, "projection", square, || device.linear(&a, &w.o))?;
    parts.time(pass, "residual", 0.0, || device.add_assign(&mut x1, x))?;
    let h2 = parts.time(pass, "norm", 0.0, || {
        device.rms_norm(&x1, &w.norm2, EPSILON)
    })?;
    let (gate, up) = parts.time(pass, "mlp", 2.0 * wide, || {
        Ok::<_, TensorError>((device.linear(&h2, &w.gate)?, device.linear(&h2, &w.up)?))
    })?;
    let activated = parts.time(pass, "swiglu", 0.0, || device.swiglu(&gate, &up))?;
    let mut y = parts.time(pass, "mlp", wide, || device.linear(&activated, &w.down))?;
    parts.time(pass, "residual", 0.0, || device.add_assign(&mut y, &x1))?;
    black_box(&y);

    let pass = "backward";
    let d_activated = parts.time(pass, "mlp", 2.0 * wide, || {
        black_box(device.linear_backward_weight(d_y, &activated)?);
        device.linear_backward_input(d_y, &w.down)
    })?;
    let (d_gate, d_up) = parts.time(pass, "swiglu", 0.0, || {
        device.swiglu_backward(&gate, &up, &d_activated)
    })?;
    let (mut d_h2, d_h2_up) = parts.time(pass, "mlp", 4.0 * wide, || {
        black_box(device.linear_backward_weight(&d_gate, &h2)?);
        black_box(device.linear_backward_weight(&d_up, &h2)?);
        Ok::<_, TensorError>((
            device.linear_backward_input(&d_gate, &w.gate)?,
            device.linear_backward_input(&d_up, &w.up)?,
        ))
    })?;
    parts.time(pass, "residual", 0.0, || {
        device.add_assign(&mut d_h2, &d_h2_up)
    })?;
    let (mut d_x1, d_norm2) = parts.time(pass, "norm", 0.0, || {
        device.rms_norm_backward(&x1, &w.norm2, EPSILON, &d_h2)
    })?;
    black_box(d_norm2);
    parts.time(pass, "residual", 0.0, || device.add_assign(&mut d_x1, d_y))?;
    let d_a = parts.time(pass, "projection", 2.0 * square, || {
        black_box(device.linear_backward_weight(&d_x1, &a)?);
        device.linear_backward_input(&d_x1, &w.o)
    })?;
    // Five products: scores again, dP, dQ, dK, dV.
    let (mut d_q, mut d_k, d_v) = parts.time(pass, "attention", 5.0 * pairs, || {
        device.attention_backward(&q, &k, &v, &a, &lse, &d_a, &layout)
    })?;
    parts.time(pass, "rope", 0.0, || {
        device.rope_backward(&mut d_q, &positions, &Rotation::plain(HEAD_DIM, THETA))?;
        device.rope_backward(&mut d_k, &positions, &Rotation::plain(HEAD_DIM, THETA))
    })?;
    let mut d_h1 = parts.time(pass, "projection", 6.0 * square, || {
        black_box(device.linear_backward_weight(&d_q, &h1)?);
        black_box(device.linear_backward_weight(&d_k, &h1)?);
        black_box(device.linear_backward_weight(&d_v, &h1)?);
        let mut d_h1 = device.linear_backward_input(&d_q, &w.q)?;
        device.add_assign(&mut d_h1, &device.linear_backward_input(&d_k, &w.k)?)?;
        device.add_assign(&mut d_h1, &device.linear_backward_input(&d_v, &w.v)?)?;
        Ok::<_, TensorError>(d_h1)
    })?;
    let (mut d_x, d_norm1) = parts.time(pass, "norm", 0.0, || {
        device.rms_norm_backward(x, &w.norm1, EPSILON, &d_h1)
    })?;
    black_box((&mut d_h1, d_norm1));
    parts.time(pass, "residual", 0.0, || device.add_assign(&mut d_x, &d_x1))?;
    black_box(d_x);
    Ok(())
}

/// A process of Python that runs the block in PyTorch.
struct Torch {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Torch {
    fn start() -> Option<Self> {
        let python = std::env::var("LENGTHWISE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut process = Command::new(python)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/benches/block_torch.py"
            ))
            .args([TOKENS, HIDDEN, HEADS, FFN].map(|n| n.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let answers = BufReader::new(process.stdout.take()?);
        Some(Self { process, answers })
    }

    /// Seconds of a forward and a backward.
    fn run(&mut self) -> Option<[f64; 2]> {
        self.process.stdin.as_mut()?.write_all(b"run\n").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        let (forward, backward) = answer.trim().split_once(' ')?;
        Some([forward.parse().ok()?, backward.parse().ok()?])
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Our seconds and PyTorch's, each of forward and backward.
type Pair = ([f64; 2], [f64; 2]);

/// Prints the medians of pairs.
fn compare(pairs: &[Pair]) {
    if pairs.is_empty() {
        println!("PyTorch: not found; set LENGTHWISE_PYTHON to a Python that has torch");
        return;
    }
    let median = |of: &dyn Fn(&Pair) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let sum = |[forward, backward]: [f64; 2]| forward + backward;
    println!(
        "PyTorch, medians of {} runs: {:.3} s (forward {:.3}, backward {:.3})",
        pairs.len(),
        median(&|pair| sum(pair.1)),
        median(&|pair| pair.1[0]),
        median(&|pair| pair.1[1])
    );
    println!(
        "ours / PyTorch, medians of {} pairs: {:.3} (forward {:.3}, backward {:.3})",
        pairs.len(),
        median(&|pair| sum(pair.0) / sum(pair.1)),
        median(&|pair| pair.0[0] / pair.1[0]),
        median(&|pair| pair.0[1] / pair.1[1])
    );
}
