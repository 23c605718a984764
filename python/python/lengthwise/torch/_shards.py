"""Which tokens and which heads each rank of a group has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from lengthwise.torch._places import Places


def part(length: int, parts: int, index: int) -> range:
    """Return the `index`-th of `parts` near-equal ranges of ``range(length)``."""
    return range(length * index // parts, length * (index + 1) // parts)


@dataclass(frozen=True)
class Heads:
    """The attention heads of a layer.

    Attributes
    ----------
    num_query_heads, num_kv_heads : int
        Query heads, and key/value heads; each of these is read by as many query heads.
    """

    num_query_heads: int
    num_kv_heads: int

    @property
    def queries_per_kv(self) -> int:
        """How many query heads read a key/value head."""
        return self.num_query_heads // self.num_kv_heads

    def queries(self, degree: int, index: int) -> range:
        """Return the query heads of one of the ranks that share the heads."""
        return part(self.num_query_heads, degree, index)

    def kvs(self, degree: int, index: int) -> range:
        """Return the key/value heads that these read; those of neighbours may overlap by one."""
        queries = self.queries(degree, index)
        return range(
            queries.start // self.queries_per_kv, (queries.stop - 1) // self.queries_per_kv + 1
        )

    def kv_of(self, degree: int, index: int) -> list[int]:
        """Return for each query head of a rank its key/value head, counted from the first."""
        first = self.kvs(degree, index).start
        return [head // self.queries_per_kv - first for head in self.queries(degree, index)]


@dataclass(frozen=True)
class GroupShare:
    """A rank's share of the packed sequences of its group.

    The ranks of a group are the places of a ring, or several of them are at each place. Without a
    ring there is one place, which has the sequences of the group, packed one after the other,
    without padding. In a ring each place has pieces of every sequence; see `Places`. What a place
    has is cut into near-equal parts, one for each of its ranks.

    Attributes
    ----------
    ranks : tuple of int
        The members of the group, by group rank. Neighbours are at one place, so that rings lead
        from node to node, and tokens are exchanged for heads inside of nodes.
    group_rank : int
        The place of this rank in the group.
    seq_lens : tuple of int
        The lengths in tokens of the packed sequences.
    ring : int
        How many places there are; divides the number of ranks.
    """

    ranks: tuple[int, ...]
    group_rank: int
    seq_lens: tuple[int, ...]
    ring: int = 1

    @property
    def degree(self) -> int:
        """How many ranks the group has."""
        return len(self.ranks)

    @property
    def ulysses(self) -> int:
        """How many ranks a place has, which exchange tokens for heads."""
        return self.degree // self.ring

    @property
    def place(self) -> int:
        """The place of this rank in the ring."""
        return self.group_rank // self.ulysses

    @property
    def index(self) -> int:
        """The number of this rank among those of its place."""
        return self.group_rank % self.ulysses

    @property
    def neighbours(self) -> tuple[int, ...]:
        """The ranks at the place of this one, itself included."""
        first = self.place * self.ulysses
        return self.ranks[first : first + self.ulysses]

    @property
    def ring_ranks(self) -> tuple[int, ...]:
        """The ranks that this one passes key/value blocks around with: one at each place."""
        return self.ranks[self.index :: self.ulysses]

    @cached_property
    def places(self) -> Places:
        """Which tokens are at which place."""
        return Places(self.seq_lens, self.ring)

    @property
    def num_tokens(self) -> int:
        """The tokens of the whole pack."""
        return sum(self.seq_lens)

    @property
    def num_rows(self) -> int:
        """The tokens of this rank's place."""
        return self.places.num_tokens[self.place]

    def rows(self, index: int) -> range:
        """Return which tokens of its place a rank there has; none if there are more ranks."""
        return part(self.num_rows, self.ulysses, index)

    @property
    def num_own_tokens(self) -> int:
        """The tokens of this rank."""
        return len(self.rows(self.index))

    def own_tokens(self) -> Iterator[tuple[int, range]]:
        """Give the tokens of this rank: the number of a sequence of the pack, and where in it."""
        mine, row = self.rows(self.index), 0
        for sequence, runs in enumerate(self.places.runs(self.place)):
            for run in runs:
                first = min(max(mine.start - row, 0), len(run))
                last = min(max(mine.stop - row, 0), len(run))
                if first < last:
                    yield sequence, run[first:last]
                row += len(run)
