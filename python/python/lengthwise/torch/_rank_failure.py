"""What a rank says when another one fails while it waits for it.

Gloo sees at once that a process has ended, and waits for one that doesn't answer until the timeout
of its process group. Either way PyTorch says where in Gloo that was noticed. Here it is said what
was waited for.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from lengthwise.errors import LengthwiseError

#: Gloo's place in its source before a message, and advice after it.
_AROUND_MESSAGE = re.compile(r"^\[[^\]]*\]\s*|\.? This is typically .*$", re.DOTALL)


class RankFailedError(LengthwiseError):
    """Another rank has failed, or has not answered in time, while this one waited for it.

    PyTorch's own error is its cause (``__cause__``).

    Attributes
    ----------
    rank : int
        The rank that waited.
    waited_for : str
        What it waited for.
    """

    rank: int
    waited_for: str

    def __init__(self, rank: int, waited_for: str, said: str) -> None:
        msg = f"rank {rank} waited for {waited_for}: {said}"
        hint = "the rank that failed first has an error of its own, unless it was killed or hangs"
        super().__init__(msg, hint=hint)
        self.rank = rank
        self.waited_for = waited_for

    @staticmethod
    def of(error: RuntimeError, waited_for: str) -> RankFailedError:
        """Return the error of this rank, of which `error` is the cause."""
        return RankFailedError(dist.get_rank(), waited_for, _AROUND_MESSAGE.sub("", str(error)))


@contextlib.contextmanager
def waiting_for(what: str) -> Generator[None, None, None]:
    """Say that `what` was waited for, if communication fails inside.

    Other errors, such as those of the user's own code, pass as they are.

    Raises
    ------
    RankFailedError
        Communication failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_communication(error):
            raise
        raise RankFailedError.of(error, what) from error


def _is_of_communication(error: RuntimeError) -> bool:
    # Gloo's errors have no class of their own; they name its source.
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)


def world_timeout(device: torch.device) -> timedelta | None:
    """Return how long collective calls of the world wait; None if PyTorch doesn't tell.

    A new process group would wait for PyTorch's default, half an hour, whatever was asked for when
    the world was made.
    """
    world: Any = dist.group.WORLD
    try:
        found = world._get_backend(device).options._timeout
    except (AttributeError, RuntimeError):
        return None
    return found if isinstance(found, timedelta) else None
