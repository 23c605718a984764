"""Which sequences make which batch."""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lengthwise as lw
from lengthwise._lengthwise import BatchSchedule, BatchStream, ScheduledBatch

LENGTHS = st.lists(st.integers(0, 60), max_size=12).map(lambda rest: [3, *rest])
SIZES: Any = st.one_of(
    st.builds(lambda tokens: {"tokens": tokens}, st.integers(1, 50)),
    st.builds(lambda sequences: {"sequences": sequences}, st.integers(1, 8)),
)


def streamed(stream: BatchStream, lengths: list[int]) -> list[ScheduledBatch]:
    """All batches of a stream."""
    batches: list[ScheduledBatch] = []
    for length in [*lengths, None]:
        if length is None:
            stream.end()
        else:
            stream.push(length)
        while (batch := stream.take()) is not None:
            batches.append(batch)
    return batches


@given(LENGTHS, SIZES, st.integers(1, 40), st.integers(0, 2**64 - 1), st.integers(1, 3))
def test_every_token_comes_once_an_epoch(
    lengths: list[int], size: Any, context: int, seed: int, epochs: int
) -> None:
    schedule = BatchSchedule(array("q", lengths), context=context, seed=seed, epochs=epochs, **size)
    num_batches = schedule.num_batches_after(1, 0)
    batches = list(schedule)
    assert len(batches) == num_batches
    found = Counter(
        (document, token)
        for batch in batches
        for document, start, stop in batch.excerpts
        for token in range(start, stop)
    )
    tokens = [(document, token) for document, n in enumerate(lengths) for token in range(n)]
    assert found == Counter(dict.fromkeys(tokens, epochs))
    assert max(n for batch in batches for n in batch.seq_lens) <= context
    assert schedule.census.num_tokens == len(tokens)
    document, start, stop = schedule.longest
    assert stop - start == min(context, max(lengths))
    assert lengths[document] == max(lengths) or lengths[document] >= context
    assert batches[-1].epoch == epochs


@given(LENGTHS, SIZES, st.integers(0, 20))
def test_batches_go_on_from_any_position(lengths: list[int], size: Any, num_before: int) -> None:
    def schedule() -> BatchSchedule:
        return BatchSchedule(lengths, context=7, seed=5, **size)

    whole, resumed = schedule(), schedule()
    for _ in range(num_before):
        next(whole)
    resumed.start_at(*whole.position)
    assert resumed.position == whole.position
    assert list(islice(resumed, 9)) == list(islice(whole, 9))


@given(LENGTHS, SIZES)
def test_a_stream_has_the_batches_of_a_schedule_without_a_seed(
    lengths: list[int], size: Any
) -> None:
    whole = list(BatchSchedule(lengths, context=7, epochs=1, **size))
    batches = streamed(BatchStream(context=7, **size), lengths)
    assert [each.excerpts for each in batches] == [each.excerpts for each in whole]
    for index, batch in enumerate(batches):
        num_documents, num_pieces = batch.position
        stream = BatchStream(context=7, num_documents=num_documents, num_pieces=num_pieces, **size)
        assert streamed(stream, lengths[num_documents:]) == batches[index + 1 :]


def test_what_is_lost_is_counted() -> None:
    schedule = BatchSchedule([0, 3, 9], context=4, overlong="truncate", tokens="1k", epochs=1)
    census = schedule.census
    assert (census.num_documents, census.num_empty, census.num_truncated) == (3, 1, 1)
    assert (census.num_sequences, census.num_tokens, census.num_cut_tokens) == (2, 7, 5)
    batch = next(schedule)
    assert (batch.num_pieces, batch.num_truncated, batch.num_cut_tokens) == (0, 1, 5)
    assert (schedule.context, schedule.overlong, schedule.min_tokens) == (4, "truncate", 1)
    assert repr(batch) == "ScheduledBatch(2 sequences, 7 tokens)"
    assert repr(census) == "Census(3 documents, 2 sequences, 7 tokens)"
    skipped = BatchSchedule([3, 9, 5], context=4, overlong="skip", min_tokens=2, sequences=1)
    assert (skipped.census.num_skipped, skipped.census.num_skipped_tokens) == (2, 14)
    split = BatchSchedule([9], context=4, min_tokens=2, sequences=1)
    assert (split.census.num_short, split.census.num_short_tokens) == (1, 1)
    assert split.num_batches_after(1, 0) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"context": 4}, "a number of tokens or one of sequences; neither is given"),
        ({"context": 4, "tokens": 3, "sequences": 3}, "both is given"),
        ({"context": 4, "tokens": 0}, "tokens is 0; it must be a whole number from 1"),
        ({"context": 4, "sequences": 0}, "sequences is 0"),
        ({"context": 0, "tokens": 3}, "context is 0"),
        ({"context": 4, "tokens": 3, "min_tokens": 5}, "min_tokens is 5; context is 4"),
        ({"context": 4, "tokens": 3, "overlong": "wrap"}, "one of split, truncate, skip"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments: Any, message: str) -> None:
    for build in (lambda: BatchSchedule([3], **arguments), lambda: BatchStream(**arguments)):
        with pytest.raises(lw.LengthwiseError, match=message):
            build()


def test_documents_and_positions_that_cannot_be_used_are_named() -> None:
    with pytest.raises(lw.InputError, match=r"no sequence \(documents: 2; empty: 1; skipped"):
        BatchSchedule([0, 9], context=4, overlong="skip", tokens=9)
    with pytest.raises(lw.InputError, match="no sequence"):
        BatchSchedule([], context=4, tokens=9)
    with pytest.raises(lw.InputTypeError, match=r"0\.5"):
        BatchSchedule([0.5], context=4, tokens=9)  # pyright: ignore[reportArgumentType]
    with pytest.raises(lw.InputError, match="epochs is 0"):
        BatchSchedule([3], context=4, tokens=9, epochs=0)
    with pytest.raises(lw.InputError, match="seed is -1"):
        BatchSchedule([3], context=4, tokens=9, seed=-1)
    schedule = BatchSchedule([3], context=4, tokens=9)
    with pytest.raises(lw.InputError, match="epoch 1, sequence 2"):
        schedule.start_at(1, 2)
    with pytest.raises(lw.InputError, match="num_tokens is -1"):
        BatchStream(context=4, tokens=9).push(-1)
