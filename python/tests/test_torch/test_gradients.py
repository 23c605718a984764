"""The gradient does not depend on the plan, to the rule of the Rust executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import gradients
from models import MODELS
from worlds import World

#: Seven sequences; a plan of them for each number of ranks.
SEQ_LENS = [1, 7, 33, 2, 40, 19, 5]
PLANS: dict[int, list[list[tuple[list[int], list[int]]]]] = {
    # One group of all, then an idle rank.
    2: [[([0, 1], [4, 2, 0])], [([1], [1, 3])], [([0], [5]), ([1], [6])]],
    # Ranks that are listed in another order.
    3: [[([2, 0, 1], [4, 2])], [([1, 2], [5, 0]), ([0], [1, 3, 6])]],
    # A group of three, whose heads divide, beside one; three idle ranks; more ranks than tokens.
    4: [[([0, 2, 3], [4, 1]), ([1], [2])], [([3], [5])], [([0, 1, 2, 3], [3])], [([1, 2], [6, 0])]],
    # Degrees 5 and 1, which do not divide the heads; a group of all ranks for one token.
    6: [
        [([0, 1, 2, 3, 4], [4, 2]), ([5], [5])],
        [([0, 1, 2, 3, 4, 5], [0])],
        [([1, 3], [1]), ([0, 4, 5], [3, 6])],
    ],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_ranks", PLANS)
def test_chosen_plans_give_the_gradient_of_one_process(
    world: Callable[[int], World], num_ranks: int, name: str
) -> None:
    faults = world(num_ranks).run(gradients.chosen, name, SEQ_LENS, PLANS[num_ranks])
    assert faults == [[]] * num_ranks


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_ranks", PLANS)
def test_random_plans_give_the_gradient_of_one_process(
    world: Callable[[int], World], num_ranks: int, name: str
) -> None:
    faults = world(num_ranks).run(gradients.drawn, name, range(3))
    assert faults == [[]] * num_ranks


def test_layers_that_are_recomputed_exchange_again(world: Callable[[int], World]) -> None:
    faults: list[Any] = world(4).run(gradients.chosen, "qwen2", SEQ_LENS, PLANS[4], True)
    assert faults == [[]] * 4


def test_hybrid_sharding_sums_over_all_ranks(world: Callable[[int], World]) -> None:
    assert world(4).run(gradients.hybrid, SEQ_LENS, PLANS[4]) == [[]] * 4


def test_gradients_may_be_reduced_at_the_last_micro_batch_only(
    world: Callable[[int], World],
) -> None:
    assert world(3).run(gradients.reduced_at_the_end, SEQ_LENS, PLANS[3]) == [[]] * 3


def test_embeddings_and_head_may_be_sharded_apart(world: Callable[[int], World]) -> None:
    assert world(3).run(gradients.embeddings_apart, SEQ_LENS, PLANS[3]) == [[]] * 3


def test_the_loss_may_be_that_of_own_logits(world: Callable[[int], World]) -> None:
    assert world(4).run(gradients.own_logits, SEQ_LENS, PLANS[4]) == [[]] * 4


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_mixed_precision_errs_as_one_process_does(world: Callable[[int], World], name: str) -> None:
    for alone, planned in world(4).run(gradients.mixed_precision_errors, name, SEQ_LENS, PLANS[4]):
        assert 1e-4 < alone < 0.1
        assert planned <= 1.5 * alone
