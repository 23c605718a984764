"""Plans of Lengthwise in the place of Megatron-Core's scheduler.

What Megatron-Core has is stood in for by modules with its names and constructors.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import EXAMPLES
from hypothesis import given, settings
from hypothesis import strategies as st

import lengthwise as lw
from lengthwise import megatron
from lengthwise.megatron._planners import Planners, Sizes
from lengthwise.megatron._rank_lists import rank_lists

COSTS = {"model": "llama-3.1-8b", "cluster": "h100-8x8"}

#: The modules of Megatron-Core that are stood in for.
MEGATRON = """
class DpBalancedScheduler:
    def __init__(self, max_seqlen_per_dp_cp_rank, cp_size, dp_size,
                 microbatch_group_size_per_vp_stage, max_num_seqs=None):
        self.max_seqlen_per_dp_cp_rank = max_seqlen_per_dp_cp_rank
        self.cp_size = cp_size
        self.dp_size = dp_size
        self.microbatch_group_size_per_vp_stage = microbatch_group_size_per_vp_stage
        self.max_num_seqs = max_num_seqs

    def run(self, samples, config):
        return self.get_groups_and_subsamples(samples)


class DefaultDynamicCPScheduler(DpBalancedScheduler):
    def __init__(self, *args, min_cp_size=1, **kwargs):
        super().__init__(*args, **kwargs)
        self.is_dynamic_cp = True
        self.min_cp_size = min_cp_size

    def get_groups_and_subsamples(self, sample_id_seqlens):
        return "their own"


def _get_scheduler_max_real_num_seqs(config):
    return config["max_real_num_seqs"]


scheduler_map = {
    "dp_balanced": DpBalancedScheduler,
    "default_dynamic_cp": DefaultDynamicCPScheduler,
}
"""


def add_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str = "") -> types.ModuleType:
    """A module as though it had been imported, with the packages that it is in."""
    parent, _, last = name.rpartition(".")
    module = types.ModuleType(name)
    module.__path__ = []
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    if parent:
        if parent not in sys.modules:
            add_module(monkeypatch, parent)
        monkeypatch.setattr(sys.modules[parent], last, module, raising=False)
    return module


@pytest.fixture
def data_schedule(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A stand-in for the module that schedules."""
    yield add_module(monkeypatch, "megatron.core.datasets.data_schedule", MEGATRON)
    megatron.uninstall()


def made(data_schedule: Any, *, cap: int = 8192, cp: int = 8, dp: int = 8, **others: Any) -> Any:
    """A scheduler, made as Megatron-Core makes it."""
    scheduler = data_schedule.scheduler_map["default_dynamic_cp"]
    return scheduler(cap, cp, dp, others.pop("vp", None), **others)


def sizes_of_groups(ranks: list[list[Any]]) -> list[int]:
    """The size of every rank's group, as Megatron-Core reads it off."""
    return [sum(of_rank[0] in other for other in ranks) for of_rank in ranks]


def check(
    micro_batches: list[list[list[Any]]],
    lengths: dict[Any, int],
    sizes: Sizes,
    *,
    any_size: bool = False,
) -> None:
    """What Megatron-Core and verl expect of a schedule."""
    seen: list[Any] = []
    for ranks in micro_batches:
        assert len(ranks) == sizes.num_ranks
        assert all(ranks), "a rank without samples"
        for rank, size in enumerate(sizes_of_groups(ranks)):
            first = ranks.index(ranks[rank])
            assert ranks[first : first + size] == [ranks[rank]] * size
            assert size >= sizes.min_degree
            assert any_size or (size in sizes.group_sizes() and first % size == 0)
            tokens = sum(lengths[sample] for sample in ranks[rank])
            assert tokens <= size * sizes.max_tokens_per_rank
            assert len(ranks[rank]) <= (sizes.max_sequences_per_group or len(lengths))
            if rank == first:
                seen.extend(ranks[rank])
    assert sorted(seen) == sorted(lengths)
    assert len(micro_batches) % sizes.micro_batches_multiple_of == 0


