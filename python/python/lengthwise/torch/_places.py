"""Which tokens are at which place of a ring, and what they attend to at the others.

::

    3 places    pieces of a sequence    hop 0      hop 1      hop 2    what a place attends to
    place 0     0 and 5                 KV of 0    KV of 2    KV of 1
    place 1     1 and 4                 KV of 1    KV of 0    KV of 2
    place 2     2 and 3                 KV of 2    KV of 1    KV of 0

A sequence of a ring of r places is cut into 2r pieces, and place i has pieces i and 2r-1-i, so that
causal work is even whatever the length. Pieces differ by a token at most, and longer ones go to the
places with the fewest tokens so far. It is the assignment of the executor in Rust.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Span:
    """Queries that attend to keys.

    Attributes
    ----------
    queries, keys : range
        Rows of the queries of a place, and of the keys of the same or another place.
    lead : int
        By how many tokens the first query is ahead of the first key. The i-th query sees the j-th
        key if its distance, ``i + lead - j``, is not negative, and below the window if there is
        one. Every query sees a key.
    """

    queries: range
    keys: range
    lead: int

    @property
    def is_causal_square(self) -> bool:
        """Whether queries and keys are the same tokens."""
        return self.lead == 0 and len(self.queries) == len(self.keys)

    def sees_all(self, window: int | None) -> bool:
        """Whether every query sees every key."""
        farthest = self.lead + len(self.queries) - 1
        return self.lead >= len(self.keys) - 1 and (window is None or farthest < window)


@dataclass(frozen=True)
class _Run:
    """Successive tokens of a sequence, and the row of the first."""

    tokens: range
    first_row: int

    @property
    def rows(self) -> range:
        return range(self.first_row, self.first_row + len(self.tokens))


class Places:
    """Sequences, packed one after the other, over the places of a ring.

    Parameters
    ----------
    seq_lens : iterable of int
        The lengths in tokens of the sequences.
    num_places : int
        The places; one has all tokens.
    """

    def __init__(self, seq_lens: Iterable[int], num_places: int) -> None:
        self.num_places = num_places
        num_pieces = 2 * num_places
        num_tokens = [0] * num_places
        # Of each sequence, where its pieces begin, and its end.
        self._boundaries: list[list[int]] = []
        for seq_len in seq_lens:
            pieces = [seq_len // num_pieces] * num_pieces
            by_load = sorted(range(num_places), key=num_tokens.__getitem__)
            # A place gets a second token more only when all have one, so that places never differ
            # by more than one.
            longer = [*by_load, *(num_pieces - 1 - place for place in by_load)]
            for piece in longer[: seq_len % num_pieces]:
                pieces[piece] += 1
            for place in range(num_places):
                num_tokens[place] += pieces[place] + pieces[num_pieces - 1 - place]
            self._boundaries.append([0, *accumulate(pieces)])
        self.num_tokens = tuple(num_tokens)
        self._spans: dict[tuple[int, int, int | None], list[Span]] = {}

    def runs(self, place: int) -> Iterator[list[range]]:
        """Give for each sequence, in order, where the tokens of a place are in it.

        They are one run, or two with a gap between.
        """
        mirrored = 2 * self.num_places - 1 - place
        for boundaries in self._boundaries:
            first = range(boundaries[place], boundaries[place + 1])
            last = range(boundaries[mirrored], boundaries[mirrored + 1])
            yield [range(first.start, last.stop)] if first.stop == last.start else [first, last]

    def spans(self, place: int, source: int, window: int | None) -> list[Span]:
        """Return the attention of the tokens of a place to those of another, or to its own."""
        found = self._spans.get((place, source, window))
        if found is None:
            found = list(self._made_spans(place, source, window))
            self._spans[place, source, window] = found
        return found

    def _made_spans(self, place: int, source: int, window: int | None) -> Iterator[Span]:
        all_queries, all_keys = self._with_rows(place), self._with_rows(source)
        for queries, keys in zip(all_queries, all_keys, strict=True):
            if window is not None:
                yield from _windowed_spans(queries, keys, window)
            elif place == source and queries:
                rows = range(queries[0].first_row, queries[-1].rows.stop)
                yield Span(rows, rows, 0)
            else:
                yield from _spans(queries, keys)

    def _with_rows(self, place: int) -> Iterator[list[_Run]]:
        row = 0
        for runs in self.runs(place):
            found: list[_Run] = []
            for tokens in runs:
                if tokens:
                    found.append(_Run(tokens, row))
                row += len(tokens)
            yield found


def _spans(queries: list[_Run], keys: list[_Run]) -> Iterator[Span]:
    """Give a span for each run of queries that sees keys of another place.

    They are those of all runs before it, whose rows are adjacent; runs of two places never overlap.
    """
    for run in queries:
        seen = [other for other in keys if other.tokens.stop <= run.tokens.start]
        if seen:
            rows = range(seen[0].first_row, seen[-1].rows.stop)
            yield Span(run.rows, rows, run.tokens.start - seen[0].tokens.start)


def _windowed_spans(queries: list[_Run], keys: list[_Run], window: int) -> Iterator[Span]:
    """Give a span for each pair of runs, as distances count; only of rows that see or are seen."""
    for run in queries:
        for other in keys:
            lead = run.tokens.start - other.tokens.start
            if lead < 0:
                continue
            unseen = max(0, lead - window + 1)
            num_seeing = min(len(run.tokens), len(other.tokens) + window - 1 - lead)
            if num_seeing > 0:
                yield Span(run.rows[:num_seeing], other.rows[unseen:], lead - unseen)
