"""What the tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lengthwise as lw

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def profile_path() -> Path:
    """The published costs of a 7B model on 64 A100s."""
    return EXAMPLES / "profiles" / "a100-gpt-7b-384k.toml"


@pytest.fixture(scope="session")
def batch() -> list[int]:
    """512 recorded lengths."""
    path = EXAMPLES / "batches" / "wikipedia_384k_7b_0.json"
    return json.loads(path.read_text())["seq_lens_tokens"]


@pytest.fixture(scope="session")
def planner() -> lw.Planner:
    """Llama 3.1 8B on 64 H100s, by Ulysses and recomputation alone."""
    return lw.Planner(
        model="llama-3.1-8b",
        cluster="h100-8x8",
        context="384k",
        strategies="ulysses",
        activations="recompute",
    )


@pytest.fixture(scope="session")
def world() -> Iterator[Callable[[int], Any]]:
    """The world of a number of ranks, for the tests that need PyTorch."""
    # Beside the tests of lengthwise.torch, and on the path once one of them is imported.
    from worlds import World

    worlds: dict[int, World] = {}

    def of(size: int) -> World:
        if size not in worlds:
            worlds[size] = World(size)
        return worlds[size]

    yield of
    for each in worlds.values():
        each.close()
