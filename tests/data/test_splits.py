"""Split of the training images into training and validation part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from nasx.data.dataset import LabeledImages
from nasx.data.splits import draw_parts, hold_out, mean_and_std, split
from nasx.errors import DataError, NasxError, SettingError


def images_with(counts: list[int]) -> LabeledImages:
    """Return the given number of images of each class; the pixels of an image encode its index."""
    labels = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(labels))
    pixels = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8)
    names = tuple(f"class {i}" for i in range(len(counts)))
    return LabeledImages(pixels.reshape(-1, 1, 1, 2), labels, names)


def numbers_of(part: LabeledImages) -> list[int]:
    high, low = part.images.reshape(-1, 2).astype(int).T
    return (high * 256 + low).tolist()


class_counts = st.lists(st.integers(5, 60), min_size=2, max_size=6)
fractions = st.floats(0.2, 0.8)
seeds = st.integers(0, 2**31 - 1)


@given(counts=class_counts, fraction=fractions, seed=seeds)
@settings(deadline=None)
def test_parts_are_disjoint_and_together_all_images(counts, fraction, seed):
    data = split(images_with(counts), validation_fraction=fraction, seed=seed)
    assert sorted(numbers_of(data.train) + numbers_of(data.validation)) == list(range(sum(counts)))


@given(counts=class_counts, fraction=fractions, seed=seeds)
@settings(deadline=None)
def test_every_class_has_its_share_in_both_parts_within_one_image(counts, fraction, seed):
    data = split(images_with(counts), validation_fraction=fraction, seed=seed)
    for part in (data.train, data.validation):
        expected = np.array(counts) * len(part) / sum(counts)
        assert np.abs(np.bincount(part.labels, minlength=len(counts)) - expected).max() <= 1


@given(counts=class_counts, seed=seeds)
@settings(deadline=None)
def test_images_keep_their_labels(counts, seed):
    images = images_with(counts)
    data = split(images, seed=seed)
    assert images.labels[numbers_of(data.train)].tolist() == data.train.labels.tolist()


def test_the_same_seed_draws_the_same_split_and_another_seed_another():
    images = images_with([50, 50])
    first, again, other = (numbers_of(split(images, seed=seed).validation) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_default_validates_on_a_fifth():
    data = split(images_with([50, 50]), seed=0)
    assert (len(data.train), len(data.validation)) == (80, 20)


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({"train_images": 30}, (30, 20)),
        ({"validation_images": 10}, (80, 10)),
        ({"train_images": 30, "validation_images": 10}, (30, 10)),
        ({"train_images": 81, "validation_images": 21}, (80, 20)),  # at most: no more than there are
    ],
)
def test_numbers_of_images_are_limits(limits, sizes):
    data = split(images_with([50, 50]), seed=0, **limits)
    assert (len(data.train), len(data.validation)) == sizes
    assert not set(numbers_of(data.train)) & set(numbers_of(data.validation))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"validation_fraction": 0.0},
            r"^split\.validation_fraction must leave at least one image .* 3 classes, got 0$",
        ),
        (
            {"validation_fraction": 1.0},
            r"^split\.validation_fraction must leave at least one image .* 3 classes, got 0$",
        ),
        ({"train_images": 2}, r"^split\.train_images must leave at least one image for each of 3 classes, got 2"),
        ({"validation_images": 0}, r"^split\.validation_images must leave at least one image .*, got 0"),
    ],
)
def test_numbers_that_cannot_be_met_name_their_key(limits, message):
    with pytest.raises(SettingError, match=message):
        split(images_with([20, 20, 60]), seed=0, **limits)


@pytest.mark.parametrize("limits", [{}, {"validation_images": 10}, {"train_images": 10}, {"validation_fraction": 0.01}])
def test_a_rare_class_is_in_both_parts_of_every_split(limits):
    data = split(images_with([500, 2]), seed=0, **limits)
    assert [np.bincount(part.labels)[1] for part in (data.train, data.validation)] == [1, 1]
    sizes = {"validation_images": (402, 10), "train_images": (10, 100), "validation_fraction": (497, 5)}
    assert (len(data.train), len(data.validation)) == sizes.get(next(iter(limits), ""), (402, 100))


def test_few_images_of_many_classes_have_each_class_in_both_parts():
    data = split(images_with([3] * 12), seed=0)  # a fifth would be 7 images of 12 classes
    assert np.bincount(data.validation.labels).tolist() == [1] * 12


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("rare", [3, 4, 10])
def test_test_images_leave_enough_of_a_rare_class_to_train_and_validate(fraction, rare):
    labels = np.repeat([0, 1], [200, rare])
    train, test = hold_out(labels, ("common", "rare"), fraction=fraction, seed=0)
    assert sorted([*train, *test]) == list(range(200 + rare))
    assert np.bincount(labels[train])[1] >= 2
    assert np.bincount(labels[test])[1] >= 1


def test_a_split_in_which_no_class_is_missing_is_the_one_of_scikit_learn():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    expected = train_test_split(np.arange(100), train_size=80, test_size=20, stratify=labels, random_state=5)
    found = draw_parts(labels, 3, sizes=(80, 20), seed=5)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_that_cannot_be_in_both_parts_is_named(count):
    with pytest.raises(
        DataError, match=rf"Every class needs at least 2 images, .*: 'class 1' has {count}\. Add images"
    ):
        split(images_with([20, count]), seed=0)


@given(
    counts=st.lists(st.integers(0, 30), min_size=2, max_size=5),
    fraction=st.floats(0.01, 0.99),
    limit=st.integers(0, 40),
)
@settings(deadline=None)
def test_a_split_either_has_every_class_in_both_parts_or_says_why_not(counts, fraction, limit):
    assume(sum(counts) > 0)
    try:
        data = split(images_with(counts), validation_fraction=fraction, train_images=limit, seed=0)
    except NasxError:
        return
    assert len(data.train) <= limit
    assert set(data.train.labels.tolist()) == set(data.validation.labels.tolist()) == set(range(len(counts)))


def test_mean_and_deviation_are_numpys_of_the_training_images():
    rng = np.random.default_rng(0)
    images = LabeledImages(
        rng.integers(256, size=(3000, 3, 4, 5), dtype=np.uint8), np.arange(3000) % 2, ("even", "odd")
    )
    data = split(images, seed=0)
    scaled = data.train.images / 255
    np.testing.assert_allclose(data.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std, scaled.std(axis=(0, 2, 3)), rtol=1e-6)
    assert data.mean.dtype == data.std.dtype == np.float32


def test_a_constant_channel_has_deviation_one():
    images = np.zeros((4, 2, 3, 3), np.uint8)
    images[:, 1] = 51
    mean, std = mean_and_std(images)
    np.testing.assert_allclose(mean, [0, 0.2])
    assert std.tolist() == [1, 1]
