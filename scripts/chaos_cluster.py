"""A Ray cluster of two nodes on this machine, in a process of its own, for `scripts/chaos`.

Prints its address; a line on stdin kills the second node, the end of stdin ends the first.
"""

from __future__ import annotations

import os
import sys
import tempfile

os.environ |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder  # Ray leaves its address there: not where others look for theirs
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            second = cluster.add_node(num_cpus=1)
            print(cluster.address, flush=True)
            if sys.stdin.readline():
                cluster.remove_node(second, allow_graceful=False)
                print("killed", flush=True)
            sys.stdin.read()
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
