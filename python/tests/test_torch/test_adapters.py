"""Adapters of peft have the gradients of one process, on a model that is frozen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import adapters
from test_gradients import PLANS, SEQ_LENS
from worlds import World


def test_adapters_have_the_gradient_of_one_process(world: Callable[[int], World]) -> None:
    assert world(4).run(adapters.faults, SEQ_LENS, PLANS[4]) == [[]] * 4


def test_adapters_that_cannot_be_trained_are_refused(world: Callable[[int], World]) -> None:
    for said in world(2).run(adapters.refused):
        assert "puts tokens of its own before" in said["prefix"]
        assert "is not sharded" in said["added after sharding"]
        assert "lora_" in said["added after sharding"]
        assert "without its adapter" in said["check"]
