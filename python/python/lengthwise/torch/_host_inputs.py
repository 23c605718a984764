"""Inputs of layers on the host, from a layer's forward to its backward."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor


class HostMeter:
    """Counts the bytes that a rank has on the host."""

    def __init__(self) -> None:
        self.bytes = 0
        #: The most that there were at a time.
        self.peak_bytes = 0
        self._peak_of_step = 0

    def add(self, num_bytes: int) -> None:
        """Count some more."""
        self.bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        self._peak_of_step = max(self._peak_of_step, self.bytes)

    def take_peak(self) -> int:
        """Return the most bytes that there were at a time since this was asked last."""
        peak, self._peak_of_step = self._peak_of_step, self.bytes
        return peak

    def remove(self, num_bytes: int) -> None:
        """Count so many less."""
        self.bytes -= num_bytes


class HostInputs:
    """The inputs of the layers of a micro-batch.

    On CUDA, copies take a stream of their own beside what is computed, and the input of a layer
    begins to come back when that of the layer after it is asked for.

    Parameters
    ----------
    meter : HostMeter
        Counts their bytes.
    """

    def __init__(self, meter: HostMeter) -> None:
        self._meter = meter
        self._last: weakref.ref[HostInput] | None = None

    def store(self, hidden: Tensor) -> HostInput:
        """Begin to copy the input of the next layer to the host."""
        before = None if self._last is None else self._last()
        stored = HostInput(hidden.detach(), before, self._meter)
        self._last = weakref.ref(stored)
        return stored


class HostInput:
    """The input of a layer, on the host for as long as this object is there.

    Parameters
    ----------
    hidden : Tensor
        The input.
    before : HostInput or None
        That of the layer before, which is needed next in the backward.
    meter : HostMeter
        Counts its bytes.
    """

    def __init__(self, hidden: Tensor, before: HostInput | None, meter: HostMeter) -> None:
        self._device = hidden.device
        self._before = None if before is None else weakref.ref(before)
        self._returned: Tensor | None = None
        self._stream: Any = _copy_stream(hidden.device)
        if self._stream is None:
            self._on_host = hidden.to("cpu", copy=True)
        else:
            self._on_host = torch.empty(
                hidden.shape, dtype=hidden.dtype, device="cpu", pin_memory=True
            )
            self._stream.wait_stream(torch.cuda.current_stream(hidden.device))
            with torch.cuda.stream(self._stream):
                self._on_host.copy_(hidden, non_blocking=True)
            # Its memory must not be used for anything else before it is copied.
            hidden.record_stream(self._stream)
        num_bytes = self._on_host.numel() * self._on_host.element_size()
        meter.add(num_bytes)
        weakref.finalize(self, meter.remove, num_bytes)

    def begin(self) -> None:
        """Begin to copy it back."""
        if self._returned is not None or self._stream is None:
            return
        with torch.cuda.stream(self._stream):
            self._returned = self._on_host.to(self._device, non_blocking=True)

    def fetch(self) -> Tensor:
        """Return it on its device, and begin to bring back that of the layer before."""
        if self._stream is None:
            returned = self._on_host.to(self._device, copy=True)
        else:
            self.begin()
            returned, self._returned = self._returned, None
            assert returned is not None, "it is on its way"
            here = torch.cuda.current_stream(self._device)
            here.wait_stream(self._stream)
            returned.record_stream(here)
        before = None if self._before is None else self._before()
        if before is not None:
            before.begin()
        return returned


#: One for each device.
_streams: dict[torch.device, Any] = {}


def _copy_stream(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
