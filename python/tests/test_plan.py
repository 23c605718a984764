"""Plans and what they say."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lengthwise as lw

HAND_WRITTEN = (
    '{"micro_batches":[{"groups":[{"ranks":[4,5],"sequences":[1,0],'
    '"strategy":{"ulysses":2,"activations":"keep"}}]}],"seq_lens_tokens":[7,9]}'
)


def assert_is_whole(plan: lw.Plan, num_devices: int, lengths: list[int]) -> None:
    """Every sequence once, in disjoint groups as large as their degree."""
    assert plan.seq_lens == tuple(lengths)
    seen: list[int] = []
    for micro_batch in plan.micro_batches:
        ranks = [rank for group in micro_batch.groups for rank in group.ranks]
        assert len(set(ranks)) == len(ranks)
        assert all(0 <= rank < num_devices for rank in ranks)
        for group in micro_batch.groups:
            assert len(group.ranks) == group.degree == group.strategy.degree
            assert group.seq_lens == tuple(lengths[index] for index in group.sequences)
            assert group.num_tokens == sum(group.seq_lens)
            seen.extend(group.sequences)
    assert sorted(seen) == list(range(len(lengths)))


lengths_of_batches = st.lists(st.integers(1, 384_000), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(lengths_of_batches)
def test_any_batch_is_planned_whole_and_predicted(lengths: list[int]) -> None:
    planner = lw.Planner(model="llama-3.1-8b", cluster="h200-8x8", context="384k")
    plan = planner.plan(lengths)
    assert_is_whole(plan, planner.num_devices, lengths)
    assert plan.predicted_step_s is not None
    assert plan.lower_bound_s is not None
    assert plan.gap is not None
    assert plan.predicted_step_s >= plan.lower_bound_s * (1 - 1e-9)
    assert plan.gap == pytest.approx(plan.predicted_step_s / plan.lower_bound_s - 1, abs=1e-9)
    makespans = [micro_batch.predicted_s for micro_batch in plan.micro_batches]
    assert plan.predicted_step_s == pytest.approx(sum(filter(None, makespans)))


@settings(max_examples=40, deadline=None)
@given(lengths_of_batches)
def test_json_and_pickles_keep_all_that_a_plan_says(lengths: list[int]) -> None:
    plan = lw.Planner(model="llama-3.1-8b", cluster="h200-8x8", context="384k").plan(lengths)
    for copy in [lw.Plan.from_json(plan.to_json()), pickle.loads(pickle.dumps(plan))]:
        assert copy == plan
        assert hash(copy) == hash(plan)
        assert copy.to_json() == plan.to_json()
        assert repr(copy) == repr(plan)


def test_the_same_lengths_give_the_same_plan_and_others_another(planner: lw.Planner) -> None:
    lengths = [150_000, 8_000, 512, 512]
    assert planner.plan(lengths) == planner.plan(lengths)
    assert planner.plan(lengths) != planner.plan([150_001, *lengths[1:]])
    assert planner.plan(lengths) != "a plan"


def test_a_recorded_batch_is_planned_as_by_the_command(
    profile_path: Path, batch: list[int]
) -> None:
    plan = lw.Planner(profile=profile_path).plan(batch)
    assert repr(plan) == (
        "Plan([8 4 4 4 4 2x8 1x24] [1x64], predicted 2.922 s, bound 2.890 s, gap 1.12 %)"
    )
    assert_is_whole(plan, 64, batch)


def test_a_rank_finds_its_work_or_idles() -> None:
    plan = lw.Plan.from_json(HAND_WRITTEN)
    (work,) = plan.for_rank(5)
    assert work is not None
    assert (work.micro_batch, work.group_rank) == (0, 1)
    assert work.group.sequences == (1, 0)
    assert work.group.seq_lens == (9, 7)
    assert plan.for_rank(0) == (None,)


def test_ranks_outside_the_cluster_are_refused(planner: lw.Planner) -> None:
    plan = planner.plan([512])
    assert len(plan.for_rank(63)) == 1
    for rank in [64, -1, 2**70]:
        with pytest.raises(lw.InputError, match=r"rank is .*; it must be .* from 0 to 63"):
            plan.for_rank(rank)
    for rank in [True, 1.0, "1", None]:
        with pytest.raises(lw.InputTypeError, match="rank is "):
            plan.for_rank(rank)  # pyright: ignore[reportArgumentType]


def test_a_hand_written_plan_has_no_figures() -> None:
    plan = lw.Plan.from_json(HAND_WRITTEN)
    assert repr(plan) == "Plan([2])"
    (micro_batch,) = plan.micro_batches
    (group,) = micro_batch.groups
    figures = [plan.predicted_step_s, plan.gap, plan.solve_s, plan.planner, plan.stop_reason]
    assert [*figures, micro_batch.predicted_s, group.predicted_s, group.memory_bytes] == [None] * 8
    assert repr(group) == "Group(degree 2 on ranks 4-5, 2 sequences of 16 tokens)"
    assert "1 micro-batch, 2 sequences, 6 ranks" in plan._repr_svg_()


def test_what_is_no_plan_is_told_with_its_place() -> None:
    for text, complaint in [
        ("{", "text is no plan in JSON: EOF"),
        (HAND_WRITTEN.replace("2,", "0,", 1), "text, micro-batch 0, group 0: strategy.ulysses"),
        (HAND_WRITTEN.replace("7,", "0,"), "text, index 0: 0 tokens"),
        (b"\xff", "text is no plan in JSON"),
    ]:
        with pytest.raises(lw.InputError) as caught:
            lw.Plan.from_json(text)
        assert str(caught.value).startswith(complaint)
    with pytest.raises(lw.InputTypeError, match="text is 3; it must be the JSON of a plan"):
        lw.Plan.from_json(3)  # pyright: ignore[reportArgumentType]


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(lw.InputError, match="holds sequence 77; the batch has 2 sequences"):
        lw.Plan.from_json(HAND_WRITTEN.replace("[1,0]", "[1,77]"))


def test_a_picture_has_a_block_for_every_group(planner: lw.Planner) -> None:
    plan = planner.plan([150_000, 8_000, 512, 512])
    root = ElementTree.fromstring(plan._repr_svg_())
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0].startswith("1 micro-batch, 4 sequences, 64 ranks: predicted ")
    blocks = [title for title in titles if title.startswith("micro-batch")]
    assert len(blocks) == sum(len(each.groups) for each in plan.micro_batches)


def test_a_long_plan_has_a_small_picture() -> None:
    planner = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", planner="static:1")
    plan = planner.plan([20_000] * 20_000)
    assert len(plan.micro_batches) > 100
    picture = plan._repr_svg_()
    assert "(the first " in picture
    assert len(picture) < 2_000_000
    assert repr(plan).count("[") < 60


@st.composite
def hand_written_plans(draw: st.DrawFn) -> dict[str, Any]:
    """Plans as anybody could write them, whether they can be run or not."""
    seconds = st.none() | st.sampled_from([0.0, 5e-324, 1e-9, 1.5, 1e18, 1.7e308])
    rank = st.integers(0, 2**20 - 1) | st.integers(0, 70)

    def group(ranks: list[int], sequences: list[int]) -> dict[str, Any]:
        return {
            "ranks": ranks,
            "sequences": sequences,
            "strategy": {"ulysses": len(ranks), "activations": "keep"},
            "predicted_s": draw(seconds),
            "memory_bytes": draw(st.none() | st.integers(0, 2**64 - 1)),
        }

    num_sequences = draw(st.integers(1, 6))
    left = draw(st.permutations(range(num_sequences)))
    micro_batches: list[dict[str, Any]] = []
    while left:
        groups: list[dict[str, Any]] = []
        ranks = draw(st.lists(rank, min_size=1, max_size=8, unique=True))
        while left and ranks:
            degree, size = draw(st.integers(1, len(ranks))), draw(st.integers(1, len(left)))
            groups.append(group(ranks[:degree], left[:size]))
            ranks, left = ranks[degree:], left[size:]
        micro_batches.append({"predicted_s": draw(seconds), "groups": groups})
    return {
        "planner": draw(st.none() | st.text()),
        "predicted_step_s": draw(seconds),
        "lower_bound_s": draw(seconds),
        "gap": draw(st.none() | st.floats(allow_nan=False, allow_infinity=False)),
        "stop_reason": draw(st.none() | st.text()),
        "micro_batches": micro_batches,
        "seq_lens_tokens": draw(
            st.lists(st.integers(1, 2**40), min_size=num_sequences, max_size=num_sequences)
        ),
    }


LOCAL = {"ulysses": 1, "activations": "keep"}
ALONE = {"groups": [{"ranks": [0], "sequences": [0], "strategy": LOCAL}]}

# A gap that is no number of per cent any more.
HUGE_GAP = {
    "predicted_step_s": 0.0,
    "gap": 1.8e306,
    "micro_batches": [ALONE],
    "seq_lens_tokens": [7],
}

# A group that takes far longer than its micro-batch.
LONG_GROUP = {
    "predicted_step_s": 0.0,
    "micro_batches": [
        {"predicted_s": 1e-9, "groups": [ALONE["groups"][0] | {"predicted_s": 1.7e308}]}
    ],
    "seq_lens_tokens": [1],
}


@settings(max_examples=300, deadline=None)
@given(hand_written_plans())
@example(HUGE_GAP)
@example(LONG_GROUP)
def test_any_plan_can_be_shown_and_written(written: dict[str, Any]) -> None:
    plan = lw.Plan.from_json(json.dumps(written))
    ElementTree.fromstring(plan.to_svg())
    assert "nan" not in plan.to_svg().lower()
    assert "inf" not in plan.to_svg().lower()
    assert plan == lw.Plan.from_json(plan.to_json())
    for micro_batch in plan.micro_batches:
        assert repr(micro_batch)
        for group in micro_batch.groups:
            assert repr(group)
    assert len(plan.for_rank(0)) == len(plan.micro_batches)
    planner = lw.Planner(model="llama-3.1-8b", cluster="h100-8x8")
    try:
        plan.simulate(planner=planner)
    except lw.LengthwiseError as error:
        told = error
        assert type(told) is lw.InputError


def test_a_certificate_is_what_the_command_verifies(
    profile_path: Path, batch: list[int], tmp_path: Path
) -> None:
    plan = lw.Planner(profile=profile_path).plan(batch, certificate=True)
    certificate = json.loads(plan.certificate())
    assert certificate["bound_s"] == pytest.approx(plan.lower_bound_s, rel=1e-9)
    assert certificate["plan_step_s"] == plan.predicted_step_s
    assert lw.Plan.from_json(json.dumps(certificate["plan"])) == plan
    path = tmp_path / "certificate.json"
    path.write_text(plan.certificate())
    words = ["verify", str(path), "--profile", str(profile_path)]
    command = [sys.executable, "-m", "lengthwise", *words]
    verified = subprocess.run(command, capture_output=True, text=True, check=True)
    assert verified.stdout.startswith("verified: ")
    certificate["bound_s"] *= 1.01
    path.write_text(json.dumps(certificate))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "bound_s is " in refused.stderr


def test_a_plan_without_a_certificate_says_why(planner: lw.Planner) -> None:
    plan = planner.plan([9000, 500])
    with pytest.raises(lw.InputError, match="no certificate: it was planned without one"):
        plan.certificate()
    certified = planner.plan([9000, 500], certificate=True)
    assert certified == plan
    assert certified.certificate()
    for copy in [lw.Plan.from_json(plan.to_json()), pickle.loads(pickle.dumps(certified))]:
        with pytest.raises(lw.InputError, match="no certificate: it was read from JSON"):
            copy.certificate()
