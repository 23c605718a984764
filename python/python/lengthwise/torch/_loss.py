"""The loss of a micro-batch, inside the model's forward.

FSDP2 has a model's parameters whole only while the model's forward or backward runs. So the head
itself computes the loss: for the duration of a call its ``forward`` returns the summed loss of the
tokens where it would have returned logits. Logits exist for a chunk of tokens at a time.
"""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint  # pyright: ignore[reportUnknownVariableType]

#: The label of a token that has none, as PyTorch and transformers have it.
NO_LABEL = -100

#: Tokens whose logits exist at once.
CHUNK_TOKENS = 1024


def shifted(labels: Tensor) -> Tensor:
    """Return what each token of a whole sequence has to predict; the last has nothing to."""
    return torch.cat([labels[1:], torch.full_like(labels[:1], NO_LABEL)])


def summed_loss(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return the cross-entropy of all tokens that have a label, summed, in float32.

    Parameters
    ----------
    hidden : Tensor
        ``[tokens, hidden]``.
    head : Linear
        The projection to the vocabulary.
    targets : Tensor
        ``[tokens]``, of which those that are `NO_LABEL` don't count.
    """
    rows = torch.nonzero(targets != NO_LABEL).flatten()
    if rows.numel() == 0:
        # A weightless token: the model's backward and its collectives take place all the same.
        rows = rows.new_zeros(1)
    hidden, targets = hidden[rows], targets[rows]
    total = hidden.new_zeros((), dtype=torch.float32)
    for chunk, labels in zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
        loss = checkpoint(_chunk_loss, chunk, head.weight, head.bias, labels, use_reentrant=False)
        assert isinstance(loss, Tensor)
        total = total + loss
    return total


def _chunk_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    return summed_cross_entropy(F.linear(hidden, weight, bias), labels)


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of all tokens that have a label, summed, in float32.

    Parameters
    ----------
    logits : Tensor
        ``[tokens, vocabulary]``.
    targets : Tensor
        ``[tokens]``, of which those that are `NO_LABEL` don't count.
    """
    return F.cross_entropy(logits.float(), targets, ignore_index=NO_LABEL, reduction="sum")


@contextlib.contextmanager
def head_computes_loss(head: nn.Linear, targets: Tensor) -> Generator[list[Tensor], None, None]:
    """Let `head` return the summed loss of its input, shaped ``[1, 1, 1]``, in place of logits.

    Gives a list to which every loss that is returned is added.
    """
    computed: list[Tensor] = []

    def forward(hidden: Tensor) -> Tensor:
        loss = summed_loss(hidden.reshape(-1, hidden.shape[-1]), head, targets)
        # No view, for FSDP2 puts a hook onto what a model returns.
        loss = loss + loss.new_zeros(1, 1, 1)
        computed.append(loss)
        return loss

    own = vars(head).get("forward")
    head.forward = forward  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield computed
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own
