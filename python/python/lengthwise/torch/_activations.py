"""What is done with activations between a layer's forward and its backward, as the plan says.

A layer of a group that keeps them runs as the model has it. One that recomputes them runs again
before its backward, in which its exchanges take place again; only its input is kept, and that may
be on the host, but for that of the last. Collective calls of FSDP2 stay outside, so groups of one
micro-batch may differ.
"""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

from lengthwise.torch._host_inputs import HostInput, HostInputs

#: What plans call it.
KEEP, RECOMPUTE, HOST = "keep", "recompute", "host"


class ActivationsWork(Protocol):
    """What a layer needs to know of a micro-batch."""

    @property
    def activations(self) -> str:
        """What is done with activations."""
        ...

    @property
    def host_inputs(self) -> HostInputs:
        """Where inputs of layers go."""
        ...


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the layers that can be recomputed, in PyTorch's wrapper where they have one."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    modules = list(model.modules())
    wrapped = {id(_layer_in(module)): module for module in modules if _layer_in(module) is not None}
    return [
        wrapped.get(id(module), module)
        for module in modules
        if isinstance(module, GradientCheckpointingLayer)
    ]


def follow_plans(model: nn.Module, keyword: str) -> None:
    """Let layers do with activations what the micro-batch says.

    Parameters
    ----------
    model : Module
        The model.
    keyword : str
        By which layers get an `ActivationsWork`; without one they run as they are.
    """
    layers = layers_of(model)
    for layer in layers:
        # The backward of the last layer comes right after its forward.
        is_last = layer is layers[-1]
        layer.forward = functools.partial(_forward, layer, keyword, is_last)


def _forward(layer: nn.Module, keyword: str, is_last: bool, /, *args: Any, **options: Any) -> Any:
    work: ActivationsWork | None = options.get(keyword)
    kind: Any = type(layer)
    if work is None or work.activations == KEEP or not torch.is_grad_enabled():
        return kind.forward(layer, *args, **options)
    if args:
        hidden, rest = args[0], args[1:]
    else:
        hidden, rest = options.pop("hidden_states"), ()
    assert isinstance(hidden, Tensor), "layers get hidden states first"
    goes_to_host = work.activations == HOST and not is_last
    stored = work.host_inputs.store(hidden) if goes_to_host else None
    # By the first run the gradient goes its way; the second only makes what is saved.
    given: list[Tensor] = [hidden]

    def run(_: Tensor) -> Any:
        mine = given[0] if given else _fetched(stored, needs_gradient)
        with _not_recomputed_by_itself(layer):
            inner = _layer_in(layer)
            if inner is not None:
                return inner(mine, *rest, **options)
            return kind.forward(layer, mine, *rest, **options)

    needs_gradient = hidden.requires_grad
    # What checkpoint is given stays on the device, and is seen to be kept.
    kept = hidden.detach() if stored is None else hidden.new_empty(0)
    result: Any = checkpoint(run, kept, use_reentrant=False)
    given[:] = [] if stored is not None else [hidden.detach().requires_grad_(needs_gradient)]
    return result


def _fetched(stored: HostInput | None, needs_gradient: bool) -> Tensor:
    assert stored is not None, "an input that is not on the host is at hand"
    return stored.fetch().requires_grad_(needs_gradient)


@contextlib.contextmanager
def _not_recomputed_by_itself(layer: nn.Module) -> Generator[None, None, None]:
    own = vars(layer).get("gradient_checkpointing")
    if own is not True:
        yield
        return
    changed: Any = layer
    changed.gradient_checkpointing = False
    try:
        yield
    finally:
        changed.gradient_checkpointing = own


def _layer_in(module: nn.Module) -> nn.Module | None:
    """Return what PyTorch's ``checkpoint_wrapper`` has wrapped."""
    return getattr(module, "_checkpoint_wrapped_module", None)
