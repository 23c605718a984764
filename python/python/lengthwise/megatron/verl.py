"""What verl imports to plan with Lengthwise in its workers.

verl imports the modules that ``VERL_USE_EXTERNAL_MODULES`` names in every process it starts. With
``VERL_USE_EXTERNAL_MODULES=lengthwise.megatron.verl``, the costs are keyword arguments of
`lengthwise.megatron.install`, as JSON in ``LENGTHWISE_MEGATRON``:

    export VERL_USE_EXTERNAL_MODULES=lengthwise.megatron.verl
    export LENGTHWISE_MEGATRON='{"model": "llama-3.1-8b", "cluster": "h100-8x8"}'

Most of these processes never train, and have no use for Megatron-Core. So its scheduler is replaced
only when an engine asks for it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any, cast

from lengthwise.errors import InputError
from lengthwise.megatron._install import UnsupportedMegatronError, install

VARIABLE = "LENGTHWISE_MEGATRON"
ADAPTER = "verl.utils.dynamic_cp_scheduler"
ASKED = "get_megatron_dynamic_cp_scheduler_cls"


def install_when_asked(arguments: dict[str, Any]) -> None:
    """Install Lengthwise once verl asks for the class of Megatron-Core's scheduler.

    Parameters
    ----------
    arguments : dict
        Keyword arguments of `lengthwise.megatron.install`.

    Raises
    ------
    UnsupportedMegatronError
        This verl has no dynamic context parallelism.
    """
    try:
        adapter = importlib.import_module(ADAPTER)
        asked = cast("Callable[[], type[Any]]", getattr(adapter, ASKED))
    except (ImportError, AttributeError) as error:
        msg = f"this verl has no dynamic context parallelism of Megatron-Core: {error}"
        raise UnsupportedMegatronError(msg, hint=f"a verl with {ADAPTER}.{ASKED}") from error
    is_installed = False

    def with_lengthwise() -> type[Any]:
        nonlocal is_installed
        if not is_installed:
            install(**arguments)
            is_installed = True
        return asked()

    setattr(adapter, ASKED, with_lengthwise)


def arguments_of(environment: str | None) -> dict[str, Any]:
    """Read keyword arguments of `lengthwise.megatron.install` from a variable.

    Raises
    ------
    InputError
        It is not set, or no JSON object.
    """
    hint = f'for example {VARIABLE}=\'{{"model": "llama-3.1-8b", "cluster": "h100-8x8"}}\''
    if environment is None:
        msg = f"{VARIABLE} is not set; it says what sequences cost"
        raise InputError(msg, hint=hint)
    try:
        arguments = json.loads(environment)
    except ValueError as error:
        msg = f"{VARIABLE} is {environment!r}, which is no JSON: {error}"
        raise InputError(msg, hint=hint) from error
    if not isinstance(arguments, dict):
        msg = f"{VARIABLE} is {environment!r}; it must be a JSON object"
        raise InputError(msg, hint=hint)
    return cast("dict[str, Any]", arguments)


# Type checkers and the like import it without verl.
if "verl" in sys.modules:
    install_when_asked(arguments_of(os.environ.get(VARIABLE)))
