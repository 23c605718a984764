"""Which plans can be run here."""

from __future__ import annotations

from collections.abc import Sequence

from lengthwise import Plan
from lengthwise.errors import InputError


def check_plan(plan: Plan, seq_lens: Sequence[int], num_ranks: int, num_heads: int) -> None:
    """Refuse a plan that is not for these sequences, or has groups that can't be run.

    Raises
    ------
    InputError
        Names the group or the sequence.
    """
    if list(plan.seq_lens) != list(seq_lens):
        msg = "the plan is for sequences of other lengths than those of the step"
        raise InputError(msg)
    times = [0] * len(seq_lens)
    for micro_batch in plan.micro_batches:
        ranks = [rank for group in micro_batch.groups for rank in group.ranks]
        name = f"micro-batch {micro_batch.index}"
        if len(set(ranks)) != len(ranks):
            raise InputError(f"{name} has a rank in two groups")
        if ranks and max(ranks) >= num_ranks:
            raise InputError(f"{name} has rank {max(ranks)}; the mesh has {num_ranks} ranks")
        for group in micro_batch.groups:
            _check_group(f"a group of {name}", group.strategy.ring, group.degree, num_heads)
            for sequence in group.sequences:
                times[sequence] += 1
    for sequence, count in enumerate(times):
        if count != 1:
            raise InputError(f"the plan has sequence {sequence} {count} times")


def _check_group(name: str, ring: int, degree: int, num_heads: int) -> None:
    if ring != 1:
        msg = f"{name} is a ring of {ring}; groups exchange tokens for heads here"
        raise InputError(msg, hint="give the planner exchange='ulysses'")
    if degree > num_heads:
        msg = f"{name} has degree {degree}; the model has {num_heads} query heads"
        raise InputError(msg, hint="give the planner degrees up to the number of heads")
