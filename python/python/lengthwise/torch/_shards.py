"""Which tokens and which heads each rank of a group has."""

from __future__ import annotations

from dataclasses import dataclass


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

    def queries(self, degree: int, group_rank: int) -> range:
        """Return the query heads of a group rank."""
        return part(self.num_query_heads, degree, group_rank)

    def kvs(self, degree: int, group_rank: int) -> range:
        """Return the key/value heads that these read; those of neighbours may overlap by one."""
        queries = self.queries(degree, group_rank)
        return range(
            queries.start // self.queries_per_kv, (queries.stop - 1) // self.queries_per_kv + 1
        )

    def kv_of(self, degree: int, group_rank: int) -> list[int]:
        """Return for each query head of a group rank its key/value head, counted from the first."""
        first = self.kvs(degree, group_rank).start
        return [head // self.queries_per_kv - first for head in self.queries(degree, group_rank)]


@dataclass(frozen=True)
class GroupShare:
    """A rank's share of the packed sequences of its group.

    The sequences of a group are packed one after the other, without padding, and the pack is cut
    into near-equal pieces, one for each rank.

    Attributes
    ----------
    ranks : tuple of int
        The members of the group, by group rank.
    group_rank : int
        The place of this rank in the group.
    seq_lens : tuple of int
        The lengths in tokens of the packed sequences.
    """

    ranks: tuple[int, ...]
    group_rank: int
    seq_lens: tuple[int, ...]

    @property
    def degree(self) -> int:
        """How many ranks the group has."""
        return len(self.ranks)

    @property
    def num_tokens(self) -> int:
        """The tokens of the whole pack."""
        return sum(self.seq_lens)

    def tokens(self, group_rank: int) -> range:
        """Return the packed tokens of a group rank; none where there are more ranks than tokens."""
        return part(self.num_tokens, self.degree, group_rank)
