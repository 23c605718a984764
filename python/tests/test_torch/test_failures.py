"""A rank that fails is an error of every rank, never a hang."""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import failing

#: How long starting and ending may take beside the timeout of the process group.
SLACK_S = 40.0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _errors(num_ranks: int, way: str, place: str) -> Iterator[dict[str, Any]]:
    """What each process says that ends by itself; all do but the one that is killed or stopped."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed.fsdp", "transformers", "models"])
    port = _free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(num_ranks)]
    processes = [
        context.Process(
            target=failing.serve,
            args=(rank, num_ranks, port, way, place, pipes[rank][1]),
            daemon=True,
        )
        for rank in range(num_ranks)
    ]
    for process in processes:
        process.start()
    deadline_s = time.monotonic() + failing.TIMEOUT_S + SLACK_S
    try:
        for rank, process in enumerate(processes):
            if rank == failing.FAILING and way != "raised":
                continue
            assert pipes[rank][0].poll(deadline_s - time.monotonic()), f"rank {rank} hangs"
            yield pipes[rank][0].recv()
            process.join(deadline_s - time.monotonic())
            assert process.exitcode == 0, f"rank {rank} doesn't end"
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("way", ["killed", "stopped", "raised"])
def test_a_rank_that_fails_in_a_layer_is_an_error_of_every_rank(way: str, place: str) -> None:
    where = "layer 1 of micro-batch 0"
    if place == "backward":
        where = f"the backward of {where}"
    limit_s = failing.TIMEOUT_S + 5.0 if way == "stopped" else 5.0
    found = {error["rank"]: error for error in _errors(4, way, place)}
    for error in found.values():
        assert error["after_s"] < limit_s, error
    if way == "raised":
        assert found.pop(failing.FAILING)["text"] == "the user's own fault"
    # Those of its group wait in the exchange.
    for rank in (0, 2):
        error = found.pop(rank)
        assert error["kind"] == "RankFailedError", error
        assert error["cause"] == "RuntimeError"
        # On a busy machine it may be one that failed by the first; all where sending finds out.
        whom = "(rank [012]|ranks 0, 1, 2)"
        said = re.match(
            f"rank {rank} waited for {whom} in the exchange of {where}: ", error["text"]
        )
        assert said, error
        assert "[" not in error["text"][said.end() :].split(" ")[0]
    # The other one waits in FSDP2, for parameters or to reduce gradients.
    error = found.pop(3)
    assert not found
    if error["kind"] == "RankFailedError":
        assert "rank 3 waited for all ranks in the forward of micro-batch" in error["text"]
    else:
        assert (error["kind"], "gloo" in error["text"]) == ("RuntimeError", True)


@pytest.mark.parametrize("way", ["killed", "raised"])
def test_torchrun_ends_with_the_rank_that_fails(way: str) -> None:
    script = Path(failing.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    # Not by a port of its own choice: tests beside this one have theirs.
    command += [f"--master-port={_free_port()}", str(script), way, "forward"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=failing.TIMEOUT_S + 2 * SLACK_S,
        env=environment,
    )
    assert found.returncode != 0
    if way == "killed":
        assert "Signal 9 (SIGKILL)" in found.stderr, found.stderr
    else:
        assert "ValueError: the user's own fault" in found.stderr, found.stderr
