"""Attention to a block of keys by PyTorch's flash attention for CUDA, many spans in a call."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lengthwise.torch._block_attention import BlockGradients, BlockRule
from lengthwise.torch._kernels import even_runs
from lengthwise.torch._places import Span


@dataclass(frozen=True)
class _Call:
    """Spans that one call of the kernel takes.

    The kernel aligns the last query with the last key, counts from there, and sees so many keys to
    either side; -1 is all of them.
    """

    spans: list[Span]
    left: int
    right: int

    def ends(self, device: torch.device) -> tuple[Tensor, Tensor, int, int]:
        """Return where queries and keys of each span end, from 0 on, and the most of a span."""
        sides = [
            [len(span.queries) for span in self.spans],
            [len(span.keys) for span in self.spans],
        ]
        ends = [
            torch.tensor([0, *accumulate(lens)], dtype=torch.int32, device=device) for lens in sides
        ]
        return ends[0], ends[1], max(sides[0]), max(sides[1])

    def options(self, rule: BlockRule) -> dict[str, Any]:
        """Return what the kernel takes by name."""
        return {
            "scale": rule.scale,
            "window_size_left": self.left,
            "window_size_right": self.right,
        }


class FlashVarlen:
    """PyTorch's flash attention for CUDA, of packed sequences."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Iterable[Span], rule: BlockRule
    ) -> Iterator[tuple[list[Span], Tensor, Tensor]]:
        """Give spans, their attention and ``[rows, heads]`` log-sum-exps."""
        operation: Any = torch.ops.aten._flash_attention_forward
        for call in _calls(spans, rule.window):
            q = _joined(query, [span.queries for span in call.spans])
            k, v = (_joined(x, [span.keys for span in call.spans]) for x in (key, value))
            ends, options = call.ends(query.device), call.options(rule)
            found: list[Tensor] = []
            all_lse: list[Tensor] = []
            for queries, kvs in even_runs(rule.kv_of):
                heads = _heads(q, queries), _heads(k, kvs), _heads(v, kvs)
                attended, lse, *_ = operation(*heads, *ends, 0.0, call.right == 0, False, **options)
                found.append(attended)
                all_lse.append(lse)
            yield call.spans, torch.cat(found, dim=1), torch.cat(all_lse).transpose(0, 1)

    def backward(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attended: Tensor,
        lse: Tensor,
        spans: Iterable[Span],
        rule: BlockRule,
    ) -> Iterator[BlockGradients]:
        """Give spans and what they contribute to the gradients of the merged attention."""
        operation: Any = torch.ops.aten._flash_attention_backward
        # Without dropout nobody looks at the state of random numbers.
        state = torch.zeros(2, dtype=torch.uint64, device=query.device)
        unused = torch.empty(0, device=query.device)
        for call in _calls(spans, rule.window):
            of_rows = [span.queries for span in call.spans]
            d, q, y, sums = (_joined(x, of_rows) for x in (gradient, query, attended, lse))
            k, v = (_joined(x, [span.keys for span in call.spans]) for x in (key, value))
            ends, options = call.ends(query.device), call.options(rule)
            d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for queries, kvs in even_runs(rule.kv_of):
                found = operation(
                    *(_heads(x, queries) for x in (d, q)),
                    *(_heads(x, kvs) for x in (k, v)),
                    _heads(y, queries),
                    sums[:, queries.start : queries.stop].transpose(0, 1).contiguous(),
                    *ends,
                    0.0,
                    call.right == 0,
                    state,
                    unused,
                    **options,
                )
                d_q[:, queries.start : queries.stop] = found[0]
                # Neighbouring runs may share a head.
                d_k[:, kvs.start : kvs.stop] += found[1]
                d_v[:, kvs.start : kvs.stop] += found[2]
            yield BlockGradients(call.spans, d_q, d_k, d_v)


def _calls(spans: Iterable[Span], window: int | None) -> Iterator[_Call]:
    """Give the causal squares together, what sees all together, and the others one by one."""
    squares: list[Span] = []
    whole: list[Span] = []
    for span in spans:
        if span.is_causal_square:
            squares.append(span)
        elif span.sees_all(window):
            whole.append(span)
        else:
            assert window is not None, "without a window, keys of others are seen or are not"
            left = len(span.keys) - len(span.queries) - span.lead + window - 1
            yield _Call([span], left, -1)
    if squares:
        yield _Call(squares, -1 if window is None else window - 1, 0)
    if whole:
        yield _Call(whole, -1, -1)


def _joined(x: Tensor, rows: list[range]) -> Tensor:
    """Return rows one after the other; those of the whole tensor as it is."""
    if len(rows) == 1:
        return x[rows[0].start : rows[0].stop]
    starts = [0, *accumulate(len(each) for each in rows)]
    if starts[-1] == x.shape[0] and [each.start for each in rows] == starts[:-1]:
        return x
    return torch.cat([x[each.start : each.stop] for each in rows])


def _heads(x: Tensor, heads: range) -> Tensor:
    return x[:, heads.start : heads.stop].contiguous()
