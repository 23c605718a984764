"""Steps that succeed or are refused; everything here runs in a world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from models import GivenPlan, mesh, sharded, whole_model
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

import lengthwise as lw
from lengthwise.torch import ContextParallel
from lengthwise.torch._random_steps import plan_of


def error_of(work: Callable[[], Any]) -> str:
    """What an error of this package says."""
    try:
        work()
    except lw.LengthwiseError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def micro_batches(seq_lens: list[int], plan: Any) -> list[dict[str, Any]]:
    """What this rank runs of a plan."""
    cp = ContextParallel(GivenPlan(plan_of(plan, seq_lens)), sharded(whole_model("llama")), mesh())
    sequences = [list(range(10 * index, 10 * index + n)) for index, n in enumerate(seq_lens)]
    return [
        {
            "input_ids": each.input_ids.tolist(),
            "position_ids": each.position_ids.tolist(),
            "targets": each.targets.tolist(),
            "num_step_labels": each.num_step_labels,
            "num_tokens": each.num_tokens,
            "is_idle": each.is_idle,
        }
        for each in cp.step(sequences)
    ]


def refused_steps() -> dict[str, str]:
    """What is said of steps that can't be run; the same rank runs one after the other."""
    rank, num_ranks = dist.get_rank(), dist.get_world_size()
    planner = GivenPlan(plan_of([[([0], [0])]], [3]))
    cp = ContextParallel(planner, sharded(whole_model("llama")), mesh())

    def failing() -> Any:
        if rank == 1:
            raise OSError("the disk is gone")
        yield [1, 2, 3]

    def with_plan(plan: Any) -> str:
        planner.given = plan_of(plan, [3])
        found = error_of(lambda: cp.step([[1, 2, 3]]))
        planner.given = plan_of([[([0], [0])]], [3])
        return found

    def on_one_rank() -> str:
        try:
            cp.step(failing())
        except OSError as error:
            return str(error)
        except lw.LengthwiseError as error:
            return str(error)
        return "no error"

    def wrong_logits() -> None:
        micro_batch = next(iter(cp.step([[1, 2, 3]])))
        cp.loss_of_logits(torch.zeros(1, len(micro_batch.targets) + 1, 61), micro_batch)

    return {
        "logits": error_of(wrong_logits),
        "different": error_of(lambda: cp.step([[1, 2, 3 + rank]])),
        "failing": on_one_rank(),
        "none": error_of(lambda: cp.step([])),
        "empty": error_of(lambda: cp.step([[]])),
        "unlabelled": error_of(lambda: cp.step([{"input_ids": [1, 2, 3], "labels": [-100] * 3}])),
        "short labels": error_of(lambda: cp.step([{"input_ids": [1, 2, 3], "labels": [1]}])),
        "floats": error_of(lambda: cp.step([[0.5, 1.0]])),
        "unknown id": error_of(lambda: cp.step([[1, 2, 61]])),
        "other lengths": error_of(lambda: cp.step([[1, 2]])),
        "many ranks": with_plan([[(list(range(num_ranks + 1)), [0])]]),
        "works after all": error_of(lambda: cp.step([[1, 2, 3]])),
    }


def refused_models() -> dict[str, str]:
    """What is said of models that can't be used."""
    sizes: dict[str, Any] = {
        "vocab_size": 61,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "pad_token_id": 0,
    }
    llama = LlamaForCausalLM
    plan = GivenPlan(plan_of([[([0], [0])]], [3]))
    dynamic = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    models: dict[str, Any] = {
        "not sharded": llama(LlamaConfig(**sizes)),
        "dropout": llama(LlamaConfig(**sizes, attention_dropout=0.1)),
        "dynamic": llama(LlamaConfig(**sizes, rope_parameters=dynamic)),
        "soft cap": Gemma2ForCausalLM(Gemma2Config(**sizes, head_dim=8)),
        "scaled logits": GraniteForCausalLM(GraniteConfig(**sizes, logits_scaling=2.0)),
        "DDP": DistributedDataParallel(llama(LlamaConfig(**sizes))),
        "no model": torch.nn.Linear(2, 2),
    }
    models["compiled"] = torch.compile(llama(LlamaConfig(**sizes)))
    models["compiled in place"] = llama(LlamaConfig(**sizes))
    models["compiled in place"].compile()
    with_convolution = llama(LlamaConfig(**sizes))
    with_convolution.model.layers[0].mixer = torch.nn.Conv1d(2, 2, 1)
    models["convolution"] = with_convolution
    with_sinks = llama(LlamaConfig(**sizes))
    with_sinks.model.layers[0].self_attn.sinks = torch.nn.Parameter(torch.zeros(2))
    models["sinks"] = with_sinks
    found = {
        name: error_of(lambda model=model: ContextParallel(plan, model, mesh()))
        for name, model in models.items()
    }
    plan.num_ranks += 1
    model = sharded(whole_model("llama"))
    found["ranks"] = error_of(lambda: ContextParallel(plan, model, mesh()))
    plan.num_ranks -= 1
    ContextParallel(plan, model, mesh())
    found["outside"] = error_of(lambda: model(input_ids=torch.tensor([[1]]), use_cache=False))
    return found


def misused() -> dict[str, str]:
    """What is said where other things are given than are asked for."""
    planner: Any = GivenPlan(plan_of([[([0], [0])]], [3]))
    model = sharded(whole_model("llama"))
    cp = ContextParallel(planner, model, mesh())
    other = sharded(whole_model("llama"))
    micro_batch = next(iter(cp.step([[1, 2, 3]])))

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.get_output_embeddings = model.get_output_embeddings

        def forward(self, **inputs: Any) -> Any:
            return self.inner(**inputs)

    nothing: Any = None
    wrong: Any = cp.step([[1, 2, 3]])
    found = {
        "other model": error_of(lambda: cp.loss(other, micro_batch)),
        "evaluated other": error_of(lambda: cp.evaluate(other, [[1, 2, 3]], context=9)),
        "wrapped": error_of(lambda: cp.loss(Wrapper(), micro_batch).backward()),
        "no model": error_of(lambda: cp.loss(nothing, micro_batch)),
        "step": error_of(lambda: cp.loss(model, wrong)),
        "inputs": error_of(lambda: cp.inputs(nothing)),
        "planner": error_of(lambda: ContextParallel(nothing, model, mesh())),
        "model": error_of(lambda: ContextParallel(planner, nothing, mesh())),
        "mesh": error_of(lambda: ContextParallel(planner, model, nothing)),
    }
    cp.close()
    cp.close()
    found["closed"] = error_of(lambda: cp.loss(model, micro_batch))
    found["step of closed"] = error_of(lambda: cp.step([[1, 2, 3]]))
    return found


def trained() -> list[float]:
    """Losses of a few steps of the ten lines, with a planner of Lengthwise."""
    planner = lw.Planner(
        model="llama-3.1-8b", cluster="h100-8x8", context="8k", devices=dist.get_world_size()
    )
    model = sharded(whole_model("llama"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    cp = ContextParallel(planner, model, mesh())
    sequences = [[(3 * place + index) % 61 for place in range(5 + 9 * index)] for index in range(5)]
    losses: list[float] = []
    for _ in range(6):
        total = torch.zeros(())
        for micro_batch in cp.step(sequences):
            loss = cp.loss(model, micro_batch)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        dist.all_reduce(total)
        losses.append(float(total))
    return losses
