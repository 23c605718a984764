"""Faults of training on groups, planted from outside; everything here runs in a world."""

from __future__ import annotations

import contextlib
import dataclasses
from itertools import accumulate
from typing import Any
from unittest import mock

import torch
from models import mesh, sharded, whole_model
from steps import error_of
from torch.distributed.fsdp import MixedPrecisionPolicy

import lengthwise.torch
from lengthwise.torch import (
    _block_attention,
    _context_parallel,
    _host_inputs,
    _kernels,
    _places,
    _ring,
    _scatter,
    _ulysses,
)
from lengthwise.torch._loss import NO_LABEL


def loss_averaged_per_group() -> Any:
    """Each group divides by its own labels rather than by those of the step."""
    scatter = _context_parallel.scatter

    def averaged(plan: Any, sequences: Any, num_labels: int, rank: int, device: Any) -> Any:
        step = scatter(plan, sequences, num_labels, rank, device)
        num_groups = sum(len(each.groups) for each in plan.micro_batches)
        result: list[Any] = []
        for micro_batch, work in zip(step, plan.for_rank(rank), strict=True):
            if work is not None:
                own = sum(sequences[index].num_labels for index in work.group.sequences)
                count = max(1, own) * num_groups
                micro_batch = dataclasses.replace(micro_batch, num_step_labels=count)
            result.append(micro_batch)
        return dataclasses.replace(step, micro_batches=tuple(result))

    return mock.patch.object(_context_parallel, "scatter", averaged)


def labels_shifted_after_scattering() -> Any:
    """Each rank shifts what it has, and so loses the label of its last token."""
    packed = _scatter.packed

    def late(sequences: Any, tokens: Any) -> Any:
        found = packed(sequences, tokens)
        if found is None:
            return None
        ids, positions, targets = found
        return ids, positions, torch.cat([targets[:-1], targets.new_full((1,), NO_LABEL)])

    return mock.patch.object(_scatter, "packed", late)


def positions_that_do_not_restart() -> Any:
    """Positions count on from one sequence of a pack to the next."""
    packed = _scatter.packed

    def counting_on(sequences: Any, tokens: Any) -> Any:
        found = packed(sequences, tokens)
        if found is None:
            return None
        ids, _, targets = found
        ends = [0, *accumulate(len(sequence.input_ids) for sequence in sequences)]
        positions = [torch.arange(run.start, run.stop) + ends[at] for at, run in tokens]
        return ids, torch.cat(positions), targets

    return mock.patch.object(_scatter, "packed", counting_on)


def gradients_divided_by_ranks() -> Any:
    """FSDP2 averages over ranks, as it does by itself."""
    return mock.patch.object(_context_parallel, "sum_gradients", return_value=None)


def swapped_heads() -> Any:
    """Heads come back in another order."""
    back = _ulysses._heads_for_tokens

    def swapped(call: Any, where: Any, tensors: Any, *sizes: Any) -> Any:
        found = back(call, where, tensors, *sizes)
        return [x.flip(1) for x in found] if len(found) == 1 else found

    return mock.patch.object(_ulysses, "_heads_for_tokens", swapped)


def attention_across_documents() -> Any:
    """A pack is attended to as though it were one sequence."""
    attention = _kernels.packed_causal_attention

    def across(*args: Any, seq_lens: Any, **options: Any) -> Any:
        return attention(*args, seq_lens=[sum(seq_lens)], **options)

    return mock.patch.object(_kernels, "packed_causal_attention", across)


def blocks_averaged() -> Any:
    """What the blocks of a ring give is averaged, whatever their log-sum-exps."""
    merge = _block_attention.MergedAttention._merge

    def averaged(merged: Any, queries: Any, attended: Any, lse: Any) -> None:
        own = merged._lse[queries.start : queries.stop]
        merge(merged, queries, attended, torch.where(own.isinf(), lse.to(own.dtype), own))

    return mock.patch.object(_block_attention.MergedAttention, "_merge", averaged)


def gradients_of_own_keys_alone() -> Any:
    """What other places have for the keys and values of a place is lost."""

    return mock.patch.object(_ring.Block, "add", return_value=None)


def later_pieces_unseen() -> Any:
    """The last piece of a place in a ring attends to nothing of other places."""
    made = _places.Places._made_spans

    def without_last(places: Any, place: int, source: int, window: Any) -> Any:
        spans = list(made(places, place, source, window))
        return spans if place == source else spans[:-1]

    return mock.patch.object(_places.Places, "_made_spans", without_last)


def inputs_of_other_tokens() -> Any:
    """What a layer gets back from the host is that of other tokens."""
    fetch = _host_inputs.HostInput.fetch
    return mock.patch.object(
        _host_inputs.HostInput, "fetch", lambda stored: fetch(stored).roll(1, dims=1)
    )


FAULTS = {
    fault.__name__: fault
    for fault in (
        loss_averaged_per_group,
        labels_shifted_after_scattering,
        positions_that_do_not_restart,
        gradients_divided_by_ranks,
        swapped_heads,
        attention_across_documents,
        blocks_averaged,
        gradients_of_own_keys_alone,
        later_pieces_unseen,
        inputs_of_other_tokens,
    )
}


def checked(name: str, fault: str | None, seeds: range, num_plans: int) -> list[Any]:
    """What `check` says of a model, with a planted fault or without, for each seed."""
    plant = contextlib.nullcontext() if fault is None else FAULTS[fault]()
    with plant:
        model = sharded(whole_model(name))
        return [
            lengthwise.torch.check(model, mesh(), seed=seed, num_plans=num_plans, max_seq_len=40)
            for seed in seeds
        ]


def refused_checks() -> dict[str, str]:
    """What is said of models and arguments that can't be checked."""
    coarse = sharded(whole_model("llama").to(torch.bfloat16))
    frozen = sharded(whole_model("llama").requires_grad_(False))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    mixed = sharded(whole_model("llama"), mp_policy=policy)
    model = sharded(whole_model("llama"))
    return {
        "mixed": error_of(lambda: lengthwise.torch.check(mixed, mesh())),
        "number": error_of(lambda: lengthwise.torch.check(model, mesh(), num_plans=0)),
        "coarse": error_of(lambda: lengthwise.torch.check(coarse, mesh())),
        "frozen": error_of(lambda: lengthwise.torch.check(frozen, mesh())),
        "tolerance": error_of(lambda: lengthwise.torch.check(model, mesh(), tolerance=-1.0)),
    }


def kept_after_check(name: str) -> dict[str, Any]:
    """Whether a check leaves the gradients of a model as they were."""
    model = sharded(whole_model(name))
    parameter = next(model.parameters())
    parameter.grad = torch.ones_like(parameter)
    lengthwise.torch.check(model, mesh(), num_plans=1)
    gradients = [each.grad for each in model.parameters()]
    return {
        "same": bool((gradients[0].full_tensor() == 1).all()),
        "others": sum(gradient is not None for gradient in gradients[1:]),
    }
