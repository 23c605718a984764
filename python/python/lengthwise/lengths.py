"""What stands for the lengths of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, SupportsIndex, TypeAlias, Union

__all__ = ["Lengths"]


class Buffer(Protocol):
    """What has the buffer protocol: `collections.abc.Buffer` from Python 3.12 on."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """Return a view of the buffer."""
        ...


class Array(Protocol):
    """An array or a tensor of one dimension."""

    @property
    def ndim(self) -> int:
        """The number of dimensions, which must be 1."""
        ...

    def tolist(self) -> Any:
        """Return the items."""
        ...


Lengths: TypeAlias = Union[Iterable[SupportsIndex], Array, Buffer]  # noqa: UP007
"""The lengths of a global batch in tokens: one row, as a list, an array, a tensor or a buffer."""
