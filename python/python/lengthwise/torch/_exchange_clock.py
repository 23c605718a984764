"""The time that goes into exchanges, waiting for the members of a group included."""

from __future__ import annotations

from typing import Any

from lengthwise.torch._marks import Marks, Span


class ExchangeClock:
    """Adds up the time between pairs of moments.

    Parameters
    ----------
    marks : Marks
        Takes the moments.
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._pairs: list[tuple[Any, Any]] = []

    def begin(self) -> Any:
        """Return the moment at which an exchange begins."""
        return self._marks.mark()

    def end(self, begun: Any) -> None:
        """Note that the exchange that began then is done."""
        self._pairs.append((begun, self._marks.mark()))

    def take(self) -> Span:
        """Return the time of all exchanges since the last call. Waits for the device."""
        pairs, self._pairs = self._pairs, []
        spans = [self._marks.span(first, last) for first, last in pairs]
        return Span(sum(span.elapsed_s for span in spans), sum(span.computed_s for span in spans))
