"""Simulated steps."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lengthwise as lw


def test_under_measured_costs_a_step_takes_what_was_predicted(
    profile_path: Path, batch: list[int]
) -> None:
    plan = lw.Planner(profile=profile_path).plan(batch)
    simulated = plan.simulate()
    assert simulated.step_s == pytest.approx(plan.predicted_step_s)
    assert simulated.predicted_step_s == pytest.approx(plan.predicted_step_s)
    assert len(simulated.micro_batches) == len(plan.micro_batches)
    start = 0.0
    for each, planned in zip(simulated.micro_batches, plan.micro_batches, strict=True):
        assert each.index == planned.index
        assert each.start_s == pytest.approx(start)
        assert each.simulated_s == pytest.approx(planned.predicted_s)
        assert each.predicted_s == planned.predicted_s
        assert 0 <= each.idle_share < 1
        start += each.simulated_s
    shares = [
        simulated.compute_share,
        simulated.communication_share,
        simulated.overhead_share,
        simulated.idle_share,
    ]
    assert sum(shares) == pytest.approx(1)


def test_a_simulation_is_that_of_the_command(tmp_path: Path, planner: lw.Planner) -> None:
    plan = planner.plan([150_000, 8_000, 512, 512])
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    words = ["simulate", str(path), "--model", "llama-3.1-8b", "--context", "384k", "--json"]
    for cluster in ["h100-8x8", "b200-8x8"]:
        command = [sys.executable, "-m", "lengthwise", *words, "--cluster", cluster]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        expected = json.loads(told.stdout)
        simulated = plan.simulate(None if cluster == "h100-8x8" else cluster)
        assert simulated.step_s == expected["simulated_step_s"]
        assert simulated.predicted_step_s == expected["predicted_step_s"]


def test_faster_devices_take_less(planner: lw.Planner) -> None:
    plan = planner.plan([150_000, 8_000, 512, 512])
    assert plan.simulate(cluster="b200-8x8").step_s < plan.simulate().step_s


def test_a_profile_is_simulated_over_the_links_of_a_cluster(
    profile_path: Path, batch: list[int]
) -> None:
    plan = lw.Planner(profile=profile_path).plan(batch)
    over_links = plan.simulate(cluster=str(profile_path.parents[1] / "clusters/a100-8x8.toml"))
    assert over_links.step_s != plan.simulate().step_s
    assert over_links.communication_share > 0


def test_a_plan_without_costs_needs_a_planner(planner: lw.Planner) -> None:
    plan = planner.plan([150_000, 8_000])
    for bare in [lw.Plan.from_json(plan.to_json()), pickle.loads(pickle.dumps(plan))]:
        with pytest.raises(lw.InputError, match="read without costs") as caught:
            bare.simulate()
        assert caught.value.hint == "add planner="
        assert bare.simulate(planner=planner).step_s == plan.simulate().step_s


def test_what_can_not_run_a_plan_is_told(planner: lw.Planner) -> None:
    plan = planner.plan([150_000] * 4)
    with pytest.raises(lw.InputError, match="the cluster has 8 devices"):
        plan.simulate(cluster="h100-1x8")
    with pytest.raises(lw.InputError, match="there is no cluster h1"):
        plan.simulate(cluster="h1")
    with pytest.raises(lw.InputTypeError, match="planner is 3; it must be a Planner"):
        plan.simulate(planner=3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"tensor_parallel": 2}, "tensor_parallel=2, pipeline_parallel=1: only 1 of each can be"),
        ({"pipeline_parallel": 4}, "tensor_parallel=1, pipeline_parallel=4: only 1 of each can be"),
    ],
)
def test_what_can_not_be_simulated_is_refused(
    planner: lw.Planner, costs: dict[str, Any], message: str
) -> None:
    divided = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", **costs)
    plan = divided.plan([9000, 512])
    for simulate in [
        plan.simulate,
        lambda: plan.simulate(cluster="h200-8x8"),
        lambda: planner.plan([9000, 512]).simulate(planner=divided),
    ]:
        with pytest.raises(lw.InputError) as caught:
            simulate()
        assert str(caught.value).startswith(message)
