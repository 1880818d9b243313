"""`nasx data`, as it is called."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from nasx.cli.main import main


@pytest.fixture
def folder(tmp_path):
    """Six pictures of two classes."""
    for name, grey in (("dark", 20), ("light", 230)):
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.fromarray(np.full((10, 10), grey + i, np.uint8)).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_sound_dataset_is_told_with_its_classes_and_counts(capsys):
    assert main(["data", "check", "lines", "dataset.train_images=40", "dataset.test_images=8"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lines: sound\ntraining: 40 images, 12 x 12, 1 channel\n")
    assert "diagonal" in out


def test_a_directory_of_class_folders_can_be_checked(folder, capsys):
    assert main(["data", "check", str(folder)]) == 0
    assert "dark" in capsys.readouterr().out


def test_a_damaged_picture_is_named_and_the_status_is_2(folder, capsys):
    (folder / "dark" / "0.png").write_bytes(b"no picture")
    assert main(["data", "check", str(folder)]) == 2
    out = capsys.readouterr().out
    assert "NOT sound" in out
    assert "0.png" in out


def test_a_contact_sheet_has_a_row_of_images_for_each_class(folder, tmp_path, capsys):
    sheet = tmp_path / "sheets" / "mine.png"

    assert main(["data", "check", str(folder), "--sheet", str(sheet)]) == 0

    assert f"Contact sheet: {sheet}" in capsys.readouterr().err
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert (abs(pixels.astype(int) - 22) < 4).sum() > 6 * 40 * 40  # six dark images
    assert (abs(pixels.astype(int) - 232) < 4).sum() > 6 * 40 * 40


def test_unbalanced_classes_are_told_with_their_ratio(folder, capsys):
    for name in ("1", "2", "3"):
        (folder / "dark" / f"{name}.png").unlink()

    assert main(["data", "check", str(folder), "dataset.test_fraction=0.3"]) == 0
    assert "images of the commonest class for each one of the rarest" in capsys.readouterr().out
