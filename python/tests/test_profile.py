"""Profiles, and costs that are fitted to measurements."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lengthwise as lw

KNOWN = {"model": "llama-3.1-8b", "cluster": "h100-2x8", "context": "200k"}


def test_a_profile_is_read_written_and_planned_with(profile_path: Path, tmp_path: Path) -> None:
    profile = lw.Profile.read(profile_path)
    assert profile.name == "a100-gpt-7b-384k"
    assert profile.context == 384_000
    assert repr(profile) == 'Profile("a100-gpt-7b-384k", devices=64, context=384000)'
    copy = tmp_path / "copy.toml"
    profile.save(copy)
    for same in [
        lw.Profile.read(str(copy)),
        lw.Profile.from_toml(profile.to_toml()),
        pickle.loads(pickle.dumps(profile)),
    ]:
        assert same == profile
        assert hash(same) == hash(profile)
    assert lw.Planner(profile=profile).plan([9000]) == lw.Planner(profile=copy).plan([9000])


def test_a_file_is_not_overwritten_unasked(profile_path: Path, tmp_path: Path) -> None:
    profile = lw.Profile.read(profile_path)
    path = tmp_path / "mine.toml"
    path.write_text("what was there")
    with pytest.raises(FileExistsError) as there:
        profile.save(path)
    assert there.value.filename == str(path)
    assert "overwrite=True" in there.value.hint  # type: ignore[attr-defined]
    assert path.read_text() == "what was there"
    profile.save(path, overwrite=True)
    assert lw.Profile.read(path) == profile
    with pytest.raises(FileNotFoundError) as missing:
        profile.save(tmp_path / "no" / "such.toml")
    assert missing.value.filename == str(tmp_path / "no" / "such.toml")
    assert [left.name for left in tmp_path.iterdir()] == ["mine.toml"]


def test_costs_of_a_described_cluster_are_a_profile() -> None:
    planner = lw.Planner(**KNOWN, strategies="ulysses", activations="recompute")
    same = lw.Planner(profile=planner.profile)
    lengths = [40_000, 9000, 512]
    assert same.plan(lengths) == planner.plan(lengths)


def test_what_is_no_profile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("version = 9")
    with pytest.raises(lw.InputError, match=r"bad.toml: .*version is 9"):
        lw.Profile.read(path)
    with pytest.raises(lw.InputError, match="mine: "):
        lw.Profile.from_toml("name = 3", name="mine")
    with pytest.raises(lw.InputTypeError, match="text is 3; it must be text"):
        lw.Profile.from_toml(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(lw.InputError, match="can't be read"):
        lw.Profile.read(tmp_path / "missing.toml")


def measured(planner: lw.Planner, factor: float) -> list[lw.Measurement]:
    """What runs take by a planner's own costs, each so many times as long."""
    measurements: list[lw.Measurement] = []
    for degree in [1, 2, 8, 16]:
        for share in [1000, 4000, 9000]:
            lengths = [share * degree, 300]
            fixed = lw.Planner(
                profile=planner.profile, degrees=[degree], planner=f"static:{degree}"
            )
            groups = [
                lw.MeasuredGroup(degree, group.seq_lens, crosses_nodes=degree > 8)
                for group in fixed.plan(lengths).micro_batches[0].groups
            ]
            time = fixed.plan(lengths).predicted_step_s
            assert time is not None
            measurements.append(lw.Measurement(factor * time, groups))
    return measurements


def test_costs_are_fitted_to_what_was_measured() -> None:
    planner = lw.Planner(**KNOWN)
    measurements = measured(planner, 1.5)
    fitted = lw.Profile.fit(measurements, **KNOWN, name="mine")
    assert fitted.name == "mine"
    assert fitted.fitted_error is not None
    assert fitted.fitted_error < 1e-3
    assert fitted.held_out_error is None
    lengths = [60_000, 5000, 512]
    slower = lw.Planner(profile=fitted, planner="static:8").plan(lengths)
    usual = lw.Planner(profile=planner.profile, planner="static:8").plan(lengths)
    assert usual.predicted_step_s is not None
    assert slower.predicted_step_s == pytest.approx(1.5 * usual.predicted_step_s, rel=0.01)
    # What it holds fits the same costs again.
    rows = fitted.measurements
    assert len(rows) == len(measurements)
    assert rows[0]["predicted_s"] == pytest.approx(measurements[0].measured_s, rel=1e-3)
    again = lw.Profile.fit(rows, profile=fitted)
    assert again.fitted_error == pytest.approx(fitted.fitted_error, abs=1e-3)


def test_rows_may_be_of_any_kind() -> None:
    @dataclasses.dataclass
    class Row:
        measured_s: float
        groups: list[dict[str, Any]]

    measurements = measured(lw.Planner(**KNOWN), 1.0)
    rows = [measurement.as_row() for measurement in measurements]
    expected = lw.Profile.fit(measurements, **KNOWN)
    for each in rows:
        for group in each["groups"]:
            group["seq_lens_tokens"] = np.array(group["seq_lens_tokens"])
        each["measured_s"] = np.float64(each["measured_s"])
        each["runs"] = np.int32(each["runs"])
    assert lw.Profile.fit(iter(rows), **KNOWN) == expected
    own = [Row(row["measured_s"], row["groups"]) for row in rows]
    assert lw.Profile.fit(own, **KNOWN) == expected  # pyright: ignore[reportArgumentType]


