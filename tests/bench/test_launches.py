"""Counts of GPU work: launches, uploads, copies back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy

pytest.importorskip("psutil", reason="the extra bench is not installed")

from nasx.training.fit import _OneDevice
from scripts.bench import launches
from scripts.bench.candidate import random_data

SETTING = replace(launches.SMALL, images=10_000, cells=1, channels=4)


@pytest.fixture(scope="module")
def data():
    return random_data(SETTING)


def test_a_captured_step_has_three_launches_and_an_eager_step_over_a_hundred():
    assert launches.replayed_step(SETTING) == 3  # two copies and the graph
    assert launches.training_step(SETTING) > 100


def test_a_large_batch_scores_with_fewer_launches(data):
    few, many = (launches.activation_score(SETTING, data, size) for size in (1000, 128))
    assert many > 2 * few


def test_the_second_trial_of_a_worker_uploads_no_images(data):
    first, again = launches.trial_uploads(SETTING, data), launches.trial_uploads(SETTING, data)
    images = data.train.images.nbytes + data.validation.images.nbytes
    assert images < first < 1.2 * images  # once, with the labels
    assert again < 100


def test_nothing_is_moved_to_the_cpu_after_a_training():
    cpu = torch.device("cpu")
    assert launches.fetched_by_teardown(_OneDevice(cpu), SETTING) == 0
    assert launches.fetched_by_teardown(SingleDeviceStrategy(cpu), SETTING) > 50
