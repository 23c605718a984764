"""What is noted of a step while a rank runs it."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from lengthwise.torch._marks import Marks


class StepNotes:
    """When micro-batches were handed out, and what came of them; no call of other ranks.

    Parameters
    ----------
    marks : Marks
        Takes the moments.
    num_micro_batches : int
        How many there are.
    """

    def __init__(self, marks: Marks, num_micro_batches: int) -> None:
        self._marks = marks
        self._num_micro_batches = num_micro_batches
        self._borders: list[Any] = []
        self._ended: Any = None
        self._losses: dict[int, Tensor] = {}
        self.gradient_norm: Tensor | float | None = None
        self.learning_rate: float | None = None

    def begin(self) -> None:
        """Note that the first micro-batch is handed out."""
        self._borders = [self._marks.mark()]

    def next(self) -> None:
        """Note that a micro-batch is done, as the next or the end of the step is asked for."""
        self._borders.append(self._marks.mark())

    def end(self) -> None:
        """Note that the step is done, as the next step is asked for."""
        if self._ended is None:
            self._ended = self._marks.mark()

    def loss(self, index: int, loss: Tensor) -> None:
        """Note this rank's part of the loss of a micro-batch."""
        self._losses[index] = loss.detach()

    def record(self, gradient_norm: Tensor | float | None, learning_rate: float | None) -> None:
        """Note what the user says of the step."""
        if isinstance(gradient_norm, DTensor):
            gradient_norm = gradient_norm.full_tensor()
        if isinstance(gradient_norm, Tensor):
            gradient_norm = gradient_norm.detach()
        self.gradient_norm = gradient_norm if gradient_norm is not None else self.gradient_norm
        self.learning_rate = learning_rate if learning_rate is not None else self.learning_rate

    @property
    def is_complete(self) -> bool:
        """Whether all micro-batches were run to their end."""
        return len(self._borders) == self._num_micro_batches + 1 and self._ended is not None

    @property
    def has_loss(self) -> bool:
        """Whether the loss of every micro-batch is known."""
        return len(self._losses) == self._num_micro_batches

    def loss_sum(self) -> float:
        """Return this rank's part of the loss of the step. Waits for the device."""
        parts = list(self._losses.values())
        return float(torch.stack(parts).double().sum()) if parts else 0.0

    def micro_batches_s(self) -> list[float]:
        """Return what each micro-batch took. Waits for the device."""
        pairs = zip(self._borders, self._borders[1:], strict=False)
        return [self._marks.span(first, last).elapsed_s for first, last in pairs]

    def rest_s(self) -> float:
        """Return what the step took beside its micro-batches: clipping, the optimizer."""
        return self._marks.span(self._borders[-1], self._ended).elapsed_s

    def computed_s(self) -> float:
        """Return how much of the time of the step was spent computing, as far as that is known."""
        return self._marks.span(self._borders[0], self._ended).computed_s
