"""What ranks compare to see that they have come to the same plan."""

from __future__ import annotations

import hashlib

from lengthwise import Plan


def plan_digest(plan: Plan) -> bytes:
    """Return a digest of which ranks work on which sequences, and how, in each micro-batch."""
    digest = hashlib.blake2b(digest_size=16)
    for micro_batch in plan.micro_batches:
        for group in micro_batch.groups:
            group_of = (micro_batch.index, group.ranks, group.sequences, group.strategy)
            digest.update(repr(group_of).encode())
    return digest.digest()
