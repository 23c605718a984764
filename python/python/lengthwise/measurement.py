"""Measured micro-batches, from which `Profile.fit` makes costs."""

from __future__ import annotations

import dataclasses
import json
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
        InputError
            The degree is not a multiple of `ring`.
        """
        if self.ring < 1 or self.degree % self.ring != 0:
            raise InputError(f"ring is {self.ring}; it must divide the degree, {self.degree}")
        strategy = {
            "ulysses": self.degree // self.ring,
            "ring": self.ring,
            "activations": self.activations,
        }
        return {
            "count": self.count,
            "strategy": strategy,
            "crosses_nodes": self.crosses_nodes,
            "seq_lens_tokens": list(self.seq_lens),
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
        """Return the micro-batch as a profile's file has it."""
        return {
            "measured_s": self.measured_s,
            "groups": [group.as_row() for group in self.groups],
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
    InputTypeError
        What is no row, or has values that JSON has no form for.
    """
    rows: list[str] = []
    for index, measurement in enumerate(measurements):
        row = _as_row(measurement)
        if row is None:
            kind = type(measurement).__name__
            raise InputTypeError(
                f"measurement {index} is {kind}; it must be a Measurement or a mapping"
            )
        try:
            rows.append(json.dumps(row, default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InputTypeError(f"measurement {index}: {error}") from error
    return rows


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
