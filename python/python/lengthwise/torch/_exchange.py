"""How the ranks of a group come to the attention of all their tokens together.

The exchange of DeepSpeed-Ulysses: from some tokens with all heads to all tokens with some heads,
and back::

             before (sequence-sharded)     during attention (head-sharded)
    rank 0   tokens 0-3   heads 0 1 2      tokens 0-6   heads 0 1
    rank 1   tokens 4-6   heads 0 1 2      tokens 0-6   heads 2

Neither tokens nor heads need divide by the degree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from lengthwise.torch._exchange_clock import ExchangeClock
from lengthwise.torch._rank_failure import RankFailedError
from lengthwise.torch._shards import GroupShare, Heads

#: Attention of packed sequences: queries ``[tokens, heads, head_dim]``, keys and values
#: ``[tokens, kv_heads, head_dim]``, and for each query head the key/value head it reads.
Kernel = Callable[[Tensor, Tensor, Tensor, list[int]], Tensor]


class Exchange(Protocol):
    """What an exchange does: attention of a group's tokens, of which each rank has some."""

    @property
    def bytes_sent(self) -> int:
        """Bytes that this rank has sent to others so far."""
        ...

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        share: GroupShare,
        kernel: Kernel,
        place: str,
    ) -> Tensor:
        """Return the attention of this rank's tokens.

        Parameters
        ----------
        query, key, value : Tensor
            ``[rows, heads, head_dim]``, ``[rows, kv_heads, head_dim]`` twice. The first rows are
            the rank's tokens; what follows is padding and takes no part.
        share : GroupShare
            The group, and what this rank has of it.
        kernel : callable
            Attention of whole sequences.
        place : str
            The layer and the micro-batch, for errors.

        Returns
        -------
        Tensor
            ``[rows, heads, head_dim]``; zero for padding.

        Raises
        ------
        RankFailedError
            Another rank is gone, or did not answer.
        """
        ...


class UlyssesExchange:
    """Tokens for heads, in messages from rank to rank over one process group of the whole world.

    A group of ranks is a list; no communicator is made for it, and ranks outside make no call.

    Parameters
    ----------
    process_group : ProcessGroup
        A group of all ranks, used for nothing else.
    """

    def __init__(self, process_group: dist.ProcessGroup) -> None:
        self.process_group = process_group
        self.bytes_sent = 0
        #: Bytes of a number that was sent last.
        self.element_bytes = 0
        #: Times exchanges, where somebody asks for it.
        self.clock: ExchangeClock | None = None
        # Gloo sends from host memory only.
        self._is_staged = dist.get_backend(process_group) == "gloo"

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        share: GroupShare,
        kernel: Kernel,
        place: str,
    ) -> Tensor:
        """Return the attention of this rank's tokens; see `Exchange.attend`."""
        heads = Heads(query.shape[1], key.shape[1])
        kv_of = heads.kv_of(share.degree, share.group_rank)
        if share.degree == 1:
            num_tokens, num_rows = share.num_tokens, query.shape[0]
            if num_tokens < num_rows:
                query, key, value = query[:num_tokens], key[:num_tokens], value[:num_tokens]
            return _padded(kernel(query, key, value, kv_of), num_rows)
        call = _Call.of(self, share, heads, place)
        query, key, value = _ToHeads.apply(query, key, value, call)  # pyright: ignore
        attended = kernel(query, key, value, kv_of)
        num_rows = max(1, len(share.tokens(share.group_rank)))
        result: Tensor = _ToTokens.apply(attended, call, num_rows)  # pyright: ignore
        return result

    def swap(
        self,
        share: GroupShare,
        outgoing: Mapping[int, Tensor],
        incoming: Mapping[int, Tensor],
        place: str,
    ) -> None:
        """Send a flat tensor to each group rank in `outgoing` and fill those in `incoming`.

        Raises
        ------
        RankFailedError
            Another rank is gone, or did not answer; `place` says where.
        """
        begun = None if self.clock is None else self.clock.begin()
        operations: list[dist.P2POp] = []
        landed: list[tuple[Tensor, Tensor]] = []
        for group_rank, tensor in outgoing.items():
            if tensor.numel() == 0:
                continue
            wire = tensor.cpu() if self._is_staged else tensor
            self.element_bytes = wire.element_size()
            self.bytes_sent += wire.numel() * wire.element_size()
            operations.append(
                dist.P2POp(dist.isend, wire, share.ranks[group_rank], self.process_group)
            )
        for group_rank, tensor in incoming.items():
            if tensor.numel() == 0:
                continue
            is_elsewhere = self._is_staged and tensor.device.type != "cpu"
            wire = torch.empty_like(tensor, device="cpu") if is_elsewhere else tensor
            if is_elsewhere:
                landed.append((tensor, wire))
            operations.append(
                dist.P2POp(dist.irecv, wire, share.ranks[group_rank], self.process_group)
            )
        if operations:
            _wait_for(operations, share, place)
        for tensor, wire in landed:
            tensor.copy_(wire)
        if self.clock is not None:
            self.clock.end(begun)


def _wait_for(operations: list[dist.P2POp], share: GroupShare, place: str) -> None:
    peers = [f"rank {operation.peer}" for operation in operations]
    awaited = group = "ranks " + ", ".join(map(str, share.ranks))
    try:
        works = dist.batch_isend_irecv(operations)
        # NCCL has one work for all of them.
        names = peers if len(works) == len(peers) else [group] * len(works)
        for awaited, work in zip(names, works, strict=True):  # noqa: B007
            work.wait()
    except RuntimeError as error:
        raise RankFailedError.of(error, f"{awaited} in the exchange of {place}") from error


