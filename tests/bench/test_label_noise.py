"""Benchmark of label noise: planting, resuming, shares of the gap; the trial itself on images of three classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.bench import label_noise
from scripts.bench.label_noise import jobs_of, measurements, recovered, run_jobs
from scripts.bench.label_noise_trial import SIMILAR, Job, plant
from scripts.bench.measurement import Options, Skipped


@pytest.mark.parametrize("kind", ["uniform", "similar"])
def test_exactly_the_share_is_planted_and_every_planted_label_differs(kind):
    labels = np.arange(1000) % 10
    new, is_planted = plant(labels, 10, kind=kind, share=0.2, seed=0)

    assert is_planted.sum() == 200
    assert ((new != labels) == is_planted).all()


def test_errors_between_similar_classes_stay_in_their_group():
    labels = np.arange(1000) % 10
    new, is_planted = plant(labels, 10, kind="similar", share=0.2, seed=0)

    groups = {c: group for group in SIMILAR for c in group}
    assert all(groups[old] == groups[now] for old, now in zip(labels[is_planted], new[is_planted], strict=True))


def test_the_share_of_the_gap_is_that_between_noisy_and_clean():
    assert recovered([0.15], [0.12], [0.1]) == pytest.approx(0.6)
    assert recovered([0.15], [0.16], [0.1]) == pytest.approx(-0.2)


def record(precision, treated):
    rankings = {"nasx": {"precision": precision, "auroc": 0.9}, "cleanlab": {"precision": 0.8, "auroc": 0.9}}
    return {"rankings": rankings, "errors": {"noisy": 0.15, "dropped": 0.15, "relabeled": treated}}


def test_targets_are_cleanlabs_precision_and_half_of_the_gap():
    records = {Job("uniform", 0.1, 0): record(0.85, 0.12), Job("clean", 0.0, 0): {"error": 0.1}}

    found = {(m.what.partition(": ")[2], m.against): m for m in measurements(records)}

    assert found["planted among the first n suspects", "cleanlab"].met
    assert found["gap to clean labels closed, suspects relabeled", "half of it"].median == pytest.approx(0.6)
    assert found["gap to clean labels closed, suspects dropped", "half of it"].met is False


def test_finished_jobs_are_not_measured_again(tmp_path):
    jobs = jobs_of(quick=True)
    file = tmp_path / "records.json"
    file.write_text(json.dumps({job.key: {"number": i} for i, job in enumerate(jobs)}))

    assert run_jobs(jobs, tmp_path / "no data", file) == {job: {"number": i} for i, job in enumerate(jobs)}


def test_without_fashion_mnist_the_benchmark_is_skipped(tmp_path):
    assert isinstance(next(label_noise.benchmark(Options(data_root=Path(tmp_path)))), Skipped)
