"""How the ranks of a group come to the attention of all their tokens together.

A group of u x r ranks is a ring of r places with u ranks each. The ranks of a place exchange tokens
for heads (see `to_heads`), and each passes its key/value blocks around to the ranks with the same
heads at the other places (see `ring_attention`). Without a ring there is one place, and attention
is that of whole sequences.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from lengthwise.torch._block_attention import BlockRule
from lengthwise.torch._exchange_clock import ExchangeClock
from lengthwise.torch._messages import Messages
from lengthwise.torch._ring import RingCall, ring_attention
from lengthwise.torch._shards import GroupShare, Heads
from lengthwise.torch._ulysses import UlyssesCall, to_heads, to_tokens


class Kernel(Protocol):
    """The attention of a layer, by one device."""

    @property
    def scale(self) -> float | None:
        """The factor on the scores; ``head_dim ** -0.5`` if None."""
        ...

    @property
    def window(self) -> int | None:
        """How many tokens each token sees, itself included; all if None."""
        ...

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kv_of: list[int], /) -> Tensor:
        """Return the attention of all sequences of a group, which are packed.

        Parameters
        ----------
        query, key, value : Tensor
            ``[tokens, heads, head_dim]``, ``[tokens, kv_heads, head_dim]`` twice.
        kv_of : list of int
            For each query head the key/value head that it reads.
        """
        ...


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
        where: str,
    ) -> Tensor:
        """Return the attention of this rank's tokens.

        Parameters
        ----------
        query, key, value : Tensor
            ``[rows, heads, head_dim]``, ``[rows, kv_heads, head_dim]`` twice. The first rows are
            the rank's tokens; what follows is padding and takes no part.
        share : GroupShare
            The group, and what this rank has of it.
        kernel : Kernel
            The attention of the layer.
        where : str
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


class GroupExchange:
    """Tokens for heads at a place, key/value blocks around a ring, over one process group.

    Parameters
    ----------
    process_group : ProcessGroup
        A group of all ranks, used for nothing else.
    """

    def __init__(self, process_group: dist.ProcessGroup) -> None:
        self.messages = Messages(process_group)

    @property
    def process_group(self) -> dist.ProcessGroup:
        """The group of all ranks."""
        return self.messages.process_group

    @property
    def bytes_sent(self) -> int:
        """Bytes that this rank has sent to others so far."""
        return self.messages.bytes_sent

    @property
    def element_bytes(self) -> int:
        """Bytes of a number that was sent last; 0 if none was."""
        return self.messages.element_bytes

    @property
    def clock(self) -> ExchangeClock | None:
        """What times how long ranks wait for exchanges."""
        return self.messages.clock

    @clock.setter
    def clock(self, clock: ExchangeClock | None) -> None:
        self.messages.clock = clock

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        share: GroupShare,
        kernel: Kernel,
        where: str,
    ) -> Tensor:
        """Return the attention of this rank's tokens; see `Exchange.attend`."""
        heads = Heads(query.shape[1], key.shape[1])
        kv_of = heads.kv_of(share.ulysses, share.index)
        num_rows, num_tokens = query.shape[0], share.num_own_tokens
        call = UlyssesCall.of(self.messages, share, heads, where)
        if share.ulysses > 1:
            query, key, value = to_heads(query, key, value, call)
        elif num_tokens < num_rows:
            query, key, value = query[:num_tokens], key[:num_tokens], value[:num_tokens]
        if share.ring > 1:
            rule = BlockRule(kv_of, kernel.scale, kernel.window)
            ring_call = RingCall(self.messages, share, rule, where)
            attended = ring_attention(query, key, value, ring_call)
        else:
            attended = kernel(query, key, value, kv_of)
        if share.ulysses > 1:
            return to_tokens(attended, call, num_rows)
        return _padded(attended, num_rows)


def _padded(rows: Tensor, num_rows: int) -> Tensor:
    missing = num_rows - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])
