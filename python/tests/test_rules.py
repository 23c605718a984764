"""Rules, and plans that keep them."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lengthwise as lw

KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "no_idle_ranks": st.booleans(),
        "aligned_powers_of_two": st.booleans(),
        "min_degree": st.integers(1, 64),
        "max_tokens_per_rank": st.integers(1, 10**9),
        "micro_batches_multiple_of": st.integers(1, 64),
        "max_sequences_per_group": st.none() | st.integers(1, 4096),
    },
)


@given(KEYWORDS, KEYWORDS)
def test_rules_are_what_they_were_given(first: dict[str, Any], second: dict[str, Any]) -> None:
    defaults = {
        "no_idle_ranks": False,
        "aligned_powers_of_two": False,
        "min_degree": 1,
        "max_tokens_per_rank": None,
        "tokens_replace_memory": False,
        "micro_batches_multiple_of": 1,
        "max_sequences_per_group": None,
    }
    rules = lw.Rules(**first)
    for name, value in {**defaults, **first}.items():
        assert getattr(rules, name) == value
    assert pickle.loads(pickle.dumps(rules)) == rules
    assert hash(pickle.loads(pickle.dumps(rules))) == hash(rules)
    assert eval(repr(rules), {"Rules": lw.Rules}) == rules
    assert (rules == lw.Rules(**second)) == ({**defaults, **first} == {**defaults, **second})


def test_rules_are_frozen_and_keywords_only() -> None:
    with pytest.raises(AttributeError):
        lw.Rules().min_degree = 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        lw.Rules(True)  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError, match="max_tokens"):
        lw.Rules(max_tokens=3)  # pyright: ignore[reportCallIssue]


def test_what_can_not_be_a_rule_is_named() -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"min_degree": 0}, lw.InputError, "min_degree is 0; it must be a whole number from 1"),
        ({"no_idle_ranks": 1}, lw.InputTypeError, "no_idle_ranks is 1; it must be True or False"),
        ({"max_tokens_per_rank": 1.5}, lw.InputTypeError, "max_tokens_per_rank is 1.5; it must"),
        ({"max_sequences_per_group": -1}, lw.InputError, "max_sequences_per_group is -1; it must"),
        ({"tokens_replace_memory": True}, lw.RuleError, "tokens_replace_memory is True and max_"),
    ]
    for keywords, kind, message in wrong:
        with pytest.raises(lw.LengthwiseError) as caught:
            lw.Rules(**keywords)
        assert type(caught.value) is kind
        assert str(caught.value).startswith(message)
    cap = lw.Rules(max_tokens_per_rank="8k", tokens_replace_memory=True)
    assert (cap.max_tokens_per_rank, cap.tokens_replace_memory) == (8000, True)


RULES = [
    lw.Rules(no_idle_ranks=True),
    lw.Rules(aligned_powers_of_two=True),
    lw.Rules(min_degree=4),
    lw.Rules(max_tokens_per_rank=6000),
    lw.Rules(max_tokens_per_rank=6000, tokens_replace_memory=True),
    lw.Rules(micro_batches_multiple_of=3),
    lw.Rules(max_sequences_per_group=2),
    lw.Rules(no_idle_ranks=True, aligned_powers_of_two=True, max_tokens_per_rank=8000),
]

KNOWN = {"model": "llama-3.1-8b", "cluster": "h100-8x8", "context": "384k"}


@pytest.mark.parametrize("rules", RULES, ids=repr)
def test_a_plan_keeps_the_rules_and_says_so(rules: lw.Rules, batch: list[int]) -> None:
    planner = lw.Planner(**KNOWN, rules=rules)
    plan = planner.plan(batch[:200])
    assert plan.rules == rules
    assert lw.Plan.from_json(plan.to_json()).rules == rules
    assert len(plan.micro_batches) % rules.micro_batches_multiple_of == 0
    for micro_batch in plan.micro_batches:
        busy = sum(group.degree for group in micro_batch.groups)
        assert not rules.no_idle_ranks or busy == planner.num_devices
        for group in micro_batch.groups:
            assert group.degree >= rules.min_degree
            if rules.aligned_powers_of_two:
                assert group.degree & (group.degree - 1) == 0
                assert min(group.ranks) % group.degree == 0
            if rules.max_tokens_per_rank is not None:
                assert group.num_tokens <= rules.max_tokens_per_rank * group.degree
            if rules.max_sequences_per_group is not None:
                assert len(group.sequences) <= rules.max_sequences_per_group


def test_rules_that_can_not_be_kept_are_a_rule_error() -> None:
    idle = lw.Planner(**KNOWN, degrees=[1], rules=lw.Rules(no_idle_ranks=True))
    with pytest.raises(lw.RuleError, match="no idle rank") as caught:
        idle.plan([512])
    assert caught.value.hint is not None
    large = lw.Planner(**KNOWN, degrees=[1, 2], rules=lw.Rules(min_degree=4))
    with pytest.raises(lw.RuleError, match="allowed degrees"):
        large.plan([512])
    short = lw.Planner(**KNOWN, planner="static:1", rules=lw.Rules(max_sequences_per_group=1))
    assert all(
        len(group.sequences) == 1
        for micro_batch in short.plan([512] * 100).micro_batches
        for group in micro_batch.groups
    )


def test_degrees_are_those_that_the_rules_allow() -> None:
    rules = lw.Rules(min_degree=2, aligned_powers_of_two=True)
    assert lw.Planner(**KNOWN, degrees=[1, 2, 3, 4], rules=rules).degrees == (2, 4)
    none = lw.Planner(**KNOWN, degrees=[1, 2], rules=lw.Rules(min_degree=4))
    assert none.degrees == ()
