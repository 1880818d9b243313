"""Command-line tests of `nasx report` and `nasx compare`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import nasx
from nasx.cli.main import main
from nasx.runs.training_records import FinalRecord, Training, write_final_record
from tests.cli.test_run_commands import write_run
from tests.factories.report_inputs import make_figure, with_lineage
from tests.factories.trials import make_run

VENDOR = Path(nasx.__file__).parent / "reports" / "vendor"
PLOTLY_SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"  # of the file in npm


def final_record(trial):
    """Return a record of three final trainings, two of which have a test-set evaluation."""
    errors = (0.04, 0.05, None)
    others = {"ece": 0.0, "calibrated_ece": 0.0, "introspectability": None}
    trainings = [Training(i, i, 1.0, (), None if e is None else {"error": e, **others}) for i, e in enumerate(errors)]
    return FinalRecord(
        arch_id=trial.arch_id,
        architecture=trial.architecture,
        genotype=trial.genotype,
        course={"space": {}, "dataset": {}, "training": {}},
        class_names=("a", "b"),
        shape=(1, 8, 8),
        mean=(0.0,),
        std=(1.0,),
        images={"train": 10, "calibration": 2, "test": 4},
        parameters=1,
        macs=1,
        validation_error=0.1,
        versions={},
        trainings=tuple(trainings),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write a run of 40 networks with an explanation and final trainings of the best one."""
    trials = with_lineage(make_run(40))
    run = write_run(tmp_path_factory.mktemp("runs") / "a run", trials)
    best = min((t for t in trials if t.is_complete), key=lambda t: t.metrics["error"])
    make_figure(run / "archs" / best.arch_id / "explanation" / "shap.png")
    final = run / "archs" / best.arch_id / "final"
    final.mkdir(parents=True)
    write_final_record(final_record(best), final)
    make_figure(run / "archs" / "stranger" / "explanation" / "shap.png")
    return run


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_report_is_written_into_the_run(run, capsys):
    assert main(["report", "--run-dir", str(run)]) == 0
    assert capsys.readouterr().err.endswith(f"Written: {run}/report.html\n")
    data = data_of((run / "report.html").read_text())

    assert len(data["networks"]) == 40
    assert len(data["figures"]) == 1
    assert data["motifs"]
    assert data["paper"]["scorer"] == "activations"
    assert any(n["edges"] for n in data["networks"])
    assert {n["test_error"] for n in data["networks"]} == {"", "4.50 ± 0.71 % (2 final trainings)"}


def test_the_page_loads_nothing_from_elsewhere(run, tmp_path):
    assert main(["report", "--run-dir", str(run), "--out", str(tmp_path / "sub" / "page.html")]) == 0
    page = (tmp_path / "sub" / "page.html").read_text()

    assert not re.findall(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(?!data:)", page)
    assert "connect-src 'none'" in page.replace("&#39;", "'")


def test_commands_quote_the_run_directory_for_the_shell(run):
    assert main(["report", "--run-dir", str(run)]) == 0
    texts = [command["text"] for command in data_of((run / "report.html").read_text())["commands"]]

    assert f"nasx explain --run-dir '{run}' --arch-id" in texts


def test_a_served_report_ends_cleanly_at_ctrl_c(run):
    command = [sys.executable, "-u", "-m", "nasx", "report", "--run-dir", str(run), "--serve", "--port", "0"]
    environment = os.environ | {"COLUMNS": "300"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            address = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())[0]
            with urllib.request.urlopen(address + "data.json", timeout=60) as answer:
                assert len(json.loads(answer.read())["networks"]) == 40
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=30)[1] == "Ended.\n"
            assert process.returncode == 0
        finally:
            process.kill()


def test_plotly_is_the_file_that_was_published():
    assert hashlib.sha256((VENDOR / "plotly-basic.min.js").read_bytes()).hexdigest() == PLOTLY_SHA256


def test_runs_are_compared_and_drawn(run, tmp_path, capsys):
    other = write_run(tmp_path / "other", make_run(30, seed=1))
    assert main(["compare", str(run), str(other), "--plot", str(tmp_path / "both.png"), "--format", "json"]) == 0
    out, err = capsys.readouterr()

    assert [g["label"] for g in json.loads(out)["groups"]] == ["all"]
    assert err == f"Drawn: {tmp_path}/both.png\n"
    assert (tmp_path / "both.png").stat().st_size > 10_000
