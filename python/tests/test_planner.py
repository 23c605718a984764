"""What planners are made of, and their errors."""

from __future__ import annotations

import copy
import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import lengthwise as lw

KNOWN = {"model": "llama-3.1-8b", "cluster": "h100-8x8"}


def test_a_planner_says_what_it_plans_with(planner: lw.Planner) -> None:
    assert planner.num_devices == 64
    assert planner.context == 384_000
    assert planner.degrees == tuple(range(1, 33))
    assert planner.rules == lw.Rules()
    assert repr(planner) == (
        'Planner(model="llama-3.1-8b", cluster="h100-8x8", devices=64, context=384000, '
        'planner="adaptive")'
    )


@pytest.mark.parametrize(
    "name",
    ["adaptive", "static", "static:16", "batch-adaptive", "flexsp", "megatron", "exhaustive"],
)
def test_every_planner_of_the_command_is_there(name: str) -> None:
    planner = lw.Planner(**KNOWN, devices=16, planner=name, degrees=[4, 8, 16])
    plan = planner.plan([60_000, 9000, 512])
    assert plan.planner == name
    assert {group.degree for each in plan.micro_batches for group in each.groups} <= {4, 8, 16}


def test_rings_have_degrees_beyond_the_number_of_heads() -> None:
    planner = lw.Planner(**KNOWN, strategies="ring", context="1000k")
    plan = planner.plan([1_000_000])
    (group,) = plan.micro_batches[0].groups
    assert group.degree > 32
    assert plan.simulate().step_s == pytest.approx(plan.predicted_step_s, rel=0.1)
    again = pickle.loads(pickle.dumps(planner))
    assert again.plan([1_000_000]) == plan


def test_ranks_stand_for_the_devices_that_share_a_model() -> None:
    planner = lw.Planner(**KNOWN, tensor_parallel=2, pipeline_parallel=4)
    assert (planner.num_devices, planner.num_ranks) == (64, 8)
    whole = lw.Planner(**KNOWN)
    assert planner.token_budget(4).tokens_per_device > whole.token_budget(4).tokens_per_device
    assert planner.plan([30_000, 500, 500]).for_rank(7) is not None
    with pytest.raises(lw.InputError, match="rank is 8"):
        planner.plan([30_000, 500, 500]).for_rank(8)


