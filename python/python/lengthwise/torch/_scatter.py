"""From a plan and the sequences of a step to what one rank runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lengthwise import Plan, RankWork
from lengthwise.torch._activations import KEEP
from lengthwise.torch._loss import NO_LABEL
from lengthwise.torch._micro_batch import MicroBatch
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._shards import GroupShare
from lengthwise.torch._step import Step


def scatter(
    plan: Plan,
    sequences: Mapping[int, TokenSequence],
    num_labels: int,
    rank: int,
    device: torch.device,
) -> Step:
    """Return what `rank` runs: as many micro-batches as the plan has, on every rank.

    Parameters
    ----------
    plan : Plan
        Which sequences go to which ranks.
    sequences : mapping of int to TokenSequence
        The sequences of the step by their index; those of other groups may be missing.
    num_labels : int
        How many tokens of all sequences have a label.
    rank : int
        The rank.
    device : device
        Where tensors are put.
    """
    micro_batches = tuple(
        _micro_batch(index, work, sequences, rank, num_labels, device)
        for index, work in enumerate(plan.for_rank(rank))
    )
    return Step(plan, micro_batches, num_labels)


def _micro_batch(
    index: int,
    work: RankWork | None,
    sequences: Mapping[int, TokenSequence],
    rank: int,
    num_step_labels: int,
    device: torch.device,
) -> MicroBatch:
    if work is None:
        share = GroupShare(ranks=(rank,), group_rank=0, seq_lens=(1,))
        mine = weightless_token()
    else:
        group = work.group
        # Group ranks follow increasing ranks, in whatever order a plan lists them.
        share = GroupShare(
            tuple(sorted(group.ranks)),
            work.group_rank,
            tuple(group.seq_lens),
            group.strategy.ring,
        )
        mine = packed([sequences[i] for i in group.sequences], list(share.own_tokens()))
        mine = weightless_token() if mine is None else mine
    input_ids, position_ids, targets = (tensor.to(device) for tensor in mine)
    return MicroBatch(
        index=index,
        input_ids=input_ids[None],
        position_ids=position_ids[None],
        targets=targets,
        num_step_labels=num_step_labels,
        share=share,
        is_idle=work is None,
        activations=KEEP if work is None else work.group.strategy.activations,
    )


def packed(
    sequences: Sequence[TokenSequence], tokens: Sequence[tuple[int, range]]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return ids, positions and targets of runs of tokens, each of one of the sequences."""
    if not tokens:
        return None
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    for index, run in tokens:
        mine, sequence = slice(run.start, run.stop), sequences[index]
        positions = torch.arange(run.start, run.stop)
        pieces.append((sequence.input_ids[mine], positions, sequence.targets[mine]))
    ids, positions, targets = zip(*pieces, strict=True)
    return torch.cat(ids), torch.cat(positions), torch.cat(targets)


def weightless_token() -> tuple[Tensor, Tensor, Tensor]:
    """Return the id, position and target of a token that has nothing to predict."""
    zero = torch.zeros(1, dtype=torch.int64)
    return zero, zero, torch.full((1,), NO_LABEL)
