"""The gradient of one rank: the user's model, whole, with the attention of transformers."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from lengthwise.errors import InputError
from lengthwise.torch._loss import NO_LABEL


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be sharded; a collective call of all ranks if it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def parameters_of(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Give names and parameters, under the names that they have without checkpoint_wrapper."""
    for name, parameter in model.named_parameters():
        yield name.replace("_checkpoint_wrapped_module.", ""), parameter


def copied(model: nn.Module, parameters: Mapping[str, Tensor], attention: str) -> nn.Module:
    """Return the model without shards, made anew from its configuration.

    Parameters
    ----------
    model : Module
        The sharded model.
    parameters : mapping
        Its parameters by name, whole.
    attention : str
        The attention of transformers that it gets.
    """
    kind: Any = type(model)
    if isinstance(model, FSDPModule):
        # FSDP2 makes a class of two bases: its own and the model's.
        kind = next(base for base in kind.__mro__[1:] if not issubclass(base, FSDPModule))
    causal_model: Any = model
    config = copy.deepcopy(causal_model.config)
    config._attn_implementation = attention
    device = next(iter(parameters.values())).device
    reference: nn.Module = kind(config).to(device=device)
    own = dict(reference.named_parameters())
    trained = {name for name, parameter in parameters_of(model) if parameter.requires_grad}
    if own.keys() != parameters.keys():
        odd = sorted(own.keys() ^ parameters.keys())
        msg = f"{kind.__name__} made from its configuration has other parameters: {odd[0]}"
        raise InputError(msg, hint="check the model before its modules are exchanged")
    for name, parameter in own.items():
        parameter.data = parameters[name].detach().clone()
        parameter.requires_grad_(name in trained)
    return reference.train(model.training)


def accumulate_gradients(
    reference: nn.Module, sequences: Iterable[Mapping[str, list[int]]], device: torch.device
) -> float:
    """Add the gradient of the mean loss of a label; return that loss. One sequence at a time."""
    steps: list[tuple[Tensor, Tensor]] = []
    for sequence in sequences:
        ids = torch.tensor([sequence["input_ids"]], device=device)
        steps.append((ids, torch.tensor(sequence["labels"], device=device)[1:]))
    num_labels = sum(int((labels != NO_LABEL).sum()) for _, labels in steps)
    total = 0.0
    for ids, labels in steps:
        if not bool((labels != NO_LABEL).any()):
            continue
        positions = torch.arange(ids.shape[1], device=device)[None]
        output: Any = reference(input_ids=ids, position_ids=positions, use_cache=False)
        logits = output.logits[0, :-1].float()
        loss = F.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum") / num_labels
        loss.backward()
        total += float(loss.detach())
    return total
