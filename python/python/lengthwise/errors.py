"""What can go wrong: one base class, and a class for each kind of fault.

Messages and hints are those of the command ``lengthwise``.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "InfeasibleError",
    "InputError",
    "InputTypeError",
    "InternalError",
    "LengthwiseError",
    "RuleError",
]


class LengthwiseError(Exception):
    """The base of all errors of this package.

    Parameters
    ----------
    message : str
        What is wrong: the thing, its value and the rule that it breaks.
    hint : str, optional
        What would help.

    Attributes
    ----------
    hint : str or None
        What would help. Tracebacks show it from Python 3.11 on.
    """

    hint: str | None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        # From Python 3.11 on.
        add_note = getattr(self, "add_note", None)
        if hint is not None and add_note is not None:
            add_note(f"hint: {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all fields, notes among them, without calling the constructor's keywords."""
        return (_restored, (type(self), self.args, self.__dict__.copy()))


class InputError(LengthwiseError, ValueError):
    """A value, a name or a file that can't be used."""


class InputTypeError(LengthwiseError, TypeError):
    """An argument of a wrong type."""


class InfeasibleError(InputError):
    """A sequence that fits no group of the cluster.

    Attributes
    ----------
    sequence : int or None
        The index of the sequence in the batch; None where the model alone fills the devices.
    seq_len : int or None
        Its length in tokens.
    needed_degree : int or None
        The degree that it needs, where a larger one would do.
    predicted_memory_bytes : int or None
        What it needs on each device, or of its host, at the best degree there is.
    budget_bytes : int or None
        What the devices of such a group have there for sequences.
    hint : str or None
        What would help.
    """

    sequence: int | None
    seq_len: int | None
    needed_degree: int | None
    predicted_memory_bytes: int | None
    budget_bytes: int | None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        sequence: int | None = None,
        seq_len: int | None = None,
        needed_degree: int | None = None,
        predicted_memory_bytes: int | None = None,
        budget_bytes: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.sequence = sequence
        self.seq_len = seq_len
        self.needed_degree = needed_degree
        self.predicted_memory_bytes = predicted_memory_bytes
        self.budget_bytes = budget_bytes


class RuleError(InputError):
    """A rule for plans that can't be kept, or can't be a rule."""


class InternalError(LengthwiseError, RuntimeError):
    """A fault of this package itself; please report it with its message."""


def _restored(
    kind: type[LengthwiseError], args: tuple[Any, ...], fields: dict[str, Any]
) -> LengthwiseError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
