"""The mean loss over a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn

from lengthwise.errors import InputError
from lengthwise.torch._agreement import shared
from lengthwise.torch._micro_batch import MicroBatch
from lengthwise.torch._plan_limits import PlanLimits
from lengthwise.torch._reshard import reshard
from lengthwise.torch._source import Source
from lengthwise.torch._step_reader import MakeStep, StepReader, of_reader

#: The tokens of a step where nothing else is said; the loss doesn't depend on it.
TOKENS = 1 << 20


def mean_loss(
    model: nn.Module,
    source: Source,
    planner: Callable[[], Any],
    make_step: MakeStep,
    loss: Callable[[nn.Module, MicroBatch], Tensor],
    *,
    limits: PlanLimits,
    depth: int,
) -> float:
    """Return the mean loss of all labels of a source; a collective call of all ranks.

    Parameters
    ----------
    model : Module
        The model, as `loss` takes it.
    source : Source
        From where batches are drawn, to their end.
    planner : callable
        Returns who plans.
    make_step : callable
        Makes a step of a plan.
    loss : callable
        A rank's part of the mean loss of a label of its step.
    limits, depth
        As `StepReader` takes them.
    """
    source.seek(source.start)
    reader = StepReader(source, planner, limits, depth)
    total, num_labels = 0.0, 0
    try:
        with _evaluating(model):
            while (taken := reader.take("a step of the evaluation")) is not None:
                step = of_reader(*taken, make_step)
                num_labels += step.num_labels
                for micro_batch in step:
                    part = float(loss(model, micro_batch))
                    total += part * micro_batch.loss_divisor
    finally:
        reader.close()
    # In the order of the ranks, so that the sum is the same on all.
    summed = sum(shared(lambda: total, "their losses"))
    if num_labels == 0:
        raise InputError("no token of the data set has a label, so there is no loss")
    return summed / num_labels


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Generator[None, None, None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        # No backward has come to free what the last forward has gathered.
        reshard(model)
