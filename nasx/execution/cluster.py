"""Wait until a Ray cluster has all its nodes: `python -m nasx.execution.cluster HOST:PORT NODES`."""

from __future__ import annotations

import logging
import socket
import sys
import time

PATIENCE = 300.0  # seconds


def main(address: str, nodes: int, patience: float = PATIENCE) -> int:
    """Wait for the nodes of a cluster.

    Args:
        address: host:port of the cluster's head.
        nodes: number of nodes.
        patience: seconds.

    Returns:
        Exit status: 0 as soon as the cluster has `nodes` nodes, 2 if it does not have them in time.
    """
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if _listens(address) and _count_nodes(address) >= nodes:
            return 0
        time.sleep(0.5)
    print(f"nasx: the Ray cluster at {address} does not have {nodes} nodes after {patience:g} s.", file=sys.stderr)
    return 2


def _listens(address: str) -> bool:
    """Return whether a process listens at the address. Ray would try for a minute, then end this process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _count_nodes(address: str) -> int:
    """Return the number of nodes of the cluster; 0 while its head is starting."""
    import ray  # takes a second to load

    try:
        if not ray.is_initialized():
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError):
        return 0
    return sum(node["Alive"] for node in ray.nodes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
