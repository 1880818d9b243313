"""A search on a cluster of two nodes, here on one machine; one node dies."""

from __future__ import annotations

import time

import pytest
import ray
from ray.cluster_utils import Cluster

from nasx.errors import SettingError
from nasx.execution import cluster
from nasx.execution.ray import RayExecution
from tests.factories import evaluators
from tests.factories.searches import bare, drive, make_loop, nsga2

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
def test_a_node_that_dies_costs_its_trials_a_retry_and_the_search_goes_on(tmp_path, monkeypatch, ray_folder, deadline):
    monkeypatch.setenv("RAY_TMPDIR", ray_folder)
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "4")
    serial = make_loop(tmp_path / "serial", nsga2(), evaluations=12)
    drive(serial)
    loop = make_loop(tmp_path / "cluster", nsga2(), evaluations=12)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)
    killed: list[float] = []

    def watch() -> None:
        if not killed and len(evaluators.process_ids(tmp_path / "cluster")) == 2:
            nodes.remove_node(second, allow_graceful=False)
            killed.append(time.monotonic())

    try:
        RayExecution(device="cpu", workers=2, address=nodes.address).run(loop, evaluators.slowly, watch)
    finally:
        if ray.is_initialized():
            ray.shutdown()
        nodes.shutdown()

    assert killed
    assert bare(loop.store.trials()) == bare(serial.store.trials())


def test_the_workers_of_a_cluster_are_not_guessed():
    with pytest.raises(SettingError, match=r"^workers must be set for a cluster: the number of trials at a time$"):
        RayExecution(address="auto")


def test_waiting_for_a_cluster_that_never_starts_ends_with_a_message(capsys):
    assert cluster.main("127.0.0.1:1", 2, patience=0.1) == 2
    assert capsys.readouterr().err == "nasx: the Ray cluster at 127.0.0.1:1 does not have 2 nodes after 0.1 s.\n"