def test_what_is_held_out_is_only_compared() -> None:
    measurements = measured(lw.Planner(**KNOWN), 1.0)
    odd = dataclasses.replace(
        measurements[4], measured_s=2 * measurements[4].measured_s, held_out=True
    )
    fitted = lw.Profile.fit([*measurements, odd], **KNOWN)
    assert fitted.fitted_error is not None
    assert fitted.fitted_error < 1e-3
    assert fitted.held_out_error == pytest.approx(0.5, abs=0.01)


def test_memory_is_fitted_where_it_was_measured() -> None:
    measurements = [
        dataclasses.replace(
            measurement,
            peak_memory_bytes=10 * 2**30
            + 500_000 * sum(measurement.groups[0].seq_lens) // measurement.groups[0].degree,
        )
        for measurement in measured(lw.Planner(**KNOWN), 1.0)
    ]
    planner = lw.Planner(profile=lw.Profile.fit(measurements, **KNOWN))
    choice = planner.explain(10_000).choices[0]
    assert choice.memory_bytes == pytest.approx(10_000 * 500_000, rel=1e-3)
    left = 80 * 10**9 - 10 * 2**30
    assert choice.budget_bytes == pytest.approx(left, rel=0.1)


def test_wrong_rows_are_named_by_their_position() -> None:
    good = measured(lw.Planner(**KNOWN), 1.0)
    group = lw.MeasuredGroup(1, [10])
    wrong: list[tuple[Any, type[Exception], str]] = [
        (3, lw.InputTypeError, "measurement 2 is int; it must be a Measurement or a mapping"),
        ({}, lw.InputError, "measurement 2: missing field `measured_s`"),
        ({"measured_s": 1.0, "x": 1}, lw.InputError, "measurement 2: unknown field `x`"),
        ({"measured_s": object()}, lw.InputTypeError, "measurement 2: measured_s is <object "),
        ({"held_out": object()}, lw.InputTypeError, "measurement 2: a value of type object"),
        ({"measured_s": 1.0, "runs": 0}, lw.InputError, "measurement 2: runs is 0; it must be"),
        ({"measured_s": 1.0, "groups": None}, lw.InputTypeError, "measurement 2: groups is None; "),
        ({"measured_s": float("inf")}, lw.InputError, "measurement 2: measured_s is inf; it must"),
        (lw.Measurement("1", [group]), lw.InputTypeError, "measurement 2: measured_s is '1'; it"),  # type: ignore
        (lw.Measurement(1.0, [group], runs=0), lw.InputError, "measurement 2: runs is 0; it must"),
        (lw.Measurement(1.0, None), lw.InputTypeError, "measurement 2: groups is None; it must"),  # type: ignore
        (lw.Measurement(1.0, [3]), lw.InputTypeError, "measurement 2: groups[0] is int; it must"),  # type: ignore
        (lw.Measurement(0.0, [group]), lw.InputError, "measurement 2: measured_s is 0; it must"),
        (lw.Measurement(float("nan"), [group]), lw.InputError, "measurement 2: measured_s is nan"),
        (lw.Measurement(1.0), lw.InputError, "measurement 2: groups is empty"),
        (lw.Measurement(1.0, [lw.MeasuredGroup(32, [9])]), lw.InputError, "measurement 2: its"),
        (lw.Measurement(1.0, [lw.MeasuredGroup(1, [0])]), lw.InputError, "measurement 2: seq_"),
        (
            lw.Measurement(1.0, [lw.MeasuredGroup(6, [9], ring=4)]),
            lw.InputError,
            "measurement 2: ring",
        ),
    ]
    of_groups: list[tuple[lw.MeasuredGroup, type[Exception], str]] = [
        (lw.MeasuredGroup("1", [5]), lw.InputTypeError, "degree is '1'; it must be a whole"),  # type: ignore
        (lw.MeasuredGroup(True, [5]), lw.InputTypeError, "degree is True; it must be a whole"),
        (lw.MeasuredGroup(0, [5]), lw.InputError, "degree is 0; it must be a whole number from 1"),
        (lw.MeasuredGroup(1, None), lw.InputTypeError, "seq_lens is None; it must be a list of"),  # type: ignore
        (lw.MeasuredGroup(1, [5, 1.5]), lw.InputTypeError, "seq_lens[1] is 1.5; it must be a"),  # type: ignore
        (lw.MeasuredGroup(1, [5], count=0), lw.InputError, "count is 0; it must be a whole"),
    ]
    for each, kind, message in of_groups:
        wrong.append((lw.Measurement(1.0, [each]), kind, f"measurement 2: {message}"))
    for row, kind, message in wrong:
        with pytest.raises(lw.LengthwiseError) as caught:
            lw.Profile.fit([*good[:2], row, *good[2:]], **KNOWN)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(message)
    with pytest.raises(lw.InputError, match="2 measurements are too few for the 3 costs"):
        lw.Profile.fit(good[:2], **KNOWN)
    with pytest.raises(lw.InputTypeError, match="measurements is 3"):
        lw.Profile.fit(3, **KNOWN)  # pyright: ignore[reportArgumentType]
    with pytest.raises(lw.InputError, match="profile, or cluster and model, are missing"):
        lw.Profile.fit(good)
