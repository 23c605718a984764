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
    epoch : int or None
        The epoch of the last sequence, counted from 1; None if the step is of no data set.
    num_pieces : int
        Sequences that are pieces of a longer document.
    num_truncated : int
        Sequences that are the beginning of a longer document, whose rest is left out.
    num_cut_tokens : int
        The tokens of those rests.
    plan_wait_s : float
        How long this rank waited for the plan, in seconds.
    data_wait_s : float
        How long it waited for its tokens after that, in seconds.
    """

    plan: Plan
    micro_batches: tuple[MicroBatch, ...]
    num_labels: int
    epoch: int | None = None
    num_pieces: int = 0
    num_truncated: int = 0
    num_cut_tokens: int = 0
    plan_wait_s: float = 0.0
    data_wait_s: float = 0.0

    def __iter__(self) -> Iterator[MicroBatch]:
        """Give the micro-batches in order."""
        return iter(self.micro_batches)

    def __len__(self) -> int:
        """Return how many micro-batches there are."""
        return len(self.micro_batches)
