"""Survey of a folder: sizes and colors by the headers of its files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.data import survey as surveying
from nasx.data.folder import ImageFolder
from nasx.data.survey import survey_folder


def write(folder: Path, name: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **how: object) -> None:
    """Write a picture of noise; `size`: (width, height)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(folder / name, **how)


def folder_of(root: Path, mode: str = "RGB", suffix: str = "png") -> ImageFolder:
    for label in ("a", "b"):
        for i in range(5):
            write(root / label, f"{i}.{suffix}", mode=mode)
    return ImageFolder(root=str(root))


def test_a_survey_counts_the_training_images_and_their_median_size(tmp_path: Path) -> None:
    found = survey_folder(folder_of(tmp_path))

    assert (found.n_images, found.n_looked_at, found.width, found.height) == (8, 8, 40, 30)
    assert not found.is_gray


def test_a_turned_photo_has_the_size_that_a_viewer_shows(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[surveying.ORIENTATION] = 6
    for label in ("a", "b"):
        for i in range(3):
            write(tmp_path / label, f"{i}.jpg", exif=exif)

    found = survey_folder(ImageFolder(root=str(tmp_path)))

    assert (found.width, found.height) == (30, 40)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("L", "jpg"), ("1", "png"), ("LA", "png")])
def test_gray_pictures_are_found_by_their_headers(
    tmp_path: Path, mode: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "read_image", None)  # no picture is decoded

    assert survey_folder(folder_of(tmp_path, mode, suffix)).is_gray


def test_gray_pictures_that_are_stored_in_color_are_found_by_their_pixels(tmp_path: Path) -> None:
    dataset = folder_of(tmp_path, "L")
    for file in tmp_path.rglob("*.png"):
        Image.open(file).convert("RGB").save(file.with_suffix(".jpg"))
        file.unlink()
    assert survey_folder(dataset).is_gray

    for i in range(5):
        write(tmp_path / "a", f"{i}.jpg")
    assert not survey_folder(dataset).is_gray


def test_pictures_that_cannot_be_opened_are_left_to_the_reader(tmp_path: Path) -> None:
    dataset = folder_of(tmp_path)
    for file in sorted((tmp_path / "a").iterdir())[:4]:
        file.write_bytes(b"no picture")

    assert survey_folder(dataset).n_looked_at < 8
    assert survey_folder(dataset).width == 40


def test_of_many_pictures_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "HEADERS", 3)

    found = survey_folder(folder_of(tmp_path))

    assert (found.n_images, found.n_looked_at) == (8, 3)