def test_a_schedule_keeps_what_megatron_core_expects(data_schedule: Any, batch: list[int]) -> None:
    megatron.install(**COSTS)
    samples = {f"sample {index}": seq_len for index, seq_len in enumerate(batch)}
    scheduler = made(data_schedule, vp=3, min_cp_size=2, max_num_seqs=40)
    groups = scheduler.get_groups_and_subsamples(list(samples.items()))
    check(groups, samples, Sizes(64, 8192, 2, 3, 40))
    assert scheduler.is_dynamic_cp
    assert scheduler.get_groups_and_subsamples([]) == []


def test_every_rank_has_a_list_of_its_own(data_schedule: Any) -> None:
    megatron.install(**COSTS)
    (ranks,) = made(data_schedule, cp=2, dp=1).get_groups_and_subsamples([(7, 16_000)])
    assert ranks == [[7], [7]]
    assert ranks[0] is not ranks[1]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Sizes, list[int]]:
    """Sizes and lengths that each fit."""
    num_ranks = draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64]))
    cap = draw(st.integers(64, 20_000))
    longest = cap * min(num_ranks, 32)
    skewed = st.floats(0, 1).map(lambda part: max(1, int(longest ** (0.3 + 0.7 * part))))
    lengths = draw(st.lists(st.one_of(st.integers(1, longest), skewed), min_size=1, max_size=150))
    min_degree = draw(st.sampled_from([d for d in (1, 2, 4) if d <= num_ranks]))
    multiple = draw(st.integers(1, min(4, len(lengths))))
    most = draw(st.one_of(st.none(), st.integers(1, 20)))
    return Sizes(num_ranks, cap, min_degree, multiple, most), lengths


PLANNERS = Planners(False, dict(COSTS))
THEIRS = Planners(False, {**COSTS, "planner": "megatron"})


@settings(max_examples=60, deadline=None)
@given(problems())
def test_any_schedule_keeps_the_rules_and_is_not_slower_than_theirs(
    problem: tuple[Sizes, list[int]],
) -> None:
    sizes, lengths = problem
    try:
        theirs = THEIRS.plan(sizes, lengths).predicted_step_s
    except lw.InputError:
        theirs = None
    try:
        plan = PLANNERS.plan(sizes, lengths)
    except lw.RuleError:
        assert theirs is None, "theirs keeps the rules and ours does not"
        return
    groups = rank_lists(plan, range(len(lengths)), sizes.num_ranks)
    check(groups, dict(enumerate(lengths)), sizes)
    assert plan.predicted_step_s is not None
    assert theirs is None or plan.predicted_step_s <= theirs * (1 + 1e-9)


def test_groups_may_have_any_size_where_that_is_supported(
    data_schedule: Any, batch: list[int]
) -> None:
    megatron.install(**COSTS, group_sizes="any")
    scheduler = made(data_schedule, cp=6, dp=2)
    groups = scheduler.get_groups_and_subsamples([(0, 90_000), *enumerate(batch[:100], 1)])
    lengths = dict(enumerate([90_000, *batch[:100]]))
    check(groups, lengths, Sizes(12, 8192, 1, 1, None), any_size=True)
    sizes = {size for ranks in groups for size in sizes_of_groups(ranks)}
    assert not sizes <= {1, 2, 4, 8}


def test_only_groups_that_megatron_core_creates_are_used(
    data_schedule: Any, batch: list[int]
) -> None:
    # For 12 ranks there are groups of 1, 2, 4 and 12, but none of 8.
    megatron.install(**COSTS)
    scheduler = made(data_schedule, cap=16_384, cp=6, dp=2)
    samples = dict(enumerate([60_000, *batch[:100]]))
    groups = scheduler.get_groups_and_subsamples(list(samples.items()))
    check(groups, samples, Sizes(12, 16_384, 1, 1, None))
    with pytest.raises(lw.RuleError, match="75000 tokens"):
        scheduler.get_groups_and_subsamples([(0, 75_000)])


def test_every_process_makes_the_same_schedule(data_schedule: Any, batch: list[int]) -> None:
    megatron.install(**COSTS)
    samples = list(enumerate(batch))
    expected = made(data_schedule).get_groups_and_subsamples(samples)
    program = f"""
import json
from lengthwise.megatron._planners import Planners, Sizes
from lengthwise.megatron._rank_lists import rank_lists
planners = Planners(False, dict({COSTS}, strategies="ring", activations="recompute", threads=2))
plan = planners.plan(Sizes(64, 8192, 1, 1, None), {batch})
print(json.dumps(rank_lists(plan, range({len(batch)}), 64)))
"""
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(other.stdout) == expected


