"""The exchange of DeepSpeed-Ulysses: from some tokens with all heads to all tokens with some heads.

::

             before (sequence-sharded)     during attention (head-sharded)
    rank 0   tokens 0-3   heads 0 1 2      tokens 0-6   heads 0 1
    rank 1   tokens 4-6   heads 0 1 2      tokens 0-6   heads 2

Neither tokens nor heads need divide by the number of ranks. In a ring, the ranks are those of a
place, and the tokens what the place has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lengthwise.torch._messages import Messages
from lengthwise.torch._shards import GroupShare, Heads


@dataclass(frozen=True)
class UlyssesCall:
    """The attention of a layer in a micro-batch, as its exchanges need it.

    Attributes
    ----------
    messages : Messages
        By what tokens travel.
    share : GroupShare
        Who exchanges, and which tokens each has.
    heads : Heads
        The heads of the layer.
    where : str
        The layer and the micro-batch, for errors.
    queries, kvs : list of range
        The heads of each rank of a place.
    """

    messages: Messages
    share: GroupShare
    heads: Heads
    where: str
    queries: list[range]
    kvs: list[range]

    @staticmethod
    def of(messages: Messages, share: GroupShare, heads: Heads, where: str) -> UlyssesCall:
        """Return the call of a layer."""
        ranks = range(share.ulysses)
        return UlyssesCall(
            messages,
            share,
            heads,
            where,
            [heads.queries(share.ulysses, rank) for rank in ranks],
            [heads.kvs(share.ulysses, rank) for rank in ranks],
        )

    @property
    def backward_name(self) -> str:
        """What errors of the backward call it."""
        return f"the backward of {self.where}"


def to_heads(
    query: Tensor, key: Tensor, value: Tensor, call: UlyssesCall
) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of a rank's heads, for all tokens of its place.

    Parameters
    ----------
    query, key, value : Tensor
        ``[rows, heads, head_dim]``, ``[rows, kv_heads, head_dim]`` twice, of the rank's tokens.
    call : UlyssesCall
        Of what.
    """
    found: tuple[Tensor, Tensor, Tensor] = _ToHeads.apply(query, key, value, call)  # pyright: ignore
    return found


def to_tokens(attended: Tensor, call: UlyssesCall, num_rows: int) -> Tensor:
    """Return ``[num_rows, heads, head_dim]`` of a rank's tokens: what was attended by all heads.

    Parameters
    ----------
    attended : Tensor
        ``[tokens, heads, head_dim]``: of the tokens of the place by the rank's heads.
    call : UlyssesCall
        Of what.
    num_rows : int
        The rows of the result. Those that no token has are zero.
    """
    found: Tensor = _ToTokens.apply(attended, call, num_rows)  # pyright: ignore
    return found


def _tokens_for_heads(
    call: UlyssesCall, where: str, tensors: list[Tensor], heads_of: list[list[range]]
) -> list[Tensor]:
    """Give away heads of one's own tokens, and get one's heads of all tokens.

    `heads_of` has for each tensor the heads of each rank of the place.
    """
    share = call.share
    me = share.index
    tensors = [tensor[: share.num_own_tokens] for tensor in tensors]
    results = [
        tensor.new_empty(share.num_rows, len(heads[me]), tensor.shape[2])
        for tensor, heads in zip(tensors, heads_of, strict=True)
    ]
    outgoing: dict[int, Tensor] = {}
    incoming: dict[int, Tensor] = {}
    for peer, rank in enumerate(share.neighbours):
        tokens = share.rows(peer)
        if peer == me:
            for result, tensor, heads in zip(results, tensors, heads_of, strict=True):
                mine = heads[me]
                result[tokens.start : tokens.stop] = tensor[:, mine.start : mine.stop]
            continue
        outgoing[rank] = torch.cat(
            [
                tensor[:, heads[peer].start : heads[peer].stop].reshape(-1)
                for tensor, heads in zip(tensors, heads_of, strict=True)
            ]
        )
        sizes = [len(tokens) * result.shape[1] * result.shape[2] for result in results]
        incoming[rank] = tensors[0].new_empty(sum(sizes))
    call.messages.swap(share.neighbours, outgoing, incoming, where)
    for peer, rank in enumerate(share.neighbours):
        if peer == me:
            continue
        flat, tokens, start = incoming[rank], share.rows(peer), 0
        for result in results:
            piece = result[tokens.start : tokens.stop]
            piece.copy_(flat[start : start + piece.numel()].view_as(piece))
            start += piece.numel()
    return results


def _heads_for_tokens(
    call: UlyssesCall,
    where: str,
    tensors: list[Tensor],
    heads_of: list[list[range]],
    num_heads: list[int],
    num_rows: int,
) -> list[Tensor]:
    """Give away tokens of one's own heads, and get all heads of one's tokens.

    What several ranks have for the same head is added.
    """
    share = call.share
    me, rows = share.index, share.num_own_tokens
    results = [
        tensor.new_zeros(num_rows, heads, tensor.shape[2])
        for tensor, heads in zip(tensors, num_heads, strict=True)
    ]
    outgoing: dict[int, Tensor] = {}
    incoming: dict[int, Tensor] = {}
    for peer, rank in enumerate(share.neighbours):
        if peer == me:
            continue
        tokens = share.rows(peer)
        outgoing[rank] = torch.cat(
            [tensor[tokens.start : tokens.stop].reshape(-1) for tensor in tensors]
        )
        sizes = [
            rows * len(heads[peer]) * tensor.shape[2]
            for tensor, heads in zip(tensors, heads_of, strict=True)
        ]
        incoming[rank] = tensors[0].new_empty(sum(sizes))
    call.messages.swap(share.neighbours, outgoing, incoming, where)
    # In the order of the ranks, so that sums are the same whoever is first.
    for peer, rank in enumerate(share.neighbours):
        start, tokens = 0, share.rows(me)
        for result, tensor, heads in zip(results, tensors, heads_of, strict=True):
            piece = result[:rows, heads[peer].start : heads[peer].stop]
            if peer == me:
                piece += tensor[tokens.start : tokens.stop]
            else:
                flat = incoming[rank][start : start + piece.numel()]
                piece += flat.view(piece.shape)
                start += piece.numel()
    return results


class _ToHeads(torch.autograd.Function):
    """Queries, keys and values, together: from the rank's tokens to its heads."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: UlyssesCall
    ) -> tuple[Tensor, ...]:
        ctx.call, ctx.num_rows = call, query.shape[0]
        heads_of = [call.queries, call.kvs, call.kvs]
        return tuple(_tokens_for_heads(call, call.where, [query, key, value], heads_of))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: UlyssesCall = ctx.call
        heads_of = [call.queries, call.kvs, call.kvs]
        num_heads = [call.heads.num_query_heads, *[call.heads.num_kv_heads] * 2]
        returned = _heads_for_tokens(
            call, call.backward_name, list(gradients), heads_of, num_heads, ctx.num_rows
        )
        return (*returned, None)


class _ToTokens(torch.autograd.Function):
    """What was attended: from the rank's heads back to its tokens."""

    @staticmethod
    def forward(ctx: Any, attended: Tensor, call: UlyssesCall, num_rows: int) -> Tensor:
        ctx.call = call
        num_heads = [call.heads.num_query_heads]
        return _heads_for_tokens(call, call.where, [attended], [call.queries], num_heads, num_rows)[
            0
        ]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: UlyssesCall = ctx.call
        returned = _tokens_for_heads(call, call.backward_name, [gradients[0]], [call.queries])
        return (returned[0], None, None)
