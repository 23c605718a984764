"""Ring attention: each place keeps its queries, and the keys and values of all places go around.

Blocks are sent on before they are attended to, and received after: a hop takes the longer of
sending and computing. What each block gives is merged by the log-sum-exps (Liu et al., 2023). In
the backward, the gradients of a block follow it around, one hop behind, and end where it began;
they add up in float32. Beside its own keys and values a rank has two blocks at most: that at hand
and the one that comes.
"""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lengthwise.torch._block_attention import BlockRule, MergedAttention, block_kernel
from lengthwise.torch._messages import Messages, Pending
from lengthwise.torch._places import Span
from lengthwise.torch._shards import GroupShare

#: Blocks and their gradients are on their way at the same time.
_BLOCK, _GRADIENTS = 0, 1


@dataclass(frozen=True)
class RingCall:
    """The attention of a layer in a micro-batch, as its ring needs it.

    Attributes
    ----------
    messages : Messages
        By what blocks travel.
    share : GroupShare
        The ring, and what is at its places.
    rule : BlockRule
        How queries attend to keys.
    where : str
        The layer and the micro-batch, for errors.
    """

    messages: Messages
    share: GroupShare
    rule: BlockRule
    where: str

    def spans(self, source: int) -> list[Span]:
        """Return the attention of this place to another."""
        return self.share.places.spans(self.share.place, source, self.rule.window)

    def source(self, hop: int) -> int:
        """Return whose block is here after so many hops."""
        return (self.share.place - hop) % self.share.ring

    def pass_on(self, block: Block, hop: int, tag: int, where: str) -> Passing:
        """Send a block to the next place, and begin to receive the one that is here next."""
        ranks, place = self.share.ring_ranks, self.share.place
        rows = self.share.places.num_tokens[self.source(hop + 1)]
        coming = block.empty(rows)
        after, before = ranks[(place + 1) % len(ranks)], ranks[place - 1]
        outgoing, incoming = {after: block.flat}, {before: coming.flat}
        return Passing(self.messages.start(ranks, outgoing, incoming, where, tag=tag), coming)


@dataclass(frozen=True)
class Block:
    """Keys and values of a place, or their gradients, in one piece of memory.

    Attributes
    ----------
    flat : Tensor
        Keys, then values.
    key, value : Tensor
        ``[rows, kv_heads, head_dim]`` of it.
    """

    flat: Tensor
    key: Tensor
    value: Tensor

    @staticmethod
    def of(key: Tensor, value: Tensor) -> Block:
        """Return a copy of these."""
        block = Block._shaped(key.new_empty(key.numel() + value.numel()), key, value)
        block.key.copy_(key)
        block.value.copy_(value)
        return block

    @staticmethod
    def zeros(key: Tensor, value: Tensor) -> Block:
        """Return nothing, of the shapes of these, in float32 at least."""
        dtype = torch.promote_types(key.dtype, torch.float32)
        return Block._shaped(key.new_zeros(key.numel() + value.numel(), dtype=dtype), key, value)

    @staticmethod
    def _shaped(flat: Tensor, key: Tensor, value: Tensor) -> Block:
        keys, values = flat[: key.numel()], flat[key.numel() :]
        return Block(flat, keys.view(key.shape), values.view(value.shape))

    def empty(self, num_rows: int) -> Block:
        """Return memory for another block."""
        sizes = [num_rows * each.shape[1] * each.shape[2] for each in (self.key, self.value)]
        flat = self.flat.new_empty(sum(sizes))
        return Block(
            flat,
            flat[: sizes[0]].view(num_rows, *self.key.shape[1:]),
            flat[sizes[0] :].view(num_rows, *self.value.shape[1:]),
        )

    def add(self, other: Block) -> None:
        """Add another one to it."""
        self.flat.add_(other.flat)


@dataclass(frozen=True)
class Passing:
    """A block on its way to the next place, and another on its way here."""

    pending: Pending
    coming: Block

    def wait(self) -> Block:
        """Return what has come."""
        self.pending.wait()
        return self.coming


def ring_attention(query: Tensor, key: Tensor, value: Tensor, call: RingCall) -> Tensor:
    """Return the attention of a place's tokens to those of all places.

    Parameters
    ----------
    query, key, value : Tensor
        ``[tokens, heads, head_dim]``, ``[tokens, kv_heads, head_dim]`` twice: the tokens of the
        place.
    call : RingCall
        Of what.

    Returns
    -------
    Tensor
        ``[tokens, heads, head_dim]``.
    """
    attended: Tensor = _Ring.apply(query, key, value, call)  # pyright: ignore
    return attended


class _Ring(torch.autograd.Function):
    """Attention around the ring, and its gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: RingCall) -> Tensor:
        kernel = block_kernel(query, value)
        merged = MergedAttention(query, value.shape[2])
        block = Block.of(key, value)
        for hop in range(call.share.ring):
            is_last = hop + 1 == call.share.ring
            coming = None if is_last else call.pass_on(block, hop, _BLOCK, call.where)
            spans = call.spans(call.source(hop))
            for found in kernel.forward(query, block.key, block.value, spans, call.rule):
                merged.add(*found)
            if coming is not None:
                block = coming.wait()
        attended, lse = merged.result()
        ctx.call = call
        ctx.save_for_backward(query, key, value, attended, lse)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        call: RingCall = ctx.call
        query, key, value, attended, lse = ctx.saved_tensors
        where = f"the backward of {call.where}"
        kernel = block_kernel(query, value)
        d_query = torch.zeros_like(query, dtype=lse.dtype)
        block = Block.of(key, value)
        # Gradients of the block at hand, from those who have had it before.
        earlier: Passing | None = None
        for hop in range(call.share.ring):
            is_last = hop + 1 == call.share.ring
            coming = None if is_last else call.pass_on(block, hop, _BLOCK, where)
            d_block = Block.zeros(block.key, block.value)
            spans = call.spans(call.source(hop))
            for found in kernel.backward(
                gradients[0], query, block.key, block.value, attended, lse, spans, call.rule
            ):
                found.add_to(d_query, d_block.key, d_block.value)
            if earlier is not None:
                d_block.add(earlier.wait())
            # Those that the last one sends on belong to the next place.
            earlier = call.pass_on(d_block, hop, _GRADIENTS, where)
            if coming is not None:
                block = coming.wait()
        assert earlier is not None, "a ring has a place"
        mine = earlier.wait()
        return (
            d_query.to(query.dtype),
            mine.key.to(key.dtype),
            mine.value.to(value.dtype),
            None,
        )
