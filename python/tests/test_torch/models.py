"""Tiny models with random weights, as FSDP2 shards them; everything here runs in a world."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 61

#: Query heads and key/value heads that divide by few degrees.
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
}

MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama-tied": (
        LlamaForCausalLM,
        LlamaConfig,
        {"tie_word_embeddings": True, "num_key_value_heads": 1},
    ),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12, "num_key_value_heads": 2}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": 9}),
}


def whole_model(name: str, **sizes: Any) -> Any:
    """The model, the same on every rank."""
    kind, config, own = MODELS[name]
    torch.manual_seed(7)
    model = kind(config(**{**SIZES, **own, **sizes}))
    for parameter in model.parameters():
        # Biases and norms begin with zeros and ones, which hides what is wrong with them.
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.train()


def mesh() -> DeviceMesh:
    """All ranks of the world."""
    return init_device_mesh("cpu", (dist.get_world_size(),))


def sharded(model: Any, ranks: DeviceMesh | None = None, **options: Any) -> Any:
    """The model, as a user shards it."""
    ranks = mesh() if ranks is None else ranks
    for layer in model.model.layers:
        fully_shard(layer, mesh=ranks, **options)
    fully_shard(model, mesh=ranks, **options)
    return model


class GivenPlan:
    """A planner that has its plan."""

    def __init__(self, plan: Any) -> None:
        self.given = plan
        self.num_ranks = dist.get_world_size()

    def plan(self, lengths: list[int], /) -> Any:
        """The plan."""
        return self.given
