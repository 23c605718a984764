"""Training as users have it: recomputed layers, clipping, checkpoints; all runs in a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from gradients import faults_of, of_one_process, of_plan, sequences_of
from models import GivenPlan, mesh, sharded, whole_model
from steps import error_of
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointImpl,
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP

import lengthwise as lw
from lengthwise.torch import ContextParallel, check
from lengthwise.torch._random_steps import plan_of


def wrapped(of: str) -> Any:
    """A model of which PyTorch's own wrapper recomputes the layers, or a part of each."""
    model = whole_model("llama")
    kind = {"layers": LlamaDecoderLayer, "MLPs": LlamaMLP}[of]
    apply_activation_checkpointing(
        model,
        checkpoint_wrapper_fn=lambda module: checkpoint_wrapper(
            module, checkpoint_impl=CheckpointImpl.NO_REENTRANT
        ),
        check_fn=lambda module: isinstance(module, kind),
    )
    return sharded(model)


def wrapped_faults(of: str, seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong with gradients where PyTorch's own wrapper recomputes."""
    sequences = sequences_of(seq_lens, seed=8)
    expected = of_one_process(whole_model("llama"), sequences)
    loss, gradients, sent = of_plan(wrapped(of), plan_of(micro_batches, seq_lens), sequences)
    marked = [name for name in gradients if "_checkpoint_wrapped_module." in name]
    assert marked
    gradients = {
        name.replace("_checkpoint_wrapped_module.", ""): gradient
        for name, gradient in gradients.items()
    }
    return faults_of(expected, (loss, gradients, sent), of)


def wrapped_check() -> bool:
    """Whether a check comes to its end, and is right, on a model with wrappers."""
    return bool(check(wrapped("layers"), mesh(), num_plans=1))


def clipped(seq_lens: list[int], micro_batches: list[Any]) -> list[float]:
    """The norm that clipping returns, on one process and of a plan, and what is left after it."""
    sequences = sequences_of(seq_lens, seed=9)
    model = whole_model("qwen2")
    of_one_process(model, sequences)
    norms = [float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01))]
    model = sharded(whole_model("qwen2"))
    cp = ContextParallel(GivenPlan(plan_of(micro_batches, seq_lens)), model, mesh())
    for micro_batch in cp.step(sequences):
        cp.loss(model, micro_batch).backward()
    for _ in range(2):
        norm: Any = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        norms.append(float(norm.full_tensor()))
    return norms


def _planner(**options: Any) -> lw.Planner:
    return lw.Planner(
        model="llama-3.1-8b",
        cluster="h100-8x8",
        context="8k",
        devices=dist.get_world_size(),
        **options,
    )


def _train(model: Any, optimizer: Any, cp: ContextParallel, steps: range) -> list[float]:
    losses: list[float] = []
    for step in steps:
        total = torch.zeros(())
        for micro_batch in cp.step(sequences_of([40, 3, 17, 8, 1, 25], seed=step)):
            loss = cp.loss(model, micro_batch)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        dist.all_reduce(total)
        losses.append(float(total))
    return losses


def _trainer(seed: int) -> tuple[Any, Any, ContextParallel]:
    model = whole_model("llama")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model = sharded(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    return model, optimizer, ContextParallel(_planner(), model, mesh())


def saved(path: Path) -> list[float]:
    """Losses of three steps, after three others and a checkpoint."""
    model, optimizer, cp = _trainer(seed=1)
    _train(model, optimizer, cp, range(3))
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=path)
    return _train(model, optimizer, cp, range(3, 6))


def resumed(path: Path, with_optimizer: bool = True) -> list[float]:
    """Losses of the same steps, in a world that begins with the checkpoint."""
    model, optimizer, cp = _trainer(seed=2)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    state = {"model": model_state}
    if with_optimizer:
        state["optimizer"] = optimizer_state
    dcp.load(state, checkpoint_id=path)
    set_state_dict(model, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
    return _train(model, optimizer, cp, range(3, 6))


def two_on_one_model(seq_lens: list[int], micro_batches: list[Any]) -> list[str]:
    """What is wrong where two take turns on a model, with plans of their own."""
    sequences = sequences_of(seq_lens, seed=4)
    expected = of_one_process(whole_model("llama"), sequences)
    model = sharded(whole_model("llama"))
    plans = [plan_of(micro_batches, seq_lens)]
    plans.append(plan_of([[([0], [index])] for index in range(len(seq_lens))], seq_lens))
    both = [ContextParallel(GivenPlan(plan), model, mesh()) for plan in plans]
    faults: list[str] = []
    for cp in (*both, *both):
        total = torch.zeros(())
        for micro_batch in cp.step(sequences):
            loss = cp.loss(model, micro_batch)
            loss.backward()
            total += loss.detach()
        dist.all_reduce(total)
        gradients = {name: each.grad.full_tensor() for name, each in model.named_parameters()}
        model.zero_grad()
        faults += faults_of(expected, (float(total), gradients, 0), "in turns")
    both[0].close()
    # One that is closed leaves the other alone.
    for micro_batch in both[1].step(sequences):
        both[1].loss(model, micro_batch).backward()
    return faults


def evaluated(seq_lens: list[int], micro_batches: list[Any]) -> tuple[float, float, bool]:
    """The loss of one process and of a plan, without gradients and without dropout."""
    sequences = sequences_of(seq_lens, seed=4)
    expected = of_one_process(whole_model("llama"), sequences)[0]
    model = sharded(whole_model("llama").eval())
    cp = ContextParallel(GivenPlan(plan_of(micro_batches, seq_lens)), model, mesh())
    total = torch.zeros(())
    with torch.no_grad():
        for micro_batch in cp.step(sequences):
            total += cp.loss(model, micro_batch)
    dist.all_reduce(total)
    # And training goes on, by another one, though FSDP2 has kept parameters whole.
    cp = ContextParallel(GivenPlan(plan_of(micro_batches, seq_lens)), model, mesh())
    for micro_batch in cp.step(sequences):
        cp.loss(model.train(), micro_batch).backward()
    has_gradients = all(parameter.grad is not None for parameter in model.parameters())
    return expected, float(total), has_gradients


def offloaded() -> str:
    """What is said of parameters on the host where the mesh is of GPUs."""
    ranks = init_device_mesh("cuda", (dist.get_world_size(),))
    model = sharded(whole_model("llama"), ranks, offload_policy=CPUOffloadPolicy())
    plan = GivenPlan(plan_of([[([0], [0])]], [3]))
    return error_of(lambda: ContextParallel(plan, model, ranks))
