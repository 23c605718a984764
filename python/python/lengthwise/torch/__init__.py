"""Dynamic degrees of sequence parallelism for models of transformers under FSDP2.

A plan of Lengthwise divides the ranks anew for every micro-batch: a long sequence is scattered over
many of them, a short one stays on one. Ten lines train that way:

>>> import lengthwise.torch  # doctest: +SKIP
>>> cp = lengthwise.torch.ContextParallel(planner, model, mesh)  # doctest: +SKIP
>>> for step in cp.batches(dataset, tokens="4M"):  # doctest: +SKIP
...     for micro_batch in step:
...         cp.loss(model, micro_batch).backward()
...     optimizer.step()
...     optimizer.zero_grad()

`check` says whether the gradients of a model are those of one rank.
"""

try:
    import torch as _torch
    import transformers as _transformers
except ImportError as error:
    _msg = f"lengthwise.torch needs PyTorch and transformers: {error}"
    raise ImportError(_msg + " (pip install 'lengthwise[torch]')") from error

del _torch, _transformers

from lengthwise.torch._batches import Batches  # noqa: E402
from lengthwise.torch._check import check  # noqa: E402
from lengthwise.torch._check_result import CheckResult, ParameterError  # noqa: E402
from lengthwise.torch._context_parallel import ContextParallel, StepPlanner  # noqa: E402
from lengthwise.torch._exchange import Exchange, GroupExchange  # noqa: E402
from lengthwise.torch._memory_error import DeviceMemoryError  # noqa: E402
from lengthwise.torch._micro_batch import MicroBatch  # noqa: E402
from lengthwise.torch._profile import profile  # noqa: E402
from lengthwise.torch._rank_failure import RankFailedError  # noqa: E402
from lengthwise.torch._requirements import UnsupportedModelError  # noqa: E402
from lengthwise.torch._step import Step  # noqa: E402

__all__ = [
    "Batches",
    "CheckResult",
    "ContextParallel",
    "DeviceMemoryError",
    "Exchange",
    "GroupExchange",
    "MicroBatch",
    "ParameterError",
    "RankFailedError",
    "Step",
    "StepPlanner",
    "UnsupportedModelError",
    "check",
    "profile",
]
