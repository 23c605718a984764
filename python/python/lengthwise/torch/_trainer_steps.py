"""Steps as a Trainer of transformers takes them: each is one batch of a data loader."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from lengthwise.errors import InputError
from lengthwise.torch._batches import Batches
from lengthwise.torch._step import Step

#: The key of the step in a batch.
STEP = "lengthwise_step"


class StepLoader:
    """The steps of a run in epochs of equal numbers of steps.

    Lengthwise fills a batch up from the next epoch, and a Trainer counts batches of an epoch. So
    the steps of the whole run are divided by the number of epochs; the last one may have fewer.

    Parameters
    ----------
    batches : Batches
        All steps, in a place to go on at perhaps.
    dataset : object
        What they are of; a Trainer counts its examples.
    epochs : int or None
        How many epochs the run has, or None where it has a number of steps.
    """

    def __init__(self, batches: Batches, dataset: Any, epochs: int | None) -> None:
        try:
            self.num_steps = len(batches)
        except TypeError:
            msg = "max_steps is missing; a data set that can only be iterated doesn't tell its end"
            raise InputError(msg) from None
        if self.num_steps == 0:
            raise InputError("the run has no step: the data set gives no sequence")
        self.batches = batches
        self.dataset = dataset
        self._num_steps_of_epoch = -(-self.num_steps // (epochs or 1))
        self._steps: Iterator[Step] | None = None

    def __len__(self) -> int:
        """Return how many steps an epoch has."""
        return self._num_steps_of_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Give what is left of an epoch."""
        if self._steps is None:
            self._steps = iter(self.batches)
        for step in self._steps:
            yield _batch(step)
            if self.batches.num_steps % len(self) == 0:
                return

    def finish(self) -> None:
        """End the last step, if it was that of the run; a collective call of all ranks."""
        if self._steps is not None and self.batches.num_steps == self.num_steps:
            next(self._steps, None)

    def close(self) -> None:
        """Let nothing be read ahead any longer."""
        steps: Any = self._steps
        if steps is not None:
            steps.close()


def _batch(step: Step) -> dict[str, Any]:
    """Return a step with this rank's tokens, which a Trainer counts."""
    own = [each.input_ids[0, : each.num_tokens] for each in step.micro_batches]
    return {"input_ids": torch.cat(own), STEP: step}
