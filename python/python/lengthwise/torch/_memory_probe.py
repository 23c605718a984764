"""How many bytes each token of a micro-batch adds on the ranks of its group, by strategy."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lengthwise import Plan, Strategy
from lengthwise.torch._micro_batch_runs import MicroBatchRuns
from lengthwise.torch._random_steps import GroupPlan, plan_of

#: Of each kind of strategy every degree is measured where there are no more than this.
_MOST_DEGREES = 16

#: Tokens of a rank in the two micro-batches that are compared. On CUDA a chunk of logits is full.
_TOKENS = {"cuda": (1024, 2048), "cpu": (64, 192)}


@dataclass(frozen=True)
class TokenMemory:
    """What tokens take, and what is there without any.

    Attributes
    ----------
    per_token : dict
        For each strategy, the bytes that a token of the group adds on each rank.
    without_tokens : float
        What a rank was seen to hold beside tokens, in bytes.
    """

    per_token: dict[Strategy, float]
    without_tokens: float


def probe(runs: MicroBatchRuns, strategies: Sequence[Strategy], context: int) -> TokenMemory:
    """Measure it, with two micro-batches of each strategy; a collective call of all ranks.

    Of many degrees some are measured, and those in between follow from their neighbours.

    Parameters
    ----------
    runs : MicroBatchRuns
        Runs them.
    strategies : sequence of Strategy
        In any order.
    context : int
        No sequence is longer.
    """
    per_token: dict[Strategy, float] = {}
    without_tokens = 0.0
    few, many = _TOKENS.get(runs.device.type, _TOKENS["cuda"])
    for of_kind in _kinds(strategies):
        measured = _measured(of_kind)
        per_local_token: list[float] = []
        for strategy in measured:
            few_held = runs.held_bytes(_plan(strategy, few * strategy.degree, context))
            many_held = runs.held_bytes(_plan(strategy, many * strategy.degree, context))
            slope = max((many_held - few_held) / (many - few), 1.0)
            per_local_token.append(slope)
            without_tokens = max(without_tokens, few_held - slope * few)
        seen = [strategy.degree for strategy in measured]
        for strategy in of_kind:
            between = _between(seen, per_local_token, strategy.degree)
            per_token[strategy] = between / strategy.degree
    return TokenMemory(per_token, without_tokens)


def _kinds(strategies: Sequence[Strategy]) -> list[list[Strategy]]:
    """Return the strategies that differ by their degree alone together, by increasing degree.

    Rings have any number of places, and hybrids one.
    """
    kinds: dict[Any, list[Strategy]] = {}
    for strategy in sorted(strategies, key=lambda strategy: strategy.degree):
        is_ring = strategy.ring > 1 and strategy.ulysses == 1
        ring = "any" if is_ring else strategy.ring
        kinds.setdefault((ring, strategy.activations), []).append(strategy)
    return list(kinds.values())


def _measured(strategies: list[Strategy]) -> list[Strategy]:
    if len(strategies) <= _MOST_DEGREES:
        return strategies
    last = len(strategies) - 1
    picked = {round(at * last / (_MOST_DEGREES - 1)) for at in range(_MOST_DEGREES)}
    return [strategies[index] for index in sorted(picked)]


def _plan(strategy: Strategy, num_tokens: int, context: int) -> Plan:
    """Return one group of the first ranks, with sequences of so many tokens together."""
    whole, left = divmod(num_tokens, context)
    seq_lens = [context] * whole + ([left] if left else [])
    group = GroupPlan(
        list(range(strategy.degree)),
        list(range(len(seq_lens))),
        strategy.ring,
        strategy.activations,
    )
    return plan_of([[group]], seq_lens)


def _between(xs: Sequence[int], ys: Sequence[float], x: int) -> float:
    """Return the value at `x` of the line through the points to both sides."""
    index = bisect_left(xs, x)
    if xs[index] == x:
        return ys[index]
    part = (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    return ys[index - 1] + part * (ys[index] - ys[index - 1])
