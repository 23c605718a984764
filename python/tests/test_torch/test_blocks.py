"""Places of a ring, and attention to its blocks, against attention with a mask."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from lengthwise.torch import _block_tiles
from lengthwise.torch._block_attention import BlockKernel, BlockRule, MergedAttention
from lengthwise.torch._block_tiles import FlashTiles, ProductTiles
from lengthwise.torch._block_varlen import _calls
from lengthwise.torch._places import Places
from lengthwise.torch._shards import GroupShare

SEQ_LENS = [1, 2, 0, 3, 7, 23]


@pytest.mark.parametrize("num_places", [1, 2, 3, 5])
def test_every_token_attends_once_to_each_that_it_sees(num_places: int) -> None:
    places = Places(SEQ_LENS, num_places)
    tokens = [
        [(at, token) for at, runs in enumerate(places.runs(place)) for run in runs for token in run]
        for place in range(num_places)
    ]
    assert [len(each) for each in tokens] == list(places.num_tokens)
    for window in (None, 1, 2, 5, 22, 100):
        pairs: list[tuple[int, int, int]] = []
        for place in range(num_places):
            for source in range(num_places):
                for span in places.spans(place, source, window):
                    for ahead, query in enumerate(span.queries):
                        seen = 0
                        for at, row in enumerate(span.keys):
                            distance = ahead + span.lead - at
                            if distance >= 0 and (window is None or distance < window):
                                (sequence, token), (other, key) = (
                                    tokens[place][query],
                                    tokens[source][row],
                                )
                                assert sequence == other
                                # Rows of a place may have a gap between their tokens; with a
                                # window, no span goes across.
                                assert window is None or distance == token - key
                                pairs.append((sequence, token, key))
                                seen += 1
                        assert seen > 0
        expected = [
            (at, token, key)
            for at, seq_len in enumerate(SEQ_LENS)
            for token in range(seq_len)
            for key in range(0 if window is None else max(0, token + 1 - window), token + 1)
        ]
        assert sorted(pairs) == expected


@pytest.mark.parametrize("num_places", [2, 3, 7])
def test_tokens_and_causal_work_are_even(num_places: int) -> None:
    for seq_lens in ([1] * 20, list(range(1, 30)), [13, 1, 9, 1, 8, 1], [4096]):
        places = Places(seq_lens, num_places)
        assert sum(places.num_tokens) == sum(seq_lens)
        assert max(places.num_tokens) - min(places.num_tokens) <= 1
    work = [
        sum(token + 1 for runs in places.runs(place) for run in runs for token in run)
        for place in range(num_places)
    ]
    # Places that have a token more have that much more work.
    assert max(work) <= 1.005 * min(work)


def test_neighbours_are_at_one_place_and_rings_lead_from_node_to_node() -> None:
    # Two nodes of four ranks.
    share = GroupShare(tuple(range(8)), 6, (100,), ring=2)
    assert (share.place, share.index) == (1, 2)
    assert share.neighbours == (4, 5, 6, 7)
    assert share.ring_ranks == (2, 6)
    all_tokens = [
        token
        for rank in range(8)
        for _, run in GroupShare(tuple(range(8)), rank, (100,), ring=2).own_tokens()
        for token in run
    ]
    assert sorted(all_tokens) == list(range(100))


@pytest.mark.parametrize("window", [None, 1, 5, 64])
@pytest.mark.parametrize("kernel", [FlashTiles(), ProductTiles()], ids=["flash", "products"])
def test_merged_blocks_and_their_gradients_are_those_of_all_keys(
    monkeypatch: pytest.MonkeyPatch, kernel: BlockKernel, window: int | None
) -> None:
    monkeypatch.setattr(_block_tiles, "_TILE_ROWS", 4)
    monkeypatch.setattr(_block_tiles, "_TILE_KEYS", 3)
    # Threads that wait for each other cost more than they save.
    torch.set_num_threads(1)
    torch.manual_seed(0)
    seq_lens, num_places = [1, 13, 7, 22], 3
    rule = BlockRule([0, 0, 0, 1, 1], 0.3, window)
    places = Places(seq_lens, num_places)
    total = sum(seq_lens)
    starts = [sum(seq_lens[:at]) for at in range(len(seq_lens))]
    rows = [
        [
            starts[at] + token
            for at, runs in enumerate(places.runs(place))
            for run in runs
            for token in run
        ]
        for place in range(num_places)
    ]
    query = torch.randn(total, 5, 8, dtype=torch.float64, requires_grad=True)
    key = torch.randn(total, 2, 8, dtype=torch.float64, requires_grad=True)
    value = torch.randn(total, 2, 8, dtype=torch.float64, requires_grad=True)
    document = torch.repeat_interleave(torch.arange(4), torch.tensor(seq_lens))
    distance = torch.arange(total)[:, None] - torch.arange(total)[None, :]
    mask = (document[:, None] == document[None, :]) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    scores = torch.einsum("ihd,jhd->hij", query, key[:, rule.kv_of]) * 0.3
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    expected = torch.einsum("hij,jhd->ihd", weights, value[:, rule.kv_of])
    gradient = torch.randn_like(expected)
    expected.backward(gradient)

    d_query, d_key, d_value = (torch.zeros_like(x) for x in (query, key, value))
    q, k, v = (x.detach() for x in (query, key, value))
    for place, mine in enumerate(rows):
        merged = MergedAttention(q[mine], 8)
        for source, others in enumerate(rows):
            spans = places.spans(place, source, window)
            for found in kernel.forward(q[mine], k[others], v[others], spans, rule):
                merged.add(*found)
        attended, lse = merged.result()
        torch.testing.assert_close(attended, expected[mine].detach(), rtol=1e-10, atol=1e-12)
        for source, others in enumerate(rows):
            spans = places.spans(place, source, window)
            d_q, d_k, d_v = (torch.zeros_like(x) for x in (q[mine], k[others], v[others]))
            for part in kernel.backward(
                gradient[mine], q[mine], k[others], v[others], attended, lse, spans, rule
            ):
                part.add_to(d_q, d_k, d_v)
            d_query[mine] += d_q
            d_key[others] += d_k
            d_value[others] += d_v
    for mine, theirs in ((d_query, query), (d_key, key), (d_value, value)):
        torch.testing.assert_close(mine, theirs.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("window", [None, 1, 2, 5, 22, 100])
def test_calls_of_the_kernel_of_cuda_see_what_spans_say(window: int | None) -> None:
    for num_places in (2, 3, 5):
        places = Places(SEQ_LENS, num_places)
        for place in range(num_places):
            for source in range(num_places):
                spans = places.spans(place, source, window)
                calls = list(_calls(spans, window))
                assert sorted(id(span) for call in calls for span in call.spans) == sorted(
                    map(id, spans)
                )
                for call in calls:
                    assert call.left >= -1
                    for span in call.spans:
                        # As the kernel counts: the last query stands over the last key.
                        shift = len(span.keys) - len(span.queries)
                        for query in range(len(span.queries)):
                            for key in range(len(span.keys)):
                                behind = query + shift - key
                                is_seen = (call.left < 0 or behind <= call.left) and (
                                    call.right < 0 or -behind <= call.right
                                )
                                distance = query + span.lead - key
                                assert is_seen == (
                                    distance >= 0 and (window is None or distance < window)
                                )