def test_plans_are_those_of_the_command(profile_path: Path, batch: list[int]) -> None:
    words = ["plan", "--lengths", "-", "--profile", str(profile_path), "--json", "--devices", "32"]
    words += ["--degrees", "1,2,4,8,16,32", "--threads", "2", "--context", "192k"]
    batch = [length for length in batch if length <= 100_000]
    command = [sys.executable, "-m", "lengthwise", *words]
    lengths = json.dumps(batch)
    told = subprocess.run(command, input=lengths, capture_output=True, text=True, check=True)
    planner = lw.Planner(
        profile=profile_path,
        devices=32,
        degrees=[1, 2, 4, 8, 16, 32],
        threads=2,
        context="192k",
    )
    assert planner.plan(batch) == lw.Plan.from_json(told.stdout)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, lw.InputError, "profile, or cluster and model, are missing"),
    ({"model": "llama-3.1-8b"}, lw.InputError, "profile, or cluster and model, are missing"),
    ({"cluster": "h100-8x8"}, lw.InputError, "cluster says nothing of what is computed"),
    ({"profile": "a", "model": "b"}, lw.InputError, "profile a can't be read: No such file"),
    ({**KNOWN, "model": "llama3"}, lw.InputError, "there is no model llama3: neither a known"),
    ({**KNOWN, "cluster": "h10-8x8"}, lw.InputError, "there is no cluster h10-8x8: neither"),
    ({**KNOWN, "cluster": 8}, lw.InputTypeError, "cluster is 8; it must be a name or a path"),
    ({**KNOWN, "devices": 0}, lw.InputError, "devices is 0; it must be a whole number from 1 to"),
    ({**KNOWN, "devices": True}, lw.InputTypeError, "devices is True; it must be a whole number"),
    ({**KNOWN, "devices": 8.0}, lw.InputTypeError, "devices is 8.0; it must be a whole number"),
    ({**KNOWN, "devices": "8"}, lw.InputTypeError, "devices is '8'; it must be a whole number"),
    ({**KNOWN, "devices": 10**5000}, lw.InputError, "devices is a value of type int; it must be"),
    ({**KNOWN, "context": "3q"}, lw.InputError, 'context: "3q" is not a number of tokens; write'),
    ({**KNOWN, "context": 0}, lw.InputError, "context is 0; it must be a whole number from 1"),
    ({**KNOWN, "context": "0"}, lw.InputError, "context is 0; it must be a whole number from 1"),
    ({**KNOWN, "degrees": 4}, lw.InputTypeError, "degrees is 4; it must be a list of degrees"),
    ({**KNOWN, "degrees": "1,2"}, lw.InputTypeError, "degrees is '1,2'; it must be a list of"),
    ({**KNOWN, "degrees": []}, lw.InputError, "degrees: no degree is left to plan with; the list"),
    ({**KNOWN, "degrees": [0]}, lw.InputError, "degrees[0] is 0; it must be a whole number from 1"),
    ({**KNOWN, "degrees": [1, None]}, lw.InputTypeError, "degrees[1] is None; it must be a whole"),
    ({**KNOWN, "degrees": [4, 4]}, lw.InputError, "degrees: degree 4 is listed twice; once is the"),
    (
        {**KNOWN, "strategies": "ulysses", "degrees": [64]},
        lw.InputError,
        "degrees: degree 64 is more than the model's 32",
    ),
    (
        {**KNOWN, "devices": 4, "degrees": [8]},
        lw.InputError,
        "degrees: no degree is left to plan with; all are above 4",
    ),
    ({**KNOWN, "strategies": "rings"}, lw.InputError, "there is no family of strategies rings"),
    ({**KNOWN, "strategies": 1}, lw.InputTypeError, "strategies is 1; it must be text"),
    ({**KNOWN, "logits": "fused"}, lw.InputError, 'logits is "fused"; it must be whole or chunked'),
    ({**KNOWN, "logits": 1}, lw.InputTypeError, "logits is 1; it must be text"),
    ({**KNOWN, "tensor_parallel": 0}, lw.InputError, "tensor_parallel is 0; it must be a whole"),
    ({**KNOWN, "tensor_parallel": 3}, lw.InputError, "tensor"),
    ({**KNOWN, "pipeline_parallel": 1.0}, lw.InputTypeError, "pipeline_parallel is 1.0; it must"),
    ({**KNOWN, "planner": "greedy"}, lw.InputError, 'planner: "greedy" is no planner; there are'),
    ({**KNOWN, "planner": 3}, lw.InputTypeError, "planner is 3; it must be text"),
    ({**KNOWN, "time_budget": "10"}, lw.InputError, "time_budget is '10'; write it with a unit"),
    ({**KNOWN, "time_budget": 0}, lw.InputError, "time_budget is 0; it must be a number of sec"),
    ({**KNOWN, "time_budget": float("nan")}, lw.InputError, "time_budget is nan; it must be a"),
    ({**KNOWN, "time_budget": 1e300}, lw.InputError, "time_budget is 1e+300; it must be a number"),
    ({**KNOWN, "time_budget": [1]}, lw.InputTypeError, "time_budget is [1]; it must be a number"),
    ({**KNOWN, "threads": 0}, lw.InputError, "threads is 0; it must be a whole number from 1"),
    ({**KNOWN, "max_communicators": -1}, lw.InputError, "max_communicators is -1; it must be a"),
    ({**KNOWN, "rules": {}}, lw.InputTypeError, "rules is {}; it must be Rules(...)"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), WRONG, ids=lambda _: "")
def test_a_wrong_argument_is_one_error_that_names_it(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    if arguments.get("profile") == "a":
        arguments = {"profile": "a"}
    with pytest.raises(lw.LengthwiseError) as caught:
        lw.Planner(**arguments)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, TypeError if kind is lw.InputTypeError else ValueError)


def test_costs_follow_from_one_thing(profile_path: Path) -> None:
    for more in [{"cluster": "h100-8x8"}, {"model": "llama-3.1-8b"}]:
        with pytest.raises(lw.InputError, match="are both given"):
            lw.Planner(profile=profile_path, **more)


