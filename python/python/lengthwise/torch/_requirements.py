"""What a model, its parameters and its mesh must be; what they can't be is refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from lengthwise.errors import InputTypeError, LengthwiseError

#: Layers whose tokens meet in attention alone.
_LAYER_TYPES = {"full_attention", "sliding_attention"}

#: Parts of the names of modules that mix tokens outside attention.
_MIXERS = ("Mamba", "DeltaNet", "RWKV", "Rwkv", "ShortConv", "RecurrentBlock", "LinearAttention")

#: RoPE that looks at the longest position of a local batch.
_LOCAL_ROPE = {"dynamic", "longrope"}

#: Fields of a configuration that change what the head returns, with the value that does not.
_CHANGED_LOGITS = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0}


class UnsupportedModelError(LengthwiseError):
    """A model, or a way to shard it, with which gradients would not be those of one rank."""


def check_kinds(model: Any, mesh: Any) -> None:
    """Refuse a model or a mesh that is none.

    Raises
    ------
    InputTypeError
        Says what was given.
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"the model is {type(model).__name__}, not a Module")
    if not isinstance(mesh, DeviceMesh):
        msg = f"the mesh is {type(mesh).__name__}, not a DeviceMesh"
        raise InputTypeError(msg, hint="init_device_mesh makes one of all ranks")


def check_model(model: nn.Module) -> None:
    """Refuse a model whose loss or gradients groups of ranks can't compute.

    Raises
    ------
    UnsupportedModelError
        Names what the model has.
    """
    reasons = list(_reasons(model))
    if reasons:
        name = type(model).__name__.removeprefix("FSDP")
        raise UnsupportedModelError(f"{name} can't be used: {'; '.join(reasons)}")


def check_shards(model: nn.Module, mesh: DeviceMesh) -> None:
    """Refuse parameters whose gradients FSDP2 does not sum over all ranks.

    Raises
    ------
    UnsupportedModelError
        Names the parameter.
    """
    if mesh.size() != dist.get_world_size():
        msg = f"the mesh has {mesh.size()} ranks and the world {dist.get_world_size()}"
        raise UnsupportedModelError(msg, hint="tensor and pipeline parallelism are not supported")
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if isinstance(parameter, DTensor):
            num_ranks = parameter.device_mesh.size()
            if num_ranks != mesh.size():
                msg = f"{name} is sharded over {num_ranks} of {mesh.size()} ranks"
                raise UnsupportedModelError(msg)
            if parameter.to_local().device.type != mesh.device_type:
                msg = f"{name} is kept on the host (CPUOffloadPolicy), and the mesh is not"
                raise UnsupportedModelError(msg)
        elif mesh.size() > 1:
            msg = f"{name} is not sharded, so its gradient would not be summed over ranks"
            raise UnsupportedModelError(msg, hint="call fully_shard on the layers and on the model")


def _reasons(model: nn.Module) -> Iterator[str]:
    from transformers import PreTrainedModel

    if isinstance(model, nn.parallel.DistributedDataParallel):
        yield "DistributedDataParallel averages gradients over ranks; use fully_shard"
        return
    # By names, for to ask for the class would import the whole compiler.
    if hasattr(model, "_orig_mod") or any(
        getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()
    ):
        yield "it is compiled by torch.compile"
        return
    adapted: Any = model
    # What peft makes of a model has no class in common with transformers'.
    if not isinstance(model, PreTrainedModel) and hasattr(model, "get_base_model"):
        if adapted.active_peft_config.is_prompt_learning:
            yield "its adapter (peft) puts tokens of its own before those of a sequence"
            return
        model = adapted.get_base_model()
    if not isinstance(model, PreTrainedModel):
        yield "it is no PreTrainedModel of transformers"
        return
    config: Any = model.config
    yield from _reasons_of_config(config)
    yield from _reasons_of_modules(model)
    if not getattr(model, "_supports_attention_backend", False):
        yield "its attention can't be replaced through AttentionInterface"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        yield "its forward takes no position_ids"
    if not isinstance(model.get_output_embeddings(), nn.Linear):
        yield "it has no linear head (get_output_embeddings)"


def _reasons_of_config(config: Any) -> Iterator[str]:
    if config.get_text_config() is not config:
        yield "it is made of several models (its text has a configuration of its own)"
    if getattr(config, "is_encoder_decoder", False):
        yield "it has an encoder"
    if getattr(config, "alibi", False):
        yield "its attention is biased by positions (alibi)"
    dropout = getattr(config, "attention_dropout", None)
    if dropout:
        yield f"attention_dropout is {dropout}, and ranks would drop other scores than one rank"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        yield f"its scores have a soft cap (attn_logit_softcapping {config.attn_logit_softcapping})"
    for field, neutral in _CHANGED_LOGITS.items():
        value = getattr(config, field, None)
        if value is not None and value != neutral:
            yield f"its logits are changed after the head ({field} {value})"
    if getattr(config, "output_router_logits", False):
        yield "its auxiliary loss of experts depends on the plan (output_router_logits)"
    others = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if others:
        yield f"it has layers of the type {', '.join(sorted(others))}"
    for kind in sorted(_rope_types(getattr(config, "rope_parameters", None)) & _LOCAL_ROPE):
        yield f"RoPE of the type {kind} depends on the longest position of a rank's tokens"


def _rope_types(parameters: Any) -> set[str]:
    """Return the types of RoPE, of which a configuration may have one for each type of layer."""
    if not isinstance(parameters, dict):
        return set()
    own = parameters.get("rope_type")  # pyright: ignore
    kinds: set[str] = {own} if isinstance(own, str) else set()
    for value in parameters.values():  # pyright: ignore
        kinds |= _rope_types(value)
    return kinds


def _reasons_of_modules(model: nn.Module) -> Iterator[str]:
    seen: set[str] = set()
    for module in model.modules():
        kind = type(module).__name__.removeprefix("FSDP")
        if kind in seen:
            continue
        seen.add(kind)
        if isinstance(module, (nn.Conv1d, nn.RNNBase)) or any(part in kind for part in _MIXERS):
            yield f"{kind} mixes tokens outside attention"
        if getattr(module, "sinks", None) is not None:
            yield f"{kind} has attention sinks"
