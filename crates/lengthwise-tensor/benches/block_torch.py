"""The decoder block of benches/block.rs in PyTorch on one CPU thread.

For each line it reads it runs once, and prints the seconds the thread was running in forward and backward.

The same computation: RMSNorm, rotary embedding in halves, causal attention over one sequence, SwiGLU;
forward and backward with respect to the input and all weights.

    python block_torch.py TOKENS HIDDEN HEADS FFN
"""

import sys
import time

import torch
import torch.nn.functional as F

tokens, hidden, heads, ffn = map(int, sys.argv[1:])
head_dim = hidden // heads
torch.set_num_threads(1)
torch.manual_seed(0)


def weight(rows, cols):
    return torch.nn.Parameter(torch.randn(rows, cols) * cols**-0.5)


norm1, norm2 = (torch.nn.Parameter(torch.ones(hidden)) for _ in range(2))
wq, wk, wv, wo = (weight(hidden, hidden) for _ in range(4))
gate, up, down = weight(ffn, hidden), weight(ffn, hidden), weight(hidden, ffn)
parameters = [norm1, norm2, wq, wk, wv, wo, gate, up, down]

frequencies = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
angles = torch.arange(tokens, dtype=torch.float32)[:, None] * frequencies
cos, sin = (torch.cat([f, f], dim=-1) for f in (angles.cos(), angles.sin()))


def rope(x):
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def split(x):
    return x.view(1, tokens, heads, head_dim).transpose(1, 2)


def block(x):
    h = F.rms_norm(x, (hidden,), norm1, 1e-5)
    q, k, v = (split(F.linear(h, w)) for w in (wq, wk, wv))
    a = F.scaled_dot_product_attention(rope(q), rope(k), v, is_causal=True)
    x = x + F.linear(a.transpose(1, 2).reshape(1, tokens, hidden), wo)
    h = F.rms_norm(x, (hidden,), norm2, 1e-5)
    return x + F.linear(F.silu(F.linear(h, gate)) * F.linear(h, up), down)


x = torch.randn(1, tokens, hidden, requires_grad=True)
d_y = torch.randn(1, tokens, hidden)
for _ in sys.stdin:
    for tensor in [x, *parameters]:
        tensor.grad = None
    start = time.thread_time()
    y = block(x)
    middle = time.thread_time()
    y.backward(d_y)
    end = time.thread_time()
    print(f"{middle - start:.6f} {end - middle:.6f}", flush=True)
