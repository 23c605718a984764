"""A rank that fails in the middle of a step, and what the others then say.

Run by `torchrun` too, as a script: ``failing.py WAY PLACE``.
"""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
from typing import Any

#: How long process groups wait for a rank.
TIMEOUT_S = 10.0

#: The rank that fails, in layer 1 of the first micro-batch of the second step.
FAILING = 1

SEQ_LENS = [20, 9, 7, 5]
#: By the number of ranks. Rank 1 has company at first; with four, rank 3 is in no group with it.
PLANS: dict[int, Any] = {
    2: [[([0, 1], [0, 1])], [([0], [2]), ([1], [3])]],
    4: [[([0, 1, 2], [0]), ([3], [1])], [([0, 1], [2]), ([2, 3], [3])]],
}


def fail(way: str) -> None:
    """Fail in this way: killed, stopped, raised."""
    if way == "raised":
        raise ValueError("the user's own fault")
    os.kill(os.getpid(), {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}[way])


def run(way: str, place: str) -> dict[str, Any]:
    """Two steps, in the second of which a rank fails; what this rank ends with."""
    import torch
    import torch.distributed as dist
    from models import GivenPlan, mesh, sharded, whole_model

    from lengthwise.torch import ContextParallel
    from lengthwise.torch._random_steps import plan_of

    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=TIMEOUT_S))
    rank = dist.get_rank()
    model = sharded(whole_model("llama"))
    plan = plan_of(PLANS[dist.get_world_size()], SEQ_LENS)
    cp = ContextParallel(GivenPlan(plan), model, mesh())
    is_time = False

    def hook(*_: Any) -> None:
        if rank == FAILING and is_time:
            fail(way)

    layer = model.model.layers[1].self_attn
    if place == "forward":
        layer.register_forward_pre_hook(hook)
    else:
        layer.register_full_backward_hook(hook)
    start_s = time.monotonic()
    try:
        for is_time in (False, True):  # noqa: B007
            start_s = time.monotonic()
            for micro_batch in cp.step([list(range(n)) for n in SEQ_LENS]):
                cp.loss(model, micro_batch).backward()
    except Exception as error:
        return {
            "rank": rank,
            "kind": type(error).__name__,
            "text": str(error),
            "cause": type(error.__cause__).__name__,
            "after_s": time.monotonic() - start_s,
        }
    finally:
        # As users end their scripts.
        dist.destroy_process_group()
    raise AssertionError("no rank has failed")


def serve(rank: int, num_ranks: int, port: int, way: str, place: str, report: Any) -> None:
    """One process of a world that ends with the failure."""
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(num_ranks)
    )
    report.send(run(way, place))


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    found = run(sys.argv[1], sys.argv[2])
    sys.exit(f"{found['kind']}: {found['text']}")
