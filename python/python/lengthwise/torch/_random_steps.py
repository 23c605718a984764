"""Random steps: sequences, and plans that put them onto ranks in every way there is."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lengthwise import Plan
from lengthwise.torch._activations import HOST, KEEP, RECOMPUTE
from lengthwise.torch._loss import NO_LABEL


@dataclass(frozen=True)
class RandomStep:
    """The sequences of a step, and a plan of them."""

    sequences: list[dict[str, list[int]]]
    plan: Plan


@dataclass(frozen=True)
class GroupPlan:
    """A group of a micro-batch.

    Attributes
    ----------
    ranks, sequences : list of int
        Who works on what.
    ring : int
        The places of its ring.
    activations : str
        What is done with activations.
    """

    ranks: list[int]
    sequences: list[int]
    ring: int = 1
    activations: str = KEEP


def plan_of(
    micro_batches: Sequence[Sequence[GroupPlan | tuple[list[int], list[int]]]], seq_lens: list[int]
) -> Plan:
    """Return a plan with these groups in each micro-batch, or for each its ranks and sequences."""
    groups = [{"groups": [_group(each) for each in micro_batch]} for micro_batch in micro_batches]
    return Plan.from_json(
        json.dumps({"version": 1, "micro_batches": groups, "seq_lens_tokens": seq_lens})
    )


def _group(given: GroupPlan | tuple[list[int], list[int]]) -> dict[str, Any]:
    group = given if isinstance(given, GroupPlan) else GroupPlan(*given)
    degree = len(group.ranks)
    return {
        "degree": degree,
        "ranks": group.ranks,
        "strategy": {
            "ulysses": degree // group.ring,
            "ring": group.ring,
            "activations": group.activations,
        },
        "sequences": group.sequences,
    }


def random_step(
    choice: random.Random, *, num_ranks: int, num_heads: int, vocab: int, max_seq_len: int
) -> RandomStep:
    """Return a step with what goes wrong most easily.

    The first micro-batch has one group of as many ranks as heads allow, which exchange tokens for
    heads, and keep activations. The second has a ring of all ranks, with several at a place where
    their number and that of the heads allow, and moves the inputs of layers to the host. Each has a
    sequence that is cut, a second one, and one of a single token, all with their labels. In those
    that follow groups have all degrees and strategies, and some leave ranks idle; there one
    sequence has no label, and all others lack some.

    Parameters
    ----------
    choice : Random
        From what everything is drawn.
    num_ranks, num_heads : int
        The ranks of the world, and the query heads of the model.
    vocab : int
        The number of ids.
    max_seq_len : int
        The most tokens of a sequence, at least 8.
    """
    seq_lens: list[int] = []
    micro_batches: list[list[GroupPlan]] = []

    def add(lens: list[int]) -> list[int]:
        seq_lens.extend(lens)
        return list(range(len(seq_lens) - len(lens), len(seq_lens)))

    def some_length(least: int = 1) -> int:
        return choice.choice(
            [choice.randint(least, max(least, 4)), choice.randint(least, max_seq_len)]
        )

    most = min(num_heads, num_ranks)
    rings = [ring for ring in _rings(num_ranks, num_heads) if ring > 1] or [1]
    # Where it can be, a ring with several ranks at a place: both exchanges at once.
    of_all = choice.choice([ring for ring in rings if ring < num_ranks] or rings)
    for degree, ring, activations in (
        (most, 1, KEEP),
        (num_ranks, of_all, HOST),
    ):
        ranks = choice.sample(range(num_ranks), num_ranks)[:degree]
        # More than half of the pack, so that it is cut within the longest sequence whatever its
        # place.
        longest = choice.randint(max_seq_len // 2 + 2, max_seq_len)
        lens = [longest, choice.randint(2, longest - 3), 1]
        micro_batches.append([GroupPlan(ranks, add(choice.sample(lens, 3)), ring, activations)])
    num_whole = len(seq_lens)
    for _ in range(2):
        ranks = choice.sample(range(num_ranks), num_ranks)
        groups: list[GroupPlan] = []
        num_busy = choice.randint(1, num_ranks)
        while num_busy:
            degree = choice.randint(1, num_busy)
            members, ranks = ranks[:degree], ranks[degree:]
            num_busy -= degree
            lens = [some_length() for _ in range(choice.randint(1, 3))]
            ring = choice.choice(_rings(degree, num_heads))
            activations = choice.choice([KEEP, RECOMPUTE, HOST])
            groups.append(GroupPlan(members, add(lens), ring, activations))
        micro_batches.append(groups)
    without = choice.randrange(num_whole, len(seq_lens))
    sequences = [
        _sequence(
            choice,
            seq_len,
            vocab,
            0.0 if index < num_whole else 1.0 if index == without else choice.random() / 2,
        )
        for index, seq_len in enumerate(seq_lens)
    ]
    return RandomStep(sequences, plan_of(micro_batches, seq_lens))


def _rings(degree: int, num_heads: int) -> list[int]:
    """Return into how many places a group can be divided, with a head for each rank of a place."""
    return [
        ring for ring in range(1, degree + 1) if degree % ring == 0 and degree // ring <= num_heads
    ]


def _sequence(
    choice: random.Random, seq_len: int, vocab: int, share_without: float
) -> dict[str, list[int]]:
    ids = [choice.randrange(vocab) for _ in range(seq_len)]
    labels = [NO_LABEL if choice.random() < share_without else token for token in ids]
    return {"input_ids": ids, "labels": labels}
