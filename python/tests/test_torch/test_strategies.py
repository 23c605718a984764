"""Rings, several ranks at a place of a ring, and activations, each as a group's plan says."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import gradients
from models import MODELS
from worlds import World

from lengthwise.errors import InputError
from lengthwise.torch._plan_digest import plan_digest
from lengthwise.torch._plan_limits import PlanLimits, check_plan
from lengthwise.torch._random_steps import GroupPlan, plan_of

#: Of a token: the models have 48 features, and numbers of 4 bytes.
INPUT_BYTES = 48 * 4

SEQ_LENS = [1, 7, 33, 2, 40, 19, 5]
#: Rings in which places have fewer tokens than there are of them, as many, and more.
PLANS: dict[int, list[list[GroupPlan]]] = {
    2: [
        [GroupPlan([0, 1], [4, 2, 0], 2)],
        [GroupPlan([1, 0], [1], 2, "recompute")],
        [GroupPlan([0, 1], [3, 5, 6], 2, "host")],
    ],
    # Ranks that are listed in another order; a ring beside a rank on its own.
    3: [
        [GroupPlan([2, 0, 1], [4, 2], 3)],
        [GroupPlan([2, 1], [5, 0], 2, "host"), GroupPlan([0], [1, 3, 6], 1, "recompute")],
    ],
    # All kinds of activations in one micro-batch; a group of one token; an idle rank.
    4: [
        [GroupPlan([0, 1, 2, 3], [4, 1], 2, "host")],
        [GroupPlan([3, 0], [2], 2, "keep"), GroupPlan([1], [3], 1, "host")],
        [GroupPlan([0, 1, 2, 3], [0], 4, "recompute")],
        [GroupPlan([1, 3], [5], 2, "recompute"), GroupPlan([0, 2], [6], 1, "keep")],
    ],
    # Two and three ranks at a place, a ring of five; places with less than a token a rank.
    6: [
        [GroupPlan([0, 1, 2, 3, 4, 5], [4, 2], 3, "keep")],
        [GroupPlan([5, 4, 3, 2, 1, 0], [5, 1], 2, "host")],
        [GroupPlan([0, 1, 2, 4, 5], [6], 5, "recompute"), GroupPlan([3], [0], 1, "keep")],
        [GroupPlan([0, 1, 2, 3, 4, 5], [3], 2, "keep")],
    ],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_ranks", PLANS)
def test_groups_of_every_strategy_give_the_gradient_of_one_process(
    world: Callable[[int], World], num_ranks: int, name: str
) -> None:
    results = world(num_ranks).run(gradients.of_strategies, name, SEQ_LENS, PLANS[num_ranks])
    assert [faults for faults, _ in results] == [[]] * num_ranks


def test_a_ring_has_more_ranks_than_the_model_has_heads(world: Callable[[int], World]) -> None:
    for ring, ranks in ((4, [0, 1, 2, 3]), (2, [0, 1, 2, 3])):
        plan = [[GroupPlan(ranks, [0, 1, 2], ring)]]
        results = world(4).run(gradients.of_few_heads, SEQ_LENS[:3], plan)
        assert results == [[]] * 4


@pytest.mark.parametrize("recomputed", ["by transformers", "by PyTorch"])
def test_layers_that_the_user_recomputes_are_recomputed_once(
    world: Callable[[int], World], recomputed: str
) -> None:
    results = world(2).run(gradients.of_strategies, "llama", SEQ_LENS, PLANS[2], recomputed)
    assert [faults for faults, _ in results] == [[]] * 2
    assert [host_bytes for _, host_bytes in results] == _most_on_host(13, 13)
    assert (
        world(2).run(gradients.forwards_of_layers, recomputed)
        == [
            {
                "keep": 2,
                "recompute": 2,
                "host": 2,
            }
        ]
        * 2
    )


def test_inputs_of_layers_are_on_the_host_until_their_backward(
    world: Callable[[int], World],
) -> None:
    results = world(2).run(gradients.of_strategies, "llama", SEQ_LENS, PLANS[2])
    # 26 tokens on two ranks, once for each of the two layers but the last.
    assert [host_bytes for _, host_bytes in results] == _most_on_host(13, 13)
    assert (
        world(2).run(gradients.forwards_of_layers, "never")
        == [
            {
                "keep": 1,
                "recompute": 2,
                "host": 2,
            }
        ]
        * 2
    )


def test_a_ring_holds_two_blocks_beside_its_own(world: Callable[[int], World]) -> None:
    for found in world(4).run(gradients.blocks_of_a_ring, 4):
        assert found["blocks"] == 2
        # Those that are made, those on their way here, and those on their way to the next place.
        assert found["gradients"] == 3
        assert found["largest"] == found["share"]
        assert found["left"] == 0


def test_ranks_notice_that_their_plans_have_other_strategies() -> None:
    groups = [
        GroupPlan([0, 1], [0], ring, activations)
        for ring in (1, 2)
        for activations in ("keep", "recompute", "host")
    ]
    assert len({plan_digest(plan_of([[group]], [9])) for group in groups}) == len(groups)


def test_plans_that_a_model_can_not_run_are_refused_by_name() -> None:
    def checked(group: GroupPlan, *, can_recompute: bool = True) -> None:
        check_plan(plan_of([[group]], [9]), [9], 4, PlanLimits(2, can_recompute))

    ranks = [0, 1, 2, 3]
    checked(GroupPlan(ranks, [0], 2))
    checked(GroupPlan(ranks, [0], 4), can_recompute=False)
    with pytest.raises(InputError, match="tokens for heads over 4 ranks; the model has 2 query"):
        checked(GroupPlan(ranks, [0]))
    with pytest.raises(
        InputError, match=r"recomputes layers \(host\); the model has none that can"
    ):
        checked(GroupPlan(ranks, [0], 4, "host"), can_recompute=False)


def _most_on_host(*num_tokens: int) -> list[int]:
    return [tokens * INPUT_BYTES for tokens in num_tokens]
