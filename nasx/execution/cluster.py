"""Waits until a Ray cluster has as many nodes as it should: `python -m nasx.execution.cluster HOST:PORT NODES`."""

from __future__ import annotations

import logging
import socket
import sys
import time

PATIENCE = 300.0  # seconds


def main(address: str, nodes: int, patience: float = PATIENCE) -> int:
    """Exit status 0 once `nodes` nodes are there, 2 where they are not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if _answers(address) and _nodes(address) >= nodes:
            return 0
        time.sleep(0.5)
    print(f"nasx: the Ray cluster at {address} has not {nodes} nodes after {patience:g} s.", file=sys.stderr)
    return 2


def _answers(address: str) -> bool:
    """Whether anything listens there. Ray would try for more than a minute, then end this process."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _nodes(address: str) -> int:
    """Nodes of the cluster; 0 while its head is still starting."""
    import ray  # here: it takes a second, in which the head starts

    try:
        if not ray.is_initialized():
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError):
        return 0
    return sum(node["Alive"] for node in ray.nodes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
