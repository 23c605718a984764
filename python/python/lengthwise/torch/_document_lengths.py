"""How many tokens the documents of a data set have, found out by all ranks together."""

# What data sets have is not known before they are there.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import operator
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist

from lengthwise.errors import InputError, InputTypeError
from lengthwise.torch._agreement import shared
from lengthwise.torch._map_source import items_of
from lengthwise.torch._shards import part

#: Columns that are lengths, where a data set has one of them.
COLUMNS = ("length", "lengths", "num_tokens")

#: Documents that are read at once where they are counted.
CHUNK_DOCUMENTS = 1000


def document_lengths(dataset: Any, lengths: str | Iterable[int] | None) -> array[int]:
    """Return the tokens of each document; a collective call of all ranks.

    Parameters
    ----------
    dataset : object
        With ``__len__`` and ``__getitem__``.
    lengths : str or iterable of int, optional
        The name of a column, or the lengths. By default they are in a column of one of the names
        `COLUMNS`; without any, each rank reads a share of all documents and counts.

    Raises
    ------
    InputError
        Lengths can't be read on some rank, or ranks have different ones.
    """
    found: list[array[int]] = []

    def given_lengths() -> tuple[int, bytes | None]:
        own = _read(dataset, lengths)
        count = len(dataset)
        if own is None:
            return count, None
        found.append(own)
        if len(own) != count:
            msg = f"the data set has {count} documents, and {len(own)} lengths are given"
            raise InputError(msg)
        return count, lengths_digest(own)

    given = shared(given_lengths, "the size of their data sets")
    for rank, (count, _) in enumerate(given):
        if count != given[0][0]:
            msg = f"rank {rank}'s data set has {count} documents and rank 0's {given[0][0]}"
            raise InputError(msg, hint="all ranks must be given the same data set")
    if any(digest is None for _, digest in given):
        names = {rank for rank, (_, digest) in enumerate(given) if digest is None}
        if len(names) < len(given):
            msg = f"the data set of rank {min(names)} has no column of lengths; others have one"
            raise InputError(msg)
        share = part(given[0][0], dist.get_world_size(), dist.get_rank())
        counted = shared(lambda: _counted(dataset, share).tobytes(), "the lengths of documents")
        return array("q", b"".join(counted))
    if any(digest != given[0][1] for _, digest in given):
        _name_difference(found[0])
    return found[0]


def lengths_digest(lengths: array[int]) -> bytes:
    """Return what differs where lengths do."""
    return hashlib.blake2b(lengths.tobytes(), digest_size=16).digest()


def _read(dataset: Any, lengths: str | Iterable[int] | None) -> array[int] | None:
    columns = getattr(dataset, "column_names", None)
    columns = [name for name in columns if isinstance(name, str)] if columns else []
    if lengths is None:
        lengths = next((name for name in COLUMNS if name in columns), None)
        if lengths is None:
            return None
    if isinstance(lengths, str):
        if lengths not in columns:
            msg = f"lengths is {lengths!r}; the data set has the columns {', '.join(columns)}"
            raise InputError(msg if columns else f"lengths is {lengths!r}; there are no columns")
        name = f"column {lengths!r}"
        return _whole(_column(dataset, lengths), name)
    return _whole(lengths, "lengths")


def _column(dataset: Any, name: str) -> Iterable[Any]:
    if hasattr(dataset, "with_format") and hasattr(dataset, "select_columns"):
        # As plain numbers, whatever the format of its items.
        table = dataset.select_columns([name]).with_format("arrow")[:]
        values: list[Any] = table[name].to_pylist()
        return values
    column: Iterable[Any] = dataset[name]
    return column


def _whole(values: Iterable[Any], name: str) -> array[int]:
    plain = values.tolist() if hasattr(values, "tolist") else values  # pyright: ignore
    found = array("q")
    for index, value in enumerate(plain):
        try:
            found.append(operator.index(value))
        except (TypeError, OverflowError):
            msg = f"{name} has {value!r} at index {index}; lengths are whole numbers of tokens"
            raise InputTypeError(msg) from None
        if found[-1] < 0:
            raise InputError(f"{name} has {value} at index {index}; lengths are not negative")
    return found


def _counted(dataset: Any, documents: range) -> array[int]:
    """Return the tokens of some documents, which are read."""
    by_column = _counted_in_column(dataset, documents)
    if by_column is not None:
        return by_column
    found = array("q")
    for start in range(documents.start, documents.stop, CHUNK_DOCUMENTS):
        chunk = range(start, min(start + CHUNK_DOCUMENTS, documents.stop))
        for document, item in zip(chunk, items_of(dataset, chunk), strict=True):
            ids = item.get("input_ids") if isinstance(item, Mapping) else item
            if ids is None or not hasattr(ids, "__len__"):
                names = ", ".join(map(str, item)) if isinstance(item, Mapping) else type(item)
                raise InputError(f"document {document} has no input_ids; it has {names}")
            found.append(len(ids))
    return found


def _counted_in_column(dataset: Any, documents: range) -> array[int] | None:
    """Count in the column itself, which makes no lists of it."""
    columns = getattr(dataset, "column_names", None)
    made_of_columns = hasattr(dataset, "with_format") and hasattr(dataset, "select_columns")
    if not made_of_columns or not columns or "input_ids" not in columns:
        return None
    form = getattr(dataset, "format", None)
    if isinstance(form, Mapping) and form.get("type") == "custom":
        # What a transform makes of a row has other lengths.
        return None
    import pyarrow.compute as compute  # type: ignore[import-untyped]

    rows = dataset.select_columns(["input_ids"]).with_format("arrow").select(documents)
    found = array("q")
    for table in rows.iter(batch_size=CHUNK_DOCUMENTS):
        lengths = compute.list_value_length(table["input_ids"])  # pyright: ignore
        for length in lengths.to_pylist():
            if length is None:
                document = documents.start + len(found)
                raise InputError(f"document {document} has no input_ids")
            found.append(length)
    return found


def _name_difference(lengths: array[int]) -> None:
    """Raise what differs between ranks, all of which have as many documents."""
    of_rank_0: list[Any] = [lengths.tobytes() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(of_rank_0, src=0)
    theirs = array("q", of_rank_0[0])
    pairs = enumerate(zip(lengths, theirs, strict=True))
    mine = next(((document, own) for document, (own, other) in pairs if own != other), None)
    for rank, found in enumerate(shared(lambda: mine, "which lengths differ")):
        if found is not None:
            document, length = found
            msg = f"document {document} has {length} tokens on rank {rank} and {theirs[document]} "
            msg += "on rank 0"
            raise InputError(msg, hint="all ranks must be given the same data set")
