"""How many bytes each token of a micro-batch adds on the ranks of its group, by degree."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise import Plan
from lengthwise.torch._micro_batch_runs import MicroBatchRuns
from lengthwise.torch._random_steps import plan_of

#: Every degree is measured where there are no more than this.
_MOST_DEGREES = 16

#: Tokens of a rank in the two micro-batches that are compared. On CUDA a chunk of logits is full.
_TOKENS = {"cuda": (1024, 2048), "cpu": (64, 192)}


@dataclass(frozen=True)
class TokenMemory:
    """What tokens take, and what is there without any.

    Attributes
    ----------
    per_token : dict
        For each degree, the bytes that a token of the group adds on each rank.
    without_tokens : float
        What a rank was seen to hold beside tokens, in bytes.
    """

    per_token: dict[int, float]
    without_tokens: float


def probe(runs: MicroBatchRuns, degrees: Sequence[int], context: int) -> TokenMemory:
    """Measure it, with two micro-batches of each degree; a collective call of all ranks.

    Of many degrees some are measured, and those in between follow from their neighbours.

    Parameters
    ----------
    runs : MicroBatchRuns
        Runs them.
    degrees : sequence of int
        Increasing, from 1 on.
    context : int
        No sequence is longer.
    """
    seen = _measured(degrees)
    per_local_token: list[float] = []
    without_tokens = 0.0
    for degree in seen:
        few, many = _TOKENS.get(runs.device.type, _TOKENS["cuda"])
        few_held = runs.held_bytes(_plan(degree, few * degree, context))
        many_held = runs.held_bytes(_plan(degree, many * degree, context))
        slope = max((many_held - few_held) / (many - few), 1.0)
        per_local_token.append(slope)
        without_tokens = max(without_tokens, few_held - slope * few)
    per_token = {degree: _between(seen, per_local_token, degree) / degree for degree in degrees}
    return TokenMemory(per_token, without_tokens)


def _measured(degrees: Sequence[int]) -> list[int]:
    if len(degrees) <= _MOST_DEGREES:
        return list(degrees)
    last = len(degrees) - 1
    picked = {round(at * last / (_MOST_DEGREES - 1)) for at in range(_MOST_DEGREES)}
    return [degrees[index] for index in sorted(picked)]


def _plan(degree: int, num_tokens: int, context: int) -> Plan:
    """Return one group of the first ranks, with sequences of so many tokens together."""
    whole, left = divmod(num_tokens, context)
    seq_lens = [context] * whole + ([left] if left else [])
    sequences = list(range(len(seq_lens)))
    return plan_of([[(list(range(degree)), sequences)]], seq_lens)


def _between(xs: Sequence[int], ys: Sequence[float], x: int) -> float:
    """Return the value at `x` of the line through the points to both sides."""
    index = bisect_left(xs, x)
    if xs[index] == x:
        return ys[index]
    part = (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    return ys[index - 1] + part * (ys[index] - ys[index - 1])
