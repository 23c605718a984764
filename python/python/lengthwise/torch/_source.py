"""Where the sequences of steps come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lengthwise._lengthwise import Census, ScheduledBatch
from lengthwise.torch._sequence import TokenSequence


@dataclass(frozen=True)
class DrawnBatch:
    """The sequences of a step, most of them not read yet.

    Attributes
    ----------
    batch : ScheduledBatch
        Which tokens of which documents.
    names : sequence of str
        What errors call each sequence.
    epoch : int
        The epoch of the last sequence, counted from 1.
    position : mapping
        Where the data goes on after this batch.
    sequences : mapping of int to TokenSequence
        Those that are read already, by their index.
    """

    batch: ScheduledBatch
    names: Sequence[str]
    epoch: int
    position: Mapping[str, Any]
    sequences: Mapping[int, TokenSequence] = field(default_factory=dict[int, TokenSequence])


class Source(Protocol):
    """A data set with the rules by which batches are drawn from it.

    `seek` is called by the thread that trains, before anything is drawn; `draw` and `read` by one
    other thread each.
    """

    @property
    def rules(self) -> Mapping[str, Any]:
        """What must be the same where a position is gone on from."""
        ...

    @property
    def start(self) -> Mapping[str, Any]:
        """The position before the first batch."""
        ...

    @property
    def census(self) -> Census:
        """What documents become, as far as it is known."""
        ...

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from a position that a batch or `start` had."""
        ...

    def draw(self) -> DrawnBatch | None:
        """Return the next batch, or None after the last."""
        ...

    def read(self, drawn: DrawnBatch, indices: Iterable[int]) -> dict[int, TokenSequence]:
        """Return some sequences of a batch by their index."""
        ...

    def num_batches_after(self, position: Mapping[str, Any]) -> int | None:
        """Return how many batches follow a position, or None where it isn't known."""
        ...


def excerpt_name(document: str, start: int, stop: int, num_tokens: int) -> str:
    """Return what errors call some tokens of a document."""
    whole = start == 0 and stop == num_tokens
    return document if whole else f"{document} (its tokens {start} to {stop - 1})"
