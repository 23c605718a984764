"""Micro-batches that are run to be measured: forward and backward, on all ranks."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from lengthwise import Plan
from lengthwise.torch._context_parallel import ContextParallel
from lengthwise.torch._exchange_clock import ExchangeClock
from lengthwise.torch._given_plan import GivenPlan
from lengthwise.torch._marks import marks
from lengthwise.torch._memory_use import held_bytes
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._step import Step


class MicroBatchRuns:
    """Runs plans of one micro-batch with random tokens; every method is a call of all ranks.

    Parameters
    ----------
    model : Module
        The sharded model, whose gradients are dropped.
    mesh : DeviceMesh
        All ranks.
    syncs_gradients : bool
        Whether gradients are summed over ranks after the micro-batch.
    """

    def __init__(self, model: nn.Module, mesh: DeviceMesh, *, syncs_gradients: bool) -> None:
        config: Any = model.config
        self._model = model
        # Only then are layers recomputed.
        self._was_training = model.training
        model.train()
        self._vocab = int(config.vocab_size)
        self._planner = GivenPlan(mesh.size())
        self._cp = ContextParallel(self._planner, model, mesh, refine=False)
        self.device = self._cp.device
        self._clock = ExchangeClock(marks(self.device))
        self._cp.exchange.clock = self._clock
        self.syncs_gradients = syncs_gradients
        self._set_sync(syncs_gradients)

    def restore(self) -> None:
        """Leave the model as it was; no call of other ranks, some of which may have failed."""
        self._model.zero_grad(set_to_none=True)
        self._set_sync(True)
        self._model.train(self._was_training)

    def close(self) -> None:
        """End the last micro-batch."""
        self._cp.close()

    @property
    def element_bytes(self) -> int:
        """Bytes of a number that was exchanged last; 0 if none was."""
        return self._cp.exchange.element_bytes

    def held_bytes(self, plan: Plan) -> float:
        """Return what the fullest rank held at most for a micro-batch, in bytes."""
        step = self._step(plan)
        held = held_bytes(lambda: self._run(step), self.device)
        self._model.zero_grad(set_to_none=True)
        return self.most([float(held)])[0]

    def timed(
        self, plan: Plan, most_runs: int, repeated_below_s: float
    ) -> tuple[list[float], float, float]:
        """Run a micro-batch, one that takes no longer than `repeated_below_s` several times.

        Returns
        -------
        tuple
            What each run took on the slowest rank, in seconds; the most that a device held, in
            bytes, if that is known; and of the fastest run what the mean rank that has work has
            exchanged, in seconds.
        """
        step = self._step(plan)
        num_active = sum(group.degree for group in plan.micro_batches[0].groups)
        all_s: list[float] = []
        peak, exchange_s = 0.0, 0.0
        for _ in range(most_runs):
            self._clock.take()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            self.wait_for_all()
            begun = time.perf_counter()
            self._run(step)
            self.wait_for_all()
            took_s = time.perf_counter() - begun
            self._model.zero_grad(set_to_none=True)
            held = 0.0
            if self.device.type == "cuda":
                held = float(torch.cuda.max_memory_allocated(self.device))
            took_s, held = self.most([took_s, held])
            exchanged = self._summed(self._clock.take().elapsed_s) / num_active
            peak = max(peak, held)
            if took_s <= min(all_s, default=took_s):
                exchange_s = exchanged
            all_s.append(took_s)
            if min(all_s) > repeated_below_s:
                break
        return all_s, peak, exchange_s

    def gradient_sync_s(self, plan: Plan) -> float:
        """Return what summing gradients over ranks adds to a micro-batch, in seconds.

        FSDP2 keeps no whole gradients of earlier micro-batches afterwards.
        """
        took_s: dict[bool, float] = {}
        for is_on in (False, True):
            self._set_sync(is_on)
            took_s[is_on] = min(self.timed(plan, 3, float("inf"))[0])
        return max(0.0, took_s[True] - took_s[False])

    def optimizer_s(self) -> float:
        """Return what AdamW takes for a rank's parameters, in seconds: the least of several."""
        copies = [
            nn.Parameter(_local(each.detach()).clone())
            for each in self._model.parameters()
            if each.requires_grad
        ]
        if not copies:
            return 0.0
        optimizer = torch.optim.AdamW(copies)
        all_s: list[float] = []
        for _ in range(3):
            for copy in copies:
                copy.grad = torch.zeros_like(copy)
            self.wait_for_all()
            begun = time.perf_counter()
            optimizer.step()
            self.wait_for_all()
            all_s.append(time.perf_counter() - begun)
        return self.most([min(all_s)])[0]

    def wait_for_all(self) -> None:
        """Return once all ranks, and their devices, have done all that they were asked for."""
        row = torch.zeros(1, device=self.device)
        dist.all_reduce(row)
        row.item()

    def most(self, values: list[float]) -> list[float]:
        """Return the largest of all ranks of each value."""
        row = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(row, op=dist.ReduceOp.MAX)
        return [float(value) for value in row.cpu()]

    def _summed(self, value: float) -> float:
        row = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(row)
        return float(row)

    def _step(self, plan: Plan) -> Step:
        self._planner.next = plan
        generator = torch.Generator().manual_seed(len(plan.seq_lens))
        sequences: list[TokenSequence] = []
        for seq_len in plan.seq_lens:
            ids = torch.randint(self._vocab, (seq_len,), generator=generator)
            # Every token has something to predict, also where all sequences are of one token.
            sequences.append(TokenSequence(ids, targets=ids))
        return self._cp.step(sequences)

    def _run(self, step: Step) -> None:
        for micro_batch in step:
            self._cp.loss(self._model, micro_batch).backward()

    def _set_sync(self, is_on: bool) -> None:
        if isinstance(self._model, FSDPModule):
            self._model.set_requires_gradient_sync(is_on)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
