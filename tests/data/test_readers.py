"""Contract of every dataset, in any format."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from nasx.config.components import build
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from tests.factories.published_formats import write_cifar10, write_cifar100, write_idx, write_imagenet16

CONFIGS = Path(__file__).parents[2] / "configs" / "dataset"


def write_mnist(root: Path) -> None:
    write_idx(root / "MNIST/raw", gzipped=False)


def write_fashion_mnist(root: Path) -> None:
    write_idx(root / "FashionMNIST/raw", gzipped=True)


def write_folder(root: Path) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 5), ("val", 2), ("test", 3)):
        for kind in ("cat", "dog", "emu"):
            folder = root / part / kind
            folder.mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(256, size=(40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")


def write_numpy(root: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 30), ("val", 9), ("test", 12)):
        arrays[f"{part}_images"] = rng.integers(256, size=(n, 9, 10, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = rng.permutation(np.arange(n) % 3)
    np.savez(root / "images.npz", **arrays)


# config -> function that writes its files to a root (None: no files), shape of its images, number of classes
DATASETS = {
    "digits": (None, (1, 8, 8), 10),
    "lines": (None, (1, 12, 12), 4),
    "cifar10": (write_cifar10, (3, 32, 32), 10),
    "cifar100": (write_cifar100, (3, 32, 32), 100),
    "imagenet16_120": (write_imagenet16, (3, 16, 16), 120),
    "mnist": (write_mnist, (1, 28, 28), 10),
    "fashion_mnist": (write_fashion_mnist, (1, 28, 28), 10),
    "folder": (write_folder, (3, 32, 32), 3),
    "numpy": (write_numpy, (3, 9, 10), 3),
}
NEEDS_AN_EXTRA = {"huggingface"}  # tested in test_huggingface.py if its library is installed
TEST_FILES = {
    "cifar10": "test_batch",
    "cifar100": "test",
    "imagenet16_120": "val_data",
    "mnist": "t10k-*",
    "fashion_mnist": "t10k-*",
}
PUBLISHED = tuple(TEST_FILES)
TEST_FILES["folder"] = "test/*/*"

opened: list[str] = []  # paths opened during a test


def listen(event: str, arguments: tuple) -> None:
    if event == "open":
        opened.append(str(arguments[0]))


@pytest.fixture(params=DATASETS)
def name(request) -> str:
    return request.param


@pytest.fixture
def dataset(name, tmp_path):
    write, _, _ = DATASETS[name]
    node = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    if write:
        write(tmp_path)
        node |= {"file": str(tmp_path / "images.npz")} if name == "numpy" else {"root": str(tmp_path)}
        node |= {"cache": str(tmp_path / "cache")} if name == "folder" else {}
    return build(node, "dataset")


@pytest.fixture(params=["train", "test"])
def part(request, dataset) -> LabeledImages:
    return getattr(dataset, request.param)()


def test_every_config_has_its_contract_tested():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == DATASETS.keys() | NEEDS_AN_EXTRA


def test_a_published_dataset_has_the_name_of_its_config_and_data_of_the_user_that_of_their_place(
    dataset, name, tmp_path
):
    assert dataset.name == {"folder": tmp_path.name, "numpy": "images"}.get(name, name)


def test_images_are_bytes_of_the_known_shape(part, name):
    assert part.images.dtype == np.uint8
    assert part.shape == DATASETS[name][1]
    assert len(part.images) == len(part) > 0


def test_labels_are_integers_that_each_name_a_class(part, name):
    assert part.labels.dtype == np.int64
    assert part.labels.shape == (len(part),)
    assert set(part.labels.tolist()) == set(range(DATASETS[name][2]))


def test_class_names_are_distinct_words(part, name):
    assert len(set(part.class_names)) == part.n_classes == DATASETS[name][2]
    assert all(isinstance(word, str) and word for word in part.class_names)


def test_reading_twice_returns_the_same(dataset):
    first, second = dataset.train(), dataset.train()
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_no_test_image_is_among_the_training_images(dataset):
    train = {image.tobytes() for image in dataset.train().images}
    assert not any(image.tobytes() in train for image in dataset.test().images)


def test_augmentation_is_the_datasets_own(dataset, name):
    assert isinstance(dataset.augmentation, Augmentation)
    assert dataset.augmentation.horizontal_flip == (name not in {"digits", "mnist", "folder", "numpy"})


def test_defaults_are_those_of_the_config(dataset):
    assert type(dataset)().augmentation == dataset.augmentation


def test_a_dataset_can_be_pickled(dataset):
    assert pickle.loads(pickle.dumps(dataset)) == dataset


@pytest.mark.parametrize("name", TEST_FILES)
def test_train_never_opens_a_test_file(dataset, name, tmp_path):
    sys.addaudithook(listen)  # cannot be removed again; cheap, and only this test reads the list
    opened.clear()
    dataset.train()
    test_files = {str(path) for path in tmp_path.rglob(TEST_FILES[name])}
    assert test_files
    assert opened
    assert not test_files & set(opened)


@pytest.mark.parametrize("name", TEST_FILES)
def test_train_does_without_test_files(dataset, name, tmp_path):
    for path in tmp_path.rglob(TEST_FILES[name]):
        path.unlink()
    assert len(dataset.train()) > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_root_may_be_the_published_folder_itself(dataset, tmp_path):
    inside = type(dataset)(root=str(tmp_path / dataset.folder))
    np.testing.assert_array_equal(inside.train().images, dataset.train().images)


@pytest.mark.parametrize("name", PUBLISHED)
def test_root_may_name_the_home_directory_and_environment_variables(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("WHERE", tmp_path.name)
    by_variable = type(dataset)(root=os.path.join("~", "$WHERE"))  # noqa: PTH118 (as a user writes it)
    assert len(by_variable.train()) == len(dataset.train())
