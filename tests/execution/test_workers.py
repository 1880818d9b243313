"""Plan of the workers: number, device and resources."""

from __future__ import annotations

from collections import Counter

import pytest

from nasx import machine as machine_limits
from nasx.errors import ResourceError, SettingError
from nasx.execution import ray, workers
from nasx.execution.ray import RayExecution
from nasx.execution.serial import SerialExecution
from nasx.execution.workers import WorkerPlan, plan_workers
from tests.factories import evaluators
from tests.factories.searches import make_loop, nsga2


@pytest.fixture
def machine(monkeypatch):
    """Set the cores and GPUs of this machine."""

    def of(cores: int, gpus: int) -> None:
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(cores), raising=False)
        monkeypatch.setattr(machine_limits, "memory", lambda: machine_limits.Limit(256e9, "memory"))
        monkeypatch.setattr(machine_limits, "_quotas", lambda root: iter(()))
        monkeypatch.setattr(workers, "_count_gpus", lambda: gpus)

    return of


@pytest.mark.parametrize(
    ("cores", "gpus", "settings", "plan"),
    [
        (8, 0, {}, WorkerPlan(8, 1, 0.0)),
        (8, 0, {"cpus_per_trial": 3}, WorkerPlan(2, 3, 0.0)),
        (2, 0, {"workers": 5}, WorkerPlan(5, 1, 0.0)),
        (2, 0, {"cpus_per_trial": 4}, WorkerPlan(1, 4, 0.0)),
        # without gpus_per_trial the workers share the GPUs
        (16, 1, {}, WorkerPlan(4, 1, 0.25, 1)),
        (16, 1, {"workers": 8}, WorkerPlan(8, 1, 0.125, 1)),
        (16, 1, {"workers": 3}, WorkerPlan(3, 1, 0.3333, 1)),
        (16, 1, {"workers": 1}, WorkerPlan(1, 1, 1.0, 1)),
        (2, 1, {}, WorkerPlan(2, 1, 0.5, 1)),
        (16, 2, {"workers": 3}, WorkerPlan(3, 1, 0.5, 2)),
        (16, 4, {"workers": 2}, WorkerPlan(2, 1, 1.0, 4)),
        (64, 4, {}, WorkerPlan(16, 1, 0.25, 4)),
        # a share does not span two GPUs
        (16, 2, {"gpus_per_trial": 0.4}, WorkerPlan(4, 1, 0.4, 2)),
        (16, 1, {"gpus_per_trial": 0.1}, WorkerPlan(10, 1, 0.1, 1)),
        (16, 2, {"gpus_per_trial": 1}, WorkerPlan(2, 1, 1, 2)),
        (16, 4, {"gpus_per_trial": 2}, WorkerPlan(2, 1, 2, 4)),
        (3, 2, {"gpus_per_trial": 0.25}, WorkerPlan(3, 1, 0.25, 2)),
        (16, 2, {"gpus_per_trial": 0.5, "workers": 4}, WorkerPlan(4, 1, 0.5, 2)),
        # 0 GPUs: the CPU
        (8, 2, {"gpus_per_trial": 0}, WorkerPlan(8, 1, 0.0)),
        (8, 2, {"device": "cpu"}, WorkerPlan(8, 1, 0.0)),
        (8, 2, {"device": "cpu", "gpus_per_trial": 0}, WorkerPlan(8, 1, 0.0)),
        (8, 2, {"device": "cuda"}, WorkerPlan(8, 1, 0.25, 2)),
    ],
)
def test_workers_and_shares_agree(machine, cores, gpus, settings, plan):
    machine(cores, gpus)

    found = plan_workers(**{"device": "auto", **settings})

    assert found == plan
    assert found.device == ("cuda" if plan.gpus else "cpu")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"workers": 0}, SettingError, "workers must be at least 1, got 0"),
        ({"gpus_per_trial": -0.5}, SettingError, "gpus_per_trial must be at least 0, got -0.5"),
        ({"gpus_per_trial": float("nan")}, SettingError, "gpus_per_trial must be at least 0, got NaN"),
        ({"gpus_per_trial": 1.5}, SettingError, "gpus_per_trial must be a whole number if it is above 1, got 1.5"),
        ({"gpus_per_trial": 1e-5}, SettingError, "gpus_per_trial must be 0 or at least 0.0001, got 1e-05"),
        (
            {"gpus_per_trial": 0.25, "device": "cpu"},
            SettingError,
            "gpus_per_trial must be 0 or null on execution.device=cpu, got 0.25",
        ),
        (
            {"gpus_per_trial": 0, "device": "cuda"},
            SettingError,
            "gpus_per_trial must be above 0 or null on execution.device=cuda, got 0",
        ),
        (
            {"gpus_per_trial": 0.4, "workers": 5},
            SettingError,
            "workers must be at most 4: this machine has 2 GPUs, and each trial needs 0.4 (execution.gpus_per_trial); "
            "got 5",
        ),
        (
            {"gpus_per_trial": 3},
            ResourceError,
            "a trial needs 3 GPUs (execution.gpus_per_trial), but torch sees 2 GPUs on this machine: set it to null, "
            "or to 0 for the CPU.",
        ),
    ],
)
def test_settings_out_of_range_and_contradictions_are_refused(machine, settings, error, message):
    machine(8, 2)

    with pytest.raises(error) as refused:
        plan_workers(**{"device": "auto", **settings})

    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"device": "cuda"},
            "execution.device is cuda, but torch sees no GPU on this machine: set execution.device to cpu or auto.",
        ),
        (
            {"gpus_per_trial": 0.25},
            "a trial needs 0.25 GPU (execution.gpus_per_trial), but torch sees no GPU on this machine: set it to null, "
            "or to 0 for the CPU.",
        ),
    ],
)
def test_a_requested_gpu_must_exist(machine, settings, message):
    machine(8, 0)

    with pytest.raises(ResourceError) as refused:
        plan_workers(**{"device": "auto", **settings})

    assert str(refused.value) == message


