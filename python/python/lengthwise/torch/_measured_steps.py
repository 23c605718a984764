"""What steps took, agreed on by all ranks: it refines the planner, and is written as metrics."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lengthwise import Plan
from lengthwise._lengthwise import MetricsFile
from lengthwise.errors import LengthwiseError
from lengthwise.torch._agreement import from_rank_0
from lengthwise.torch._exchange_clock import ExchangeClock
from lengthwise.torch._host_inputs import HostMeter
from lengthwise.torch._marks import Marks, Span
from lengthwise.torch._micro_batch import MicroBatch
from lengthwise.torch._rank_failure import waiting_for
from lengthwise.torch._step import Step
from lengthwise.torch._step_notes import StepNotes


@dataclass(frozen=True)
class StepTimes:
    """What a step took, the same on all ranks.

    Attributes
    ----------
    micro_batches_s : tuple of float
        What each micro-batch took on the slowest rank, in seconds.
    rest_s : float
        What the step took beside them, on the slowest rank.
    loss : float or None
        The mean loss of a label, where all of it was computed by `ContextParallel.loss`.
    """

    micro_batches_s: tuple[float, ...]
    rest_s: float
    loss: float | None

    @property
    def step_s(self) -> float:
        """What the step took, in seconds; waiting for its plan not counted."""
        return sum(self.micro_batches_s) + self.rest_s


class MeasuredSteps:
    """Times steps, one after the other.

    Parameters
    ----------
    marks : Marks
        Takes moments of this rank's device.
    group : ProcessGroup
        All ranks.
    device : device
        Of the tensors that are passed around.
    host_meter : HostMeter
        Counts what this rank has on its host.
    metrics : str or os.PathLike, optional
        Where rank 0 writes steps.
    """

    def __init__(
        self,
        marks: Marks,
        group: dist.ProcessGroup,
        device: torch.device,
        host_meter: HostMeter,
        metrics: str | PathLike[str] | None,
    ) -> None:
        self._marks = marks
        self._group = group
        self._device = device
        self._host_meter = host_meter
        self._present: Step | None = None
        self._file: MetricsFile | None = None
        #: Of this rank's exchanges, where metrics are written.
        self.exchange_clock: ExchangeClock | None = None
        if from_rank_0(lambda: self._open(metrics)):
            self.exchange_clock = ExchangeClock(marks)

    def begin(self, step: Step) -> Step:
        """Return a step that is timed as it is run."""
        step = dataclasses.replace(step, notes=StepNotes(self._marks, len(step)))
        self._present = step
        if self.exchange_clock is not None:
            self.exchange_clock.take()
            self._reset_peak_memory()
            self._host_meter.take_peak()
        return step

    def note_loss(self, micro_batch: MicroBatch, loss: Tensor) -> None:
        """Note this rank's part of the loss, if the micro-batch is of the present step."""
        if self._present is None:
            return
        step = self._present
        if step.notes is not None and any(own is micro_batch for own in step.micro_batches):
            step.notes.loss(micro_batch.index, loss)

    def stop_clock(self) -> None:
        """Count nothing that follows as part of the present step."""
        if self._present is not None and self._present.notes is not None:
            self._present.notes.end()

    def end(self) -> tuple[Plan, StepTimes] | None:
        """Agree on what the present step took; a collective call of all ranks.

        Returns
        -------
        tuple of Plan and StepTimes, or None
            None if there is no step, or some rank has not run all of its micro-batches.
        """
        if self._present is None:
            return None
        step, self._present = self._present, None
        plan, notes = step.plan, step.notes
        assert notes is not None
        notes.end()
        num_micro_batches = len(plan.micro_batches)
        spent = self.exchange_clock.take() if self.exchange_clock is not None else Span(0.0, 0.0)
        is_complete = notes.is_complete
        mine = [
            float(is_complete),
            float(notes.has_loss),
            notes.loss_sum(),
            notes.rest_s() if is_complete else 0.0,
            notes.computed_s() - spent.computed_s if is_complete else 0.0,
            spent.elapsed_s,
            self._peak_memory(),
            float(self._host_meter.take_peak()),
            *(notes.micro_batches_s() if is_complete else [0.0] * num_micro_batches),
        ]
        all_ranks = self._gathered(mine)
        if not all(row[0] for row in all_ranks):
            return None
        most = [max(column) for column in zip(*all_ranks, strict=True)]
        loss = sum(row[2] for row in all_ranks)
        times = StepTimes(
            micro_batches_s=tuple(most[8:]),
            rest_s=most[3],
            loss=loss if all(row[1] for row in all_ranks) else None,
        )
        if self._file is not None:
            self._write(step, notes, times, all_ranks)
        return plan, times

    def _open(self, metrics: str | PathLike[str] | None) -> bool:
        if metrics is not None:
            self._file = MetricsFile(metrics)
        return metrics is not None

    def _gathered(self, mine: list[float]) -> list[list[float]]:
        row = torch.tensor(mine, dtype=torch.float64, device=self._device)
        rows = [torch.empty_like(row) for _ in range(dist.get_world_size(self._group))]
        with waiting_for("all ranks to tell what their step took"):
            dist.all_gather(rows, row, group=self._group)
        return [[float(value) for value in of.cpu()] for of in rows]

    def _write(
        self,
        step: Step,
        notes: StepNotes,
        times: StepTimes,
        all_ranks: list[list[float]],
    ) -> None:
        assert self._file is not None
        exchange_s = [min(row[5], times.step_s) for row in all_ranks]
        # On an accelerator a rank that waits for parameters seems to compute.
        compute_s = [
            min(max(row[4], 0.0), times.step_s - exchanged)
            for row, exchanged in zip(all_ranks, exchange_s, strict=True)
        ]
        norm = notes.gradient_norm
        peak = max(row[6] for row in all_ranks)
        peak_on_host = max(row[7] for row in all_ranks)
        measured = {
            "plan_wait_s": step.plan_wait_s,
            "epoch": step.epoch,
            "pieces": step.num_pieces,
            "truncated": step.num_truncated,
            "cut_tokens": step.num_cut_tokens,
            "measured_s": times.step_s,
            "loss": times.loss,
            "gradient_norm": None if norm is None else float(norm),
            "learning_rate": notes.learning_rate,
            "measured_peak_memory_bytes": int(peak) if peak > 0.0 else None,
            "measured_peak_host_memory_bytes": int(peak_on_host) if peak_on_host > 0.0 else None,
            "compute_s": compute_s,
            "exchange_s": exchange_s,
            "wait_s": [
                max(0.0, times.step_s - computed - exchanged)
                for computed, exchanged in zip(compute_s, exchange_s, strict=True)
            ],
        }
        try:
            self._file.write(
                step.plan, json.dumps({key: _written(of) for key, of in measured.items()})
            )
        except LengthwiseError as error:
            # Other ranks go on, and would wait for this one.
            msg = f"{error}; training goes on, and they are kept until they can be written"
            warnings.warn(msg, stacklevel=2)

    def close(self) -> None:
        """End the file of metrics."""
        lost = None if self._file is None else self._file.close()
        self._file = None
        if lost is not None:
            warnings.warn(lost, stacklevel=2)

    def _reset_peak_memory(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _peak_memory(self) -> float:
        if self.exchange_clock is None or self._device.type != "cuda":
            return 0.0
        return float(torch.cuda.max_memory_allocated(self._device))


def _written(value: Any) -> Any:
    """Return a value as JSON has it, where what is no number is missing."""
    is_no_number = isinstance(value, float) and not math.isfinite(value)
    return None if is_no_number else value
