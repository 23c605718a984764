"""Steps that are drawn, planned and read while others run."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lengthwise import Plan
from lengthwise.errors import InfeasibleError
from lengthwise.torch._plan_limits import PlanLimits, check_plan
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._source import DrawnBatch, Source


@dataclass(frozen=True)
class PlannedBatch:
    """A batch with its plan."""

    drawn: DrawnBatch
    plan: Plan


@dataclass(frozen=True)
class ReadBatch:
    """What a rank has read of a batch.

    Attributes
    ----------
    sequences : mapping of int to TokenSequence
        The sequences of this rank's groups, by their index.
    num_labels : int
        The labels of those sequences of which this rank is to count them.
    digests : dict of int to bytes
        What differs where the tokens of this rank's group do, by micro-batch.
    """

    sequences: dict[int, TokenSequence]
    num_labels: int
    digests: dict[int, bytes]


@dataclass(frozen=True)
class UpcomingStep:
    """A step that can be run, and how long this rank has waited for it."""

    planned: PlannedBatch
    read: ReadBatch
    plan_wait_s: float
    data_wait_s: float


class LookAhead:
    """Draws and plans so many steps ahead on one thread, and reads the next one on another.

    A plan is made by the planner that `planner` returns when it is asked for, which is when a step
    is taken. So all ranks plan a step with the same planner, even where it is replaced between two
    steps.

    Parameters
    ----------
    source : Source
        From where batches are drawn.
    planner : callable
        Returns who plans.
    rank, num_ranks : int
        This rank, and how many there are.
    limits : PlanLimits
        Which plans can be run.
    depth : int
        How many steps are planned ahead.
    """

    def __init__(
        self,
        source: Source,
        planner: Callable[[], Any],
        *,
        rank: int,
        num_ranks: int,
        limits: PlanLimits,
        depth: int,
    ) -> None:
        self._source = source
        self._planner = planner
        self._rank, self._num_ranks, self._limits = rank, num_ranks, limits
        self._plans = ThreadPoolExecutor(1, thread_name_prefix="lengthwise-plan")
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="lengthwise-read")
        self._planned: deque[Future[PlannedBatch | None]] = deque()
        self._read: Future[ReadBatch | None] | None = None
        for _ in range(depth):
            self._ask_for_plan()
        self._ask_for_tokens()

    def take(self) -> UpcomingStep | None:
        """Return the next step, or None after the last; asks for one more."""
        # Before anything can fail, so that ranks remain in step.
        planned, read = self._planned.popleft(), self._read
        self._ask_for_plan()
        start_s = time.perf_counter()
        batch = planned.result()
        planned_s = time.perf_counter()
        tokens = None if read is None else read.result()
        read_s = time.perf_counter()
        self._ask_for_tokens()
        if batch is None or tokens is None:
            return None
        return UpcomingStep(batch, tokens, planned_s - start_s, read_s - planned_s)

    def close(self) -> None:
        """Begin nothing more."""
        self._plans.shutdown(wait=False, cancel_futures=True)
        self._reads.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Wait until nothing is under way any longer, after `close`."""
        self._plans.shutdown(wait=True)
        self._reads.shutdown(wait=True)

    def _ask_for_plan(self) -> None:
        self._planned.append(self._plans.submit(self._plan, self._planner()))

    def _ask_for_tokens(self) -> None:
        self._read = self._reads.submit(self._tokens, self._planned[0])

    def _plan(self, planner: Any) -> PlannedBatch | None:
        drawn = self._source.draw()
        if drawn is None:
            return None
        seq_lens = drawn.batch.seq_lens
        try:
            plan: Plan = planner.plan(seq_lens)
        except InfeasibleError as error:
            raise _named(error, drawn) from error
        check_plan(plan, seq_lens, self._num_ranks, self._limits)
        return PlannedBatch(drawn, plan)

    def _tokens(self, planned: Future[PlannedBatch | None]) -> ReadBatch | None:
        batch = planned.result()
        if batch is None:
            return None
        works = [work for work in batch.plan.for_rank(self._rank) if work is not None]
        indices = {index for work in works for index in work.group.sequences}
        sequences = self._source.read(batch.drawn, sorted(indices))
        num_labels = 0
        digests: dict[int, bytes] = {}
        for work in works:
            if work.group_rank == 0:
                num_labels += sum(sequences[index].num_labels for index in work.group.sequences)
            if work.group.degree > 1:
                digest = hashlib.blake2b(digest_size=16)
                for index in work.group.sequences:
                    digest.update(sequences[index].digest())
                digests[work.micro_batch] = digest.digest()
        return ReadBatch(sequences, num_labels, digests)


def _named(error: InfeasibleError, drawn: DrawnBatch) -> InfeasibleError:
    if error.sequence is None:
        return error
    return InfeasibleError(
        f"{drawn.names[error.sequence]}: {error}",
        hint=error.hint,
        sequence=error.sequence,
        seq_len=error.seq_len,
        needed_degree=error.needed_degree,
        predicted_memory_bytes=error.predicted_memory_bytes,
        budget_bytes=error.budget_bytes,
    )