def test_an_unknown_keyword_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="devises"):
        lw.Planner(**KNOWN, devises=8)  # pyright: ignore[reportCallIssue]


def test_hints_say_what_was_meant() -> None:
    with pytest.raises(lw.InputError) as caught:
        lw.Planner(model="llama-3.1-8b", cluster="h10-8x8")
    assert caught.value.hint == "did you mean h100-8x8?"
    if sys.version_info >= (3, 11):
        assert caught.value.__notes__ == ["hint: did you mean h100-8x8?"]


def test_a_sequence_that_fits_nowhere_is_named_with_its_figures() -> None:
    planner = lw.Planner(**KNOWN, devices=8, context="384k")
    with pytest.raises(lw.InfeasibleError) as caught:
        planner.plan([512, 380_000])
    error = caught.value
    assert str(error).startswith("lengths, index 1: 380000 tokens need degree ")
    assert str(error).endswith("; the cluster has 8 devices")
    assert (error.sequence, error.seq_len) == (1, 380_000)
    assert error.needed_degree is not None
    assert error.needed_degree > 8
    assert error.predicted_memory_bytes is not None
    assert error.budget_bytes is not None
    assert error.predicted_memory_bytes > error.budget_bytes
    assert error.hint is not None
    assert error.hint.startswith("use ")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is lw.InfeasibleError
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_devices_that_the_model_fills_have_no_sequence_to_blame() -> None:
    planner = lw.Planner(**KNOWN, devices=1)
    with pytest.raises(lw.InfeasibleError, match="each device holds") as caught:
        planner.plan([512])
    assert caught.value.sequence is None


def test_planners_pickle_with_all_that_they_were_given(profile_path: Path) -> None:
    rules = lw.Rules(max_tokens_per_rank=100_000)
    planners = [
        lw.Planner(**KNOWN, devices=16, context="100k", degrees=[2, 4, 16]),
        lw.Planner(profile=profile_path, planner="static:64", rules=rules),
        lw.Planner(profile=lw.Profile.read(profile_path), time_budget="5s", threads=2),
    ]
    for planner in planners:
        for again in [pickle.loads(pickle.dumps(planner)), copy.deepcopy(planner)]:
            assert repr(again) == repr(planner)
            assert again.degrees == planner.degrees
            assert again.rules == planner.rules
            lengths = [40_000, 9000]
            assert again.plan(lengths) == planner.plan(lengths)


def test_a_planner_whose_profile_is_gone_still_pickles(profile_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(profile_path.read_text())
    planner = lw.Planner(profile=path)
    path.unlink()
    assert repr(pickle.loads(pickle.dumps(planner))) == repr(planner)


def test_other_threads_run_while_a_plan_is_made(profile_path: Path, batch: list[int]) -> None:
    planner = lw.Planner(profile=profile_path, planner="flexsp", time_budget="1s")
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
    planner.plan(batch)
    took = time.perf_counter() - started
    seen = counted
    done.set()
    thread.join()
    # With the GIL held it would be one or two.
    assert took > 0.1
    assert seen > took / 0.005 / 10


def test_the_binding_adds_little_to_a_plan_of_512_lengths(
    profile_path: Path, batch: list[int]
) -> None:
    planner = lw.Planner(profile=profile_path)
    added: list[float] = []
    for _ in range(15):
        started = time.perf_counter()
        plan = planner.plan(batch)
        took = time.perf_counter() - started
        assert plan.solve_s is not None
        added.append(took - plan.solve_s)
    # About a tenth of a millisecond; the margin is for busy machines.
    assert min(added) < 1e-3


# Where tests run in the background, processes ignore Ctrl-C from the start.
PLANS_LONG = f"""
import signal
import lengthwise as lw
signal.signal(signal.SIGINT, signal.default_int_handler)
planner = lw.Planner(**{KNOWN!r}, planner="flexsp", time_budget="30s")
print("planning", flush=True)
try:
    planner.plan([300 + 7919 * index % 60_000 for index in range(512)])
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def test_ctrl_c_stops_a_plan() -> None:
    command = [sys.executable, "-c", PLANS_LONG]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "planning\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=5)
        assert told == "stopped\n"
    finally:
        process.kill()
        process.communicate()
