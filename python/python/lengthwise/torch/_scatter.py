"""From a plan and the sequences of a step to what one rank runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lengthwise import Plan, RankWork
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
        share = GroupShare(tuple(sorted(group.ranks)), work.group_rank, tuple(group.seq_lens))
        tokens = share.tokens(work.group_rank)
        mine = packed([sequences[i] for i in group.sequences], tokens) if tokens else None
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
    )


def packed(sequences: Sequence[TokenSequence], tokens: range) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, positions and targets of some tokens of sequences that are packed in order."""
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    start = 0
    for sequence in sequences:
        seq_len = len(sequence.input_ids)
        first = min(max(tokens.start - start, 0), seq_len)
        last = min(max(tokens.stop - start, 0), seq_len)
        if first < last:
            mine = slice(first, last)
            positions = torch.arange(first, last)
            pieces.append((sequence.input_ids[mine], positions, sequence.targets[mine]))
        start += seq_len
    ids, positions, targets = zip(*pieces, strict=True)
    return torch.cat(ids), torch.cat(positions), torch.cat(targets)


def weightless_token() -> tuple[Tensor, Tensor, Tensor]:
    """Return the id, position and target of a token that has nothing to predict."""
    zero = torch.zeros(1, dtype=torch.int64)
    return zero, zero, torch.full((1,), NO_LABEL)
