"""Steps and profiles that are measured; everything here runs in a world."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from models import VOCAB, GivenPlan, mesh, sharded, whole_model
from steps import error_of
from torch.distributed.device_mesh import init_device_mesh

import lengthwise as lw
from lengthwise.torch import ContextParallel, profile
from lengthwise.torch._random_steps import plan_of

#: Bytes that a rank may use, with which no more than some hundred tokens fit one.
MEMORY = 6_000_000


def profiled(path: str, options: dict[str, Any]) -> tuple[lw.Profile, bool, bool]:
    """A profile, whether a planner of it plans, and whether the model is as it was."""
    model = sharded(whole_model("llama"))
    before = [parameter.to_local().clone() for parameter in model.parameters()]
    measured = profile(
        model, mesh(), context=256, memory=MEMORY, time_budget=3.0, progress=False, **options
    )
    is_as_before = all(
        torch.equal(old, new.to_local()) and new.grad is None
        for old, new in zip(before, model.parameters(), strict=True)
    )
    if dist.get_rank() == 0:
        measured.save(path, overwrite=True)
    planner = lw.Planner(profile=measured)
    # Nor does FSDP2 keep what was not reduced.
    after, fresh = (_gradients(each, planner) for each in (model, sharded(whole_model("llama"))))
    is_as_before &= all(torch.allclose(*pair) for pair in zip(after, fresh, strict=True))
    plan = planner.plan([200, 30, 30, 30])
    return measured, plan.predicted_step_s is not None, is_as_before


def _gradients(model: Any, planner: lw.Planner) -> list[torch.Tensor]:
    cp = ContextParallel(planner, model, mesh())
    for micro_batch in cp.step(batch(0)):
        cp.loss(model, micro_batch).backward()
    cp.close()
    return [parameter.grad.full_tensor() for parameter in model.parameters()]


def refused_profiles() -> dict[str, str]:
    """What is said of arguments that make no profile, and of profiles of something else."""
    model = sharded(whole_model("llama"))
    measured = profile(model, mesh(), context=64, memory=MEMORY, time_budget=0.5, progress=False)
    rank = dist.get_rank()

    def profiling(**options: Any) -> str:
        return error_of(
            lambda: profile(
                model, mesh(), **{"context": 64, "time_budget": 0.5, "progress": False} | options
            )
        )

    def running(text: str) -> str:
        planner = lw.Planner(profile=lw.Profile.from_toml(text))
        return error_of(lambda: ContextParallel(planner, model, mesh()))

    toml = measured.to_toml()
    return {
        "degree": profiling(degrees=[7]),
        "context": profiling(context=0),
        "different": profiling(context=64 + rank),
        "time_budget": profiling(time_budget=0.0),
        "memory": profiling(memory=1000),
        "gradient_sync": profiling(gradient_sync="never"),
        "no strategy": profiling(strategies="rings"),
        "no text": profiling(strategies=["ring"]),
        "no activations": profiling(activations="offload"),
        "recomputed twice": _of_recomputing(activations="keep,host"),
        "no host": profiling(host_memory=0.5),
        "no degrees": profiling(degrees=2),
        "half a degree": profiling(degrees=[1.5]),
        "no context": profiling(context="long"),
        "no time": profiling(time_budget="a minute"),
        "no memory": profiling(memory=-1),
        "no cores": profiling(num_cores="all"),
        "no name": profiling(name=7),
        "no mesh": error_of(lambda: profile(model, 2, context=64)),
        "other model": running(toml.replace("hidden = 48", "hidden = 64")),
        "other ranks": running(toml.replace("ranks = 2", "ranks = 8")),
        "the same": running(toml),
    }


def _of_recomputing(**options: Any) -> str:
    """What is said of a model that recomputes its layers by itself."""
    model = whole_model("llama")
    model.gradient_checkpointing_enable()
    return error_of(lambda: profile(sharded(model), mesh(), context=64, **options))


def batch(index: int) -> list[list[int]]:
    """Sequences of uneven lengths."""
    lens = [90, 40, 7, 30, 3, 16]
    return [[(index + place) % VOCAB for place in range(n)] for n in lens]


def trained(
    metrics: str | None, num_steps: int, options: dict[str, Any], refine: bool
) -> dict[str, Any]:
    """Losses, norms, predictions and the times of steps of training."""
    model = sharded(whole_model("llama"))
    planner = given_profile_planner(**options)
    cp = ContextParallel(planner, model, mesh(), refine=refine, metrics=metrics)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    found: dict[str, list[Any]] = {"losses": [], "norms": [], "plans": [], "predicted_s": []}
    for index in range(num_steps):
        step = cp.step(batch(index))
        found["predicted_s"].append(step.plan.predicted_step_s)
        found["plans"].append(step.plan)
        loss = torch.zeros(())
        for micro_batch in step:
            part = cp.loss(model, micro_batch)
            part.backward()
            loss += part.detach()
        norm: Any = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        step.record(gradient_norm=norm, learning_rate=1e-3)
        optimizer.step()
        optimizer.zero_grad()
        dist.all_reduce(loss)
        found["losses"].append(float(loss))
        found["norms"].append(float(norm.full_tensor()))
    cp.close()
    return found


def full_metrics() -> list[str]:
    """What is warned of where the disk of the metrics is full."""
    model = sharded(whole_model("llama"))
    cp = ContextParallel(given_profile_planner(), model, mesh(), metrics="/dev/full")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for seed in range(3):
            for micro_batch in cp.step(batch(seed)):
                cp.loss(model, micro_batch).backward()
        cp.close()
    return [str(each.message) for each in warned if "metrics" in str(each.message)]


def given_profile_planner(**options: Any) -> lw.Planner:
    """A planner by costs that are those of no machine, for all ranks."""
    text = (Path(__file__).parent / "costs.toml").read_text()
    costs = lw.Profile.from_toml(text)
    return lw.Planner(profile=costs, devices=dist.get_world_size(), context=256, **options)


def gradients_of(planner: str) -> tuple[str, list[Any], list[torch.Tensor]]:
    """Who planned a step, the degrees of its groups, and its gradient."""
    model = sharded(whole_model("llama"))
    cp = ContextParallel(given_profile_planner(planner=planner), model, mesh())
    step = cp.step(batch(0))
    for micro_batch in step:
        cp.loss(model, micro_batch).backward()
    degrees = [[group.degree for group in each.groups] for each in step.plan.micro_batches]
    gradients = [parameter.grad.full_tensor() for parameter in model.parameters()]
    cp.close()
    return str(step.plan.planner), degrees, gradients


def left_early() -> list[Any]:
    """What is known of a step that one rank has not run to its end."""
    model = sharded(whole_model("llama"))
    plan = plan_of([[([0, 1], [0])]], [6])
    cp = ContextParallel(GivenPlan(plan), model, mesh())
    found: list[Any] = []
    for breaks in (True, False):
        for micro_batch in cp.step([[1, 2, 3, 4, 5, 6]]):
            cp.loss(model, micro_batch).backward()
            if breaks and dist.get_rank() == 1:
                break
        ended = cp._steps.end()  # pyright: ignore[reportPrivateUsage]
        found.append(None if ended is None else json.dumps(ended[1].micro_batches_s))
    cp.close()
    return found


def out_of_memory() -> str:
    """What is said where PyTorch finds no memory."""
    model = sharded(whole_model("llama"))
    planner = given_profile_planner()
    cp = ContextParallel(planner, model, mesh())

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("Tried to allocate 2.00 GiB")

    model.model.layers[0].register_forward_pre_hook(fail)
    step = cp.step(batch(0))
    return error_of(lambda: cp.loss(model, next(iter(step))))


def refused_metrics(path: str) -> str:
    """What is said of a file that is no file of metrics."""
    model = sharded(whole_model("llama"))
    return error_of(lambda: ContextParallel(given_profile_planner(), model, mesh(), metrics=path))


def out_of_cuda_memory() -> str:
    """What is said where a GPU has no memory left for a micro-batch."""
    ranks = init_device_mesh("cuda", (1,))
    model = sharded(whole_model("llama").to("cuda"), ranks)
    cp = ContextParallel(given_profile_planner(), model, ranks)
    step = cp.step([[1] * 250])
    cuda: Any = torch.cuda
    cuda.empty_cache()
    total = cuda.get_device_properties("cuda").total_memory
    cuda.set_per_process_memory_fraction(cuda.memory_allocated() / total)
    try:
        return error_of(lambda: cp.loss(model, next(iter(step))))
    finally:
        cuda.set_per_process_memory_fraction(1.0)
