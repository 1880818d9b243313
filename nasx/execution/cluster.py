"""Waits until a Ray cluster has as many nodes as it should: `python -m nasx.execution.cluster HOST:PORT NODES`."""

from __future__ import annotations

import logging
import sys
import time

PATIENCE = 300.0  # seconds


def main(address: str, nodes: int) -> int:
    """Exit status 0 once `nodes` nodes are there, 2 where they are not within `PATIENCE` seconds."""
    import ray

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            ray.init(address=address, logging_level=logging.CRITICAL, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError):  # the head is still starting
            time.sleep(1)
            continue
        while time.monotonic() < deadline:
            if sum(node["Alive"] for node in ray.nodes()) >= nodes:
                return 0
            time.sleep(0.5)
    print(f"nasx: the Ray cluster at {address} has not {nodes} nodes after {PATIENCE:g} s.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
