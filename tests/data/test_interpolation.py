"""Every reader of picture files resizes them by the interpolation of the dataset."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nasx.config.components import build
from nasx.data.check import check_dataset
from nasx.data.decoding import RESAMPLING, decode
from nasx.data.folder import ImageFolder
from nasx.data.value_range import read_like
from nasx.errors import ConfigError
from nasx.workflows.suspect_review import _picture

SIZE = 8


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(256, size=(21, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def reader(photos: Path, **settings: Any) -> ImageFolder:
    return ImageFolder(root=str(photos), cache=str(photos.parent / "cache"), image_size=SIZE, **settings)


@pytest.mark.parametrize("name", RESAMPLING)
def test_pictures_are_cropped_to_the_square_and_resized_as_by_pillow(photos: Path, name: Any) -> None:
    file = photos / "cat" / "0.png"
    with Image.open(file) as image:  # the central square, 21 of 30 columns
        expected = image.resize((SIZE, SIZE), RESAMPLING[name], box=(4.5, 0, 25.5, 21))

    found = decode(file, size=SIZE, channels=3, interpolation=name)

    assert np.array_equal(found.transpose(1, 2, 0), np.asarray(expected))


def test_each_interpolation_has_its_own_cache_and_its_own_pixels(photos: Path) -> None:
    found = {name: reader(photos, interpolation=name).train() for name in RESAMPLING}
    again = {name: reader(photos, interpolation=name).train() for name in RESAMPLING}

    assert np.array_equal(reader(photos).train().images, found["bicubic"].images)
    assert len({images.images.tobytes() for images in found.values()}) == 3
    for name, images in found.items():
        assert np.array_equal(again[name].images, images.images)
        expected = decode(photos / images.files[0], size=SIZE, channels=3, interpolation=name)
        assert np.array_equal(images.images[0], expected)


def test_the_check_the_review_and_single_pictures_resize_as_the_dataset(photos: Path) -> None:
    dataset = reader(photos, interpolation="bilinear")
    images = dataset.train()
    file = photos / images.files[0]
    expected = decode(file, size=SIZE, channels=3, interpolation="bilinear")
    suspects: Any = SimpleNamespace(train=images, name=lambda index: images.files[index])
    picture = _picture(suspects, SimpleNamespace(dataset=dataset))  # type: ignore[arg-type]

    samples = check_dataset(dataset).train.samples[int(images.labels[0])]
    assert any(np.array_equal(sample, expected) for sample in samples)
    assert picture is not None
    assert np.array_equal(picture(0, SIZE), expected)
    assert np.array_equal(read_like(dataset, file, size=SIZE, channels=3), expected)


def test_an_unknown_interpolation_is_one_line(photos: Path) -> None:
    node = {"_target_": "nasx.data.folder.ImageFolder", "root": str(photos), "interpolation": "nearest"}

    with pytest.raises(ConfigError, match=r"dataset\.interpolation must be bilinear, bicubic or lanczos, got"):
        build(node, "dataset")
