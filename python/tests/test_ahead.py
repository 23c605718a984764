"""Planning ahead."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lengthwise as lw


def num_planning_threads() -> int:
    """How many threads of this process plan ahead."""
    count = 0
    for name in list(Path("/proc/self/task").glob("*/comm")):
        try:
            count += name.read_text().startswith("lengthwise-ahea")
        except OSError:
            # It has ended.
            continue
    return count


def assert_threads_end() -> None:
    deadline = time.monotonic() + 10
    while num_planning_threads() > 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_batches_come_in_order_with_their_plans(planner: lw.Planner) -> None:
    batches = [[seq_len, 9000] for seq_len in range(1000, 40_000, 1000)]
    seen = list(planner.ahead(batches, depth=3))
    assert all(lengths is batch for (lengths, _), batch in zip(seen, batches, strict=True))
    for lengths, plan in seen:
        assert plan == planner.plan(lengths)


def test_no_more_are_drawn_than_may_be_under_way(planner: lw.Planner) -> None:
    drawn = 0

    def batches() -> Iterator[list[int]]:
        nonlocal drawn
        while True:
            drawn += 1
            yield [drawn * 100]

    ahead = planner.ahead(batches(), depth=3)
    assert drawn == 0
    for used in range(10):
        next(ahead)
        assert drawn == used + 3
    assert repr(ahead) == "Ahead(2 of 3 plans under way)"


def test_an_endless_iterator_and_an_empty_one_are_fine(planner: lw.Planner) -> None:
    assert list(planner.ahead([])) == []
    ahead = planner.ahead(iter(lambda: [512], None))
    assert next(ahead)[0] == [512]
    short = planner.ahead([[1], [2]])
    assert [lengths for lengths, _ in short] == [[1], [2]]
    assert next(short, "end") == "end"
    assert next(short, "end") == "end"


def test_errors_come_in_their_place(planner: lw.Planner) -> None:
    def batches() -> Iterator[Any]:
        yield [10]
        yield [10**9]
        yield ["x"]
        yield [20]
        raise KeyError("broken")

    ahead = planner.ahead(batches(), depth=4)
    assert next(ahead)[0] == [10]
    with pytest.raises(lw.InputError, match="more than the context"):
        next(ahead)
    with pytest.raises(lw.InputTypeError, match="'x' is not a length"):
        next(ahead)
    assert next(ahead)[0] == [20]
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert next(ahead, "end") == "end"


def test_what_is_no_iterable_or_depth_is_told(planner: lw.Planner) -> None:
    with pytest.raises(lw.InputTypeError, match="batches is 5; it must be an iterable of batches"):
        planner.ahead(5)  # pyright: ignore[reportArgumentType, reportUnknownMemberType]
    for depth in [0, -1, 10**6]:
        with pytest.raises(lw.InputError, match="depth is"):
            planner.ahead([[1]], depth=depth)
    with pytest.raises(lw.InputTypeError, match="depth is"):
        planner.ahead([[1]], depth=1.5)  # pyright: ignore[reportArgumentType]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted by what Linux tells")
def test_threads_end_with_the_iterator(profile_path: Path, batch: list[int]) -> None:
    gc.collect()
    assert_threads_end()
    planner = lw.Planner(profile=profile_path)
    ahead = planner.ahead([batch] * 100, depth=8)
    next(ahead)
    assert num_planning_threads() >= 1
    del ahead
    assert_threads_end()
    for _ in planner.ahead([batch] * 3):
        pass
    gc.collect()
    assert_threads_end()


def test_other_threads_run_meanwhile(profile_path: Path, batch: list[int]) -> None:
    planner = lw.Planner(profile=profile_path, planner="flexsp", time_budget="400ms")
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(0.005)

    thread = threading.Thread(target=count)
    thread.start()
    started = time.perf_counter()
    num = sum(1 for _ in planner.ahead([batch] * 2, depth=1))
    took = time.perf_counter() - started
    done.set()
    thread.join()
    assert num == 2
    assert counted > took / 0.005 / 10


def median_wait_behind_steps(planner: lw.Planner, batch: list[int]) -> float:
    """Seconds that plans are waited for between steps of 50 ms."""
    waited: list[float] = []
    ahead = planner.ahead([batch] * 12)
    next(ahead)
    for _ in range(10):
        time.sleep(0.05)
        started = time.perf_counter()
        next(ahead)
        waited.append(time.perf_counter() - started)
    return sorted(waited)[5]


def test_planning_hides_behind_a_step(profile_path: Path, batch: list[int]) -> None:
    planner = lw.Planner(profile=profile_path)
    times = [planner.plan(batch).solve_s for _ in range(5)]
    fastest = min(time for time in times if time is not None)
    # Planning that is waited for never takes less than that. Other work on the machine may hold up
    # whoever waits for nothing, but not each time.
    attempts = (median_wait_behind_steps(planner, batch) for _ in range(20))
    assert any(wait < fastest / 4 for wait in attempts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_is_told_that_its_threads_are_gone(planner: lw.Planner) -> None:
    ahead = planner.ahead([[1], [2], [3]])
    next(ahead)
    child = os.fork()
    if child == 0:
        try:
            next(ahead)
        except lw.InputError as error:
            os._exit(0 if "asked for in process" in str(error) else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert next(ahead)[0] == [2]
