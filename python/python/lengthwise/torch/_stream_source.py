"""Data sets that can only be iterated."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lengthwise._lengthwise import BatchStream, Census
from lengthwise.errors import InputError
from lengthwise.torch._sequence import TokenSequence
from lengthwise.torch._source import DrawnBatch, excerpt_name

#: Documents before a position that must be the same when it is gone on from.
NUM_COMPARED = 8


@dataclass(frozen=True)
class _Mark:
    """What a data set says of itself when so many documents of an epoch were read."""

    num_documents: int
    state: str


class StreamSource:
    """Sequences of documents in the order in which a data set gives them.

    Every rank reads all documents. After an epoch the data set is iterated anew, unless it is an
    iterator. A position is a number of documents, and of sequences of the next one. To come there
    again, the data set's own ``load_state_dict`` is asked for the nearest state that it had before;
    documents are read again and left out from there. If those are not the documents that stood
    there before, or the data set has no state, all documents of the epoch are read again.

    Parameters
    ----------
    dataset : iterable
        Of documents. ``set_epoch`` is called before every epoch if there is one, with 0 first.
    arguments : mapping
        What `BatchStream` takes.
    epochs : int or None
        After how many epochs batches end.
    num_ids : int
        The ids of the model.
    """

    def __init__(
        self, dataset: Any, arguments: Mapping[str, Any], epochs: int | None, num_ids: int
    ) -> None:
        self._dataset = dataset
        self._arguments = dict(arguments)
        self._epochs = epochs
        self._num_ids = num_ids
        self._has_state = hasattr(dataset, "state_dict") and hasattr(dataset, "load_state_dict")
        self._first_state = self._state()
        self._was_begun = False
        self._stream = BatchStream(**self._arguments)
        self.rules = {
            "context": self._stream.context,
            "overlong": self._stream.overlong,
            "min_tokens": self._stream.min_tokens,
        }
        self.start: Mapping[str, Any] = {
            "epoch": 1,
            "num_documents": 0,
            "num_pieces": 0,
            "num_documents_at_state": 0,
            "state": "",
            "digest": "",
        }
        self.seek(self.start)

    @property
    def census(self) -> Census:
        """What the documents so far became, from where reading began."""
        return self._stream.census

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on from a position; the data set is asked when something is drawn."""
        self._position = position
        self._documents: Iterator[Any] | None = None
        self._stream = BatchStream(
            **self._arguments,
            num_documents=position["num_documents"],
            num_pieces=position["num_pieces"],
        )
        # Documents are numbered on from epoch to epoch, which begin at these numbers.
        self._epoch_starts: list[tuple[int, int]] = [(position["epoch"], 0)]
        self._num_read: int = position["num_documents"]
        self._num_sequences_before_epoch = 0
        self._marks: list[tuple[int, _Mark]] = []
        self._digests: dict[int, bytes] = {}
        self._waiting: dict[int, TokenSequence] = {}
        self._is_over = False

    def num_batches_after(self, position: Mapping[str, Any]) -> int | None:
        """Return None: it isn't known how many documents there are."""
        return None

    def draw(self) -> DrawnBatch | None:
        """Return the next batch, or None after the last; reads what documents it takes."""
        if self._documents is None:
            self._documents = self._sought()
        epoch, first = self._epoch_starts[-1]
        self._marks.append((epoch, _Mark(self._num_read - first, self._state())))
        while True:
            batch = self._stream.take()
            if batch is not None:
                break
            if self._is_over:
                return None
            self._read_document()
        names: list[str] = []
        sequences: dict[int, TokenSequence] = {}
        for index, (number, start, stop) in enumerate(batch.excerpts):
            whole = self._waiting[number]
            names.append(excerpt_name(self._name(number), start, stop, len(whole.input_ids)))
            sequences[index] = whole.excerpt(start, stop)
        epoch = self._epoch_of(batch.excerpts[-1][0])[0]
        number, num_pieces = batch.position
        for done in [each for each in self._waiting if each < number]:
            del self._waiting[done]
        return DrawnBatch(batch, names, epoch, self._at(number, num_pieces), sequences)

    def read(self, drawn: DrawnBatch, indices: Iterable[int]) -> dict[int, TokenSequence]:
        """Return some sequences of a batch."""
        return {index: drawn.sequences[index] for index in indices}

    def _read_document(self) -> None:
        assert self._documents is not None
        try:
            item = next(self._documents)
        except StopIteration:
            self._end_epoch()
            return
        name = self._name(self._num_read)
        sequence = TokenSequence.read(item, name)
        sequence.check_vocabulary(self._num_ids, name)
        self._digests[self._num_read] = sequence.digest()
        self._waiting[self._num_read] = sequence
        self._stream.push(len(sequence.input_ids))
        self._num_read += 1

    def _end_epoch(self) -> None:
        epoch, first = self._epoch_starts[-1]
        num_sequences = self._stream.census.num_sequences
        is_whole = first > 0 or self._position["num_documents"] == 0
        if is_whole and num_sequences == self._num_sequences_before_epoch:
            census = self._stream.census
            num_documents = self._num_read - first
            msg = f"the data set gives no sequence (documents: {num_documents}; skipped for more "
            msg += f"than context = {self._stream.context} tokens: {census.num_skipped}; sequences "
            msg += f"shorter than min_tokens: {census.num_short})"
            raise InputError(msg)
        is_last = self._epochs is not None and epoch >= self._epochs
        if is_last or isinstance(self._dataset, Iterator):
            self._is_over = True
            self._stream.end()
            return
        self._num_sequences_before_epoch = num_sequences
        self._epoch_starts.append((epoch + 1, self._num_read))
        self._documents = self._iterated(epoch + 1)

    def _iterated(self, epoch: int) -> Iterator[Any]:
        set_epoch = getattr(self._dataset, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch - 1)
        self._was_begun = True
        return iter(self._dataset)

    def _state(self) -> str:
        """Return what the data set says of itself as text, or nothing if it can't be written so."""
        if not self._has_state:
            return ""
        state = self._dataset.state_dict()
        try:
            text = json.dumps(state)
        except (TypeError, ValueError):
            return ""
        return text if json.loads(text) == state else ""

    def _name(self, number: int) -> str:
        epoch, first = self._epoch_of(number)
        name = f"document {number - first}"
        return name if epoch == 1 else f"{name} of epoch {epoch}"

    def _epoch_of(self, number: int) -> tuple[int, int]:
        return next(each for each in reversed(self._epoch_starts) if each[1] <= number)

    def _at(self, number: int, num_pieces: int) -> dict[str, Any]:
        """Return the position of a document by its number."""
        # Where all of an epoch is drawn, the position is at its end, not at the start of the next.
        last = number if num_pieces else max(0, number - 1)
        epoch, first = self._epoch_of(last)
        num_documents = number - first
        marks = [
            (of, mark)
            for of, mark in self._marks
            if of == epoch and mark.state and mark.num_documents < num_documents
        ]
        mark = marks[-1][1] if marks else _Mark(0, "")
        # Positions only go on, so nothing before this one is asked for again.
        self._marks = [
            each
            for each in self._marks
            if each[0] > epoch or (each[0] == epoch and each[1].num_documents >= mark.num_documents)
        ]
        num_compared = min(NUM_COMPARED, num_documents - mark.num_documents)
        compared = range(number - num_compared, number)
        for done in [each for each in self._digests if each < number - NUM_COMPARED]:
            del self._digests[done]
        digests = [self._digests[each] for each in compared if each in self._digests]
        return {
            "epoch": epoch,
            "num_documents": num_documents,
            "num_pieces": num_pieces,
            "num_documents_at_state": mark.num_documents,
            "state": mark.state,
            "digest": _joined(digests) if len(digests) == num_compared else "",
        }

    def _sought(self) -> Iterator[Any]:
        """Return the documents that come at the position."""
        at = self._position
        state, num_read = at["state"], at["num_documents_at_state"]
        if state and self._has_state:
            self._dataset.load_state_dict(json.loads(state))
            documents = self._iterated(at["epoch"])
            if self._left_out(documents, at["num_documents"] - num_read):
                return documents
        if self._first_state and self._was_begun:
            self._dataset.load_state_dict(json.loads(self._first_state))
        documents = self._iterated(at["epoch"])
        if self._left_out(documents, at["num_documents"]):
            return documents
        where = f"document {at['num_documents']} of epoch {at['epoch']}"
        msg = f"the data set gives other documents before {where} than when the position was saved"
        raise InputError(msg, hint="go on with the data set and the order that the run began with")

    def _left_out(self, documents: Iterator[Any], count: int) -> bool:
        """Leave documents out; say whether they are those that stood before the position."""
        at = self._position
        num_compared = min(NUM_COMPARED, at["num_documents"] - at["num_documents_at_state"])
        num_compared = num_compared if at["digest"] else 0
        left_out = list(itertools.islice(documents, count - num_compared, count))
        digests: list[bytes] = []
        for index, item in enumerate(left_out):
            number = at["num_documents"] - len(left_out) + index
            digests.append(TokenSequence.read(item, f"document {number}").digest())
            self._digests[number] = digests[-1]
        return num_compared == 0 or _joined(digests) == at["digest"]


def _joined(digests: list[bytes]) -> str:
    return hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
