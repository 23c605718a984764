"""Random steps: sequences, and plans that put them onto ranks in every way there is."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from lengthwise import Plan
from lengthwise.torch._loss import NO_LABEL


@dataclass(frozen=True)
class RandomStep:
    """The sequences of a step, and a plan of them."""

    sequences: list[dict[str, list[int]]]
    plan: Plan


def plan_of(micro_batches: list[list[tuple[list[int], list[int]]]], seq_lens: list[int]) -> Plan:
    """Return a plan with for each group of each micro-batch its ranks and sequences."""
    groups: list[dict[str, Any]] = [
        {
            "groups": [
                {
                    "degree": len(ranks),
                    "ranks": ranks,
                    "strategy": {"ulysses": len(ranks), "ring": 1, "activations": "keep"},
                    "sequences": sequences,
                }
                for ranks, sequences in micro_batch
            ]
        }
        for micro_batch in micro_batches
    ]
    return Plan.from_json(
        json.dumps({"version": 1, "micro_batches": groups, "seq_lens_tokens": seq_lens})
    )


def random_step(
    choice: random.Random, *, num_ranks: int, max_degree: int, vocab: int, max_seq_len: int
) -> RandomStep:
    """Return a step with what goes wrong most easily.

    The first micro-batch has one group of all ranks, as far as `max_degree` goes, with a sequence
    that is cut, a second one, and one of a single token, all with their labels. Of the others some
    leave ranks idle; there one sequence has no label, and all others lack some.

    Parameters
    ----------
    choice : Random
        From what everything is drawn.
    num_ranks, max_degree : int
        The ranks of the world, and the most of a group.
    vocab : int
        The number of ids.
    max_seq_len : int
        The most tokens of a sequence, at least 8.
    """
    seq_lens: list[int] = []
    micro_batches: list[list[tuple[list[int], list[int]]]] = []

    def add(lens: list[int]) -> list[int]:
        seq_lens.extend(lens)
        return list(range(len(seq_lens) - len(lens), len(seq_lens)))

    def some_length(least: int = 1) -> int:
        return choice.choice(
            [choice.randint(least, max(least, 4)), choice.randint(least, max_seq_len)]
        )

    ranks = choice.sample(range(num_ranks), num_ranks)
    most = min(max_degree, num_ranks)
    # More than half of the pack, so that it is cut within the longest sequence whatever its place.
    longest = choice.randint(max_seq_len // 2 + 2, max_seq_len)
    lens = [longest, choice.randint(2, longest - 3), 1]
    micro_batches.append([(ranks[:most], add(choice.sample(lens, 3)))])
    for _ in range(2):
        ranks = choice.sample(range(num_ranks), num_ranks)
        groups: list[tuple[list[int], list[int]]] = []
        num_busy = choice.randint(1, num_ranks)
        while num_busy:
            degree = choice.randint(1, min(num_busy, max_degree))
            members, ranks = ranks[:degree], ranks[degree:]
            num_busy -= degree
            lens = [some_length() for _ in range(choice.randint(1, 3))]
            groups.append((members, add(lens)))
        micro_batches.append(groups)
    without = choice.randrange(3, len(seq_lens))
    sequences = [
        _sequence(choice, seq_len, vocab, _share_without(choice, index, without))
        for index, seq_len in enumerate(seq_lens)
    ]
    return RandomStep(sequences, plan_of(micro_batches, seq_lens))


def _share_without(choice: random.Random, index: int, without: int) -> float:
    """Return the share of tokens without a label; none in the first micro-batch, where cuts are."""
    if index < 3:
        return 0.0
    return 1.0 if index == without else choice.random() / 2


def _sequence(
    choice: random.Random, seq_len: int, vocab: int, share_without: float
) -> dict[str, list[int]]:
    ids = [choice.randrange(vocab) for _ in range(seq_len)]
    labels = [NO_LABEL if choice.random() < share_without else token for token in ids]
    return {"input_ids": ids, "labels": labels}
