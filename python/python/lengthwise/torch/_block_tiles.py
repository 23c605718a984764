"""Attention to a block of keys in tiles, each a call of PyTorch.

PyTorch's flash attention for CPUs has a tile for each span; what it doesn't compute is made of
matrix products, for a square of queries and keys at a time.
"""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from lengthwise.torch._block_attention import BlockGradients, BlockRule
from lengthwise.torch._kernels import for_each_query_head
from lengthwise.torch._places import Span

#: Rows of a tile with a mask: what the mask holds stays small whatever the window.
_TILE_ROWS = 256

#: Keys of a tile of matrix products.
_TILE_KEYS = 1024


class _Tiles(ABC):
    """A kernel that takes one tile after the other."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Iterable[Span], rule: BlockRule
    ) -> Iterator[tuple[list[Span], Tensor, Tensor]]:
        """Give spans, their attention and ``[rows, heads]`` log-sum-exps."""
        for tile in self.tiles(spans, rule.window):
            q = _by_head(_rows(query, tile.queries))
            k, v = (
                _by_head(for_each_query_head(_rows(x, tile.keys), rule.kv_of)) for x in (key, value)
            )
            attended, lse = self.attend(q, k, v, tile, rule)
            yield [tile], attended[0].transpose(0, 1), lse[0].transpose(0, 1)

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
        for tile in self.tiles(spans, rule.window):
            k, v = (
                _by_head(for_each_query_head(_rows(x, tile.keys), rule.kv_of)) for x in (key, value)
            )
            d, q, y = (_by_head(_rows(x, tile.queries)) for x in (gradient, query, attended))
            of_rows = _rows(lse, tile.queries).transpose(0, 1)[None]
            found = self.gradients(d, q, k, v, y, of_rows, tile, rule)
            d_q, d_k, d_v = (each[0].transpose(0, 1) for each in found)
            num_kv_heads = key.shape[1]
            d_k, d_v = (_for_each_kv_head(x, num_kv_heads, rule.kv_of) for x in (d_k, d_v))
            yield BlockGradients([tile], d_q, d_k, d_v)

    @abstractmethod
    def tiles(self, spans: Iterable[Span], window: int | None) -> Iterator[Span]:
        """Cut spans up."""

    @abstractmethod
    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, tile: Span, rule: BlockRule
    ) -> tuple[Tensor, Tensor]:
        """Return the attention ``[1, heads, rows, head_dim]`` and its log-sum-exps, of such."""

    @abstractmethod
    def gradients(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attended: Tensor,
        lse: Tensor,
        tile: Span,
        rule: BlockRule,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of queries, keys and values."""


