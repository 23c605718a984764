"""One rank of the comparison: it measures a profile, then runs all plans of the same batches."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import batches
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

import lengthwise as lw
import lengthwise.torch

VOCAB = 1024


def main() -> None:
    """Run as a rank of the world that the environment describes."""
    options = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = _sharded(options, mesh)
    profile = _profile(options, model, mesh)
    steps = batches.typical(options["steps"], options["tokens"], options["context"])
    rows: list[dict[str, Any]] = []
    runs: list[_Run] = []
    for name in options["planners"]:
        planner = lw.Planner(profile=profile, planner=name)
        try:
            for lengths in steps:
                planner.plan(lengths)
        except lw.LengthwiseError as error:
            rows.append({"planner": name, "refused": str(error)})
            continue
        runs.append(_Run(name, planner, model, mesh))
    # Every planner runs each batch before the next, so that a machine that changes does so for all.
    for number, lengths in enumerate([steps[0], *steps]):
        for run in runs:
            run.step(lengths, is_measured=number > 0)
            _say(f"step {number} of {len(steps)}, {run.name}: {run.last_s:.1f} s")
    rows += [run.row() for run in runs]
    if dist.get_rank() == 0:
        Path(options["output"]).write_text(json.dumps({"rows": rows, "steps": steps}))
    dist.barrier()
    dist.destroy_process_group()


class _Run:
    """A planner's steps, and what they took."""

    def __init__(self, name: str, planner: lw.Planner, model: Any, mesh: Any) -> None:
        self.name = name
        self.last_s = 0.0
        self._planner = planner
        self._model = model
        self._cp = lengthwise.torch.ContextParallel(planner, model, mesh)
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        self._measured: list[dict[str, Any]] = []

    def step(self, lengths: list[int], *, is_measured: bool) -> None:
        """Run a step on random tokens of these lengths."""
        random = torch.Generator().manual_seed(len(lengths))
        tokens = [torch.randint(VOCAB, (length,), generator=random) for length in lengths]
        step = self._cp.step(tokens)
        exchanged, sent, processor = (
            self._cp.bytes_sent,
            _bytes_to_other_node(),
            time.process_time(),
        )
        dist.barrier()
        start = time.perf_counter()
        for micro_batch in step:
            self._cp.loss(self._model, micro_batch).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        dist.barrier()
        self.last_s = time.perf_counter() - start
        mine = [
            float(self._cp.bytes_sent - exchanged),
            # Every rank of a node counts the node's interface.
            (_bytes_to_other_node() - sent) / int(os.environ["LOCAL_WORLD_SIZE"]),
            time.process_time() - processor,
        ]
        figures = torch.tensor(mine, dtype=torch.float64)
        dist.all_reduce(figures)
        if is_measured:
            degrees = [[group.degree for group in each.groups] for each in step.plan.micro_batches]
            self._measured.append(
                {
                    "measured_s": self.last_s,
                    "predicted_s": step.plan.predicted_step_s,
                    "lower_bound_s": step.plan.lower_bound_s,
                    "exchanged_bytes": figures[0].item(),
                    "link_bytes": figures[1].item(),
                    "processor_s": figures[2].item(),
                    "degrees": degrees,
                }
            )

    def row(self) -> dict[str, Any]:
        """Return what a step took, as the mean over the batches."""
        names = ("measured_s", "predicted_s", "exchanged_bytes", "link_bytes", "processor_s")
        means = {name: statistics.mean(step[name] for step in self._measured) for name in names}
        return {"planner": self.name, **means, "steps": self._measured}


def _sharded(options: dict[str, Any], mesh: Any) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=options["hidden"],
        intermediate_size=3 * options["hidden"],
        num_hidden_layers=options["layers"],
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=options["context"],
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _profile(options: dict[str, Any], model: Any, mesh: Any) -> lw.Profile:
    path = Path(options["profile"])
    if not path.exists():
        profile = lengthwise.torch.profile(
            model,
            mesh,
            context=options["context"],
            time_budget=options["profile_s"],
            memory=options["memory_mib"] << 20,
            devices_per_node=int(os.environ["LOCAL_WORLD_SIZE"]),
            # Each has its own part of a core.
            num_cores=dist.get_world_size(),
            name="two-nodes",
        )
        if dist.get_rank() == 0:
            profile.save(path)
        dist.barrier()
    return lw.Profile.read(path)


def _bytes_to_other_node() -> int:
    interface = os.environ["GLOO_SOCKET_IFNAME"]
    return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text())


def _say(text: str) -> None:
    if dist.get_rank() == 0:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
