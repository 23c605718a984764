"""Measured micro-batches, from which `Profile.fit` makes costs."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsIndex, cast

from lengthwise.errors import InputError, InputTypeError

__all__ = ["MeasuredGroup", "Measurement"]


@dataclass(frozen=True)
class MeasuredGroup:
    """A group of a measured micro-batch, or several that are alike.

    Attributes
    ----------
    degree : int
        The number of its ranks.
    seq_lens : sequence of int
        The lengths of its sequences in tokens.
    count : int, default 1
        How many groups are like this.
    crosses_nodes : bool, default False
        Whether its ranks are on several nodes.
    activations : str, default "recompute"
        What is done with activations: "keep" or "recompute".
    ring : int, default 1
        The part of the degree that passes key/value blocks around; the rest exchanges tokens for
        heads.
    """

    degree: int
    seq_lens: Sequence[int]
    count: int = 1
    crosses_nodes: bool = False
    activations: str = "recompute"
    ring: int = 1

    def as_row(self) -> dict[str, Any]:
        """Return the group as a profile's file has it.

        Raises
        ------
        InputError, InputTypeError
            A field of a wrong type, or a degree that is not a multiple of `ring`.
        """
        degree = _whole("degree", self.degree, 1)
        ring = _whole("ring", self.ring, 1)
        if degree % ring != 0:
            raise InputError(f"ring is {ring}; it must divide the degree, {degree}")
        seq_lens = enumerate(_items("seq_lens", self.seq_lens, "lengths in tokens"))
        strategy = {
            "ulysses": degree // ring,
            "ring": ring,
            "activations": self.activations,
        }
        return {
            "count": _whole("count", self.count, 1),
            "strategy": strategy,
            "crosses_nodes": self.crosses_nodes,
            "seq_lens_tokens": [_whole(f"seq_lens[{at}]", seq_len, 1) for at, seq_len in seq_lens],
        }


@dataclass(frozen=True)
class Measurement:
    """A measured micro-batch.

    Attributes
    ----------
    measured_s : float
        What it took on the slowest rank, in seconds; the median where it was run several times.
    groups : sequence of MeasuredGroup
        The groups that ran at once.
    peak_memory_bytes : int, default 0
        The most that a device held, in bytes; 0 where that was not measured.
    held_out : bool, default False
        Whether the fit must not see it, and is only compared with it.
    runs : int, default 1
        How often it was run.
    """

    measured_s: float
    groups: Sequence[MeasuredGroup] = field(default_factory=tuple)
    peak_memory_bytes: int = 0
    held_out: bool = False
    runs: int = 1

    def as_row(self) -> dict[str, Any]:
        """Return the micro-batch as a profile's file has it.

        Raises
        ------
        InputError, InputTypeError
            A group that can't be one.
        """
        groups: list[dict[str, Any]] = []
        for index, group in enumerate(_items("groups", self.groups, "MeasuredGroup")):
            if not isinstance(group, MeasuredGroup):
                kind = type(group).__name__
                raise InputTypeError(f"groups[{index}] is {kind}; it must be a MeasuredGroup")
            groups.append(group.as_row())
        return {
            "measured_s": self.measured_s,
            "groups": groups,
            "peak_memory_bytes": self.peak_memory_bytes,
            "held_out": self.held_out,
            "runs": self.runs,
        }


def rows_as_json(measurements: Iterable[Measurement | Mapping[str, Any]]) -> list[str]:
    """Return each micro-batch as the JSON of what a profile's file has of it.

    Parameters
    ----------
    measurements : iterable of Measurement or mapping
        Micro-batches; mappings and other dataclasses with the keys of a profile's file.

    Returns
    -------
    list of str

    Raises
    ------
    InputError, InputTypeError
        What is no row, a value that is out of range, or one that JSON has no form for.
    """
    rows: list[str] = []
    for index, measurement in enumerate(measurements):
        try:
            row = _as_row(measurement)
            if row is not None:
                _check_row(row)
                rows.append(json.dumps(row, default=_plain, allow_nan=False))
                continue
        except (InputError, InputTypeError) as error:
            raise type(error)(f"measurement {index}: {error}") from error
        except (TypeError, ValueError) as error:
            raise InputTypeError(f"measurement {index}: {error}") from error
        kind = type(measurement).__name__
        raise InputTypeError(
            f"measurement {index} is {kind}; it must be a Measurement or a mapping"
        )
    return rows


def _check_row(row: dict[Any, Any]) -> None:
    """Refuse values of fields that are there but can't be what they are for."""
    if "measured_s" in row:
        row["measured_s"] = _seconds("measured_s", row["measured_s"])
    if "groups" in row:
        row["groups"] = list(_items("groups", row["groups"], "groups"))
    for name, least in [("runs", 1), ("peak_memory_bytes", 0)]:
        if name in row:
            row[name] = _whole(name, row[name], least)


def _whole(name: str, value: Any, least: int) -> int:
    rule = f"it must be a whole number from {least} on"
    try:
        # True is a whole number to Python.
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise InputTypeError(f"{name} is {value!r}; {rule}")
    if number < least:
        raise InputError(f"{name} is {number}; {rule}")
    return number


def _seconds(name: str, value: Any) -> float:
    rule = "it must be a number of seconds"
    if isinstance(value, (str, bytes, bytearray, bool)):
        raise InputTypeError(f"{name} is {value!r}; {rule}")
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name} is {value!r}; {rule}") from error
    except OverflowError as error:
        raise InputError(f"{name} is too large; {rule}") from error
    if not math.isfinite(seconds):
        raise InputError(f"{name} is {seconds}; {rule}")
    return seconds


def _items(name: str, value: Any, of: str) -> Iterable[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        shown = cast("Any", value)
        raise InputTypeError(f"{name} is {shown!r}; it must be a list of {of}")
    return cast("Iterable[Any]", value)


def _as_row(measurement: Any) -> dict[Any, Any] | None:
    """Return a micro-batch with the keys of a profile's file; None of what is none."""
    if isinstance(measurement, Measurement):
        return measurement.as_row()
    if dataclasses.is_dataclass(measurement) and not isinstance(measurement, type):
        return dataclasses.asdict(measurement)
    if isinstance(measurement, Mapping):
        return dict(cast("Mapping[Any, Any]", measurement))
    return None


def _plain(value: Any) -> Any:
    """Return numbers and arrays of NumPy or PyTorch as those of Python."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, SupportsIndex):
        return value.__index__()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"a value of type {type(value).__name__} is no number, text or list")
