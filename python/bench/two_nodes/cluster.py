"""Two "nodes" on one machine: network namespaces, a thin link, and a CPU quota for each process."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

NUM_NODES = 2

#: A process that has used its quota waits for the next period: short beside what exchanges take.
PERIOD_US = 10_000

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ClusterShape:
    """What is emulated.

    Attributes
    ----------
    ranks_per_node : int
        Processes in each network namespace.
    link_mbit_per_s : int
        Bandwidth between nodes, in each direction. Inside a node there is no limit.
    cores_per_rank : float
        The part of a core that a process may use in every period.
    """

    ranks_per_node: int
    link_mbit_per_s: int
    cores_per_rank: float

    @property
    def num_ranks(self) -> int:
        """Processes of both nodes."""
        return NUM_NODES * self.ranks_per_node


@dataclass
class Cluster:
    """Namespaces, link and quotas: there while the context is open, gone after it.

    Needs root, ``ip``, ``tc`` and a cgroup of CPU time (version 1 or 2).
    """

    shape: ClusterShape
    name: str = "lengthwise"
    _nodes: list[str] = field(default_factory=list[str])
    _quotas: list[Path] = field(default_factory=list[Path])

    def __enter__(self) -> Cluster:
        """Set it up."""
        try:
            self._join_nodes()
            self._limit_processors()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it down."""
        self._remove()

    def node_of(self, rank: int) -> int:
        """Return the node of a rank."""
        return rank // self.shape.ranks_per_node

    def address(self, node: int) -> str:
        """Return the address of a node on the link."""
        return f"10.213.0.{node + 1}"

    def interface(self, node: int) -> str:
        """Return the name of a node's end of the link."""
        return f"lw{node}"

    def start(
        self, rank: int, command: Sequence[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start the process of a rank on its node, within its quota."""
        quota = self._quotas[rank] / "cgroup.procs"
        # The shell joins the group before it becomes the process, and before ip hides the groups.
        join = ["sh", "-c", f'echo $$ > {quota} && exec "$0" "$@"']
        node = ["ip", "netns", "exec", self._namespace(self.node_of(rank))]
        return subprocess.Popen([*join, *node, *command], env=environment)

    def _namespace(self, node: int) -> str:
        return f"{self.name}-{node}"

    def _join_nodes(self) -> None:
        for node in range(NUM_NODES):
            _run("ip", "netns", "add", self._namespace(node))
            self._nodes.append(self._namespace(node))
        ends = [self.interface(node) for node in range(NUM_NODES)]
        first, second = (self._namespace(node) for node in range(NUM_NODES))
        pair = ["type", "veth", "peer", "name", ends[1], "netns", second]
        _run("ip", "link", "add", ends[0], "netns", first, *pair)
        for node, end in enumerate(ends):
            namespace = self._namespace(node)
            _run("ip", "-n", namespace, "addr", "add", f"{self.address(node)}/24", "dev", end)
            for each in ("lo", end):
                _run("ip", "-n", namespace, "link", "set", each, "up")
            rate = f"{self.shape.link_mbit_per_s}mbit"
            # A queue for a fifth of a second, so that TCP fills the link without losing packets.
            limit = ["burst", "256kb", "latency", "200ms"]
            _run(
                "tc",
                "-n",
                namespace,
                "qdisc",
                "add",
                "dev",
                end,
                "root",
                "tbf",
                "rate",
                rate,
                *limit,
            )

    def _limit_processors(self) -> None:
        is_unified = (_CGROUPS / "cgroup.controllers").exists()
        root = (_CGROUPS if is_unified else _CGROUPS / "cpu") / self.name
        quota_us = round(self.shape.cores_per_rank * PERIOD_US)
        root.mkdir()
        self._quotas.append(root)
        if is_unified:
            (_CGROUPS / "cgroup.subtree_control").write_text("+cpu")
            (root / "cgroup.subtree_control").write_text("+cpu")
        for rank in range(self.shape.num_ranks):
            group = root / f"rank-{rank}"
            group.mkdir()
            # Before the parent, which is last to be removed.
            self._quotas.insert(rank, group)
            if is_unified:
                (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(quota_us))

    def _remove(self) -> None:
        for group in self._quotas:
            group.rmdir()
        self._quotas.clear()
        for namespace in self._nodes:
            # The link goes with them.
            subprocess.run(["ip", "netns", "del", namespace], check=False)
        self._nodes.clear()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
