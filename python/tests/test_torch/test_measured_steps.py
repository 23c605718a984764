"""Steps that are timed while they run: what they refine, and what is written of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import timing
import torch
from worlds import World


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of metrics."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_steps_take_refines_the_planner_on_all_ranks_alike(
    world: Callable[[int], World],
) -> None:
    refined = world(4).run(timing.trained, None, 6, {}, True)
    for of_rank in refined:
        assert of_rank["plans"] == refined[0]["plans"]
        assert of_rank["predicted_s"] == refined[0]["predicted_s"]
    # No machine is as fast as these costs say.
    predicted_s = refined[0]["predicted_s"]
    assert predicted_s[-1] > 1.2 * predicted_s[0]
    kept = world(4).run(timing.trained, None, 3, {}, False)
    assert kept[0]["predicted_s"] == predicted_s[:1] * 3
    # The first step warms up.
    assert predicted_s[0] == predicted_s[1] < predicted_s[2]


def test_metrics_are_those_of_a_training_and_make_a_report(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    found = world(3).run(timing.trained, str(path), 3, {}, True)[0]
    lines = read(path)
    assert [line["step"] for line in lines] == [1, 2, 3]
    for index, line in enumerate(lines):
        plan = found["plans"][index]
        assert line["version"] == 1
        assert line["planner"] == "adaptive"
        assert line["loss"] == pytest.approx(found["losses"][index], rel=1e-6)
        assert line["gradient_norm"] == pytest.approx(found["norms"][index], rel=1e-6)
        assert line["learning_rate"] == 1e-3
        assert line["tokens"] == sum(plan.seq_lens)
        assert line["sequences"] == len(plan.seq_lens)
        degrees = [[group.degree for group in each.groups] for each in plan.micro_batches]
        assert line["micro_batches"] == degrees
        # The first step warms up, and refines nothing.
        assert line["costs_version"] == max(0, index - 1)
        assert line["measured_s"] > 0.0
        assert line["predicted_s"] > line["predicted_step_overhead_s"] > 0.0
        assert line["plan_wait_s"] >= 0.0
        for times_s in zip(*(line["ranks"][name] for name in COLUMNS), strict=True):
            assert sum(times_s) == pytest.approx(line["measured_s"], abs=1e-5)
        assert len(line["ranks"]["wait_s"]) == 3
        assert any(line["ranks"]["compute_s"])
    page = tmp_path / "report.html"
    command = [sys.executable, "-m", "lengthwise", "report", str(path), "-o", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    # The page draws what it has as JSON.
    shown = page.read_text()
    assert '"plans":[{"name":"step 1"' in shown
    longest = max(lines[0]["plan"][0]["groups"], key=lambda group: max(group["seq_lens"]))
    assert f'"longest":{max(longest["seq_lens"])}' in shown


COLUMNS = ("compute_s", "exchange_s", "wait_s")


def test_metrics_are_added_to_those_that_are_there_and_to_nothing_else(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    for _ in range(2):
        world(2).run(timing.trained, str(path), 2, {}, True)
    assert [line["step"] for line in read(path)] == [1, 2, 3, 4]
    other = tmp_path / "notes.txt"
    other.write_text("of great value\n")
    for said in world(2).run(timing.refused_metrics, str(other)):
        assert "it holds something else than steps of a training" in said
    assert other.read_text() == "of great value\n"


def test_a_full_disk_is_said_once_and_what_was_lost_in_the_end(
    world: Callable[[int], World],
) -> None:
    first, others = world(2).run(timing.full_metrics)
    assert len(first) == 2, first
    assert "can't write metrics to /dev/full" in first[0]
    assert "training goes on" in first[0]
    assert "/dev/full" in first[1]
    assert others == []


@pytest.mark.parametrize("planner", ["static", "static:2", "batch-adaptive", "megatron"])
def test_baselines_run_and_have_the_same_gradient(
    world: Callable[[int], World], planner: str
) -> None:
    expected = world(4).run(timing.gradients_of, "adaptive")[0][2]
    name, degrees, gradients = world(4).run(timing.gradients_of, planner)[0]
    assert name == planner
    if planner == "static:2":
        assert all(set(of) == {2} for of in degrees)
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-7)


def test_a_step_that_a_rank_has_left_counts_nowhere(world: Callable[[int], World]) -> None:
    for left, run in world(2).run(timing.left_early):
        assert left is None
        assert run is not None


def test_a_device_without_memory_is_an_error_in_the_words_of_the_plan(
    world: Callable[[int], World],
) -> None:
    for rank, said in enumerate(world(2).run(timing.out_of_memory)):
        assert said.startswith(f"DeviceMemoryError: rank {rank} has no memory left for its ")
        assert "tokens a rank at that degree" in said
        assert "Tried to allocate 2.00 GiB" in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_without_memory_is_the_same_error(world: Callable[[int], World]) -> None:
    (said,) = world(1).run(timing.out_of_cuda_memory)
    assert said.startswith("DeviceMemoryError: rank 0 has no memory left for its 250 tokens")
    assert "Tried to allocate" in said
