"""The idx files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import os

import numpy as np
import pytest

from nasx.data.mnist import MNIST, FashionMNIST, read_idx
from tests.factories.published_formats import write_idx


def test_images_and_labels_are_those_of_the_files(tmp_path):
    files = write_idx(tmp_path / "MNIST/raw", gzipped=False)
    test = MNIST(root=str(tmp_path)).test()
    np.testing.assert_array_equal(test.images[:, 0], files["t10k-images-idx3-ubyte"])
    np.testing.assert_array_equal(test.labels, files["t10k-labels-idx1-ubyte"])


def test_gzipped_and_plain_files_are_read_alike(tmp_path):
    write_idx(tmp_path / "plain", gzipped=False)
    write_idx(tmp_path / "gzipped", gzipped=True)
    plain = MNIST(root=str(tmp_path / "plain")).train()
    gzipped = MNIST(root=str(tmp_path / "gzipped")).train()
    np.testing.assert_array_equal(plain.images, gzipped.images)


def test_the_header_is_big_endian(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    assert read_idx(path, n_dimensions=1).tolist() == [7, 9]


@pytest.mark.skipif("NASX_DATA" not in os.environ, reason="NASX_DATA names no folder with real data")
@pytest.mark.parametrize(("reader", "mean"), [(MNIST, 0.1307), (FashionMNIST, 0.2860)])
def test_real_files_have_sixty_thousand_images_with_the_mean_that_the_field_quotes(reader, mean):
    train = reader(root=os.environ["NASX_DATA"]).train()
    assert train.images.shape == (60_000, 1, 28, 28)
    assert len(np.unique(train.labels)) == 10
    assert train.images.mean() / 255 == pytest.approx(mean, abs=1e-4)
