"""Plans in the form that Megatron-Core's scheduler returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from lengthwise.errors import InternalError

if TYPE_CHECKING:
    from lengthwise._lengthwise import Group, Plan

Id = TypeVar("Id")


def rank_lists(plan: Plan, ids: Sequence[Id], num_ranks: int) -> list[list[list[Id]]]:
    """Return for every micro-batch, for every rank, the samples it works on.

    Parameters
    ----------
    plan : Plan
        A plan in which no rank idles.
    ids : sequence
        The sample of each sequence of the plan.
    num_ranks : int
        The number of ranks.

    Returns
    -------
    list of list of list
        Ids of shape (micro-batches, ranks, samples). The ranks of a group have equal lists, each
        its own, and follow one another.
    """
    micro_batches: list[list[list[Id]]] = []
    for micro_batch in plan.micro_batches:
        samples: list[list[Id]] = []
        for group in sorted(micro_batch.groups, key=_first_rank):
            of_group = [ids[sequence] for sequence in group.sequences]
            samples.extend(list(of_group) for _ in group.ranks)
        if len(samples) != num_ranks:
            # The rules that were planned by forbid it.
            msg = f"the plan has {len(samples)} busy ranks; it must have {num_ranks} ranks"
            raise InternalError(msg)
        micro_batches.append(samples)
    return micro_batches


def _first_rank(group: Group) -> int:
    return min(group.ranks)
