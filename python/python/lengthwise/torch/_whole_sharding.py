"""A model of transformers sharded layer by layer, where nobody has sharded it yet."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor


def shard(model: nn.Module, mesh: DeviceMesh, policy: MixedPrecisionPolicy) -> None:
    """Apply ``fully_shard`` to the layers and to the whole.

    Parameters
    ----------
    model : Module
        A model of transformers, or what peft has made of one.
    mesh : DeviceMesh
        All ranks.
    policy : MixedPrecisionPolicy
        In what precision it computes.
    """
    named: Any = model
    # What must not be divided over devices is what transformers calls its layers.
    names: set[str] = set(getattr(named, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in names:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def mesh_of(model: nn.Module) -> DeviceMesh | None:
    """Return the mesh that a model is sharded over, or None if FSDP2 hasn't sharded it."""
    if isinstance(model, FSDPModule):
        for parameter in model.parameters():
            if isinstance(parameter, DTensor):
                return parameter.device_mesh
    return None
