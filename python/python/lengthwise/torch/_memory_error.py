"""A device that has no memory left, in the words of a plan."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
import torch.distributed as dist

from lengthwise import Planner
from lengthwise.errors import LengthwiseError
from lengthwise.torch._micro_batch import MicroBatch


class DeviceMemoryError(LengthwiseError, MemoryError):
    """A device whose memory a micro-batch exceeds."""


@contextlib.contextmanager
def out_of_memory_is_ours(planner: Any, micro_batch: MicroBatch) -> Generator[None, None, None]:
    """Say of PyTorch's error what was asked for, what a plan may use, and what the rank has."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        share = micro_batch.share
        msg = (
            f"rank {dist.get_rank()} has no memory left for its {micro_batch.num_tokens} tokens of "
            f"micro-batch {micro_batch.index}, in a group of degree {share.degree} with "
            f"{share.num_tokens} tokens{_budget(planner, share.degree)}; PyTorch says: {error}"
        )
        hint = "plan by a profile of lengthwise.torch.profile, or with less memory"
        raise DeviceMemoryError(msg, hint=hint) from error


def _budget(planner: Any, degree: int) -> str:
    if not isinstance(planner, Planner):
        return ""
    try:
        budget = planner.token_budget(degree)
    except LengthwiseError:
        return ""
    return f"; the planner's budget is {budget.tokens_per_device} tokens a rank at that degree"
