"""Digests of data: equal arrays have equal ones, and a difference is put into words."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from nasx.data.dataset import LabeledImages, SearchData, write_rows
from nasx.data.digest import (
    Content,
    FileWatch,
    as_record,
    combined,
    describe_images,
    describe_split,
    digest_array,
    digest_pixels,
    find_difference,
    from_record,
)
from nasx.errors import DataError

PIXELS = np.arange(6 * 3 * 4 * 4, dtype=np.uint8).reshape(6, 3, 4, 4)
IMAGES = LabeledImages(PIXELS, np.array([0, 1, 2, 0, 1, 2]), ("cat", "dog", "owl"))


def difference(other: LabeledImages) -> str:
    return find_difference(describe_images(IMAGES), describe_images(other))


def test_a_digest_depends_on_values_shape_and_type_only():
    array = np.arange(24).reshape(2, 3, 4)

    assert digest_array(array) == digest_array(np.asfortranarray(array))
    assert len({digest_array(a) for a in (array, array.reshape(6, 4), array.astype(np.int32), array + 1)}) == 4


def test_a_digest_of_many_blocks_is_that_of_the_whole():
    array = np.random.default_rng(0).integers(0, 256, (3000, 1, 8, 8), dtype=np.uint8)

    assert digest_array(array) == hashlib.sha256(b"|u1 (3000, 1, 8, 8)" + array.tobytes()).hexdigest()


def test_equal_data_have_no_difference():
    assert difference(LabeledImages(PIXELS.copy(), IMAGES.labels.copy(), IMAGES.class_names)) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": PIXELS[:5], "labels": IMAGES.labels[:5]}, "6 images of 3 classes then, 5 now"),
        ({"class_names": ("cat", "dog", "owl", "elk")}, "6 images of 3 classes then, 6 of 4 now"),
        ({"class_names": ("cat", "hound", "owl")}, "class 'dog' is now called 'hound'"),
        ({"class_names": ("a", "b", "owl")}, "class 'cat' is now called 'a' (1 more differ)"),
        ({"class_names": ("dog", "cat", "owl")}, "the classes are in another order"),
        ({"labels": np.array([0, 0, 2, 0, 1, 2])}, "class 1 had 2 images, now 3 (1 more differ)"),
        ({"labels": IMAGES.labels[::-1].copy()}, "as many images of each class, but other labels or another order"),
        ({"images": PIXELS[:, :1]}, "images of 3 x 4 x 4 then, 1 x 4 x 4 now (channels, height, width)"),
        ({"images": PIXELS ^ 1}, "as many images of each class, but other pixels or another order"),
    ],
)
def test_a_difference_is_put_into_words(change, words):
    assert difference(replace(IMAGES, **change)) == words


def test_another_split_of_the_same_images_is_found():
    parts = np.arange(4), np.arange(4, 6)
    before, same, other = describe_split(*parts), describe_split(*parts), describe_split(parts[0][::-1], parts[1])

    assert find_difference({"split": before}, {"split": same}) == ""
    assert "split otherwise" in find_difference({"split": before}, {"split": other})
    assert find_difference({"split": before}, {}) == ""  # not read


def test_contents_survive_as_json():
    found = describe_images(IMAGES)

    assert from_record(as_record(found)) == found
    assert combined(found) != combined(describe_images(replace(IMAGES, images=PIXELS ^ 1)))


def test_the_digest_of_images_on_disk_is_kept_until_their_file_changes(tmp_path, monkeypatch):
    file = tmp_path / "images.npy"
    on_disk = replace(IMAGES, images=write_rows(file, PIXELS.shape, [PIXELS]), on_disk=True)
    before = describe_images(on_disk)
    assert before == describe_images(IMAGES)

    with monkeypatch.context() as patch:
        patch.setattr("nasx.data.digest.digest_array", lambda array: "computed again")
        assert digest_pixels(on_disk) == before["pixels"].digest
    changed = replace(IMAGES, images=write_rows(file, PIXELS.shape, [PIXELS ^ 1]), on_disk=True)
    os.utime(file, ns=(1, time.time_ns() + 10**9))

    assert describe_images(changed)["pixels"] != before["pixels"]


def test_files_that_change_while_they_are_used_are_noticed(tmp_path):
    file = tmp_path / "images.npy"
    part = replace(IMAGES, images=write_rows(file, PIXELS.shape, [PIXELS]), on_disk=True)
    watch = FileWatch(SearchData(part, IMAGES, np.zeros(3, np.float32), np.ones(3, np.float32)))
    watch.check()

    write_rows(file, PIXELS.shape, [PIXELS ^ 1])

    with pytest.raises(DataError, match=r"images\.npy has changed while the search was reading images from it"):
        watch.check()


@pytest.mark.parametrize("facts", [{}, {"images": "many"}, {"images": 1, "counts": 3}, {"names": [[]], "counts": None}])
def test_a_difference_is_reported_whatever_a_run_has_recorded_about_its_data(facts):
    now = describe_images(IMAGES)
    before = {part: Content("other", facts) for part in now}
    assert find_difference(before, now)
    assert from_record({"classes": {}})["classes"].digest != now["classes"].digest
