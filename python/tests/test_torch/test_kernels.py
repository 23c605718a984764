"""Attention of packed sequences against attention with a mask."""

from __future__ import annotations

from itertools import groupby

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from lengthwise.torch import _kernels
from lengthwise.torch._shards import Heads


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize("tile_rows", [4, 256])
def test_sequences_see_themselves_alone_and_no_later_token(
    monkeypatch: pytest.MonkeyPatch, tile_rows: int, window: int | None
) -> None:
    monkeypatch.setattr(_kernels, "_TILE_ROWS", tile_rows)
    torch.manual_seed(0)
    seq_lens, kv_of = [1, 13, 7, 22], [0, 0, 0, 1, 1]
    total = sum(seq_lens)
    query = torch.randn(total, 5, 8, dtype=torch.float64)
    key = torch.randn(total, 2, 8, dtype=torch.float64)
    value = torch.randn(total, 2, 8, dtype=torch.float64)
    found = _kernels.packed_causal_attention(
        query, key, value, kv_of, seq_lens=seq_lens, scale=0.3, window=window
    )
    document = torch.repeat_interleave(torch.arange(4), torch.tensor(seq_lens))
    distance = torch.arange(total)[:, None] - torch.arange(total)[None, :]
    mask = (document[:, None] == document[None, :]) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    scores = torch.einsum("ihd,jhd->hij", query, key[:, kv_of]) * 0.3
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    expected = torch.einsum("hij,jhd->ihd", weights, value[:, kv_of])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_uneven_heads_are_few_runs_of_even_ones() -> None:
    assert _kernels.even_runs([0, 0, 1, 1]) == [(range(4), range(2))]
    assert _kernels.even_runs([0, 1, 1, 2, 2, 3]) == [
        (range(1), range(1)),
        (range(1, 5), range(1, 3)),
        (range(5, 6), range(3, 4)),
    ]
    for num_heads, num_kv_heads in [(6, 3), (8, 1), (9, 3), (32, 8), (14, 2), (7, 7)]:
        heads = Heads(num_heads, num_kv_heads)
        for degree in range(1, num_heads + 1):
            for rank in range(degree):
                kv_of = heads.kv_of(degree, rank)
                runs = _kernels.even_runs(kv_of)
                assert len(runs) <= 3
                for queries, kvs in runs:
                    each = [
                        len(list(same)) for _, same in groupby(kv_of[queries.start : queries.stop])
                    ]
                    assert each == [len(queries) // len(kvs)] * len(kvs)
                assert [head for queries, _ in runs for head in queries] == list(range(len(kv_of)))
