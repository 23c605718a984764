"""Attention to a block of keys, with the log-sum-exp by which that to several blocks is merged."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lengthwise.torch._places import Span


@dataclass(frozen=True)
class BlockRule:
    """How queries attend to keys.

    Attributes
    ----------
    kv_of : list of int
        For each query head the key/value head that it reads; ascending.
    scale : float or None
        The factor on the scores; ``head_dim ** -0.5`` if None.
    window : int or None
        How many tokens each token sees, itself included; all if None.
    """

    kv_of: list[int]
    scale: float | None
    window: int | None


@dataclass(frozen=True)
class BlockGradients:
    """What spans contribute to gradients.

    Attributes
    ----------
    spans : list of Span
        Whose rows follow each other in the tensors.
    query, key, value : Tensor
        ``[rows, heads, head_dim]``, ``[rows, kv_heads, head_dim]`` twice.
    """

    spans: list[Span]
    query: Tensor
    key: Tensor
    value: Tensor

    def add_to(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Add them to those of whole blocks."""
        _add(self.query, query, [span.queries for span in self.spans])
        for of_spans, total in ((self.key, key), (self.value, value)):
            _add(of_spans, total, [span.keys for span in self.spans])


class BlockKernel(Protocol):
    """What computes it. Spans of one call may share queries, and then come in several results."""

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, spans: Iterable[Span], rule: BlockRule
    ) -> Iterator[tuple[list[Span], Tensor, Tensor]]:
        """Give spans, their attention and ``[rows, heads]`` log-sum-exps.

        Parameters
        ----------
        query, key, value : Tensor
            ``[tokens, heads, head_dim]``, ``[keys, kv_heads, head_dim]`` twice.
        spans : iterable of Span
            Which queries attend to which keys.
        rule : BlockRule
            How.
        """
        ...

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
        """Give spans and what they contribute to the gradients of the merged attention.

        Parameters
        ----------
        gradient, attended : Tensor
            ``[tokens, heads, head_dim]``: that of the merged attention, and this itself.
        query, key, value : Tensor
            As for `forward`.
        lse : Tensor
            ``[tokens, heads]``: of the merged attention.
        spans : iterable of Span
            As for `forward`.
        rule : BlockRule
            As for `forward`.
        """
        ...


def block_kernel(query: Tensor, value: Tensor) -> BlockKernel:
    """Return what computes attention of such queries to such values fastest."""
    from lengthwise.torch._block_tiles import FlashTiles, ProductTiles
    from lengthwise.torch._block_varlen import FlashVarlen

    has_one_size = query.shape[2] == value.shape[2]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and has_one_size:
        return FlashVarlen()
    return FlashTiles() if query.device.type == "cpu" and has_one_size else ProductTiles()


class MergedAttention:
    """Attention to several blocks, in float32 at least.

    Parameters
    ----------
    query : Tensor
        ``[tokens, heads, head_dim]``.
    value_dim : int
        The size of a value.
    """

    def __init__(self, query: Tensor, value_dim: int) -> None:
        dtype = torch.promote_types(query.dtype, torch.float32)
        shape = query.shape[:2]
        self._attended = torch.zeros(*shape, value_dim, dtype=dtype, device=query.device)
        self._lse = torch.full(shape, -torch.inf, dtype=dtype, device=query.device)
        self._dtype = query.dtype

    def add(self, spans: list[Span], attended: Tensor, lse: Tensor) -> None:
        """Merge what a kernel has given for some spans."""
        start = 0
        for span in spans:
            stop = start + len(span.queries)
            self._merge(span.queries, attended[start:stop], lse[start:stop])
            start = stop

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the attention in the type of the queries, and ``[tokens, heads]`` log-sum-exps."""
        return self._attended.to(self._dtype), self._lse

    def _merge(self, queries: range, attended: Tensor, lse: Tensor) -> None:
        rows = slice(queries.start, queries.stop)
        mine, own = self._attended[rows], self._lse[rows]
        lse = lse.to(own.dtype)
        total = torch.logaddexp(own, lse)
        # What has seen nothing yet weighs nothing.
        base = torch.where(total.isinf(), 0.0, total)
        mine.mul_(torch.exp(own - base)[..., None])
        mine.addcmul_(attended.to(mine.dtype), torch.exp(lse - base)[..., None])
        own.copy_(total)


def _add(of_spans: Tensor, total: Tensor, rows: list[range]) -> None:
    start = 0
    for each in rows:
        stop = start + len(each)
        total[each.start : each.stop] += of_spans[start:stop]
        start = stop
