"""Data sets whose items have numbers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lengthwise._lengthwise import BatchSchedule, Census
from lengthwise.errors import InputError
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._source import DrawnBatch, excerpt_name


class MapSource:
    """Sequences of documents of known lengths, of which a rank reads those it needs.

    Parameters
    ----------
    dataset : object
        With ``__len__`` and ``__getitem__``, perhaps ``__getitems__``.
    lengths : array of int
        The tokens of each document.
    schedule : BatchSchedule
        Of these lengths.
    rules : mapping
        What must be the same where a position is gone on from.
    num_ids : int
        The ids of the model.
    """

    def __init__(
        self,
        dataset: Any,
        lengths: array[int],
        schedule: BatchSchedule,
        rules: Mapping[str, Any],
        num_ids: int,
    ) -> None:
        self._dataset = dataset
        self._lengths = lengths
        self._schedule = schedule
        self._num_ids = num_ids
        self.rules = rules
        self.start: Mapping[str, Any] = {"epoch": 1, "num_sequences": 0}

    @property
    def census(self) -> Census:
        """What documents become in one epoch."""
        return self._schedule.census

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from a position."""
        self._schedule.start_at(position["epoch"], position["num_sequences"])

    def num_batches_after(self, position: Mapping[str, Any]) -> int | None:
        """Return how many batches follow a position, or None where there is no end."""
        return self._schedule.num_batches_after(position["epoch"], position["num_sequences"])

    def draw(self) -> DrawnBatch | None:
        """Return the next batch, or None after the last."""
        batch = next(self._schedule, None)
        if batch is None:
            return None
        names = [self._name(*excerpt) for excerpt in batch.excerpts]
        epoch, num_sequences = batch.position
        position = {"epoch": epoch, "num_sequences": num_sequences}
        return DrawnBatch(batch, names, batch.epoch, position)

    def read(self, drawn: DrawnBatch, indices: Iterable[int]) -> dict[int, TokenSequence]:
        """Read the documents that some sequences of a batch are from, each once."""
        excerpts = drawn.batch.excerpts
        chosen = list(indices)
        documents = sorted({excerpts[index][0] for index in chosen})
        items = items_of(self._dataset, documents)
        read: dict[int, TokenSequence] = {}
        for document, item in zip(documents, items, strict=True):
            name = f"document {document}"
            sequence = TokenSequence.read(item, name)
            expected, found = self._lengths[document], len(sequence.input_ids)
            if found != expected:
                msg = f"{name} has {found} tokens, and its length is given as {expected}"
                raise InputError(msg, hint="name another column, or none, with lengths=")
            sequence.check_vocabulary(self._num_ids, name)
            read[document] = sequence
        return {index: read[excerpts[index][0]].excerpt(*excerpts[index][1:]) for index in chosen}

    def _name(self, document: int, start: int, stop: int) -> str:
        return excerpt_name(f"document {document}", start, stop, self._lengths[document])


def items_of(dataset: Any, documents: Sequence[int]) -> list[Any]:
    """Return items of a data set, by one call where it has one for several."""
    several = getattr(dataset, "__getitems__", None)
    if several is None:
        return [dataset[document] for document in documents]
    return list(several(list(documents))) if documents else []
