"""What sequences cost on the user's own devices, measured."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from lengthwise import Plan, Profile, Strategy
from lengthwise._lengthwise import Survey
from lengthwise.errors import InputError, InputTypeError
from lengthwise.torch._activations import KEEP, RECOMPUTE, layers_of
from lengthwise.torch._agreement import agreed, from_rank_0
from lengthwise.torch._arguments import at_least, number
from lengthwise.torch._measured_for import data_type, dimensions
from lengthwise.torch._memory_probe import TokenMemory, probe
from lengthwise.torch._memory_use import gathered_bytes, logits_bytes, state_bytes
from lengthwise.torch._micro_batch_runs import MicroBatchRuns
from lengthwise.torch._nodes import device_memory, ranks_by_node, shared_cores
from lengthwise.torch._nodes import host_memory as _host_memory
from lengthwise.torch._requirements import check_kinds, check_model

#: Mixed micro-batches that the fit does not see.
_NUM_HELD_OUT = 12

#: A day, beyond which nobody measures.
_LONGEST_S = 86_400

#: Numbers by the bytes they have, where nothing else is known of them.
_TYPES = {4: torch.float32, 2: torch.bfloat16}


def profile(
    model: nn.Module,
    mesh: DeviceMesh,
    *,
    context: int,
    degrees: Sequence[int] | None = None,
    strategies: str = "ulysses",
    activations: str | None = None,
    time_budget: float = 60.0,
    memory: int | None = None,
    host_memory: int | None = None,
    devices_per_node: int | None = None,
    num_cores: int | None = None,
    gradient_sync: Literal["every", "last"] = "every",
    name: str | None = None,
    progress: bool = True,
) -> Profile:
    """Measure what sequences cost by each strategy; a collective call of all ranks.

    Micro-batches of random tokens run forward and backward through the whole model, as
    `ContextParallel` runs them. Which ones is decided as ``lengthwise profile`` decides it: what
    tells most of typical micro-batches comes next, one is run again and again to see how the
    speed of the machine drifts, and 12 mixed ones are held against the fit. The model's parameters
    stay as they are, and its gradients are dropped.

    Parameters
    ----------
    model : Module
        As `ContextParallel` takes it, and as it will be trained: its precision, recomputation and
        sharding are part of what is measured.
    mesh : DeviceMesh
        As `ContextParallel` takes it.
    context : int
        The longest sequence in tokens.
    degrees : sequence of int, optional
        The degrees that groups may have; by default all up to the number of heads, and of rings
        those that are worth a choice.
    strategies : str, default "ulysses"
        What groups may be like: "ulysses", "ring", "hybrid", several of them with commas between,
        or "all".
    activations : str, optional
        What groups may do with activations: "keep", "recompute", "host", several of them, or "all".
        By default what the model does: it recomputes layers, or keeps their activations.
    time_budget : float, default 60
        What measuring should take, in seconds, after a few micro-batches that show what tokens
        need of memory.
    memory : int, optional
        Bytes that a rank may use. By default nine tenths of an accelerator, or of a rank's part of
        the memory of its host.
    host_memory : int, optional
        Bytes of its host that a rank may move activations to. By default nine tenths of its part of
        the host's memory, which on CPUs is the memory of devices, too.
    devices_per_node : int, optional
        The ranks of a node; by default what torchrun says, or else ranks of equal host names.
    num_cores : int, optional
        On CPUs, the cores that all ranks share; by default those of the machine if all ranks are
        on one. Give the number of ranks if each has cores of its own.
    gradient_sync : {"every", "last"}
        Whether gradients are reduced after every micro-batch or after the last of a step
        (``set_requires_gradient_sync``). The latter keeps whole gradients.
    name : str, optional
        What reports call the profile.
    progress : bool, default True
        Whether rank 0 says on stderr how far measuring has come, if that is a terminal, and how
        good the fit is.

    Returns
    -------
    Profile
        The same on all ranks; its `fitted_error`, `held_out_error` and `noise` say how good it is.
    """
    chosen = agreed(
        lambda: _checked(
            model,
            mesh,
            degrees=degrees,
            strategies=strategies,
            activations=activations,
            context=context,
            time_budget=time_budget,
            memory=memory,
            host_memory=host_memory,
            num_cores=num_cores,
            gradient_sync=gradient_sync,
            name=name,
        ),
        lambda found: (found, context, time_budget, memory, host_memory, gradient_sync),
        "the arguments of a profile",
    )
    context, time_budget = int(context), float(time_budget)
    nodes = ranks_by_node(devices_per_node)
    runs = MicroBatchRuns(model, mesh, syncs_gradients=gradient_sync == "every")
    try:
        settings = _settings(
            runs, model, nodes, chosen.strategies(nodes), context, memory, num_cores, gradient_sync
        )
        settings |= {
            "host_memory_bytes": _host_memory(nodes) if host_memory is None else int(host_memory),
            "name": name or _name(model, mesh, gradient_sync),
            "degrees": None if degrees is None else [int(each) for each in degrees],
            "time_budget_s": time_budget,
            "num_held_out": _NUM_HELD_OUT,
        }
        measured = _surveyed(runs, settings, _Progress(time_budget, progress))
        runs.close()
    finally:
        runs.restore()
    return measured


@dataclass(frozen=True)
class _Chosen:
    """What groups may be like.

    Attributes
    ----------
    families, activations : str
        By their names, with commas between.
    num_heads : int
        The query heads of the model.
    degrees : tuple of int, optional
        The only ones.
    """

    families: str
    activations: str
    num_heads: int
    degrees: tuple[int, ...] | None

    def strategies(self, nodes: list[int]) -> list[Strategy]:
        """Return them, where nodes have so many ranks."""
        return Survey.strategies(
            self.families, self.activations, self.num_heads, max(nodes), sum(nodes), self.degrees
        )


def _checked(
    model: nn.Module,
    mesh: DeviceMesh,
    *,
    degrees: Any,
    strategies: Any,
    activations: Any,
    context: Any,
    time_budget: Any,
    memory: Any,
    host_memory: Any,
    num_cores: Any,
    gradient_sync: Any,
    name: Any,
) -> _Chosen:
    """Refuse arguments that can't be used, and return what groups may be like."""
    check_kinds(model, mesh)
    check_model(model)
    num_heads = dimensions(model)["heads"]
    listed: tuple[int, ...] | None = None
    if isinstance(degrees, str) or not isinstance(degrees, Iterable | None):
        raise InputTypeError(f"degrees is {degrees!r}; it must be a sequence of whole numbers")
    if degrees is not None:
        # A rank alone is what all others are compared with.
        listed = tuple(sorted({1, *(at_least("a degree", each, 1) for each in degrees)}))  # pyright: ignore
    own = _activations_of(model)
    wanted = own if activations is None else activations
    chosen = _Chosen(strategies, wanted, num_heads, listed)
    # How many ranks a node has is not known yet; that shows in hybrids alone.
    here = [mesh.size()]
    possible = dataclasses.replace(chosen, activations=own, degrees=None).strategies(here)
    most = max(strategy.degree for strategy in possible)
    if listed is not None and listed[-1] > most:
        msg = f"degrees has {listed[-1]}; {mesh.size()} ranks and the heads allow 1 to {most}"
        raise InputError(msg)
    all_found = chosen.strategies(here)
    _check_activations(model, {strategy.activations for strategy in all_found})
    at_least("context", context, 1)
    for argument, value in (
        ("memory", memory),
        ("host_memory", host_memory),
        ("num_cores", num_cores),
    ):
        if value is not None:
            at_least(argument, value, 1)
    if name is not None and not isinstance(name, str):
        raise InputTypeError(f"name is {name!r}; it must be text")
    if not 0.0 < number("time_budget", time_budget) <= _LONGEST_S:
        msg = f"time_budget is {time_budget}; it must be above 0 s and at most {_LONGEST_S} s"
        raise InputError(msg)
    if gradient_sync not in ("every", "last"):
        raise InputError(f"gradient_sync is {gradient_sync!r}; it must be 'every' or 'last'")
    return chosen


