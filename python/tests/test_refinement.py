"""Costs that measured steps refine."""

from __future__ import annotations

from pathlib import Path

import pytest

import lengthwise as lw
from lengthwise._lengthwise import Refinement


@pytest.fixture(scope="module")
def lengths(batch: list[int]) -> list[int]:
    """Some lengths, of which planning takes little time."""
    return batch[:64]


def observed(planner: lw.Planner, plan: lw.Plan, factor: float, num_steps: int) -> lw.Planner:
    """The planner after steps that took that many times what was predicted at first."""
    refinement = Refinement(planner)
    times_s = [factor * (each.predicted_s or 0.0) for each in plan.micro_batches]
    refined = planner
    for _ in range(num_steps):
        refined = refinement.observe(plan, times_s, 0.0)
    return refined


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_predictions_approach_what_is_measured(
    profile_path: Path, lengths: list[int], factor: float
) -> None:
    planner = lw.Planner(profile=profile_path)
    plan = planner.plan(lengths)
    refined = observed(planner, plan, factor, 60).plan(lengths)
    assert plan.predicted_step_s is not None
    assert refined.predicted_step_s is not None
    # Another plan may be better by what is known now; it can't be much worse.
    assert refined.predicted_step_s == pytest.approx(factor * plan.predicted_step_s, rel=0.05)


def test_costs_that_predict_what_is_measured_stay(profile_path: Path, lengths: list[int]) -> None:
    planner = lw.Planner(profile=profile_path)
    plan = planner.plan(lengths)
    again = observed(planner, plan, 1.0, 20).plan(lengths)
    assert again == plan
    assert again.predicted_step_s == pytest.approx(plan.predicted_step_s, rel=1e-9)


def test_the_first_planner_stays_as_it_is_and_others_keep_what_they_were_told(
    profile_path: Path, lengths: list[int]
) -> None:
    planner = lw.Planner(profile=profile_path, planner="static", degrees=[8, 16, 32, 64])
    plan = planner.plan(lengths)
    refined = observed(planner, plan, 2.0, 4)
    assert planner.plan(lengths).predicted_step_s == plan.predicted_step_s
    assert refined.plan(lengths).planner == "static"
    assert refined.degrees == planner.degrees
    assert refined.num_ranks == planner.num_ranks


def test_times_that_are_none_are_refused(profile_path: Path, lengths: list[int]) -> None:
    planner = lw.Planner(profile=profile_path)
    plan = planner.plan(lengths)
    with pytest.raises(lw.InputError, match="a measured time"):
        Refinement(planner).observe(plan, [-1.0], 0.0)
