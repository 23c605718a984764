"""Moments in the work of a device, and the time between them."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class Span:
    """What lies between two moments.

    Attributes
    ----------
    elapsed_s : float
        The time that passed, in seconds.
    computed_s : float
        How much of it the thread computed. On an accelerator that is not known, and all of it
        counts.
    """

    elapsed_s: float
    computed_s: float


class Marks(Protocol):
    """Takes moments; does not hold up the device."""

    def mark(self) -> Any:
        """Return this moment: once all that was asked of the device so far is done."""
        ...

    def span(self, first: Any, last: Any) -> Span:
        """Return what lies between two moments. Waits until the device has come that far."""
        ...


class HostMarks:
    """Moments of the thread that computes."""

    def mark(self) -> tuple[float, float]:
        """Return this moment, and what the thread has computed so far."""
        return time.perf_counter(), time.thread_time()

    def span(self, first: tuple[float, float], last: tuple[float, float]) -> Span:
        """Return what lies between two moments."""
        return Span(last[0] - first[0], last[1] - first[1])


class DeviceMarks:
    """Moments in the current stream of an accelerator.

    Parameters
    ----------
    device : device
        The accelerator.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._module: Any = torch.get_device_module(device)

    def mark(self) -> Any:
        """Put a moment into the current stream."""
        event = self._module.Event(enable_timing=True)
        event.record(self._module.current_stream(self._device))
        return event

    def span(self, first: Any, last: Any) -> Span:
        """Return what lies between two moments."""
        last.synchronize()
        seconds = first.elapsed_time(last) / 1e3
        return Span(seconds, seconds)


def marks(device: torch.device) -> Marks:
    """Return what takes moments of a device."""
    return HostMarks() if device.type == "cpu" else DeviceMarks(device)