def test_the_scheduler_is_replaced_wherever_it_has_a_name(
    data_schedule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = data_schedule.DefaultDynamicCPScheduler
    importer = add_module(monkeypatch, "trains")
    importer.scheduler = own  # type: ignore[attr-defined]
    megatron.install(**COSTS)
    ours = data_schedule.DefaultDynamicCPScheduler
    assert ours is not own
    assert issubclass(ours, own)
    assert data_schedule.scheduler_map["default_dynamic_cp"] is ours
    assert importer.scheduler is ours
    megatron.install(lw.Planner(**COSTS, devices=8))
    assert data_schedule.DefaultDynamicCPScheduler is not ours
    assert data_schedule.DefaultDynamicCPScheduler.__mro__[1] is own
    megatron.uninstall()
    megatron.uninstall()
    assert data_schedule.DefaultDynamicCPScheduler is own
    assert data_schedule.scheduler_map["default_dynamic_cp"] is own
    assert importer.scheduler is own
    assert made(data_schedule).get_groups_and_subsamples([(0, 1)]) == "their own"


def test_costs_are_worked_out_once_for_the_same_sizes(
    data_schedule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    megatron.install(**COSTS)
    num = 0

    class Counted:
        def __new__(cls, **costs: Any) -> Any:
            nonlocal num
            num += 1
            return lw.Planner(**costs)

    monkeypatch.setattr("lengthwise.megatron._planners.Planner", Counted)
    for _ in range(3):
        made(data_schedule).get_groups_and_subsamples([(0, 500)] * 64)
    once = num
    assert once > 0
    made(data_schedule, cap=4096).get_groups_and_subsamples([(0, 500)] * 64)
    assert num == 2 * once


def test_a_dummy_sequence_counts_among_the_most_of_a_pack(data_schedule: Any) -> None:
    megatron.install(**COSTS)
    scheduler = made(data_schedule, cp=2, dp=1, max_num_seqs=3)
    samples = [(index, 100) for index in range(12)]
    groups = scheduler.run(samples, {"max_real_num_seqs": 2})
    assert max(len(of_rank) for ranks in groups for of_rank in ranks) <= 2


def test_a_rank_stands_for_the_devices_that_share_its_sequences(
    data_schedule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Recorded:
        def __new__(cls, **costs: Any) -> Any:
            seen.update(costs)
            costs.pop("tensor_parallel", None)
            costs.pop("pipeline_parallel", None)
            return lw.Planner(**costs)

    monkeypatch.setattr("lengthwise.megatron._planners.Planner", Recorded)
    megatron.install(**COSTS, tensor_parallel=2, pipeline_parallel=4)
    # The stand-in plans for 64 ranks of one device, where the real one plans for 8 of 8.
    with pytest.raises(lw.InternalError, match="8 ranks"):
        made(data_schedule, cp=4, dp=2).get_groups_and_subsamples([(0, 500)] * 64)
    assert (seen["devices"], seen["tensor_parallel"], seen["pipeline_parallel"]) == (64, 2, 4)


def test_what_can_not_be_kept_is_one_error(data_schedule: Any) -> None:
    megatron.install(**COSTS)
    with pytest.raises(lw.RuleError, match="sample 'a' has 65537 tokens; 64 ranks hold 65536"):
        made(data_schedule, cap=1024).get_groups_and_subsamples([("a", 65_537), ("b", 3)])
    with pytest.raises(lw.RuleError, match="sample 0 has 9000 tokens; 1 rank holds 8192"):
        made(data_schedule, cp=1, dp=1).get_groups_and_subsamples([(0, 9000)])
    megatron.install(**COSTS, strategies="ulysses")
    with pytest.raises(lw.RuleError, match="33000 tokens"):
        made(data_schedule, cap=1024).get_groups_and_subsamples([(0, 33_000)])
    with pytest.raises(lw.RuleError, match="micro-batches"):
        made(data_schedule, vp=4).get_groups_and_subsamples([(0, 100), (1, 100)])
    with pytest.raises(lw.InputError, match="max_seqlen_per_dp_cp_rank is None"):
        made(data_schedule, cap=None).get_groups_and_subsamples([(0, 100)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({**COSTS, "devices": 8}, "devices is given"),
        ({**COSTS, "rules": lw.Rules()}, "rules is given"),
        ({**COSTS, "time_budget": "10ms"}, "time_budget is '10ms'"),
        ({**COSTS, "group_sizes": "all"}, "group_sizes is 'all'"),
        ({"model": "gpt-1", "cluster": "h100-8x8"}, "gpt-1"),
    ],
)
def test_arguments_that_can_not_be_used_are_named(
    data_schedule: Any, arguments: dict[str, Any], message: str
) -> None:
    own = data_schedule.DefaultDynamicCPScheduler
    with pytest.raises(lw.InputError, match=message):
        megatron.install(**arguments)
    assert data_schedule.DefaultDynamicCPScheduler is own


@pytest.mark.parametrize(
    ("planner", "others", "message"),
    [
        (lw.Planner(**COSTS), {"model": "llama-3.1-8b"}, "a planner and model are both given"),
        (lw.Planner(**COSTS, rules=lw.Rules(min_degree=2)), {}, "rules is given"),
        (lw.Planner(**COSTS, time_budget=1.0), {}, "time_budget is"),
    ],
)
def test_planners_that_can_not_be_used_are_named(
    data_schedule: Any, planner: lw.Planner, others: dict[str, Any], message: str
) -> None:
    with pytest.raises(lw.InputError, match=message):
        megatron.install(planner, **others)


def test_a_megatron_core_without_the_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "megatron", None)
    with pytest.raises(megatron.UnsupportedMegatronError, match="there is no megatron-core"):
        megatron.install(**COSTS)
    monkeypatch.delitem(sys.modules, "megatron")
    add_module(monkeypatch, "megatron.core.datasets.data_schedule", "scheduler_map = {}")
    add_module(monkeypatch, "megatron.core.package_info", "__version__ = '0.19.1'")
    with pytest.raises(
        megatron.UnsupportedMegatronError, match=r"megatron-core 0\.19\.1"
    ) as raised:
        megatron.install(**COSTS)
    assert "up to 0.19" in (raised.value.hint or "")
    assert isinstance(raised.value, ImportError)


@pytest.mark.parametrize("scheduler_map", ["{}", "None"])
def test_what_a_megatron_core_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, scheduler_map: str
) -> None:
    source = f"class DefaultDynamicCPScheduler: ...\nscheduler_map = {scheduler_map}"
    add_module(monkeypatch, "megatron.core.datasets.data_schedule", source)
    with pytest.raises(megatron.UnsupportedMegatronError) as raised:
        megatron.install(**COSTS)
    lacks = "a mapping scheduler_map"
    if scheduler_map == "{}":
        lacks = "the entry default_dynamic_cp of scheduler_map"
    assert str(raised.value).endswith(f"data_schedule lacks {lacks}")


@pytest.mark.parametrize("planner", [5, "llama-3.1-8b"])
def test_what_is_no_planner_is_named(data_schedule: Any, planner: Any) -> None:
    with pytest.raises(lw.InputTypeError, match=f"planner is {planner!r}; it must be a Planner"):
        megatron.install(planner)


def ring_degrees(monkeypatch: pytest.MonkeyPatch, data_schedule: Any, *args: Any) -> set[int]:
    """The ring degrees of the groups that a long sequence is planned for."""
    seen: set[int] = set()

    def recorded(plan: lw.Plan, ids: Any, num_ranks: int) -> list[list[list[Any]]]:
        for micro_batch in plan.micro_batches:
            seen.update(group.strategy.ring for group in micro_batch.groups)
        return rank_lists(plan, ids, num_ranks)

    monkeypatch.setattr("lengthwise.megatron._scheduler.rank_lists", recorded)
    planner, costs = args
    megatron.install(planner, **costs)
    made(data_schedule, cp=4, dp=1).get_groups_and_subsamples([(0, 30_000)])
    return seen


@pytest.mark.parametrize(
    ("planner", "costs", "expected"),
    [
        (None, COSTS, {4}),
        (None, {**COSTS, "strategies": None}, {4}),
        (None, {**COSTS, "strategies": "ulysses"}, {1}),
        (lw.Planner(**COSTS), {}, {4}),
        (lw.Planner(**COSTS, strategies="ulysses"), {}, {1}),
        (None, {"profile": lw.Planner(**COSTS).profile}, {1}),
    ],
)
def test_groups_are_rings_unless_another_exchange_is_given(
    monkeypatch: pytest.MonkeyPatch,
    data_schedule: Any,
    planner: lw.Planner | None,
    costs: dict[str, Any],
    expected: set[int],
) -> None:
    assert ring_degrees(monkeypatch, data_schedule, planner, costs) == expected


def test_arguments_may_be_none_or_iterators(data_schedule: Any) -> None:
    megatron.install(**COSTS, degrees=iter([1, 2, 4]), tensor_parallel=None, pipeline_parallel=None)
    for cap in [4096, 8192]:
        groups = made(data_schedule, cap=cap, cp=4, dp=1).get_groups_and_subsamples([(0, 4 * cap)])
        assert groups == [[[0]] * 4]


@pytest.mark.skipif(
    "tensor_parallel" not in (lw.Planner.__text_signature__ or ""),
    reason="this build of the package does not divide models",
)
def test_the_example_of_the_documentation_runs(data_schedule: Any) -> None:
    text = (EXAMPLES.parent / "docs" / "megatron.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    exec(block, {})
    groups = made(data_schedule, cp=4, dp=8).get_groups_and_subsamples([(0, 500)] * 64)
    assert groups


VERL = """
def get_megatron_dynamic_cp_scheduler_cls():
    from megatron.core.datasets.data_schedule import DefaultDynamicCPScheduler
    return DefaultDynamicCPScheduler
"""


def test_verl_gets_it_when_an_engine_asks(
    data_schedule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = add_module(monkeypatch, "verl.utils.dynamic_cp_scheduler", VERL)
    monkeypatch.setenv("LENGTHWISE_MEGATRON", json.dumps(COSTS))
    monkeypatch.delitem(sys.modules, "lengthwise.megatron.verl", raising=False)
    own = data_schedule.DefaultDynamicCPScheduler
    importlib.import_module("lengthwise.megatron.verl")
    assert data_schedule.DefaultDynamicCPScheduler is own
    scheduler = adapter.get_megatron_dynamic_cp_scheduler_cls()
    assert scheduler is not own
    assert adapter.get_megatron_dynamic_cp_scheduler_cls() is scheduler
    made = scheduler(
        max_seqlen_per_dp_cp_rank=4096,
        cp_size=2,
        dp_size=2,
        microbatch_group_size_per_vp_stage=None,
    )
    groups = made.get_groups_and_subsamples([(0, 7000), (1, 300), (2, 5000)])
    check(groups, {0: 7000, 1: 300, 2: 5000}, Sizes(4, 4096, 1, 1, None))


@pytest.mark.parametrize("value", [None, "llama", "[]", "{"])
def test_a_variable_that_says_nothing_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    add_module(monkeypatch, "verl.utils.dynamic_cp_scheduler", VERL)
    monkeypatch.delenv("LENGTHWISE_MEGATRON", raising=False)
    if value is not None:
        monkeypatch.setenv("LENGTHWISE_MEGATRON", value)
    monkeypatch.delitem(sys.modules, "lengthwise.megatron.verl", raising=False)
    with pytest.raises(lw.InputError, match="LENGTHWISE_MEGATRON"):
        importlib.import_module("lengthwise.megatron.verl")


def test_a_verl_without_dynamic_context_parallelism_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_module(monkeypatch, "verl.utils")
    monkeypatch.setenv("LENGTHWISE_MEGATRON", "{}")
    monkeypatch.delitem(sys.modules, "lengthwise.megatron.verl", raising=False)
    with pytest.raises(megatron.UnsupportedMegatronError, match="this verl has no"):
        importlib.import_module("lengthwise.megatron.verl")