class FlashTiles(_Tiles):
    """PyTorch's flash attention for CPUs."""

    def tiles(self, spans: Iterable[Span], window: int | None) -> Iterator[Span]:
        """Give spans whole where no mask is needed, and else some rows at a time."""
        for span in spans:
            if _needs_mask(span, window):
                yield from _cut(span, window, _TILE_ROWS, len(span.keys))
            else:
                yield span

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, tile: Span, rule: BlockRule
    ) -> tuple[Tensor, Tensor]:
        """Return the attention and its log-sum-exps."""
        operation: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return operation(query, key, value, 0.0, **_options(query, tile, rule))

    def gradients(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attended: Tensor,
        lse: Tensor,
        tile: Span,
        rule: BlockRule,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of queries, keys and values."""
        options = _options(query, tile, rule)
        is_causal = options.pop("is_causal")
        operation: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return operation(gradient, query, key, value, attended, lse, 0.0, is_causal, **options)


class ProductTiles(_Tiles):
    """Matrix products in float32 at least, on any device."""

    def tiles(self, spans: Iterable[Span], window: int | None) -> Iterator[Span]:
        """Give squares of queries and keys."""
        for span in spans:
            yield from _cut(span, window, _TILE_ROWS, _TILE_KEYS)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, tile: Span, rule: BlockRule
    ) -> tuple[Tensor, Tensor]:
        """Return the attention and its log-sum-exps."""
        scores = self._scores(query, key, tile, rule)
        lse = scores.logsumexp(dim=-1)
        return _weights(scores, lse) @ value.to(scores.dtype), lse

    def gradients(
        self,
        gradient: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attended: Tensor,
        lse: Tensor,
        tile: Span,
        rule: BlockRule,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of queries, keys and values."""
        weights = _weights(self._scores(query, key, tile, rule), lse)
        gradient, value = gradient.to(weights.dtype), value.to(weights.dtype)
        query, key = query.to(weights.dtype), key.to(weights.dtype)
        mean = (gradient * attended.to(weights.dtype)).sum(dim=-1, keepdim=True)
        d_scores = (gradient @ value.transpose(-1, -2) - mean) * weights
        d_scores *= _scale(query, rule)
        return (
            d_scores @ key,
            d_scores.transpose(-1, -2) @ query,
            weights.transpose(-1, -2) @ gradient,
        )

    def _scores(self, query: Tensor, key: Tensor, tile: Span, rule: BlockRule) -> Tensor:
        dtype = torch.promote_types(query.dtype, torch.float32)
        scores = query.to(dtype) @ key.to(dtype).transpose(-1, -2) * _scale(query, rule)
        if tile.sees_all(rule.window):
            return scores
        return scores.masked_fill(~_mask(tile, rule.window, query.device), -torch.inf)


def _weights(scores: Tensor, lse: Tensor) -> Tensor:
    """Return the weights of keys; none where a tile has no key that a query sees."""
    return torch.exp(scores - torch.where(lse.isinf(), 0.0, lse)[..., None])


def _scale(query: Tensor, rule: BlockRule) -> float:
    return query.shape[-1] ** -0.5 if rule.scale is None else rule.scale


def _needs_mask(span: Span, window: int | None) -> bool:
    is_causal = span.is_causal_square and (window is None or len(span.keys) <= window)
    return not is_causal and not span.sees_all(window)


def _options(query: Tensor, tile: Span, rule: BlockRule) -> dict[str, Any]:
    options: dict[str, Any] = {"is_causal": False, "attn_mask": None, "scale": rule.scale}
    if _needs_mask(tile, rule.window):
        mask = _mask(tile, rule.window, query.device)
        zeros = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        options["attn_mask"] = zeros.masked_fill_(~mask, -torch.inf)
    elif not tile.sees_all(rule.window):
        options["is_causal"] = True
    return options


def _mask(tile: Span, window: int | None, device: torch.device) -> Tensor:
    rows = torch.arange(len(tile.queries), device=device)[:, None] + tile.lead
    distances = rows - torch.arange(len(tile.keys), device=device)[None, :]
    return (distances >= 0) & (
        distances < (len(tile.queries) + tile.lead if window is None else window)
    )


def _cut(span: Span, window: int | None, num_rows: int, num_keys: int) -> Iterator[Span]:
    """Give tiles of so many rows and keys at most, of which each has a key that is seen."""
    for start in range(0, len(span.queries), num_rows):
        rows = span.queries[start : start + num_rows]
        # Of the keys of the span, those that some of these rows see.
        lead = span.lead + start
        first = 0 if window is None else max(0, lead - window + 1)
        last = min(len(span.keys), lead + len(rows))
        for begin in range(first, last, num_keys):
            yield Span(rows, span.keys[begin : min(begin + num_keys, last)], lead - begin)


def _rows(x: Tensor, rows: range) -> Tensor:
    return x[rows.start : rows.stop]


def _by_head(x: Tensor) -> Tensor:
    return x.transpose(0, 1)[None]


def _for_each_kv_head(x: Tensor, num_kv_heads: int, kv_of: list[int]) -> Tensor:
    """Add up what the query heads have for the key/value head that they read."""
    if kv_of == list(range(num_kv_heads)):
        return x
    total = x.new_zeros(x.shape[0], num_kv_heads, x.shape[2])
    return total.index_add_(1, torch.tensor(kv_of, device=x.device), x)
