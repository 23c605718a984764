"""Ranks send what those of the Rust executor send for the same plan, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import gradients
from worlds import World

from lengthwise.torch._random_steps import GroupPlan

CRATES = Path(__file__).parents[3] / "crates"

#: What crates/lengthwise-train/tests/exchanged_bytes.rs holds the Rust executor to.
TABLE = json.loads((CRATES / "lengthwise-train" / "tests" / "exchanged_bytes.json").read_text())


def micro_batches_of(case: Any) -> list[list[GroupPlan]]:
    """Ranks in order, as the table means it."""
    micro_batches: list[list[GroupPlan]] = []
    for groups in case["micro_batches"]:
        micro_batches.append([])
        start = 0
        for strategy, sequences in groups:
            ulysses, ring = strategy if isinstance(strategy, list) else (strategy, 1)
            ranks = list(range(start, start + ulysses * ring))
            micro_batches[-1].append(GroupPlan(ranks, sequences, ring))
            start += ulysses * ring
    return micro_batches


@pytest.mark.parametrize("case", TABLE["cases"])
def test_ranks_send_what_the_table_says(world: Callable[[int], World], case: Any) -> None:
    sizes = {
        "num_attention_heads": case["heads"],
        "num_key_value_heads": case["kv_heads"],
        "hidden_size": case["heads"] * TABLE["head_dim"],
        "num_hidden_layers": TABLE["layers"],
    }
    results = world(case["num_ranks"]).run(
        gradients.sent_bytes, sizes, TABLE["seq_lens"], micro_batches_of(case)
    )
    assert [sent for sent, _ in results] == case["bytes"]
    assert [faults for _, faults in results] == [[]] * case["num_ranks"]
