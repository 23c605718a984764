"""What a rank holds: of its parameters, and for each token of a micro-batch.

On CUDA the allocator tells the peak. Elsewhere nobody does, and what is kept for the backward is
counted as it is kept.
"""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from lengthwise.torch._loss import CHUNK_TOKENS

#: Bytes of a number in float32, in which losses and their gradients are computed.
_FLOAT32 = 4

#: Logits of a chunk, the same in float32, and their gradient.
_LOGITS = 3


def held_bytes(run: Callable[[], None], device: torch.device) -> int:
    """Run a forward and backward, and return what the device held for it at most, in bytes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return _kept_for_backward(run)


def _kept_for_backward(run: Callable[[], None]) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Whole parameters are there for a layer at a time, however many tokens there are.
        base = tensor if tensor._base is None else tensor._base  # pyright: ignore
        if not isinstance(base, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def same(tensor: Tensor) -> Tensor:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, same):
        run()
    return sum(kept.values())


def state_bytes(model: nn.Module) -> int:
    """Return the bytes of this rank's parameters, their gradients and two moments of each."""
    total = 0
    for parameter in model.parameters():
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        size = local.numel() * local.element_size()
        total += size * (4 if parameter.requires_grad else 1)
    return total


def gathered_bytes(model: nn.Module, *, keeps_gradients: bool) -> int:
    """Return the bytes of what FSDP2 has whole at once, beside the shards.

    Parameters
    ----------
    model : Module
        The sharded model.
    keeps_gradients : bool
        Whether whole gradients are kept from one micro-batch to the next.
    """
    largest = max(
        (_whole_bytes(_own_parameters(part)) for part in model.modules() if _is_unit(part)),
        default=0,
    )
    # One that is used, one that comes, and the gradient of one.
    gathered = 3 * largest
    if keeps_gradients:
        gathered += _whole_bytes(each for each in model.parameters() if each.requires_grad)
    return gathered


def logits_bytes(vocab: int) -> int:
    """Return the bytes of the logits that exist at once."""
    return _LOGITS * CHUNK_TOKENS * vocab * _FLOAT32


def _is_unit(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def _own_parameters(unit: nn.Module) -> Iterable[nn.Parameter]:
    """Give the parameters that are gathered with a unit: all that no unit inside it has."""
    for module in _own_modules(unit):
        yield from module.parameters(recurse=False)


def _own_modules(module: nn.Module) -> Iterable[nn.Module]:
    yield module
    for child in module.children():
        if not _is_unit(child):
            yield from _own_modules(child)


def _whole_bytes(parameters: Iterable[nn.Parameter]) -> int:
    return sum(each.numel() * each.element_size() for each in parameters)
