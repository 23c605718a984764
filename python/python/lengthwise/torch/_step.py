"""A step of the optimizer, as one rank runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor

from lengthwise import Plan
from lengthwise.torch._micro_batch import MicroBatch
from lengthwise.torch._step_notes import StepNotes


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
    notes: StepNotes | None = field(default=None, repr=False, compare=False)

    def __iter__(self) -> Iterator[MicroBatch]:
        """Give the micro-batches in order, and time what is done with each until the next."""
        if self.notes is not None:
            self.notes.begin()
        for micro_batch in self.micro_batches:
            yield micro_batch
            if self.notes is not None:
                self.notes.next()

    def __len__(self) -> int:
        """Return how many micro-batches there are."""
        return len(self.micro_batches)

    def record(
        self, *, gradient_norm: Tensor | float | None = None, learning_rate: float | None = None
    ) -> None:
        """Say what metrics are to have of the step; before the next step, on every rank.

        Parameters
        ----------
        gradient_norm : Tensor or float, optional
            What ``clip_grad_norm_`` has returned. A sharded one is made whole, which is a
            collective call.
        learning_rate : float, optional
            That of this step.
        """
        if self.notes is not None:
            self.notes.record(gradient_norm, learning_rate)
