"""Putting the scheduler in its place, and taking it out again."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from lengthwise._lengthwise import Planner, Rules
from lengthwise.errors import InputError, InputTypeError, LengthwiseError
from lengthwise.megatron._planners import Planners
from lengthwise.megatron._scheduler import scheduler_class

MODULE = "megatron.core.datasets.data_schedule"
CLASS = "DefaultDynamicCPScheduler"
NAME = "default_dynamic_cp"

#: How groups exchange where Megatron-Core's `cp_comm_type` is what it is by default, "p2p".
MEGATRON_STRATEGIES = "ring"
#: What described costs count without another choice: full recomputation.
MEGATRON_ACTIVATIONS = "recompute"

SUPPORTED = (
    "builds of its branch dev since pull request #5154 (merge commit d2e7ec5b) have it; releases "
    "up to 0.19 have not"
)


class UnsupportedMegatronError(LengthwiseError, ImportError):
    """There is no Megatron-Core, or one without dynamic context parallelism."""


@dataclass(frozen=True)
class _Installed:
    """What stands where, and what stood there before."""

    original: type[Any]
    scheduler: type[Any]


_installed: _Installed | None = None


def install(
    planner: Planner | None = None,
    /,
    *,
    group_sizes: Literal["powers_of_two", "any"] = "powers_of_two",
    **costs: Any,
) -> None:
    """Let Megatron-Core, Megatron-Bridge or verl plan with Lengthwise, in this process.

    To be called in every process that trains, with equal arguments and before the first batch.

    Parameters
    ----------
    planner : Planner, optional
        Whose costs to plan with. Its number of devices does not count: Megatron-Core says how many
        DPxCP ranks there are.
    group_sizes : {"powers_of_two", "any"}, default "powers_of_two"
        "any" for a Megatron-Core with pull request #6801, whose groups may have any size.
    **costs
        Keyword arguments of `Planner`, instead of `planner`: ``profile``, or ``model`` and
        ``cluster``, ``tensor_parallel``, ``pipeline_parallel`` and others; None stands for an
        argument that is not given. With a ``model`` on a ``cluster``, ``strategies`` is "ring" by
        default, as Megatron-Core's own ``cp_comm_type`` is "p2p"; "ulysses" stands for "a2a"; and
        ``activations`` is "recompute". Not
        ``devices`` or ``rules``, which follow from the settings of Megatron-Core, and no
        ``time_budget``: every rank plans alone and must come to the same plan.

    Raises
    ------
    UnsupportedMegatronError
        There is no Megatron-Core, or one without dynamic context parallelism.
    InputError, InputTypeError
        Costs that can't be used.

    Notes
    -----
    The entry ``default_dynamic_cp`` of ``scheduler_map`` is replaced, and the class wherever a
    module that is imported has it by name. Schedulers that were made before stay what they are.
    Installing again replaces the costs.
    """
    global _installed
    planners = Planners(group_sizes == "any", _costs(planner, costs, group_sizes))
    module = _data_schedule()
    uninstall()
    original = getattr(module, CLASS)
    scheduler = scheduler_class(original, planners, module)
    _replace(module, original, scheduler)
    _installed = _Installed(original, scheduler)


def uninstall() -> None:
    """Put Megatron-Core's own scheduler back; without effect where it is in its place."""
    global _installed
    if _installed is None:
        return
    module = importlib.import_module(MODULE)
    _replace(module, _installed.scheduler, _installed.original)
    _installed = None


def _costs(planner: Planner | None, costs: dict[str, Any], group_sizes: str) -> dict[str, Any]:
    if group_sizes not in ("powers_of_two", "any"):
        msg = f'group_sizes is {group_sizes!r}; it must be "powers_of_two" or "any"'
        raise InputError(msg)
    # What is None is not given, as in `Planner`.
    costs = {name: value for name, value in costs.items() if value is not None}
    if planner is not None:
        # Types are hints, and the name of a model is a likely mistake.
        if not isinstance(planner, Planner):  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"planner is {planner!r}; it must be a Planner"
            raise InputTypeError(msg, hint='give costs by name, for example model="llama-3.1-8b"')
        if costs:
            msg = f"a planner and {', '.join(costs)} are both given; costs follow from one of them"
            raise InputError(msg)
        costs = dict(planner.__getnewargs_ex__()[1])
        del costs["devices"], costs["rules"]
        costs = {name: value for name, value in costs.items() if value is not None}
        if planner.rules != Rules():
            costs["rules"] = planner.rules
    if "profile" not in costs:
        costs.setdefault("strategies", MEGATRON_STRATEGIES)
        # Megatron does the same with activations in every step.
        costs.setdefault("activations", MEGATRON_ACTIVATIONS)
    degrees = costs.get("degrees")
    if isinstance(degrees, Iterable) and not isinstance(degrees, str):
        # Several planners are made of them, and an iterator can be read once.
        costs["degrees"] = list(cast("Iterable[Any]", degrees))
    for name in ("devices", "rules"):
        if name in costs:
            msg = f"{name} is given; it follows from the settings of Megatron-Core"
            raise InputError(msg, hint="leave it out")
    if costs.get("time_budget") is not None:
        msg = f"time_budget is {costs['time_budget']!r}; every rank must come to the same plan"
        raise InputError(msg, hint="leave it out, so that the effort depends on the batch alone")
    return costs


def _data_schedule() -> Any:
    """Import the module of Megatron-Core that schedules."""
    try:
        module = importlib.import_module(MODULE)
    except ImportError as error:
        found = "there is no megatron-core" if not _has_core() else f"it can't be imported: {error}"
        msg = f"{MODULE} is needed, and {found}"
        raise UnsupportedMegatronError(msg, hint=f"install megatron-core; {SUPPORTED}") from error
    lacks = _what_lacks(module)
    if lacks is not None:
        msg = (
            f"megatron-core {_version()} has no dynamic context parallelism: {MODULE} lacks {lacks}"
        )
        raise UnsupportedMegatronError(msg, hint=SUPPORTED)
    return module


def _what_lacks(module: Any) -> str | None:
    if not hasattr(module, CLASS):
        return CLASS
    schedulers = getattr(module, "scheduler_map", None)
    if not isinstance(schedulers, Mapping):
        return "a mapping scheduler_map"
    return None if NAME in schedulers else f"the entry {NAME} of scheduler_map"


def _has_core() -> bool:
    try:
        return importlib.util.find_spec("megatron.core") is not None
    except ImportError:
        return False


def _version() -> str:
    try:
        return importlib.import_module("megatron.core.package_info").__version__
    except (ImportError, AttributeError):
        return "of unknown version"


def _replace(module: Any, old: type[Any], new: type[Any]) -> None:
    """Put one class in the place of another, wherever it has a name already."""
    if module.scheduler_map.get(NAME) is old:
        module.scheduler_map[NAME] = new
    for other in list(sys.modules.values()):
        names = cast("dict[str, Any]", getattr(other, "__dict__", {}))
        for name in [name for name, value in list(names.items()) if value is old]:
            names[name] = new
