"""Causal attention of packed sequences, by the kernels that PyTorch has."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

#: Rows of a tile of a sliding window: what a tile's mask holds stays small whatever the window.
_TILE_ROWS = 256


@dataclass(frozen=True)
class PackedAttention:
    """The attention of a layer to the packed sequences of a group.

    Attributes
    ----------
    seq_lens : tuple of int
        The lengths in tokens of the sequences.
    scale : float or None
        The factor on the scores; ``head_dim ** -0.5`` if None.
    window : int or None
        How many tokens each token sees, itself included; all if None.
    """

    seq_lens: tuple[int, ...]
    scale: float | None
    window: int | None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kv_of: list[int], /) -> Tensor:
        """Return the attention of whole sequences; see `packed_causal_attention`."""
        return packed_causal_attention(
            query,
            key,
            value,
            kv_of,
            seq_lens=self.seq_lens,
            scale=self.scale,
            window=self.window,
        )


def packed_causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kv_of: list[int],
    *,
    seq_lens: Sequence[int],
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Return the causal attention of packed sequences, each by itself.

    Parameters
    ----------
    query, key, value : Tensor
        ``[tokens, heads, head_dim]``, ``[tokens, kv_heads, head_dim]`` twice.
    kv_of : list of int
        For each query head the key/value head that it reads; ascending.
    seq_lens : sequence of int
        The lengths in tokens of the sequences.
    scale : float, optional
        The factor on the scores; ``head_dim ** -0.5`` if None.
    window : int, optional
        How many tokens each token sees, itself included; all if None.

    Returns
    -------
    Tensor
        ``[tokens, heads, head_dim]``.
    """
    if window is not None and window >= max(seq_lens):
        window = None
    has_kernel = query.dtype in (torch.bfloat16, torch.float16)
    if query.is_cuda and has_kernel and query.shape[2] == value.shape[2]:
        return _varlen(query, key, value, kv_of, seq_lens, scale, window)
    key, value = for_each_query_head(key, kv_of), for_each_query_head(value, kv_of)
    pieces: list[Tensor] = []
    if len(seq_lens) == 1:
        pieces = _one_sequence(query, key, value, scale, window)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    for q, k, v in zip(
        query.split(list(seq_lens)),
        key.split(list(seq_lens)),
        value.split(list(seq_lens)),
        strict=True,
    ):
        pieces.extend(_one_sequence(q, k, v, scale, window))
    return torch.cat(pieces)


def for_each_query_head(x: Tensor, kv_of: list[int]) -> Tensor:
    """Return keys or values ``[tokens, kv_heads, head_dim]`` with one head for each query head."""
    if kv_of == list(range(x.shape[1])):
        return x
    return x.index_select(1, torch.tensor(kv_of, device=x.device))


def _one_sequence(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
) -> list[Tensor]:
    num_tokens = query.shape[0]
    if window is None or window >= num_tokens:
        return [_dot_product(query, key, value, scale, None)]
    pieces: list[Tensor] = []
    for start in range(0, num_tokens, _TILE_ROWS):
        stop = min(start + _TILE_ROWS, num_tokens)
        first = max(0, start - window + 1)
        rows = torch.arange(start, stop, device=query.device)[:, None]
        columns = torch.arange(first, stop, device=query.device)[None, :]
        mask = (columns <= rows) & (columns > rows - window)
        pieces.append(
            _dot_product(query[start:stop], key[first:stop], value[first:stop], scale, mask)
        )
    return pieces


def _dot_product(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, mask: Tensor | None
) -> Tensor:
    attended = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
    )
    return attended[0].transpose(0, 1)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kv_of: list[int],
    seq_lens: Sequence[int],
    scale: float | None,
    window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    ends = torch.tensor([0, *accumulate(seq_lens)], dtype=torch.int32, device=query.device)
    longest = max(seq_lens)
    # The kernel counts the tokens to the left of each token.
    options: dict[str, Any] = {
        "scale": scale,
        "window_size": (-1 if window is None else window - 1, 0),
    }
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:
        options["enable_gqa"] = True
    pieces: list[Tensor] = []
    for queries, kvs in even_runs(kv_of):
        attended: Any = varlen_attn(
            query[:, queries.start : queries.stop].contiguous(),
            key[:, kvs.start : kvs.stop].contiguous(),
            value[:, kvs.start : kvs.stop].contiguous(),
            ends,
            ends,
            longest,
            longest,
            **options,
        )
        pieces.append(attended)
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)


def even_runs(kv_of: Sequence[int]) -> list[tuple[range, range]]:
    """Return runs of query heads of which each key/value head has the same number.

    A rank's heads may begin and end within those that share a key/value head; kernels want the
    same number for each. There are three runs at most.
    """
    counts = [(kv, len(list(queries))) for kv, queries in groupby(kv_of)]
    runs: list[tuple[range, range]] = []
    start = 0
    for each, members in groupby(counts, key=lambda count: count[1]):
        kvs = [kv for kv, _ in members]
        stop = start + each * len(kvs)
        runs.append((range(start, stop), range(kvs[0], kvs[-1] + 1)))
        start = stop
    return runs
