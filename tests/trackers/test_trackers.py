"""Trackers: each trial is logged once, and errors of a tracker do not affect the search."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from nasx.config.compose import compose
from nasx.config.schema import read_config
from nasx.errors import ConfigError, ResourceError, RunError
from nasx.extras import install_command
from nasx.runs.journal import Journal
from nasx.trackers import tracking as trackings
from nasx.trackers.backends import MLflow, WandB
from nasx.trackers.tracking import STATE, Tracking, finite_only
from nasx.workflows import search as searching
from tests.factories.runs import OVERRIDES
from tests.factories.searches import drive, make_loop, nsga2


class Notebook:
    """Tracker that stores its entries."""

    def __init__(self):
        self.began, self.entries, self.ended = [], [], None

    def begin(self, name, config, run_dir, known):
        self.began.append((name, known))
        return "run-1"

    def log(self, entry):
        self.entries.append(entry)

    def end(self, *, finished):
        self.ended = finished


class Down(Notebook):
    def begin(self, name, config, run_dir, known):
        raise ConnectionError("connection\nrefused")


class Slow(Notebook):
    def log(self, entry):
        time.sleep(2)


def tracked(tracker, run_dir, evaluations=8, warn=None) -> Tracking:
    """Run a search that is watched after every step."""
    loop = make_loop(run_dir, nsga2(), evaluations=evaluations)
    tracking = Tracking(tracker, "pairs", {"seed": 0}, run_dir, warn=warn)
    while drive(loop, steps=1):
        tracking.watch(loop)
    tracking.watch(loop)
    tracking.close(finished=True)
    loop.close()
    loop.store.close()
    return tracking


def test_every_trial_is_logged_once_with_its_parents(tmp_path):
    book = Notebook()
    tracked(book, tmp_path / "run", evaluations=12)

    with Journal.open(tmp_path / "run", read_only=True) as journal:
        trials, networks = journal.trials(), {c.candidate.number: c.arch_id for c in journal.candidates()}
    assert [e.trial.arch_id for e in book.entries] == [t.arch_id for t in trials]
    assert any(entry.parents for entry in book.entries)
    for entry in book.entries:
        parents = tuple(networks[n] for n in entry.trial.candidate.parents)
        assert entry.parents == (() if entry.trial.replicate > 0 else parents)
    assert [e.step for e in book.entries] == sorted(e.step for e in book.entries)
    assert book.ended is True


def test_a_resumed_search_continues_the_run_of_the_tracker_and_logs_only_new_trials(tmp_path):
    tracked(Notebook(), tmp_path / "run", evaluations=6)
    again = Notebook()

    tracked(again, tmp_path / "run", evaluations=9)

    assert again.began == [("pairs", "run-1")]
    assert len(again.entries) == 3


def test_an_unreachable_tracker_causes_one_warning_and_missing_trials_are_logged_later(tmp_path):
    warnings = []
    tracked(Down(), tmp_path / "run", evaluations=6, warn=warnings.append)
    (tmp_path / "run" / STATE).unlink(missing_ok=True)
    later = Notebook()

    tracked(later, tmp_path / "run", evaluations=6)

    assert warnings == [
        "nasx: Down cannot be reached (connection refused): the search continues without it. "
        "Missing trials are logged when the run is resumed."
    ]
    assert len(later.entries) == 6


def test_a_tracker_without_response_delays_the_end_only_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(trackings, "WAIT", 0.05)
    warnings, started = [], time.monotonic()

    tracked(Slow(), tmp_path / "run", evaluations=6, warn=warnings.append)

    assert time.monotonic() - started < 10
    assert len(warnings) == 1
    assert "no response within 0.05 s" in warnings[0]


def test_a_damaged_state_is_reported_in_one_line(tmp_path):
    (tmp_path / STATE).write_text("{")

    with pytest.raises(
        RunError, match=r"tracker\.json is damaged \(.*\)\. Remove it: all trials are then logged again"
    ):
        Tracking(Notebook(), "pairs", {}, tmp_path)


def test_values_that_are_not_finite_are_left_out():
    assert finite_only({"a": 1, "b": float("nan"), "c": float("inf")}) == {"a": 1.0}


@pytest.mark.parametrize("tracker", [MLflow, WandB])
def test_a_missing_package_is_reported_before_the_search_starts(monkeypatch, tracker):
    monkeypatch.setitem(sys.modules, tracker.package, None)

    with pytest.raises(ResourceError, match=rf"logger={tracker.extra} needs .*: {install_command(tracker.extra)}"):
        tracker()


def test_the_logger_of_a_config_is_checked_like_other_components():
    config = compose("lines", ["logger=mlflow"])

    assert read_config(config).logger["_target_"] == "nasx.trackers.backends.MLflow"
    assert read_config(compose("lines")).logger is None
    with pytest.raises(ConfigError, match=r"there is no logger 'mlflo'.*Did you mean mlflow"):
        compose("lines", ["logger=mlflo"])


def search_with(logger: list[str], run_dir: Path) -> list:
    """Run a search of three tiny networks; return its trials."""
    overrides = [*OVERRIDES, "algorithm.evaluations=3", f"runs_dir={run_dir.parent}", *logger]
    searching.start(compose("lines", overrides), run_dir=run_dir)
    with Journal.open(run_dir, read_only=True) as journal:
        return journal.trials()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return the scalars of TensorBoard event files, tag -> step -> value; parses the records by hand."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = defaultdict(dict)
    for file in folder.glob("events.out.tfevents.*"):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found[value.tag][event.step] = value.simple_value
    return found


def test_tensorboard_has_the_learning_curve_and_the_metrics_of_every_trial(tmp_path):
    trials = search_with(["logger=tensorboard"], tmp_path / "run")

    for trial in trials:
        written = scalars(tmp_path / "run" / "tensorboard" / "trials" / f"{trial.arch_id}_0")
        for epoch in trial.evaluation.history:
            assert written["curve/train_loss"][epoch["epoch"]] == pytest.approx(epoch["train_loss"], rel=1e-6)
        assert written["parameters"][len(trial.evaluation.history)] == trial.metrics["parameters"]
        settings = (tmp_path / "run" / "tensorboard" / "trials" / f"{trial.arch_id}_0" / "hparams.yaml").read_text()
        assert f"operator: {trial.candidate.operator}" in settings
    assert set(scalars(tmp_path / "run" / "tensorboard" / "search")["hypervolume"]) == {1, 2, 3}


MLFLOW = os.environ.get("NASX_MLFLOW") or (shutil.which("mlflow") if find_spec("flask") else None)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory):
    """Start a server on loopback with SQLite. NASX_MLFLOW is its program if it has a separate environment."""
    home = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [MLFLOW, "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    where = [f"--backend-store-uri=sqlite:///{home}/mlflow.db", f"--default-artifact-root={home}/artifacts"]
    with (home / "log").open("w") as log:
        process = subprocess.Popen([*command, *where], cwd=home, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.2)
    yield uri
    os.killpg(process.pid, 15)
    process.wait()


@pytest.mark.filterwarnings("ignore")  # of MLflow
@pytest.mark.skipif(MLFLOW is None or not find_spec("mlflow"), reason="no MLflow client, or no server (NASX_MLFLOW)")
def test_mlflow_has_every_trial_as_a_child_of_the_search(mlflow_server, tmp_path):
    from mlflow import MlflowClient

    trials = search_with(["logger=mlflow", f"logger.tracking_uri={mlflow_server}"], tmp_path / "run")

    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("lines")
    runs = client.search_runs([experiment.experiment_id])
    (whole,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.data.params["arch_id"]: run for run in runs if run is not whole}
    assert whole.data.params["space.channels"] == "2"
    assert whole.info.status == "FINISHED"
    assert children.keys() == {trial.arch_id for trial in trials}
    for trial in trials:
        child = children[trial.arch_id]
        assert child.data.tags["mlflow.parentRunId"] == whole.info.run_id
        assert child.data.metrics["parameters"] == trial.metrics["parameters"]
        assert child.data.params["operator"] == trial.candidate.operator
        curve = client.get_metric_history(child.info.run_id, "curve/train_loss")
        assert [point.value for point in curve] == pytest.approx([e["train_loss"] for e in trial.evaluation.history])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not find_spec("mlflow"), reason="no MLflow client")
def test_an_unreachable_server_does_not_affect_the_search(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    trials = search_with(["logger=mlflow", "logger.tracking_uri=http://127.0.0.1:9"], tmp_path / "run")

    assert len(trials) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nasx:")]
    assert len(lines) == 1
    assert "MLflow cannot be reached" in lines[0]


@pytest.mark.filterwarnings("ignore")  # of wandb
@pytest.mark.skipif(not find_spec("wandb"), reason="wandb is not installed")
def test_wandb_has_a_run_for_the_search_and_one_for_each_trial(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))

    trials = search_with(["logger=wandb", "logger.mode=offline"], tmp_path / "run")

    assert len(trials) == 3
    files = list((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 4
    assert sum(trial.arch_id.encode() in file.read_bytes() for trial in trials for file in files) >= 3
