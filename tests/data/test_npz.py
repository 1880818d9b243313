"""Datasets in one .npz file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nasx.data.npz import NumpyArrays
from nasx.errors import DataError


def images(n: int = 20, shape: tuple[int, ...] = (8, 9), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(n, *shape), dtype=np.uint8)


def labels(n: int = 20, n_classes: int = 2) -> np.ndarray:
    return np.arange(n) % n_classes


GOOD = {"train_images": images(), "train_labels": labels(), "test_images": images(seed=1), "test_labels": labels()}


def dataset(tmp_path: Path, arrays: dict, **settings) -> NumpyArrays:
    np.savez(tmp_path / "a.npz", **arrays)
    return NumpyArrays(file=str(tmp_path / "a.npz"), **settings)


@pytest.mark.parametrize(
    ("stored", "shape"), [((8, 9), (1, 8, 9)), ((8, 9, 1), (1, 8, 9)), ((8, 9, 3), (3, 8, 9)), ((3, 8, 9), (3, 8, 9))]
)
def test_channels_may_be_missing_last_or_first(stored, shape, tmp_path):
    pixels = images(shape=stored)
    train = dataset(tmp_path, GOOD | {"train_images": pixels}).train()
    assert train.shape == shape
    if stored[-1] == 3:
        np.testing.assert_array_equal(train.images[:, 2], pixels[..., 2])


def test_parts_as_keras_names_them_are_read(tmp_path):
    arrays = {"x_train": images(), "y_train": labels()[:, None], "x_test": images(seed=1), "y_test": labels()[:, None]}
    read = dataset(tmp_path, arrays)
    assert read.train().labels.tolist() == labels().tolist()
    np.testing.assert_array_equal(read.test().images[:, 0], arrays["x_test"])


def test_a_file_that_comes_whole_is_split_class_by_class(tmp_path):
    whole = dataset(tmp_path, {"images": images(50), "labels": labels(50)}, test_fraction=0.2)
    train, test = whole.train(), whole.test()
    assert np.bincount(train.labels).tolist() == [20, 20]
    assert np.bincount(test.labels).tolist() == [5, 5]
    everything = {image.tobytes() for image in images(50)}
    assert {image.tobytes() for part in (train, test) for image in part.images} == everything


def test_validation_arrays_join_the_training_arrays(tmp_path):
    read = dataset(tmp_path, GOOD | {"val_images": images(6), "val_labels": labels(6)})
    assert len(read.train()) == 26


def test_class_names_are_those_of_the_file(tmp_path):
    read = dataset(tmp_path, GOOD | {"class_names": np.array(["cat", "dog", "emu"])})
    assert read.train().class_names == read.test().class_names == ("cat", "dog", "emu")


def test_without_class_names_the_training_labels_count_the_classes(tmp_path):
    read = dataset(tmp_path, GOOD | {"train_labels": labels(20, 4)})
    assert read.test().class_names == ("0", "1", "2", "3")


def test_train_does_not_read_the_test_arrays(tmp_path):
    read = dataset(tmp_path, GOOD | {"test_images": np.array([print], dtype=object)})
    assert len(read.train()) == 20
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read.test()


BAD_ARRAYS = {
    "no images": ({}, "the array train_labels is missing"),
    "no labels": ({"train_images": images()}, "the array train_labels is missing"),
    "only labels": ({"train_labels": labels()}, "the array train_images is missing"),
    "images as floats": (
        GOOD | {"train_images": images() / 255},
        r"expected train_images as uint8, 0 to 255, got float64 .* dataset\.value_range=\[0,1\]$",
    ),
    "flat images": (GOOD | {"train_images": images(shape=(64,))}, r"expected train_images of shape .*, got \(20, 64\)"),
    "four channels": (GOOD | {"train_images": images(shape=(8, 8, 4))}, r"with 1 or 3 channels, got \(20, 8, 8, 4\)"),
    "tiny images": (GOOD | {"train_images": images(shape=(7, 8))}, "images of 8 to 224 pixels per side, got shape"),
    "huge images": (
        GOOD | {"train_images": images(2, (8, 225)), "train_labels": labels(2)},
        "images of 8 to 224 pixels",
    ),
    "none at all": (GOOD | {"train_images": images(0)}, "images of 8 to 224 pixels per side, got shape"),
    "one label lost": (GOOD | {"train_labels": labels(19)}, "got 20 images and 19 labels"),
    "labels as floats": (
        GOOD | {"train_labels": labels() / 2},
        "train_labels to be integers that number the classes",
    ),
    "labels as texts": (GOOD | {"train_labels": np.array(["a"] * 20)}, "train_labels to be integers"),
    "one hot labels": (GOOD | {"train_labels": np.eye(2, dtype=int)[labels()]}, "a list of integers as labels"),
    "one class": (GOOD | {"train_labels": labels() * 0}, "train_labels to be integers that number the classes"),
    "a huge label": (GOOD | {"train_labels": labels() * 2**40}, "train_labels to be integers that number"),
    "a negative label": (
        GOOD | {"train_labels": labels() - 1},
        "train_labels to be integers|expected labels 0 to",
    ),
    "too few names": (
        GOOD | {"class_names": np.array(["cat"])},
        "class_names to be an array of at least two different",
    ),
    "a name twice": (
        GOOD | {"class_names": np.array(["cat", "cat"])},
        "class_names to be an array of at least two different",
    ),
    "names as numbers": (
        GOOD | {"class_names": np.array([1, 2])},
        "class_names to be an array of at least two different",
    ),
    "more labels than names": (
        GOOD | {"train_labels": labels(20, 3), "class_names": np.array(["a", "b"])},
        "expected labels 0 to 1, got 2 at image 2",
    ),
    "validation of another size": (
        GOOD | {"val_images": images(4, (9, 9)), "val_labels": labels(4)},
        "images of one size",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_say_what_was_expected_and_how_to_write_them(case, tmp_path):
    arrays, message = BAD_ARRAYS[case]
    with pytest.raises(DataError, match=message) as caught:
        dataset(tmp_path, arrays).train()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "a.npz"))
    assert "value_range" in message or str(caught.value).endswith(
        "Write it with numpy.savez(FILE, train_images=..., train_labels=..., test_images=..., test_labels=...)."
    )


def test_a_test_label_that_no_training_image_has_is_reported(tmp_path):
    with pytest.raises(DataError, match="expected labels 0 to 1, got 2 at image 0"):
        dataset(tmp_path, GOOD | {"test_labels": labels() + 2}).test()


def test_a_file_without_a_test_part_is_reported(tmp_path):
    arrays = {name: array for name, array in GOOD.items() if name.startswith("train")}
    with pytest.raises(DataError, match="the array test_images is missing"):
        dataset(tmp_path, arrays).test()
