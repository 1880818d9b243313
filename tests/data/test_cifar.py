"""CIFAR's published batches, as Python 2 and Python 3 write them."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from nasx.data.cifar import CIFAR10, CIFAR100
from tests.factories.published_formats import CIFAR10_NAMES, write_cifar10, write_cifar100


def test_rows_become_images_of_red_green_and_blue(tmp_path):
    files = write_cifar10(tmp_path)
    train = CIFAR10(root=str(tmp_path)).train()
    row = files["data_batch_2"]["data"][3]
    image = train.images[20 + 3]
    assert image[0, 0, 1] == row[1]  # red, first line, second pixel
    assert image[1, 2, 5] == row[1024 + 2 * 32 + 5]  # green, third line, sixth pixel
    assert image[2, 31, 31] == row[3071]


def test_training_images_are_the_five_batches_in_their_order(tmp_path):
    files = write_cifar10(tmp_path)
    train = CIFAR10(root=str(tmp_path)).train()
    labels = [label for i in range(1, 6) for label in files[f"data_batch_{i}"]["labels"]]
    assert train.labels.tolist() == labels
    assert train.class_names == tuple(CIFAR10_NAMES)


def test_cifar100_has_the_fine_labels(tmp_path):
    files = write_cifar100(tmp_path)
    test = CIFAR100(root=str(tmp_path)).test()
    assert test.labels.tolist() == files["test"]["fine_labels"]
    assert test.class_names[99] == "thing 99"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels_as", ["list", "array", "numpy numbers"])
def test_batches_written_again_by_a_newer_python_are_read_alike(tmp_path, protocol, labels_as):
    files = write_cifar10(tmp_path)
    expected = CIFAR10(root=str(tmp_path)).train()
    for name, content in files.items():
        if "labels" in content and labels_as != "list":
            labels = np.array(content["labels"])
            content["labels"] = labels if labels_as == "array" else list(labels)
        path = tmp_path / "cifar-10-batches-py" / name
        path.write_bytes(pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=protocol))
    train = CIFAR10(root=str(tmp_path)).train()
    np.testing.assert_array_equal(train.images, expected.images)
    np.testing.assert_array_equal(train.labels, expected.labels)


def test_a_column_major_array_keeps_its_pixels_in_place(tmp_path):
    files = write_cifar10(tmp_path)
    content = files["test_batch"] | {"data": np.asfortranarray(files["test_batch"]["data"])}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    test = CIFAR10(root=str(tmp_path)).test()
    np.testing.assert_array_equal(test.images.reshape(20, 3072), files["test_batch"]["data"])


@pytest.mark.skipif("NASX_DATA" not in os.environ, reason="NASX_DATA names no folder with real data")
def test_real_cifar10_has_fifty_thousand_balanced_images():
    train = CIFAR10(root=os.environ["NASX_DATA"]).train()
    assert train.images.shape == (50_000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    # the means that the field quotes
    np.testing.assert_allclose(train.images.mean(axis=(0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=1e-4)
