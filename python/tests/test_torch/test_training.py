"""What users do around steps: recompute, clip, save and resume, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import training
from test_gradients import PLANS, SEQ_LENS
from worlds import World


@pytest.mark.parametrize("of", ["layers", "MLPs"])
def test_what_pytorch_recomputes_has_the_same_gradient(
    world: Callable[[int], World], of: str
) -> None:
    assert world(4).run(training.wrapped_faults, of, SEQ_LENS, PLANS[4]) == [[]] * 4


def test_a_model_with_recomputed_layers_can_be_checked(world: Callable[[int], World]) -> None:
    assert world(2).run(training.wrapped_check) == [True] * 2


def test_clipping_finds_the_norm_of_one_process(world: Callable[[int], World]) -> None:
    for alone, planned, left in world(3).run(training.clipped, SEQ_LENS, PLANS[3]):
        assert planned == pytest.approx(alone, rel=1e-5)
        assert alone > 0.1
        assert left == pytest.approx(0.01, rel=1e-3)


def test_a_checkpoint_goes_on_with_another_number_of_ranks(
    world: Callable[[int], World], tmp_path: Path
) -> None:
    uninterrupted = world(4).run(training.saved, tmp_path)[0]
    for num_ranks in (2, 4):
        resumed = world(num_ranks).run(training.resumed, tmp_path)[0]
        assert resumed == pytest.approx(uninterrupted, rel=1e-4)
    # The state of the optimizer matters to more than that.
    without = world(2).run(training.resumed, tmp_path, False)[0]
    assert without != pytest.approx(uninterrupted, rel=1e-2)


def test_two_plans_may_take_turns_on_a_model(world: Callable[[int], World]) -> None:
    assert world(3).run(training.two_on_one_model, SEQ_LENS, PLANS[3]) == [[]] * 3


def test_a_model_is_evaluated_and_trained_on(world: Callable[[int], World]) -> None:
    for alone, planned, has_gradients in world(4).run(training.evaluated, SEQ_LENS, PLANS[4]):
        assert planned == pytest.approx(alone, rel=1e-5)
        assert has_gradients


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CPUs have no other host")
def test_parameters_on_the_host_are_refused(world: Callable[[int], World]) -> None:
    assert ["CPUOffloadPolicy" in said for said in world(1).run(training.offloaded)] == [True]
