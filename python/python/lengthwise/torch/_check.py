"""Whether the gradients of a model, however it is divided, are those of one rank."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from lengthwise.errors import InputError
from lengthwise.torch._agreement import from_rank_0
from lengthwise.torch._arguments import at_least, number
from lengthwise.torch._attention import NAME
from lengthwise.torch._check_result import ZERO, CheckResult, ParameterError
from lengthwise.torch._context_parallel import ContextParallel
from lengthwise.torch._given_plan import GivenPlan
from lengthwise.torch._position_signal import felt_positions
from lengthwise.torch._random_steps import RandomStep, random_step
from lengthwise.torch._reference import accumulate_gradients, copied, parameters_of, whole
from lengthwise.torch._requirements import check_kinds


def check(
    model: nn.Module,
    mesh: DeviceMesh,
    *,
    num_plans: int = 4,
    seed: int = 0,
    max_seq_len: int = 64,
    tolerance: float = 1e-5,
) -> CheckResult:
    """Compare gradients of random plans with those of one rank; a collective call of all ranks.

    The plans have groups of mixed degrees, with and without rings, whose layers are kept,
    recomputed or recomputed from inputs on the host; idle ranks; sequences of one token; and labels
    that are missing. Rank 0 runs the same sequences one by one, with the whole model and the
    attention of transformers. So the model, its gradients and their copies must fit one device.
    Dropout is off, and the model's own gradients are as before afterwards. The model keeps the
    attention ``lengthwise``.

    Parameters
    ----------
    model : Module
        As `ContextParallel` takes it, in float32.
    mesh : DeviceMesh
        As `ContextParallel` takes it.
    num_plans : int
        How many plans are compared.
    seed : int
        From which sequences and plans are drawn, the same on all ranks.
    max_seq_len : int
        The most tokens of a sequence. A sliding window shows only if this is more.
    tolerance : float
        The largest error that is rounding, relative to the norm of a parameter's gradient.

    Returns
    -------
    CheckResult
        The same on all ranks.
    """
    max_seq_len = at_least("max_seq_len", max_seq_len, 8)
    num_plans = at_least("num_plans", num_plans, 1)
    tolerance = number("tolerance", tolerance)
    if not 0.0 < tolerance < 1.0:
        raise InputError(f"tolerance is {tolerance}; it must be between 0 and 1")
    check_kinds(model, mesh)
    if hasattr(model, "get_base_model"):
        msg = f"{type(model).__name__.removeprefix('FSDP')} can't be made anew without its adapter"
        raise InputError(msg, hint="check the model before peft adds the adapter")
    config: Any = getattr(model, "config", None)
    own_attention: str | None = getattr(config, "_attn_implementation", None)
    planner = GivenPlan(mesh.size())
    cp = ContextParallel(planner, model, mesh)
    _check_parameters(model)
    parameters = {name: whole(tensor.detach()) for name, tensor in parameters_of(model)}
    causal_model: Any = model
    table: Tensor = whole(causal_model.get_input_embeddings().weight.detach())
    amplitude = float(table.float().std())
    found: list[ParameterError] = []
    with _without_dropout(model), _without_gradients(model), felt_positions(model, amplitude):
        reference = _on_rank_0(
            lambda: copied(
                model, parameters, own_attention if own_attention not in (None, NAME) else "sdpa"
            )
        )
        for index in range(num_plans):
            step = random_step(
                random.Random(f"{seed}-{index}"),
                num_ranks=mesh.size(),
                num_heads=int(config.num_attention_heads),
                vocab=int(config.vocab_size),
                max_seq_len=max_seq_len,
            )
            planner.next = step.plan
            loss, gradients = _planned(cp, model, step)
            found += from_rank_0(
                lambda loss=loss, gradients=gradients, step=step, index=index: _errors(
                    index, tolerance, loss, gradients, *_of_one_rank(reference, amplitude, step)
                )
            )
    cp.close()
    return CheckResult.of(found, num_plans, tolerance)


def _check_parameters(model: nn.Module) -> None:
    """Refuse a model whose gradients are none, or too coarse to be compared."""
    trained = [(name, each) for name, each in parameters_of(model) if each.requires_grad]
    if not trained:
        raise InputError("no parameter of the model is trained, so there is no gradient to check")
    for name, parameter in trained:
        if parameter.dtype not in (torch.float32, torch.float64):
            msg = f"{name} is {str(parameter.dtype).removeprefix('torch.')}; a check needs float32"
            raise InputError(msg, hint="check the model in float32: model.float() before sharding")
    modules: list[tuple[str, nn.Module]] = list(model.named_modules())
    for name, module in modules:
        if isinstance(module, FSDPModule):
            computed = module._get_fsdp_state()._mp_policy.param_dtype  # pyright: ignore[reportPrivateUsage]
            if computed not in (None, torch.float32, torch.float64):
                kind = str(computed).removeprefix("torch.")
                msg = f"{name or 'the model'} is computed in {kind}; a check needs float32"
                hint = "check the model sharded without MixedPrecisionPolicy(param_dtype=...)"
                raise InputError(msg, hint=hint)


def _on_rank_0(work: Any) -> nn.Module | None:
    made: list[nn.Module] = []

    def run() -> None:
        made.append(work())

    from_rank_0(run)
    return made[0] if made else None


def _planned(
    cp: ContextParallel, model: nn.Module, step: RandomStep
) -> tuple[float, dict[str, Tensor]]:
    """Return the loss of a step and its gradients, whole, as the plan has them."""
    model.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64)
    for micro_batch in cp.step(step.sequences):
        loss = cp.loss(model, micro_batch)
        loss.backward()
        total += loss.detach().double().cpu()
    losses: list[float] = [0.0] * dist.get_world_size()
    dist.all_gather_object(losses, float(total))
    gradients: dict[str, Tensor] = {}
    for name, parameter in parameters_of(model):
        if parameter.grad is not None:
            gradients[name] = whole(parameter.grad)
    model.zero_grad(set_to_none=True)
    return sum(losses), gradients


def _of_one_rank(
    reference: nn.Module | None, amplitude: float, step: RandomStep
) -> tuple[float, dict[str, Tensor]]:
    assert reference is not None, "rank 0 has the reference"
    reference.zero_grad(set_to_none=True)
    device = next(reference.parameters()).device
    with felt_positions(reference, amplitude), _without_dropout(reference):
        loss = accumulate_gradients(reference, step.sequences, device)
    gradients = {
        name: parameter.grad
        for name, parameter in reference.named_parameters()
        if parameter.grad is not None
    }
    return loss, gradients


def _errors(
    plan: int,
    tolerance: float,
    loss: float,
    gradients: Mapping[str, Tensor],
    expected_loss: float,
    expected: Mapping[str, Tensor],
) -> list[ParameterError]:
    whole_norm = float(
        sum(gradient.double().square().sum() for gradient in expected.values()) ** 0.5
    )
    off = abs(loss / expected_loss - 1.0)
    errors = [ParameterError("loss", plan, off, expected_loss, not off <= tolerance)]
    for name in sorted(gradients.keys() | expected.keys()):
        some = gradients.get(name, expected.get(name))
        assert some is not None
        mine = gradients.get(name, torch.zeros_like(some)).double()
        theirs = expected.get(name, torch.zeros_like(some)).double()
        error, norm = float((mine - theirs).norm()), float(theirs.norm())
        # Not-a-number is wrong too.
        is_wrong = not error <= max(tolerance * norm, ZERO * whole_norm)
        relative = error / norm if norm > 0.0 else (0.0 if error == 0.0 else float("inf"))
        errors.append(ParameterError(name, plan, relative, norm, is_wrong))
    return errors


@contextlib.contextmanager
def _without_gradients(model: nn.Module) -> Generator[None, None, None]:
    own = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, gradient in own:
            parameter.grad = gradient


@contextlib.contextmanager
def _without_dropout(model: nn.Module) -> Generator[None, None, None]:
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    shares = [dropout.p for dropout in dropouts]
    for dropout in dropouts:
        dropout.p = 0.0
    try:
        yield
    finally:
        for dropout, share in zip(dropouts, shares, strict=True):
            dropout.p = share
