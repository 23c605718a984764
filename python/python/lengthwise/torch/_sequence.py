"""A sequence of a global batch: what it is made of, and what it has to predict."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lengthwise.errors import InputError, InputTypeError
from lengthwise.torch._loss import NO_LABEL, shifted


@dataclass(frozen=True)
class TokenSequence:
    """One sequence.

    Attributes
    ----------
    input_ids : Tensor
        ``[tokens]``, int64, on the host.
    targets : Tensor
        What each token has to predict, or -100: the labels, shifted by one.
    """

    input_ids: Tensor
    targets: Tensor

    @property
    def num_labels(self) -> int:
        """How many tokens have something to predict."""
        return int((self.targets != NO_LABEL).sum())

    def check_vocabulary(self, num_ids: int, name: str) -> None:
        """Refuse ids that a model with `num_ids` ids doesn't have."""
        known = (self.input_ids >= 0) & (self.input_ids < num_ids)
        if not bool(known.all()):
            odd = int(self.input_ids[~known][0])
            raise InputError(f"{name} has the id {odd}; the model has {num_ids} ids")
        known = (self.targets == NO_LABEL) | ((self.targets >= 0) & (self.targets < num_ids))
        if not bool(known.all()):
            odd = int(self.targets[~known][0])
            msg = f"{name} has the label {odd}; the model has {num_ids} ids"
            raise InputError(msg, hint="-100 is the label of a token that doesn't count")

    def excerpt(self, start: int, stop: int) -> TokenSequence:
        """Return some of the tokens. The last has what comes after it to predict, if anything."""
        return TokenSequence(self.input_ids[start:stop], self.targets[start:stop])

    def digest(self) -> bytes:
        """Return what differs where ids or targets do."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(self.input_ids.contiguous().numpy())
        digest.update(self.targets.contiguous().numpy())
        return digest.digest()

    @staticmethod
    def read(value: Any, name: str) -> TokenSequence:
        """Return a sequence of ids, or a mapping with ``input_ids`` and perhaps ``labels``.

        Labels are aligned with ids, as transformers has them; without any, a sequence is its own
        labels. `name` is what errors call it.
        """
        if isinstance(value, TokenSequence):
            return value
        fields: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"input_ids": value}  # pyright: ignore
        if "input_ids" not in fields:
            names = ", ".join(map(str, fields)) or "no field"
            msg = f"{name} has no input_ids; it has {names}"
            raise InputError(msg)
        input_ids = _ids(fields["input_ids"], f"input_ids of {name}")
        given = fields.get("labels")
        labels = input_ids if given is None else _ids(given, f"labels of {name}")
        if labels.shape != input_ids.shape:
            msg = f"{name} has {len(input_ids)} tokens and {len(labels)} labels"
            raise InputError(msg)
        mask = fields.get("attention_mask")
        if mask is not None and not bool(torch.as_tensor(mask).all()):
            msg = f"{name} has padding: its attention_mask has zeros"
            raise InputError(msg, hint="leave padding out; sequences are packed")
        return TokenSequence(input_ids, shifted(labels))


def _ids(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        if not isinstance(value, Sequence) and not hasattr(value, "__array__"):
            msg = f"{name} are {type(value).__name__}, not ids of tokens"
            raise InputTypeError(msg)
        try:
            if hasattr(value, "__array__"):
                value = torch.as_tensor(value)
            else:
                ids = [operator.index(item) for item in value]  # pyright: ignore
                value = torch.tensor(ids, dtype=torch.int64)
        except TypeError as error:
            msg = f"{name} are not ids of tokens: {error}"
            raise InputTypeError(msg) from error
    if value.ndim == 1 and value.numel() == 0:
        # Nobody knows the type of nothing.
        return torch.zeros(0, dtype=torch.int64)
    if value.ndim != 1 or value.is_floating_point() or value.dtype == torch.bool:
        msg = f"{name} have the shape {tuple(value.shape)} and the type {value.dtype}"
        raise InputError(msg, hint="ids are whole numbers in one dimension")
    return value.detach().to(device="cpu", dtype=torch.int64)
