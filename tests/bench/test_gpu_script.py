"""The GPU's script on a machine without one, and what is reckoned from its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from scripts.bench import gpu, paper_cost

WITHOUT = """
import sys
for name in ("ray", "hydra", "omegaconf", "deap", "shap", "optuna", "pymoo", "pydantic", "sklearn"):
    sys.modules[name] = None
from scripts.bench import gpu
sys.argv[1:] = {arguments}
sys.exit(gpu.main())
"""
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def run_without_libraries(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in a process that cannot import what the GPU machine lacks."""
    program = WITHOUT.format(arguments=list(arguments))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)


@needs_no_gpu
def test_without_a_gpu_it_says_so_in_one_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 2
    assert capsys.readouterr().err == ("torch sees no GPU here; --device cpu --tiny tries the script out without one\n")


def test_it_trains_and_scores_without_the_libraries_of_a_search(tmp_path):
    file = tmp_path / "gpu.json"
    arguments = ["--device", "cpu", "--tiny", "--cells", "light", "--at-once", "1", "--repeats", "1"]
    done = run_without_libraries(*arguments, "--no-baseline", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "light cell: alone" in done.stdout
    found = json.loads(file.read_text())["measurements"]
    assert {m["unit"] for m in found} == {"s", "%"}


def test_accuracy_of_random_images_is_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu", "--accuracy"])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert "--accuracy needs --data" in capsys.readouterr().err


def test_the_papers_searches_are_scaled_by_images_epochs_and_pixels():
    mnist, cifar, imagenet = paper_cost.SEARCHES
    assert paper_cost.hours(cifar, 3600.0, by_pixels=True) == 2176
    assert paper_cost.hours(mnist, 3600.0, by_pixels=False) == pytest.approx(1152 * (48 * 5) / (40 * 12))
    ratio = paper_cost.hours(imagenet, 1.0, by_pixels=True) / paper_cost.hours(imagenet, 1.0, by_pixels=False)
    assert ratio == pytest.approx(1 / 4)


def test_the_cost_is_taken_from_the_median_cells_best_figure(tmp_path):
    file = tmp_path / "gpu.json"
    rows = [("heavy cell: alone", "s", 1.0), ("median cell: alone", "s", 9.0), ("median cell: 4 at once", "s", 5.0)]
    rows.append(("median cell: training", "%", 2.0))
    measurements = [{"what": what, "unit": unit, "median": median} for what, unit, median in rows]
    file.write_text(json.dumps({"measurements": measurements}))
    assert paper_cost.amortised_seconds(file) == 5.0
    file.write_text(json.dumps({"measurements": measurements[:1]}))
    with pytest.raises(SystemExit, match="holds no seconds a candidate of the median cell"):
        paper_cost.amortised_seconds(file)