def test_a_plan_is_shown_in_words():
    assert f"{WorkerPlan(4, 1, 0.25, 1)}" == "4 trials at a time on 1 GPU, 0.25 of a GPU each"
    assert f"{WorkerPlan(4, 1, 2, 8)}" == "4 trials at a time on 8 GPUs, 2 GPUs each"
    assert f"{WorkerPlan(1, 2, 0.0)}" == "1 trial at a time on the CPU, 2 cores each"


def test_a_serial_search_has_the_whole_gpu(machine):
    machine(8, 1)

    plan = SerialExecution().plan

    assert (plan.device, plan.gpus, plan.workers) == ("cuda", 1.0, 4)  # workers: as for execution=local


def test_ray_starts_with_the_gpus_of_the_plan(machine, monkeypatch, tmp_path):
    machine(8, 2)
    asked = {}
    monkeypatch.setattr(ray.ray, "init", lambda **options: asked.update(options))
    monkeypatch.setattr(ray, "_wait_for_workers", lambda n, ready: None)

    for settings, gpus in (({}, 2), ({"device": "cpu"}, 0), ({"gpus_per_trial": 0}, 0)):
        execution = RayExecution(**settings)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        ray._start(None, execution.plan, [], str(folder))
        assert (asked["num_gpus"], asked["num_cpus"]) == (gpus, 8)


@pytest.mark.parametrize(
    ("settings", "gpus", "plan"),
    [
        ({}, 2.0, WorkerPlan(4, 1, 0.5, 2)),
        ({}, None, WorkerPlan(4, 1, 0.0)),
        ({"gpus_per_trial": 0.25}, 2.0, WorkerPlan(4, 1, 0.25, 2)),
        ({"gpus_per_trial": 0}, 2.0, WorkerPlan(4, 1, 0.0)),
        ({"device": "cpu"}, 2.0, WorkerPlan(4, 1, 0.0)),
    ],
)
def test_a_cluster_reports_its_gpus(machine, monkeypatch, settings, gpus, plan):
    machine(8, 7)  # the GPUs of this machine do not matter
    resources = {"CPU": 16.0} if gpus is None else {"CPU": 16.0, "GPU": gpus}
    monkeypatch.setattr(ray.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.ray, "cluster_resources", lambda: resources)

    assert RayExecution(workers=4, address="auto", **settings).plan == plan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "cuda"}, "execution.device is cuda, but the cluster has no GPU"),
        ({"gpus_per_trial": 0.5}, r"a trial needs 0\.5 GPU \(execution\.gpus_per_trial\), but the cluster has no GPU"),
    ],
)
def test_a_cluster_without_the_requested_gpus_is_refused(monkeypatch, settings, message):
    monkeypatch.setattr(ray.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.ray, "cluster_resources", lambda: {"CPU": 16.0})

    with pytest.raises(ResourceError, match=f"^{message}"):
        _ = RayExecution(workers=4, address="auto", **settings).plan


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_four_workers_share_two_gpus_by_the_plan(machine, monkeypatch, tmp_path):
    """Ray counts GPUs that do not exist; no trial uses one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine(4, 2)
    loop = make_loop(tmp_path, nsga2(lag=4), evaluations=12)

    RayExecution(workers=4).run(loop, evaluators.with_gpu, lambda: None)

    assert loop.finished
    seen = Counter(path.name.rpartition("-")[2] for path in (tmp_path / "archs").glob("gpu-*"))
    # on a busy machine Tune may assign all trials, which are short, to the workers of one GPU
    assert seen and seen.keys() <= {"0", "1"}
    assert seen.total() <= 4  # each worker keeps its GPU
