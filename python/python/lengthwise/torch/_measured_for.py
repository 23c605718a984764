"""What the costs of a profile hold for."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from lengthwise import Profile
from lengthwise.errors import InputError

#: As profiles call them.
_DATA_TYPES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


def dimensions(model: nn.Module) -> dict[str, Any]:
    """Return the dimensions of a model with the keys of a profile's ``measured_for``."""
    causal_model: Any = model
    config = causal_model.config
    num_heads = int(config.num_attention_heads)
    return {
        "vocab": int(config.vocab_size),
        "hidden": int(config.hidden_size),
        "layers": int(config.num_hidden_layers),
        "heads": num_heads,
        "kv_heads": int(getattr(config, "num_key_value_heads", None) or num_heads),
        "ffn": int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
        "tied_output": bool(getattr(config, "tie_word_embeddings", False)),
    }


def data_type(of: torch.dtype) -> str:
    """Return what profiles call a type of numbers."""
    return _DATA_TYPES.get(of, str(of).removeprefix("torch."))


def check_measured_for(profile: Profile, model: nn.Module, mesh: DeviceMesh) -> None:
    """Refuse a profile that was measured with another model, or on another number of ranks.

    Raises
    ------
    InputError
        Names what differs.
    """
    measured = profile.measured_for
    if measured is None:
        return
    for key, value in {**dimensions(model), "ranks": mesh.size()}.items():
        if measured[key] != value:
            whose = "the mesh" if key == "ranks" else "the model"
            msg = (
                f"the profile {profile.name} was measured for {key} {measured[key]}, and {whose} "
                f"has {value}; a profile holds for what was measured"
            )
            raise InputError(msg, hint="measure one with lengthwise.torch.profile")
