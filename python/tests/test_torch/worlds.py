"""Worlds of processes that talk by Gloo, for as long as the tests run."""

from __future__ import annotations

import gc
import multiprocessing
import os
import queue
import socket
import traceback
from collections.abc import Callable
from typing import Any

#: A world without an answer for this long has hung.
TIMEOUT_S = 300


class World:
    """So many processes with a process group, which run what they are given.

    They are forked from one process that has imported PyTorch and transformers already, for that
    takes longer than most tests.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._start()

    def _start(self) -> None:
        size = self.size
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch.distributed.fsdp", "transformers", "models"])
        self._tasks = [context.Queue() for _ in range(size)]
        self._results: Any = context.Queue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._processes = [
            context.Process(
                target=_serve,
                args=(rank, size, port, self._tasks[rank], self._results),
                daemon=True,
            )
            for rank in range(size)
        ]
        for process in self._processes:
            process.start()

    def run(self, work: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
        """What `work` returns on each rank."""
        for tasks in self._tasks:
            tasks.put((work, args, options))
        found: dict[int, Any] = {}
        failed: dict[int, str] = {}
        while len(found) + len(failed) < self.size:
            try:
                rank, is_right, value = self._results.get(timeout=TIMEOUT_S)
            except queue.Empty:
                missing = sorted(set(range(self.size)) - set(found) - set(failed))
                failed |= dict.fromkeys(missing, f"no answer in {TIMEOUT_S} s")
                # Answers that come late would be taken for those of the next work.
                self._kill()
                self._start()
                break
            (found if is_right else failed)[rank] = value
        if failed:
            texts = [f"rank {rank}: {text}" for rank, text in sorted(failed.items())]
            raise AssertionError("\n".join(texts))
        return [found[rank] for rank in range(self.size)]

    def close(self) -> None:
        """End the processes."""
        for tasks in self._tasks:
            tasks.put(None)
        for process in self._processes:
            process.join(timeout=10)
        self._kill()

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()


def _serve(rank: int, size: int, port: int, tasks: Any, results: Any) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    while (task := tasks.get()) is not None:
        work, args, options = task
        _forget_groups()
        try:
            results.put((rank, True, work(*args, **options)))
        except BaseException:
            results.put((rank, False, traceback.format_exc()))
    # Without waiting for the others, some of which may be gone.
    os._exit(0)


def _forget_groups() -> None:
    """Let go of what the task before has left: each process group has a thread for each rank.

    All ranks have answered by now, so that none of them waits for another.
    """
    import torch.distributed as dist

    gc.collect()
    for group in list(dist.distributed_c10d._world.pg_map):
        if group is not dist.group.WORLD:
            dist.destroy_process_group(group)
