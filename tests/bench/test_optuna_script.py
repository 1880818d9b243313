"""Optuna script: it has the same networks, score and images as nasx, so that the comparison is fair."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("optuna", reason="the extra bench is not installed")

from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages, SearchData
from nasx.introspection.activations import ActivationScorer
from scripts.bench import optuna_script
from scripts.bench.optuna_script import Task, activation_score, load_task, save_task
from scripts.bench.plain_training import AugmentedImages, in_memory
from scripts.bench.whole_search import hypervolume

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)


def some_data(n: int = 60) -> SearchData:
    rng = np.random.default_rng(0)
    names = ("a", "b", "c")
    labels = np.arange(n) % 3
    images = (rng.integers(0, 60, (n, 1, 8, 8)) + 90 * labels[:, None, None, None]).astype(np.uint8)
    part = LabeledImages(images, labels, names)
    half = np.full(1, 0.5, dtype=np.float32)
    return SearchData(part, part, half, half)


TASK = Task(
    trainings=2,
    population=2,
    processes=1,
    seed=0,
    channels=2,
    cells=1,
    recipe={"epochs": 2, "batch_size": 16},
    augmentation={"crop_padding": 0.125, "cutout": 0.25},
)


def test_the_peers_score_is_that_of_nasx() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 3)).eval()
    images, labels = torch.randn(30, 1, 8, 8), torch.arange(30) % 3
    ours = ActivationScorer().score(network, images, labels, n_classes=3, seed=0)
    assert activation_score(network, images, labels) == pytest.approx(ours.value, abs=1e-6)


def test_a_saved_task_is_loaded_unchanged(tmp_path) -> None:
    data = some_data()
    save_task(tmp_path / "task.npz", TASK, data)
    task, loaded = load_task(tmp_path / "task.npz")
    assert task == TASK
    assert loaded.train.class_names == data.train.class_names
    np.testing.assert_array_equal(loaded.validation.images, data.validation.images)


def test_the_peer_trains_the_given_number_of_distinct_networks(tmp_path, monkeypatch) -> None:
    class InThisProcess:
        exitcode = 0

        def __init__(self, target, args):
            self.start, self.join = (lambda: target(*args)), (lambda: None)

    monkeypatch.setattr(
        optuna_script.multiprocessing, "get_context", lambda _: type("", (), {"Process": InThisProcess})
    )
    save_task(tmp_path / "task.npz", TASK, some_data())
    points = optuna_script.search(tmp_path / "task.npz")
    assert len(points) == 2
    assert all(0 <= error <= 1 and 0 <= value <= 1 for error, value in points)


def test_images_of_the_peers_loader_are_augmented_one_by_one() -> None:
    images = torch.ones(8, 1, 8, 8)
    labels = torch.arange(8)
    plain = AugmentedImages(images, labels, NO_AUGMENTATION, seed=0)
    assert torch.equal(plain[3][0], images[3]) and plain[3][1] == 3
    cut = AugmentedImages(images, labels, Augmentation(crop_padding=0, cutout=0.25), seed=0)
    blanks = [int((cut[i][0] == 0).sum()) for i in range(8)]
    assert all(1 <= blank <= 4 for blank in blanks)  # a square of 2 x 2, clipped at the border
    assert torch.equal(images, torch.ones(8, 1, 8, 8))


def test_batches_in_memory_contain_every_image_once_per_epoch() -> None:
    batches = in_memory(some_data(), NO_AUGMENTATION, 16, seed=0)
    epoch = list(batches)
    assert len(epoch) == len(batches) == 4
    assert torch.cat([labels for _, labels in epoch]).bincount().tolist() == [20, 20, 20]


def test_networks_at_chance_level_do_not_count_for_the_hypervolume() -> None:
    points = [(0.1, 0.5), (0.66, 0.99)]
    assert hypervolume(points, some_data(300)) == (pytest.approx((2 / 3 - 0.1) * 0.5), 1)
    assert hypervolume(points[1:], some_data(300)) == (0.0, 0)


def test_a_task_is_plain_json() -> None:
    assert Task(**json.loads(json.dumps(vars(TASK)))) == TASK
