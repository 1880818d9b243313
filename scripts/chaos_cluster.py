"""Ray cluster of two nodes on this machine, in its own process, for `scripts/chaos`.

Prints its address; a line on stdin kills the second node, the end of stdin stops the cluster.
"""

from __future__ import annotations

import os
import sys
import tempfile

os.environ |= {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder  # Ray stores the address there: other searches must not find it
        from ray.cluster_utils import Cluster  # reads the variables above

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
