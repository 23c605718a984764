"""Which ranks are on which node, and what devices have there."""

# PyTorch leaves parts of the types of its methods open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import socket
from itertools import groupby
from typing import Any

import torch
import torch.distributed as dist

from lengthwise.errors import InputError

#: Of a device's memory, what plans may use. The rest is for what the allocator can't join.
USED_PART = 0.9


def ranks_by_node(devices_per_node: int | None) -> list[int]:
    """Return how many ranks each node has, in order; a collective call of all ranks.

    Parameters
    ----------
    devices_per_node : int, optional
        The ranks of a node. By default what torchrun says, or else ranks of equal host names.
    """
    num_ranks = dist.get_world_size()
    told = os.environ.get("LOCAL_WORLD_SIZE", "")
    mine = (socket.gethostname(), int(told) if told.isdecimal() else None)
    all_ranks: list[Any] = [None] * num_ranks
    dist.all_gather_object(all_ranks, mine)
    if devices_per_node is None and all_ranks[0][1] is not None:
        devices_per_node = int(all_ranks[0][1])
    if devices_per_node is not None:
        if devices_per_node < 1:
            raise InputError(f"devices_per_node is {devices_per_node}; a node has a device")
        whole, left = divmod(num_ranks, devices_per_node)
        return [devices_per_node] * whole + ([left] if left else [])
    return [len(list(ranks)) for _, ranks in groupby(name for name, _ in all_ranks)]


def shared_cores(ranks: list[int], device: torch.device, num_cores: int | None) -> int | None:
    """Return how many cores all ranks share; None if each has a device of its own.

    Parameters
    ----------
    ranks : list of int
        How many each node has.
    device : device
        Of a rank.
    num_cores : int, optional
        As the user says. By default ranks share the cores of a machine if all of them are on it.
    """
    if device.type != "cpu":
        return None
    num_ranks = sum(ranks)
    if num_cores is None:
        if len(ranks) > 1:
            return None
        num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if num_cores < 1:
        raise InputError(f"num_cores is {num_cores}; ranks need a core")
    return num_cores if num_cores < num_ranks else None


def device_memory(device: torch.device, ranks: list[int]) -> int:
    """Return the bytes that a rank may use of its device: of the host's, its part."""
    if device.type == "cpu":
        return host_memory(ranks)
    module: Any = torch.get_device_module(device)
    return int(USED_PART * int(module.mem_get_info(device)[1]))


def host_memory(ranks: list[int]) -> int:
    """Return the bytes that a rank may use of its host: its part."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(USED_PART * (whole // max(ranks)))
