"""How errors of communication are told from others, and what is said of them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import torch.distributed as dist

from lengthwise.torch import RankFailedError
from lengthwise.torch._rank_failure import waiting_for

GLOO = (
    "[/build/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer "
    "[127.0.0.1]:1941. This is typically caused by a remote worker crashing. Check its logs"
)


@pytest.fixture(autouse=True)
def _rank_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_rank", lambda: 2)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError(GLOO), "Connection closed by peer [127.0.0.1]:1941"),
        (dist.DistBackendError("NCCL has aborted"), "NCCL has aborted"),
    ],
)
def test_what_was_waited_for_is_said(error: RuntimeError, said: str) -> None:
    with pytest.raises(RankFailedError) as raised, waiting_for("rank 1"):
        raise error
    assert str(raised.value) == f"rank 2 waited for rank 1: {said}"
    assert (raised.value.rank, raised.value.waited_for) == (2, "rank 1")
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), torch.OutOfMemoryError("too large"), ValueError("no")]
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, waiting_for("rank 1"):
        raise error
    assert raised.value is error


def test_it_survives_pickling() -> None:
    error = RankFailedError(1, "rank 0", "gone")
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        found: Any = same
        assert str(found) == "rank 1 waited for rank 0: gone"
        assert (found.rank, found.waited_for, found.hint) == (1, "rank 0", error.hint)
