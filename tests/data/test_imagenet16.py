"""ImageNet-16-120: the published batches of a thousand classes, cut to the first 120."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nasx.data.cifar import ImageNet16, class_names, synsets
from nasx.data.download import fetch
from nasx.errors import DataError
from tests.factories.published_formats import python2_pickle, write_imagenet16


def test_only_labels_1_to_120_are_kept_and_count_from_0(tmp_path):
    files = write_imagenet16(tmp_path)
    published = np.concatenate([files[f"train_data_batch_{i}"]["labels"] for i in range(1, 11)])

    train = ImageNet16(root=str(tmp_path)).train()

    assert train.labels.tolist() == (published[published <= 120] - 1).tolist()
    assert train.shape == (3, 16, 16)
    assert train.n_classes == 120


def test_rows_become_images_of_red_green_and_blue(tmp_path):
    files = write_imagenet16(tmp_path)
    test = ImageNet16(root=str(tmp_path)).test()
    first = int(np.flatnonzero(np.array(files["val_data"]["labels"]) <= 120)[0])
    row = files["val_data"]["data"][first]

    assert test.images[0, 1, 2, 5] == row[256 + 2 * 16 + 5]  # green, third line, sixth pixel


def test_classes_have_names_and_synsets():
    assert len(set(class_names())) == len(set(synsets())) == 120
    assert (class_names()[0], synsets()[0]) == ("kit fox", "n02119789")
    assert (class_names()[119], synsets()[119]) == ("warthog", "n02397096")
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in synsets())


@pytest.mark.parametrize(("label", "message"), [(0, "expected labels 1 to 1000, got 0"), (1001, "got 1001 at image 0")])
def test_labels_of_another_counting_are_reported(label, message, tmp_path):
    write_imagenet16(tmp_path)
    batch = {"data": np.zeros((2, 768), np.uint8), "labels": [label, 1]}
    python2_pickle(batch, tmp_path / "ImageNet16" / "val_data")

    with pytest.raises(DataError, match=message):
        ImageNet16(root=str(tmp_path)).test()


def test_it_cannot_be_fetched_and_says_where_it_is(tmp_path):
    with pytest.raises(DataError, match=r"image-net\.org requires registration for ImageNet's 16x16 images"):
        fetch("imagenet16_120", tmp_path)
