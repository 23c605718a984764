"""A model that feels at which place a token stands.

RoPE tells how far tokens are apart, not where they are: were positions not to restart with every
sequence of a pack, no gradient would show it, and a model with positions of another kind would be
trained wrongly. So a check adds to every embedding a wave of its token's position.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def felt_positions(model: nn.Module, amplitude: float) -> Generator[None, None, None]:
    """Add a wave of each token's position to what the embedding of `model` returns."""
    positions: list[Tensor] = []

    def before(_module: nn.Module, _args: Any, options: dict[str, Any]) -> None:
        positions[:] = [options["position_ids"]]

    def after(_module: nn.Module, _args: Any, embedded: Tensor) -> Tensor:
        places = positions[0].to(torch.float32)[..., None]
        features = torch.arange(embedded.shape[-1], device=embedded.device, dtype=torch.float32)
        wave = amplitude * torch.sin(places * (0.3 + 0.1 * features))
        return embedded + wave.to(embedded.dtype)

    causal_model: Any = model
    embedding: nn.Module = causal_model.get_input_embeddings()
    hooks = (
        model.register_forward_pre_hook(before, with_kwargs=True),
        embedding.register_forward_hook(after),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
