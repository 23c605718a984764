"""Adapters of peft on a frozen model; everything here runs in a world."""

from __future__ import annotations

from typing import Any

import torch
from gradients import faults_of, of_one_process, of_plan, sequences_of
from models import GivenPlan, mesh, sharded, whole_model
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from steps import error_of
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from lengthwise.torch import ContextParallel, check
from lengthwise.torch._random_steps import plan_of

LORA: dict[str, Any] = {"r": 3, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def adapted_model() -> Any:
    """A frozen model with an adapter that already does something."""
    model = whole_model("llama")
    torch.manual_seed(11)
    model = get_peft_model(model, LoraConfig(**LORA))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            # They begin with zeros, and then the other half has no gradient.
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def sharded_adapted_model() -> Any:
    """The same, as a user shards it: what peft has made is the root."""
    model = adapted_model()
    for layer in model.get_base_model().model.layers:
        fully_shard(layer, mesh=mesh())
    return fully_shard(model, mesh=mesh())


def faults(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong with the gradients of adapters."""
    sequences = sequences_of(seq_lens, seed=6)
    loss, gradients = of_one_process(adapted_model().get_base_model(), sequences)
    expected = (loss, {f"base_model.model.{name}": each for name, each in gradients.items()})
    model = sharded_adapted_model()
    # What is frozen is sharded too.
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    assert len(gradients) == 2 * 2 * len(LORA["target_modules"])
    found = of_plan(model, plan_of(micro_batches, seq_lens), sequences)
    return faults_of(expected, found, "adapters")


def refused() -> dict[str, str]:
    """What is said of adapters that can't be used, and of checks of those that can."""
    plan = GivenPlan(plan_of([[([0], [0])]], [3]))
    prefix = get_peft_model(
        whole_model("llama"), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    partly = get_peft_model(sharded(whole_model("llama")), LoraConfig(**LORA))
    return {
        "prefix": error_of(lambda: ContextParallel(plan, prefix, mesh())),
        "added after sharding": error_of(lambda: ContextParallel(plan, partly, mesh())),
        "check": error_of(lambda: check(sharded_adapted_model(), mesh())),
    }
