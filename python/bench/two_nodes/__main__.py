"""Measures plans on 8 processes in two "nodes": ``sudo python python/bench/two_nodes``.

Two network namespaces are joined by a thin link, and each process has its part of a core, so that
all are equally slow. A profile is measured there, then every planner runs the same long-tailed
batches. Prints a table of what steps took; the link, the namespaces and the quotas are gone
afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster import Cluster, ClusterShape

PLANNERS = [
    "adaptive",
    *(f"static:{degree}" for degree in (1, 2, 4, 8)),
    "batch-adaptive",
    "megatron",
]


def main() -> None:
    """Set up, run, take down, and print."""
    options = _arguments()
    if os.geteuid() != 0:
        raise SystemExit("namespaces and quotas need root: run it with sudo")
    # So that everything is taken down then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    shape = ClusterShape(options.ranks_per_node, options.link_mbit, options.cores_per_rank)
    with tempfile.TemporaryDirectory() as directory, Cluster(shape) as cluster:
        output = Path(directory) / "result.json"
        profile = options.profile or Path(directory) / "profile.toml"
        work = {**vars(options), "output": str(output), "profile": str(profile.absolute())}
        _run_ranks(cluster, shape, json.dumps(work, default=str))
        result = json.loads(output.read_text())
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1))
    print(_table(result["rows"]))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="two_nodes", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks-per-node", type=int, default=4)
    parser.add_argument("--link-mbit", type=int, default=120, help="of the link, in each direction")
    parser.add_argument("--cores-per-rank", type=float, default=0.2)
    parser.add_argument("--hidden", type=int, default=256, help="width of the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=32768, help="in a step, at most")
    parser.add_argument(
        "--steps", type=int, default=3, help="that are measured, after one that is not"
    )
    parser.add_argument("--memory-mib", type=int, default=200, help="of a rank, to plan with")
    parser.add_argument(
        "--profile-s", type=float, default=240.0, help="time to measure the profile in"
    )
    parser.add_argument("--profile", type=Path, help="is read if it exists, and else written")
    parser.add_argument("--planners", nargs="+", default=PLANNERS)
    parser.add_argument("--json", type=Path, help="all figures")
    options = parser.parse_args()
    for name in ("profile", "json"):
        path = getattr(options, name)
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"--{name}: no directory {path.parent}")
    return options


def _run_ranks(cluster: Cluster, shape: ClusterShape, options: str) -> None:
    command = [sys.executable, str(Path(__file__).parent / "rank.py"), options]
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(shape.num_ranks):
            node = cluster.node_of(rank)
            world = {
                "RANK": rank,
                "WORLD_SIZE": shape.num_ranks,
                "LOCAL_RANK": rank % shape.ranks_per_node,
                "LOCAL_WORLD_SIZE": shape.ranks_per_node,
                "MASTER_ADDR": cluster.address(0),
                "MASTER_PORT": 29500,
                "GLOO_SOCKET_IFNAME": cluster.interface(node),
                "OMP_NUM_THREADS": 1,
                # The namespaces have no names, which would be warned of.
                "TORCH_CPP_LOG_LEVEL": "ERROR",
            }
            environment = os.environ | {name: str(value) for name, value in world.items()}
            ranks.append(cluster.start(rank, command, environment))
        while any(rank.poll() is None for rank in ranks):
            if any(rank.poll() not in (None, 0) for rank in ranks):
                raise SystemExit("a rank failed")
            time.sleep(0.1)
        if any(rank.returncode for rank in ranks):
            raise SystemExit("a rank failed")
    finally:
        for rank in ranks:
            rank.kill()
        for rank in ranks:
            rank.wait()


def _table(rows: list[dict[str, Any]]) -> str:
    heads = ["planner", "step", "speed-up", "predicted", "exchanged", "over the link", "CPU time"]
    lines = [f"| {' | '.join(heads)} |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    static = [
        row["measured_s"]
        for row in rows
        if row["planner"].startswith("static:") and "measured_s" in row
    ]
    for row in rows:
        if "refused" in row:
            lines.append(f"| {row['planner']} | does not fit | | | | | |")
            continue
        took = row["measured_s"]
        ratio = f"{min(static) / took:.2f}x" if static else ""
        lines.append(
            f"| {row['planner']} | {took:.1f} s | {ratio} | {row['predicted_s'] / took - 1:+.0%} "
            f"| {row['exchanged_bytes'] / 1e6:.0f} MB | {row['link_bytes'] / 1e6:.0f} MB "
            f"| {row['processor_s']:.1f} s |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