def _activations_of(model: nn.Module) -> str:
    return RECOMPUTE if _recomputes(model) else KEEP


def _check_activations(model: nn.Module, chosen: set[str]) -> None:
    own = _activations_of(model)
    if KEEP in chosen and own != KEEP:
        raise InputError(
            "activations has keep, and the model recomputes its layers by itself",
            hint="call gradient_checkpointing_disable(); plans then say which groups recompute",
        )
    if chosen - {own, KEEP} and not layers_of(model):
        raise InputError(
            f"activations is {','.join(sorted(chosen))}; the model has no layers to run again",
            hint="layers that can be are GradientCheckpointingLayer of transformers",
        )


def _name(model: nn.Module, mesh: DeviceMesh, gradient_sync: str) -> str:
    config: Any = model.config
    kind = str(getattr(config, "model_type", "model"))
    last = "" if gradient_sync == "every" else ", gradients reduced at the last micro-batch"
    return f"{kind} on {mesh.size()} {mesh.device_type}{last}"


def _settings(
    runs: MicroBatchRuns,
    model: nn.Module,
    nodes: list[int],
    strategies: list[Strategy],
    context: int,
    memory: int | None,
    num_cores: int | None,
    gradient_sync: str,
) -> dict[str, Any]:
    """Return what is known without timing anything."""
    of_tokens = probe(runs, strategies, context)
    budget = device_memory(runs.device, nodes) if memory is None else int(memory)
    fixed = _fixed_bytes(runs, model, of_tokens, gradient_sync)
    state, fixed = runs.most([float(state_bytes(model)), fixed])
    budget = -int(runs.most([-float(budget)])[0])
    room = budget - fixed - min(of_tokens.per_token.values())
    if room < 0.0:
        msg = (
            f"the model and a token take {(budget - room) / 2**30:.2f} GiB of a rank; "
            f"{budget / 2**30:.2f} GiB may be used"
        )
        raise InputError(msg, hint="shard the model over more ranks, or give more memory=")
    dims = dimensions(model)
    element_bytes = runs.element_bytes or _parameter_bytes(model)
    head_dim = _head_dim(model, dims)
    heads = 2 * dims["heads"] + 2 * dims["kv_heads"]
    return {
        "ranks_by_node": nodes,
        "num_cores": shared_cores(nodes, runs.device, num_cores),
        "context_tokens": int(context),
        "device_memory_bytes": budget,
        "fixed_memory_bytes": fixed,
        "strategies": [
            {"strategy": _written(strategy), "memory_bytes_per_token": per_token}
            for strategy, per_token in of_tokens.per_token.items()
        ],
        "host_bytes_per_token": float(element_bytes * max(dims["layers"] - 1, 0) * dims["hidden"]),
        "sharded_bytes": int(state * sum(nodes)),
        "exchanged_bytes_per_token": float(element_bytes * dims["layers"] * heads * head_dim),
        "measured_for": {
            **dims,
            "ranks": sum(nodes),
            "devices_per_node": nodes[0],
            "data_type": data_type(_TYPES.get(element_bytes, torch.float32)),
            "emulated": "none",
        },
    }


