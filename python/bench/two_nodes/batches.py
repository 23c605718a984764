"""Long-tailed batches: most sequences are short, few are as long as the context."""

from __future__ import annotations

import math
import random

#: A lognormal body with a Pareto tail: examples/lengths/web-like.toml for shorter contexts.
MEDIAN, SIGMA = 220, 1.10
TAIL_PROBABILITY, TAIL_FROM, TAIL_EXPONENT = 0.015, 2048, 1.2


def batch(seed: int, num_tokens: int, context: int) -> list[int]:
    """Draw lengths until the next would exceed `num_tokens`."""
    choice = random.Random(seed)
    lengths: list[int] = []
    while True:
        if choice.random() < TAIL_PROBABILITY:
            length = TAIL_FROM * choice.paretovariate(TAIL_EXPONENT)
        else:
            length = choice.lognormvariate(math.log(MEDIAN), SIGMA)
        length = max(2, min(context, round(length)))
        if sum(lengths) + length > num_tokens:
            return lengths
        lengths.append(length)


def typical(num_batches: int, num_tokens: int, context: int) -> list[list[int]]:
    """Return the first batches with a sequence of the whole context, which needs large groups."""
    found: list[list[int]] = []
    seed = 0
    while len(found) < num_batches:
        lengths = batch(seed, num_tokens, context)
        if max(lengths) == context:
            found.append(lengths)
        seed += 1
    return found
