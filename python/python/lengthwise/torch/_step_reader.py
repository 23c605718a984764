"""The steps of a source, as all ranks agree on them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from lengthwise import Plan
from lengthwise.errors import InputError
from lengthwise.torch._agreement import shared
from lengthwise.torch._look_ahead import LookAhead, UpcomingStep
from lengthwise.torch._plan_digest import plan_digest
from lengthwise.torch._plan_limits import PlanLimits
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._source import DrawnBatch, Source
from lengthwise.torch._step import Step

#: Makes a step of a plan, this rank's sequences by index, and the labels of all sequences.
MakeStep = Callable[[Plan, Mapping[int, TokenSequence], int], Step]


@dataclass(frozen=True)
class _Claim:
    """What a rank says of the step it would run."""

    sequences: bytes
    plan: bytes
    num_labels: int
    tokens: dict[int, bytes]


class StepReader:
    """Takes steps, once all ranks can run the same one.

    Parameters
    ----------
    source : Source
        From where batches are drawn.
    planner : callable
        Returns who plans.
    limits : PlanLimits
        Which plans can be run.
    depth : int
        How many steps are planned ahead.
    """

    def __init__(
        self, source: Source, planner: Callable[[], Any], limits: PlanLimits, depth: int
    ) -> None:
        self._ahead = LookAhead(
            source,
            planner,
            rank=dist.get_rank(),
            num_ranks=dist.get_world_size(),
            limits=limits,
            depth=depth,
        )

    def take(self, name: str) -> tuple[UpcomingStep, int] | None:
        """Return the next step and its labels, or None after the last; a collective call.

        Parameters
        ----------
        name : str
            What errors call the step.

        Raises
        ------
        InputError
            A rank has no such step, or another one: on every rank.
        """
        taken: list[UpcomingStep | None] = []

        def claim() -> _Claim | None:
            step = self._ahead.take()
            taken.append(step)
            return None if step is None else _claim(step)

        claims = shared(claim, "what they have of a step")
        step = taken[0]
        for rank, other in enumerate(claims):
            if (other is None) != (claims[0] is None):
                without, has = (rank, 0) if other is None else (0, rank)
                msg = f"the data set of rank {without} has ended before {name}, "
                raise InputError(msg + f"and that of rank {has} has not")
        if step is None:
            return None
        present = [each for each in claims if each is not None]
        self._compare(name, step, present)
        return step, sum(each.num_labels for each in present)

    def close(self) -> None:
        """Begin nothing more."""
        self._ahead.close()

    def join(self) -> None:
        """Wait until nothing is under way any longer, after `close`."""
        self._ahead.join()

    def _compare(self, name: str, step: UpcomingStep, claims: list[_Claim]) -> None:
        drawn, plan = step.planned.drawn, step.planned.plan
        if any(each.sequences != claims[0].sequences for each in claims):
            _name_difference(name, drawn)
        for rank, each in enumerate(claims):
            if each.plan != claims[0].plan:
                msg = f"the plan of {name} is another one on rank {rank} than on rank 0"
                hint = "give all ranks the same planner, without a time budget"
                raise InputError(msg, hint=hint)
        for micro_batch in plan.micro_batches:
            for group in micro_batch.groups:
                found = {rank: claims[rank].tokens.get(micro_batch.index) for rank in group.ranks}
                first = min(found)
                others = [rank for rank in sorted(found) if found[rank] != found[first]]
                if others:
                    names = ", ".join(drawn.names[index] for index in group.sequences[:4])
                    more = ", ..." if len(group.sequences) > 4 else ""
                    msg = (
                        f"the data sets of ranks {first} and {others[0]} have different tokens or "
                    )
                    msg += f"labels in {name}, in one of: {names}{more}"
                    raise InputError(msg, hint="all ranks must be given the same data set")


def of_reader(step: UpcomingStep, num_labels: int, make: MakeStep) -> Step:
    """Return a step that was taken, with what is known of its data."""
    drawn = step.planned.drawn
    made = make(step.planned.plan, step.read.sequences, num_labels)
    return dataclasses.replace(
        made,
        epoch=drawn.epoch,
        num_pieces=drawn.batch.num_pieces,
        num_truncated=drawn.batch.num_truncated,
        num_cut_tokens=drawn.batch.num_cut_tokens,
        plan_wait_s=step.plan_wait_s,
        data_wait_s=step.data_wait_s,
    )


def _claim(step: UpcomingStep) -> _Claim:
    sequences = hashlib.blake2b(repr(step.planned.drawn.batch.excerpts).encode(), digest_size=16)
    plan = plan_digest(step.planned.plan)
    return _Claim(sequences.digest(), plan, step.read.num_labels, step.read.digests)


def _name_difference(name: str, drawn: DrawnBatch) -> None:
    """Raise what the first difference between the sequences of ranks is; a collective call."""
    found = shared(
        lambda: list(zip(drawn.names, drawn.batch.seq_lens, strict=True)), "which sequences differ"
    )
    for rank, sequences in enumerate(found):
        for mine, theirs in itertools.zip_longest(sequences, found[0]):
            if mine != theirs:
                msg = f"the data sets of ranks 0 and {rank} differ: {name} has {_text(mine)} on "
                msg += f"rank {rank} where rank 0 has {_text(theirs)}"
                hint = "all ranks must be given the same data set, in the same order"
                raise InputError(msg, hint=hint)


def _text(sequence: tuple[str, int] | None) -> str:
    return "no more sequence" if sequence is None else f"{sequence[0]} with {sequence[1]} tokens"
