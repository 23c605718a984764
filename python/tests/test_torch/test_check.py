"""What `check` finds, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import faults
from worlds import World

from lengthwise.torch import CheckResult, ParameterError


@pytest.mark.parametrize("fault", faults.FAULTS)
@pytest.mark.parametrize(("num_ranks", "name"), [(2, "mistral"), (3, "llama")])
def test_planted_faults_are_found(
    world: Callable[[int], World], num_ranks: int, name: str, fault: str
) -> None:
    results = world(num_ranks).run(faults.checked, name, fault, range(3), 1)
    for of_rank in results:
        assert [result.is_right for result in of_rank] == [False] * 3
        assert of_rank == results[0]
    worst = results[0][0].errors[0]
    assert worst.is_wrong
    assert worst.relative_error > 1e-4
    assert worst.name in str(results[0][0])


@pytest.mark.parametrize(("num_ranks", "name"), [(1, "qwen2"), (3, "llama-tied"), (4, "qwen3")])
def test_what_is_right_gives_no_alarm(
    world: Callable[[int], World], num_ranks: int, name: str
) -> None:
    for of_rank in world(num_ranks).run(faults.checked, name, None, range(2), 3):
        for result in of_rank:
            assert result, str(result)
            assert result.num_plans == 3
            assert "are those of one rank" in str(result)


def test_a_check_keeps_the_gradients_that_a_model_has(world: Callable[[int], World]) -> None:
    assert world(2).run(faults.kept_after_check, "llama") == [{"same": True, "others": 0}] * 2


def test_what_cannot_be_checked_is_refused_by_name(world: Callable[[int], World]) -> None:
    for said in world(2).run(faults.refused_checks):
        assert "is bfloat16; a check needs float32" in said["coarse"]
        assert "is computed in bfloat16; a check needs float32" in said["mixed"]
        assert "num_plans is 0; it must be at least 1" in said["number"]
        assert "no parameter of the model is trained" in said["frozen"]
        assert "tolerance is -1.0; it must be between 0 and 1" in said["tolerance"]


def test_the_worst_of_a_parameter_counts() -> None:
    def error(name: str, plan: int, relative: float, is_wrong: bool) -> ParameterError:
        return ParameterError(name, plan, relative, 1.0, is_wrong)

    found = [
        error("a", 0, 2e-6, False),
        error("b", 0, float("nan"), True),
        error("a", 1, 3e-6, False),
        error("b", 1, 0.5, True),
    ]
    result = CheckResult.of(found, 2, 1e-5)
    assert not result
    assert [(each.name, each.plan) for each in result.errors] == [("b", 0), ("a", 1)]
    assert CheckResult.of(found[::2], 2, 1e-5).is_right
    # A check of nothing has shown nothing.
    assert not CheckResult.of([], 0, 1e-5)
