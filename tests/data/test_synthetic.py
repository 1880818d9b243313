"""Datasets without files: digits and lines."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nasx.data.synthetic import Digits, Lines, draw_lines
from nasx.errors import SettingError


def test_digits_are_all_of_scikit_learns_each_in_one_part():
    train, test = Digits().train(), Digits().test()
    assert (len(train), len(test)) == (1437, 360)
    published = {image.tobytes() for image in load_digits().images}
    rescaled = {(image[0] * (16 / 255)).round().tobytes() for part in (train, test) for image in part.images}
    assert rescaled == published


def test_digits_span_black_to_white():
    images = Digits().train().images
    assert (images.min(), images.max()) == (0, 255)


def test_a_fifth_of_every_digit_is_the_test():
    train, test = np.bincount(Digits().train().labels), np.bincount(Digits().test().labels)
    assert np.abs(test - (train + test) / 5).max() < 1


def test_the_test_digits_never_change():
    """A change of these numbers would make all published test errors incomparable."""
    test = Digits().test()
    assert test.labels[:12].tolist() == [4, 8, 9, 5, 4, 7, 6, 2, 7, 6, 7, 1]
    assert int(test.images.astype(np.int64).sum()) == 1_794_715


def test_lines_without_noise_are_what_their_names_say():
    data = draw_lines(400, 0, np.random.default_rng(0))
    for image, label in zip(data.images[:, 0] > 0, data.labels, strict=True):
        rows, columns = np.nonzero(image)
        found = {
            "none": len(rows) == 0,
            "horizontal": len(set(rows)) == 1 and len(columns) == 12,
            "vertical": len(set(columns)) == 1 and len(rows) == 12,
            "diagonal": len(rows) >= 9 and (len(set(rows - columns)) == 1 or len(set(rows + columns)) == 1),
        }
        assert [name for name, is_so in found.items() if is_so] == [data.class_names[label]]


def test_lines_have_equally_many_images_of_every_class():
    dataset = Lines(train_images=402, test_images=8)
    assert np.bincount(dataset.train().labels).tolist() == [101, 101, 100, 100]
    assert np.bincount(dataset.test().labels).tolist() == [2, 2, 2, 2]


def test_lines_follow_their_seed():
    first, again, other = (Lines(train_images=8, seed=seed).train().images for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_noise_has_the_deviation_asked_for():
    gray = draw_lines(2000, 0.1, np.random.default_rng(0))
    blank = gray.images[gray.labels == 0] / 255
    assert blank[blank > 0].std() == pytest.approx(
        0.1 * (1 - 2 / np.pi) ** 0.5, rel=0.02
    )  # half a normal: clipped at 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_images": 3}, r"^train_images must be at least 4, got 3$"),
        ({"test_images": 0}, r"^test_images must be at least 4, got 0$"),
        ({"noise": -0.1}, r"^noise must be at least 0 and at most 1, got -0\.1$"),
        ({"seed": -1}, r"^seed must be at least 0, got -1$"),
    ],
)
def test_settings_out_of_range_are_reported(settings, message):
    with pytest.raises(SettingError, match=message):
        Lines(**settings)
