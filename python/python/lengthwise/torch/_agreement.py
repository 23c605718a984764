"""Errors of one rank that are errors of every rank, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from lengthwise.errors import InputError, LengthwiseError

_Value = TypeVar("_Value")


def agreed(work: Callable[[], _Value], digest: Callable[[_Value], Any], what: str) -> _Value:
    """Return what `work` returns, once it has on every rank; a collective call of all ranks.

    Parameters
    ----------
    work : callable
        May fail.
    digest : callable
        What must be equal on all ranks of what `work` returns.
    what : str
        The name of that, for the error.

    Raises
    ------
    InputError
        It failed on another rank, or came to something else there.
    """
    error: Exception | None = None
    value: _Value | None = None
    outcome: tuple[str | None, Any] = (None, None)
    try:
        value = work()
        outcome = (None, digest(value))
    except Exception as raised:
        error = raised
        outcome = (f"{type(raised).__name__}: {raised}", None)
    outcomes: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(outcomes, outcome)
    if error is not None:
        raise error
    for rank, (text, _) in enumerate(outcomes):
        if text is not None:
            raise InputError(f"rank {rank} failed: {text}")
    first = outcomes[0][1]
    others = [rank for rank, (_, found) in enumerate(outcomes) if found != first]
    if others:
        names = ", ".join(map(str, others))
        msg = f"{what} of rank {names} differ from those of rank 0"
        raise InputError(msg, hint="all ranks must be given the same, in the same order")
    assert value is not None or error is None
    return value  # pyright: ignore[reportReturnType]


def from_rank_0(work: Callable[[], _Value]) -> _Value:
    """Return on every rank what `work` returns on rank 0; a collective call of all ranks.

    Raises
    ------
    LengthwiseError
        It failed there.
    """
    outcome: list[Any] = [None, None]
    error: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome = [work(), None]
        except Exception as raised:
            error = raised
            outcome = [None, f"{type(raised).__name__}: {raised}"]
    dist.broadcast_object_list(outcome, src=0)
    if error is not None:
        raise error
    if outcome[1] is not None:
        raise LengthwiseError(f"rank 0 failed: {outcome[1]}")
    return outcome[0]
