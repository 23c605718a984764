"""Profiles that are measured on the ranks of a world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import timing
from worlds import World

import lengthwise as lw


def test_a_profile_has_all_degrees_the_memory_of_tokens_and_how_good_it_is(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    path = tmp_path / "profile.toml"
    ranks = world(3).run(timing.profiled, str(path), {"name": "three ranks"})
    first = ranks[0][0]
    for measured, can_plan, is_as_before in ranks:
        assert measured == first
        assert can_plan
        assert is_as_before
    assert lw.Profile.read(path) == first
    assert first.name == "three ranks"
    assert first.measured_for is not None
    expected = {"ranks": 3, "devices_per_node": 3, "hidden": 48, "kv_heads": 3, "data_type": "f32"}
    assert expected.items() <= first.measured_for.items()
    degrees = {
        group["strategy"]["ulysses"]
        for each in first.measurements
        for group in each["groups"]
        if not each["held_out"]
    }
    assert degrees == {1, 2, 3}
    assert any(each["held_out"] for each in first.measurements)
    assert all(each["measured_s"] > 0.0 for each in first.measurements)
    assert first.fitted_error is not None
    assert first.held_out_error is not None


def test_rings_and_what_is_done_with_activations_are_measured_where_asked_for(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    options = {"strategies": "all", "activations": "all", "host_memory": 1 << 20}
    ranks = world(4).run(timing.profiled, str(tmp_path / "profile.toml"), options)
    measured, can_plan, is_as_before = ranks[0]
    assert can_plan
    assert is_as_before
    groups = [group for each in measured.measurements for group in each["groups"]]
    strategies = {tuple(group["strategy"].values()) for group in groups}
    assert {activations for _, _, activations in strategies} == {"keep", "recompute", "host"}
    assert {(4, 1), (1, 4), (2, 2)} <= {(ulysses, ring) for ulysses, ring, _ in strategies}
    assert measured.held_out_error is not None
    planner = lw.Planner(profile=measured)
    found = {
        (each.strategy.ulysses, each.strategy.ring, each.strategy.activations): each
        for each in planner.explain(200).choices
    }
    # The inputs of all layers but the last: 48 numbers of 4 bytes for each.
    on_host = found[2, 2, "host"]
    assert on_host.host_budget_bytes == 1 << 20
    assert on_host.host_memory_bytes % (50 * 48 * 4) == 0
    assert on_host.host_memory_bytes > 0
    assert found[2, 2, "recompute"].host_memory_bytes == 0
    assert on_host.memory_bytes < found[2, 2, "recompute"].memory_bytes
    assert found[2, 2, "recompute"].memory_bytes < found[2, 2, "keep"].memory_bytes


def test_tokens_take_as_many_bytes_as_a_layer_keeps_for_its_backward(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    (kept, *_), *_ = world(2).run(timing.profiled, str(tmp_path / "p.toml"), {"degrees": [2]})
    planner = lw.Planner(profile=kept)
    assert planner.degrees == (2,)
    # Each layer keeps some ten rows of 40 to 48 numbers for a token; the fixed part is little.
    budget = lw.Planner(profile=kept, degrees=[1]).token_budget(1).tokens_per_device
    per_token = timing.MEMORY / budget
    assert 2 * 10 * 40 * 4 < per_token < 2 * 60 * 48 * 4


def test_gradients_that_are_reduced_at_the_last_micro_batch_are_kept_whole(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    budgets: dict[str, int] = {}
    for sync in ("every", "last"):
        options = {"gradient_sync": sync, "degrees": [1]}
        ranks = world(2).run(timing.profiled, str(tmp_path / "p.toml"), options)
        assert all(is_as_before for _, _, is_as_before in ranks)
        measured = ranks[0][0]
        assert ("last micro-batch" in measured.name) == (sync == "last")
        budgets[sync] = lw.Planner(profile=measured).token_budget(1).tokens_per_device
    assert budgets["last"] < budgets["every"]


def test_what_makes_no_profile_and_profiles_of_something_else_are_refused_on_every_rank(
    world: Callable[[int], World],
) -> None:
    for said in world(2).run(timing.refused_profiles):
        assert "degrees has 7; 2 ranks and the heads allow 1 to 2" in said["degree"]
        assert "context is 0" in said["context"]
        assert "the arguments of a profile" in said["different"]
        assert "time_budget is 0.0; it must be above 0 s" in said["time_budget"]
        assert "GiB may be used" in said["memory"]
        assert "'never'; it must be 'every' or 'last'" in said["gradient_sync"]
        assert "degrees is 2; it must be a sequence" in said["no degrees"]
        assert "a degree is 1.5; it must be a whole number" in said["half a degree"]
        assert "context is 'long'; it must be a whole number" in said["no context"]
        assert "time_budget is 'a minute'; it must be a number" in said["no time"]
        assert "memory is -1; it must be at least 1" in said["no memory"]
        assert "num_cores is 'all'; it must be a whole number" in said["no cores"]
        assert "name is 7; it must be text" in said["no name"]
        assert "no family of strategies rings" in said["no strategy"]
        assert "strategies is ['ring']; " in said["no text"]
        assert "no choice for activations offload" in said["no activations"]
        assert "the model recomputes its layers by itself" in said["recomputed twice"]
        assert "host_memory is 0.5; it must be a whole number" in said["no host"]
        assert "the mesh is int, not a DeviceMesh" in said["no mesh"]
        assert "measured for hidden 64, and the model has 48" in said["other model"]
        assert "measured for ranks 8, and the mesh has 2" in said["other ranks"]
        assert said["the same"] == "no error"
