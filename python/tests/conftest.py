"""What the tests share."""

from __future__ import annotations

import json
from pathlib import Path

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
    """Llama 3.1 8B on 64 H100s."""
    return lw.Planner(model="llama-3.1-8b", cluster="h100-8x8", context="384k")