def _padded(rows: Tensor, num_rows: int) -> Tensor:
    missing = num_rows - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def _tokens_for_heads(
    call: _Call,
    place: str,
    tensors: list[Tensor],
    heads_of: list[list[range]],
) -> list[Tensor]:
    """Give away heads of one's own tokens, and get one's heads of all tokens.

    `heads_of` has for each tensor the heads of each group rank.
    """
    share = call.share
    me, rows = share.group_rank, len(share.tokens(share.group_rank))
    tensors = [tensor[:rows] for tensor in tensors]
    results = [
        tensor.new_empty(share.num_tokens, len(heads[me]), tensor.shape[2])
        for tensor, heads in zip(tensors, heads_of, strict=True)
    ]
    outgoing: dict[int, Tensor] = {}
    incoming: dict[int, Tensor] = {}
    for peer in range(share.degree):
        tokens = share.tokens(peer)
        if peer == me:
            for result, tensor, heads in zip(results, tensors, heads_of, strict=True):
                mine = heads[me]
                result[tokens.start : tokens.stop] = tensor[:, mine.start : mine.stop]
            continue
        outgoing[peer] = torch.cat(
            [
                tensor[:, heads[peer].start : heads[peer].stop].reshape(-1)
                for tensor, heads in zip(tensors, heads_of, strict=True)
            ]
        )
        sizes = [len(tokens) * result.shape[1] * result.shape[2] for result in results]
        incoming[peer] = tensors[0].new_empty(sum(sizes))
    call.exchange.swap(share, outgoing, incoming, place)
    for peer, flat in incoming.items():
        tokens, start = share.tokens(peer), 0
        for result in results:
            piece = result[tokens.start : tokens.stop]
            piece.copy_(flat[start : start + piece.numel()].view_as(piece))
            start += piece.numel()
    return results


def _heads_for_tokens(
    call: _Call,
    place: str,
    tensors: list[Tensor],
    heads_of: list[list[range]],
    num_heads: list[int],
    num_rows: int,
) -> list[Tensor]:
    """Give away tokens of one's own heads, and get all heads of one's tokens.

    What several ranks have for the same head is added.
    """
    share = call.share
    me, rows = share.group_rank, len(share.tokens(share.group_rank))
    results = [
        tensor.new_zeros(num_rows, heads, tensor.shape[2])
        for tensor, heads in zip(tensors, num_heads, strict=True)
    ]
    outgoing: dict[int, Tensor] = {}
    incoming: dict[int, Tensor] = {}
    for peer in range(share.degree):
        if peer == me:
            continue
        tokens = share.tokens(peer)
        outgoing[peer] = torch.cat(
            [tensor[tokens.start : tokens.stop].reshape(-1) for tensor in tensors]
        )
        sizes = [
            rows * len(heads[peer]) * tensor.shape[2]
            for tensor, heads in zip(tensors, heads_of, strict=True)
        ]
        incoming[peer] = tensors[0].new_empty(sum(sizes))
    call.exchange.swap(share, outgoing, incoming, place)
    # In the order of the ranks, so that sums are the same whoever is first.
    for peer in range(share.degree):
        start, tokens = 0, share.tokens(me)
        for result, tensor, heads in zip(results, tensors, heads_of, strict=True):
            piece = result[:rows, heads[peer].start : heads[peer].stop]
            if peer == me:
                piece += tensor[tokens.start : tokens.stop]
            else:
                flat = incoming[peer][start : start + piece.numel()]
                piece += flat.view(piece.shape)
                start += piece.numel()
    return results


@dataclass(frozen=True)
class _Call:
    """The attention of a layer in a micro-batch, as its exchanges need it.

    `queries` and `kvs` are the heads of each group rank.
    """

    exchange: UlyssesExchange
    share: GroupShare
    heads: Heads
    place: str
    queries: list[range]
    kvs: list[range]

    @staticmethod
    def of(exchange: UlyssesExchange, share: GroupShare, heads: Heads, place: str) -> _Call:
        ranks = range(share.degree)
        return _Call(
            exchange,
            share,
            heads,
            place,
            [heads.queries(share.degree, rank) for rank in ranks],
            [heads.kvs(share.degree, rank) for rank in ranks],
        )


class _ToHeads(torch.autograd.Function):
    """Queries, keys and values, together: from the rank's tokens to its heads."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: _Call
    ) -> tuple[Tensor, ...]:
        ctx.call, ctx.num_rows = call, query.shape[0]
        heads_of = [call.queries, call.kvs, call.kvs]
        return tuple(_tokens_for_heads(call, call.place, [query, key, value], heads_of))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        heads_of = [call.queries, call.kvs, call.kvs]
        num_heads = [call.heads.num_query_heads, *[call.heads.num_kv_heads] * 2]
        place = f"the backward of {call.place}"
        returned = _heads_for_tokens(
            call, place, list(gradients), heads_of, num_heads, ctx.num_rows
        )
        return (*returned, None)


class _ToTokens(torch.autograd.Function):
    """What was attended: from the rank's heads back to its tokens."""

    @staticmethod
    def forward(ctx: Any, attended: Tensor, call: _Call, num_rows: int) -> Tensor:
        ctx.call = call
        num_heads = [call.heads.num_query_heads]
        return _heads_for_tokens(call, call.place, [attended], [call.queries], num_heads, num_rows)[
            0
        ]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        place = f"the backward of {call.place}"
        returned = _tokens_for_heads(call, place, [gradients[0]], [call.queries])
        return (returned[0], None, None)
