"""What lengths need, and what devices hold."""

from __future__ import annotations

from typing import Any

import pytest

import lengthwise as lw

ULYSSES: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "cluster": "h100-8x8",
    "strategies": "ulysses",
    "activations": "recompute",
}


def test_an_explanation_says_which_degrees_and_why_not_others(planner: lw.Planner) -> None:
    explained = planner.explain(150_000)
    assert explained.seq_len == 150_000
    needed = explained.needed_degree
    assert needed is not None
    assert 1 < needed < 32
    assert explained.possible_degrees == tuple(range(needed, 33))
    assert [choice.degree for choice in explained.choices] == list(planner.degrees)
    for choice in explained.choices:
        assert choice.is_possible == (choice.degree >= needed)
        assert choice.is_possible == (choice.memory_bytes <= choice.budget_bytes)
        assert (choice.obstacle is None) == choice.is_possible
        assert choice.crosses_nodes == (choice.degree > 8)
        assert choice.predicted_s == pytest.approx(choice.compute_s + choice.exchange_s)
        assert choice.device_s == pytest.approx(choice.degree * choice.predicted_s)
        assert choice.strategy.degree == choice.degree
    possible = [choice for choice in explained.choices if choice.is_possible]
    assert explained.cheapest is not None
    assert explained.fastest is not None
    assert explained.cheapest.device_s == min(choice.device_s for choice in possible)
    assert explained.fastest.predicted_s == min(choice.predicted_s for choice in possible)
    lines = str(explained).splitlines()
    assert lines[0] == f"150000 tokens need degree {needed}"
    assert "not possible: " in lines[1]
    assert len(lines) == 33
    assert repr(explained).startswith(f"Explanation(150000 tokens need degree {needed}; cheapest ")


def test_a_degree_that_is_needed_is_one_that_plans_take(planner: lw.Planner) -> None:
    for seq_len in [512, 20_000, 90_000, 300_000]:
        explained = planner.explain(seq_len)
        static = lw.Planner(**ULYSSES, context="384k", planner="static")
        (group,) = static.plan([seq_len]).micro_batches[0].groups
        assert group.degree == explained.needed_degree


def test_a_length_that_fits_nowhere_is_explained_too() -> None:
    planner = lw.Planner(model="llama-3.1-8b", cluster="h100-1x8", context="384k")
    explained = planner.explain("384k")
    assert explained.needed_degree is None
    assert explained.possible_degrees == ()
    assert explained.cheapest is None
    assert explained.fastest is None
    assert explained.reason is not None
    assert "384000 tokens need degree" in explained.reason
    assert repr(explained) == "Explanation(384000 tokens fit no group)"
    assert str(explained).startswith(explained.reason)


def test_rules_are_heeded() -> None:
    rules = lw.Rules(aligned_powers_of_two=True, min_degree=2, max_tokens_per_rank=4000)
    planner = lw.Planner(**ULYSSES, rules=rules)
    explained = planner.explain(30_000)
    assert explained.possible_degrees == (8, 16, 32)
    told = {choice.degree: choice.obstacle for choice in explained.choices}
    assert told[1] == "the rules allow only powers of two from 2 on"
    assert told[4] == "30000 tokens are more than the 16000 that the rules allow"
    budget = planner.token_budget(4)
    assert (budget.tokens_per_device, budget.tokens_per_group) == (4000, 16_000)
    assert budget.limit == "rules"
    with pytest.raises(lw.RuleError, match=r"degree 3 is not available; .* 2, 4, 8, 16, 32"):
        planner.token_budget(3)


def test_a_device_holds_its_token_budget_and_not_a_token_more(planner: lw.Planner) -> None:
    for degree in [1, 4, 32]:
        budget = planner.token_budget(degree=degree)
        assert budget.degree == degree
        assert budget.limit == "memory"
        assert int(budget) == budget.tokens_per_device == budget.tokens_per_group // degree
        assert list(range(10**6))[budget] == budget.tokens_per_device
        fixed = lw.Planner(**ULYSSES, context="10M", planner=f"static:{degree}")
        held = budget.tokens_per_group
        assert fixed.plan([held]).micro_batches[0].groups[0].degree == degree
        with pytest.raises(lw.InfeasibleError):
            fixed.plan([held + 1])
    assert repr(planner.token_budget(1)).startswith("TokenBudget(degree 1: ")


def test_what_is_no_length_or_degree_is_told(planner: lw.Planner) -> None:
    wrong: list[tuple[Any, type[Exception], str]] = [
        (0, lw.InputError, "seq_len is 0; it must be a whole number from 1"),
        (-1, lw.InputError, "seq_len is -1; it must"),
        (1.5, lw.InputTypeError, "seq_len is 1.5; it must"),
        ("x", lw.InputError, 'seq_len: "x" is not a number of tokens'),
        (400_000, lw.InputError, "seq_len: 400000 tokens are more than the context of 384000"),
    ]
    for seq_len, kind, message in wrong:
        with pytest.raises(lw.LengthwiseError) as caught:
            planner.explain(seq_len)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(message)
    for degree, kind in [(64, lw.InputError), (0, lw.InputError), ("4", lw.InputTypeError)]:
        with pytest.raises(kind, match="degree"):
            planner.token_budget(degree)  # pyright: ignore[reportArgumentType]


def test_rows_name_the_exchange_where_degrees_do_not_tell() -> None:
    both = lw.Planner(
        model="llama-3.1-8b", cluster="h100-1x8", strategies="ulysses,ring", activations="recompute"
    )
    rows = str(both.explain(9000)).splitlines()[1:]
    assert rows[0].startswith("  degree 1: ")
    assert all(" by ulysses: " in row or " by ring: " in row for row in rows[1:])
    told = [row.partition(":")[0] for row in rows]
    assert len(set(told)) == len(told)
    assert {"  degree 8 by ulysses", "  degree 8 by ring"} <= set(told)
    assert " by " not in str(lw.Planner(**ULYSSES).explain(9000))
    every = lw.Planner(model="llama-3.1-8b", cluster="h100-1x8")
    told = [row.partition(":")[0] for row in str(every.explain(9000)).splitlines()[1:]]
    assert len(set(told)) == len(told)
    assert {
        "  degree 1 (keep)",
        "  degree 8 by ulysses (host)",
        "  degree 8 by ring (keep)",
    } <= set(told)
