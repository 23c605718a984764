"""A step of the optimizer, as one rank runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lengthwise import Plan
from lengthwise.torch._micro_batch import MicroBatch


@dataclass(frozen=True)
class Step:
    """The micro-batches of a step that a rank runs one after the other, as many on every rank.

    Attributes
    ----------
    plan : Plan
        How the sequences of the step are divided over all ranks.
    micro_batches : tuple of MicroBatch
        What this rank runs.
    num_labels : int
        How many tokens of the step, on all ranks and in all micro-batches, have a label.
    """

    plan: Plan
    micro_batches: tuple[MicroBatch, ...]
    num_labels: int

    def __iter__(self) -> Iterator[MicroBatch]:
        """Give the micro-batches in order."""
        return iter(self.micro_batches)

    def __len__(self) -> int:
        """Return how many micro-batches there are."""
        return len(self.micro_batches)