def _written(strategy: Strategy) -> dict[str, Any]:
    """Return a strategy as files have it."""
    return {
        "ulysses": strategy.ulysses,
        "ring": strategy.ring,
        "activations": strategy.activations,
    }


def _fixed_bytes(
    runs: MicroBatchRuns, model: nn.Module, of_tokens: TokenMemory, gradient_sync: str
) -> float:
    state = state_bytes(model)
    if runs.device.type == "cuda":
        # Seen were parameters and their gradients; the moments are still to come.
        trainable = sum(_local_bytes(each) for each in model.parameters() if each.requires_grad)
        return of_tokens.without_tokens + 2.0 * trainable
    config: Any = model.config
    gathered = gathered_bytes(model, keeps_gradients=gradient_sync == "last")
    return float(state + gathered + logits_bytes(int(config.vocab_size)))


def _local_bytes(parameter: nn.Parameter) -> int:
    local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
    return local.numel() * local.element_size()


def _parameter_bytes(model: nn.Module) -> int:
    return next(model.parameters()).element_size()


def _head_dim(model: nn.Module, dims: dict[str, Any]) -> int:
    config: Any = model.config
    return int(getattr(config, "head_dim", None) or dims["hidden"] // dims["heads"])


def _recomputes(model: nn.Module) -> bool:
    """Whether layers are run again in the backward, by transformers or by PyTorch's wrapper."""
    # Each module that transformers recomputes says so; the model's own property was renamed.
    return any(
        getattr(module, "gradient_checkpointing", False) is True
        or type(module).__name__.removeprefix("FSDP") == "CheckpointWrapper"
        for module in model.modules()
    )


def _surveyed(runs: MicroBatchRuns, settings: dict[str, Any], progress: _Progress) -> Profile:
    """Run what the survey of rank 0 asks for, until it has enough."""
    surveys: list[Survey] = []
    from_rank_0(lambda: surveys.append(Survey(json.dumps(settings))))
    survey = surveys[0] if surveys else None
    started = time.perf_counter()
    shortest: Plan | None = None
    while (plan := from_rank_0(lambda: _next(survey, started, progress))) is not None:
        read = Plan.from_json(plan)
        shortest = shortest or read
        begun = time.perf_counter()
        all_s, peak, exchange_s = runs.timed(read, Survey.REPEATS, Survey.REPEATED_BELOW_S)
        at_s = (begun + time.perf_counter()) / 2.0 - started
        from_rank_0(partial(_record, survey, at_s, all_s, peak, exchange_s))
    step_s = runs.optimizer_s()
    if shortest is not None and not runs.syncs_gradients:
        step_s += runs.gradient_sync_s(shortest)
    text = from_rank_0(lambda: _finished(survey, started, step_s, progress))
    return Profile.from_toml(text, str(settings["name"]))


def _next(survey: Survey | None, started: float, progress: _Progress) -> str | None:
    assert survey is not None, "rank 0 has the survey"
    elapsed_s = time.perf_counter() - started
    progress.show(survey, elapsed_s)
    plan = survey.next(elapsed_s)
    return None if plan is None else plan.to_json()


def _record(
    survey: Survey | None, at_s: float, all_s: list[float], peak: float, exchange_s: float
) -> None:
    assert survey is not None, "rank 0 has the survey"
    survey.record(at_s, all_s, peak, exchange_s)


def _finished(survey: Survey | None, started: float, step_s: float, progress: _Progress) -> str:
    assert survey is not None, "rank 0 has the survey"
    measured = survey.finish(step_s, time.perf_counter() - started)
    progress.end(measured)
    return measured.to_toml()


class _Progress:
    """Says on stderr how far measuring has come."""

    def __init__(self, time_budget_s: float, is_shown: bool) -> None:
        self._time_budget_s = time_budget_s
        self._is_shown = is_shown
        self._is_line = is_shown and sys.stderr.isatty()

    def show(self, survey: Survey, elapsed_s: float) -> None:
        """Show it in place of what was shown before."""
        if self._is_line:
            part = min(1.0, elapsed_s / self._time_budget_s)
            text = (
                f"measuring {part:4.0%}  {survey.num_trials} micro-batches, expected error "
                f"{survey.expected_error:.1%}"
            )
            sys.stderr.write(f"\r{text:<78}")
            sys.stderr.flush()

    def end(self, measured: Profile) -> None:
        """Say how good the fit is."""
        if self._is_line:
            sys.stderr.write(f"\r{'':<78}\r")
        if self._is_shown:
            fitted, held_out = measured.fitted_error or 0.0, measured.held_out_error
            unseen = (
                "nothing was held out"
                if held_out is None
                else (f"{held_out:.1%} on micro-batches it has not seen")
            )
            noise = measured.noise
            between = "" if noise is None else f"; {noise:.1%} noise between runs of the same"
            sys.stderr.write(f"error {fitted:.1%} on what was fitted, {unseen}{between}\n")
