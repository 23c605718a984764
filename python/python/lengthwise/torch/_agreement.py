"""Errors of one rank that are errors of every rank, so that none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from lengthwise.errors import InputError, LengthwiseError
from lengthwise.torch._rank_failure import waiting_for

_Value = TypeVar("_Value")


def shared(work: Callable[[], _Value], what: str) -> list[_Value]:
    """Return what `work` returns on each rank, once it has on all; a collective call of all ranks.

    Parameters
    ----------
    work : callable
        May fail. What it returns is pickled.
    what : str
        The name of that, for the error.

    Raises
    ------
    InputError
        It failed on another rank. Where it failed, its own error is raised.
    RankFailedError
        Another rank is gone, or did not answer.
    """
    error: Exception | None = None
    outcome: tuple[str | None, Any] = (None, None)
    try:
        outcome = (None, work())
    except Exception as raised:
        error = raised
        outcome = (f"{type(raised).__name__}: {raised}", None)
    outcomes: list[Any] = [None] * dist.get_world_size()
    with waiting_for(f"all ranks to tell {what}"):
        dist.all_gather_object(outcomes, outcome)
    if error is not None:
        raise error
    for rank, (text, _) in enumerate(outcomes):
        if text is not None:
            raise InputError(f"rank {rank} failed: {text}")
    return [value for _, value in outcomes]


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
    RankFailedError
        Another rank is gone, or did not answer.
    """
    values: list[_Value] = []

    def run() -> Any:
        value = work()
        values.append(value)
        return digest(value)

    found = shared(run, what)
    others = [rank for rank, of_rank in enumerate(found) if of_rank != found[0]]
    if others:
        names = ", ".join(map(str, others))
        msg = f"{what} of rank {names} differ from those of rank 0"
        raise InputError(msg, hint="all ranks must be given the same, in the same order")
    return values[0]


def from_rank_0(work: Callable[[], _Value]) -> _Value:
    """Return on every rank what `work` returns on rank 0; a collective call of all ranks.

    Raises
    ------
    LengthwiseError
        It failed there.
    RankFailedError
        That rank is gone, or did not answer.
    """
    outcome: list[Any] = [None, None]
    error: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome = [work(), None]
        except Exception as raised:
            error = raised
            outcome = [None, f"{type(raised).__name__}: {raised}"]
    with waiting_for("what rank 0 has found"):
        dist.broadcast_object_list(outcome, src=0)
    if error is not None:
        raise error
    if outcome[1] is not None:
        raise LengthwiseError(f"rank 0 failed: {outcome[1]}")
    return outcome[0]
