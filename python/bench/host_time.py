"""The time that lengthwise.torch itself takes on the host, for each micro-batch.

A model so small that nothing is computed runs under FSDP2 in one process, with the attention and
the loss of transformers and with those of Lengthwise. What the second takes more is the host time.
At degrees above 1 the exchanges pack and unpack as always, and nothing is sent: how long messages
take is measured by a profile.

    PYTHONPATH=python python bench/host_time.py

CPU time is measured, so that a machine that others use too gives the same figures.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

from lengthwise.torch import ContextParallel
from lengthwise.torch._messages import Messages
from lengthwise.torch._random_steps import plan_of
from lengthwise.torch._scatter import scatter
from lengthwise.torch._sequence import TokenSequence

DEGREES = (1, 2, 4, 8)
NUM_MICRO_BATCHES = 8


class _GivenPlan:
    num_ranks = 1

    def __init__(self, plan: Any) -> None:
        self.given = plan

    def plan(self, _lengths: list[int], /) -> Any:
        return self.given


def _received(
    _messages: Messages,
    _ranks: Any,
    _outgoing: Mapping[int, Tensor],
    incoming: Mapping[int, Tensor],
    _where: str,
) -> None:
    for tensor in incoming.values():
        tensor.zero_()


def _cpu_ms(work: Callable[[], Any]) -> float:
    start_s = time.process_time()
    work()
    return (time.process_time() - start_s) * 1e3


def _medians_ms(kinds: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median of each kind; they take turns, so that all meet the same machine."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for repeat in range(repeats + 2):
        for name, work in kinds.items():
            found = _cpu_ms(work)
            if repeat >= 2:
                times[name].append(found)
    return {name: statistics.median(found) for name, found in times.items()}


def _measure(num_layers: int, repeats: int) -> dict[str, float]:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=8,
    )
    mesh = init_device_mesh("cpu", (1,))
    device = torch.device("cpu")
    model: Any = LlamaForCausalLM(config)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # One token for each rank of the largest group.
    sequence = TokenSequence.read(list(range(max(DEGREES))), 0)
    seq_len = len(sequence.input_ids)
    many = plan_of(
        [[([0], [index])] for index in range(NUM_MICRO_BATCHES)], [seq_len] * NUM_MICRO_BATCHES
    )
    cp = ContextParallel(_GivenPlan(many), model, mesh)
    ids = sequence.input_ids[None]
    positions = torch.arange(seq_len)[None]

    def plain() -> None:
        model.config._attn_implementation = "sdpa"
        model(input_ids=ids, position_ids=positions, labels=ids, use_cache=False).loss.backward()
        model.config._attn_implementation = "lengthwise"

    def of_degree(degree: int) -> Callable[[], Any]:
        plan = plan_of([[(list(range(degree)), [0])]], [seq_len])
        (micro_batch,) = scatter(plan, {0: sequence}, sequence.num_labels, 0, device)
        return lambda: cp.loss(model, micro_batch).backward()

    kinds = {"plain": plain} | {f"degree {degree}": of_degree(degree) for degree in DEGREES}
    with mock.patch.object(Messages, "swap", _received):
        found = _medians_ms(kinds, repeats)
    step = _medians_ms({"step": lambda: cp.step([sequence] * NUM_MICRO_BATCHES)}, repeats)
    cp.close()
    return found | {"step": step["step"] / NUM_MICRO_BATCHES}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with tempfile.NamedTemporaryFile() as store:
        dist.init_process_group("gloo", init_method=f"file://{store.name}", rank=0, world_size=1)
        print("host CPU time of a micro-batch, ms: forward and backward")
        print("layers  transformers  added at degree " + "".join(f"{each:>8}" for each in DEGREES))
        steps: dict[int, float] = {}
        for num_layers in (2, 32):
            found = _measure(num_layers, repeats=20)
            plain = found["plain"]
            added = "".join(f"{found[f'degree {each}'] - plain:>8.2f}" for each in DEGREES)
            print(f"{num_layers:>6}  {plain:>12.2f}  {'':>15} {added}", flush=True)
            steps[num_layers] = found["step"]
        print(f"scattering a step: {steps[2]:.2f} ms for each micro-batch, without planning")
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
