"""Which plans can be run here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise import Plan, Strategy
from lengthwise.errors import InputError
from lengthwise.torch._activations import KEEP


@dataclass(frozen=True)
class PlanLimits:
    """What a model can run.

    Attributes
    ----------
    num_heads : int
        Its query heads.
    can_recompute : bool
        Whether its layers can be run again in the backward.
    """

    num_heads: int
    can_recompute: bool


def check_plan(plan: Plan, seq_lens: Sequence[int], num_ranks: int, limits: PlanLimits) -> None:
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
            _check_strategy(f"a group of {name}", group.strategy, limits)
            for sequence in group.sequences:
                times[sequence] += 1
    for sequence, count in enumerate(times):
        if count != 1:
            raise InputError(f"the plan has sequence {sequence} {count} times")


def _check_strategy(name: str, strategy: Strategy, limits: PlanLimits) -> None:
    if strategy.ulysses > limits.num_heads:
        msg = (
            f"{name} exchanges tokens for heads over {strategy.ulysses} ranks; "
            f"the model has {limits.num_heads} query heads"
        )
        raise InputError(msg, hint="with a ring, groups may have more ranks than the model heads")
    if strategy.activations != KEEP and not limits.can_recompute:
        msg = f"{name} recomputes layers ({strategy.activations}); the model has none that can be"
        hint = "layers that can be are GradientCheckpointingLayer of transformers"
        raise InputError(msg, hint=hint)
