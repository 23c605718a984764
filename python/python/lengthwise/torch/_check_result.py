"""What a check has found."""

from __future__ import annotations

from dataclasses import dataclass

#: What counts as zero, relative to the norm of the whole gradient: where no token sees another,
#: queries and keys have no effect, and their gradients are nothing but rounding.
ZERO = 1e-8


@dataclass(frozen=True)
class ParameterError:
    """How far a parameter's gradient is from that of one rank, where it is farthest.

    Attributes
    ----------
    name : str
        The parameter, or ``loss``.
    plan : int
        Which of the random plans it is.
    relative_error : float
        The norm of the difference, relative to that of the gradient of one rank.
    norm : float
        The norm of the gradient of one rank.
    is_wrong : bool
        Whether the difference is more than rounding.
    """

    name: str
    plan: int
    relative_error: float
    norm: float
    is_wrong: bool


@dataclass(frozen=True)
class CheckResult:
    """Whether gradients of random plans are those of one rank. Is true if they are.

    Attributes
    ----------
    is_right : bool
        Whether all of them are.
    num_plans : int
        How many plans were run.
    tolerance : float
        The largest relative error that counts as rounding.
    errors : tuple of ParameterError
        Of every parameter, and of the loss, the worst: those that are wrong first, then by error.
    """

    is_right: bool
    num_plans: int
    tolerance: float
    errors: tuple[ParameterError, ...]

    @staticmethod
    def of(found: list[ParameterError], num_plans: int, tolerance: float) -> CheckResult:
        """Return the result of all parameters of all plans."""
        worst: dict[str, ParameterError] = {}
        for error in found:
            if error.name not in worst or _badness(error) > _badness(worst[error.name]):
                worst[error.name] = error
        errors = tuple(sorted(worst.values(), key=_badness, reverse=True))
        is_right = bool(errors) and not any(error.is_wrong for error in errors)
        return CheckResult(is_right, num_plans, tolerance, errors)

    def __bool__(self) -> bool:
        """Whether all gradients are right."""
        return self.is_right

    def table(self, num_rows: int = 10) -> str:
        """Return the worst parameters as a table."""
        rows = self.errors[:num_rows]
        width = max([len(row.name) for row in rows], default=0)
        width = max(width, len("parameter"))
        lines = [f"{'parameter':<{width}}  relative error  norm     plan"]
        lines.extend(
            f"{row.name:<{width}}  {row.relative_error:<14.1e}  {row.norm:.1e}  {row.plan}"
            + ("     wrong" if row.is_wrong else "")
            for row in rows
        )
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return a sentence and the table."""
        num_wrong = sum(error.is_wrong for error in self.errors)
        what = "are those of one rank" if self.is_right else "are not those of one rank"
        head = (
            f"gradients of {self.num_plans} random plans {what}: {num_wrong} of "
            f"{len(self.errors)} are off by more than {self.tolerance:.0e}"
        )
        return f"{head}\n{self.table()}"


def _badness(error: ParameterError) -> tuple[bool, bool, float]:
    is_number = error.relative_error == error.relative_error
    return (error.is_wrong, not is_number, error.relative_error if is_number else 0.0)
