"""Value ranges, layouts, links, skipped and damaged files of folders; arrays of more than 8 bits."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.data.check import check_dataset
from nasx.data.folder import ImageFolder
from nasx.data.layout import find_layout
from nasx.data.listing import image_files
from nasx.data.npz import NumpyArrays
from nasx.errors import DataError, SettingError


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def fill(folder: Path, *classes: str, n: int = 4, kind: str = "png", seed: int = 0) -> None:
    """Write images of random pixels."""
    rng = np.random.default_rng(seed)
    for name in classes:
        for i in range(n):
            save(folder / name / f"{i}.{kind}", rng.integers(256, size=(8, 8, 3), dtype=np.uint8))


def scans(folder: Path, high: int) -> None:
    """Write gray images with 16 bits per pixel that use values up to `high`."""
    for name in ("ant", "bee"):
        for i in range(4):
            values = np.linspace(0, high, 64).astype(np.uint16).reshape(8, 8)
            values[0, 0] = i
            save(folder / name / f"{i}.png", values)


def reader(tmp_path: Path, **settings) -> ImageFolder:
    return ImageFolder(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"), image_size=8, **settings)


def test_scans_of_12_bits_are_refused_with_the_range_and_the_line_to_write(tmp_path):
    scans(tmp_path / "data", 4000)
    with pytest.raises(DataError, match=r"values 0 to 4000, less than a quarter .* dataset\.value_range=\[0,4095\]$"):
        reader(tmp_path).train()


def test_the_value_range_keeps_the_gray_levels(tmp_path):
    scans(tmp_path / "data", 4095)
    train = reader(tmp_path, grayscale=True, value_range=(0, 4095)).train().images
    assert len(np.unique(train)) == 64
    assert (train.min(), train.max()) == (0, 255)


def test_scans_that_use_all_16_bits_need_no_range(tmp_path):
    scans(tmp_path / "data", 65_535)
    assert reader(tmp_path).train().images.max() == 255


@pytest.mark.parametrize("value", [(5, 5), (9, 1)])
def test_a_range_must_be_in_order(value):
    with pytest.raises(SettingError, match=r"^value_range must be two numbers, the lower first, got"):
        ImageFolder(value_range=value)


def test_floating_point_images_need_a_range(tmp_path):
    for name in ("ant", "bee"):
        for i in range(3):
            save(tmp_path / "data" / name / f"{i}.tif", np.full((8, 8), 0.5 + i / 10, np.float32))
    with pytest.raises(DataError, match=r"values 0\.5 to 0\.7\. Set those that become black and white, e\.g\. dataset"):
        reader(tmp_path).train()
    assert 127 < reader(tmp_path, value_range=(0, 1)).train().images.min() < 129


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "tst"), ("trn", "Test")])
def test_parts_have_names_in_any_case_and_synonyms(names, tmp_path):
    for name in names:
        fill(tmp_path / "data" / name, "ant", "bee")
    layout = find_layout(tmp_path / "data")
    assert (layout.train.name, layout.test.name) == names
    assert reader(tmp_path).train().class_names == ("ant", "bee")


def test_classes_called_train_and_test_stay_classes(tmp_path):
    fill(tmp_path / "data", "train", "test")
    assert reader(tmp_path).train().class_names == ("test", "train")


def test_without_a_test_part_a_share_is_held_out(tmp_path):
    fill(tmp_path / "data/Training", "ant", "bee", n=5)
    dataset = reader(tmp_path)
    assert (len(dataset.train()), len(dataset.test())) == (8, 2)
    assert "there is no test part" in dataset.notices()[0]


def test_links_are_followed_once_and_loops_end(tmp_path):
    fill(tmp_path / "data", "ant", "bee")
    fill(tmp_path / "elsewhere", "more", n=2)
    (tmp_path / "data/ant/link").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "data/ant/again").symlink_to(tmp_path / "elsewhere/more")
    (tmp_path / "data/ant/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/ant/self.png").symlink_to(tmp_path / "data/ant/self.png")
    assert len(image_files(tmp_path / "data/ant")) == 6


def test_files_that_are_no_images_are_counted_by_suffix(tmp_path):
    fill(tmp_path / "data", "ant", "bee")
    for name in ("a.HEIC", "b.heic", "c", ".hidden.png", "Thumbs.db"):
        (tmp_path / "data/ant" / name).write_text("")
    fill(tmp_path / "data/__MACOSX", "ant")
    (notice,) = reader(tmp_path).notices()
    assert notice.startswith("Skipped: 2 files .heic: convert them to JPEG or PNG; 1 file without suffix;")
    assert reader(tmp_path).train().class_names == ("ant", "bee")


def test_both_unicode_forms_of_a_class_are_the_same_class(tmp_path):
    fill(tmp_path / "data/train", unicodedata.normalize("NFC", "é"), "bee")
    fill(tmp_path / "data/test", unicodedata.normalize("NFD", "é"), "bee", n=2)
    assert reader(tmp_path).test().class_names == reader(tmp_path).train().class_names


def test_every_file_is_found_by_its_name(tmp_path):
    fill(tmp_path / "data", unicodedata.normalize("NFD", "é"), "bee")
    (tmp_path / "data/bee").rename(os.fsdecode(os.fsencode(tmp_path / "data") + b"/b\xe9"))
    dataset = reader(tmp_path)
    assert all(dataset.path(file).is_file() for file in dataset.train().files)


def test_damaged_files_can_be_left_out(tmp_path):
    fill(tmp_path / "data", "ant", "bee", n=10)
    for name in ("ant/0.png", "bee/3.png", "bee/4.png"):
        (tmp_path / "data" / name).write_bytes(b"")
    dataset = reader(tmp_path, skip_damaged=True)
    names = {*dataset.train().files, *dataset.test().files}
    assert len(names) == 17
    assert "bee/3.png" not in names
    assert any("damaged training images" in line for line in dataset.notices())


def test_contradictions_and_leaks_are_named(tmp_path):
    fill(tmp_path / "data/train", "ant", "bee")
    fill(tmp_path / "data/test", "ant", "bee", seed=1)
    copied = (tmp_path / "data/train/ant/0.png").read_bytes()
    (tmp_path / "data/train/bee/same.png").write_bytes(copied)
    (tmp_path / "data/test/ant/leak.png").write_bytes(copied)
    report = check_dataset(reader(tmp_path))
    (pair,) = report.train.contradictions
    assert (pair.first, pair.second) == ("train/ant/0.png", "train/bee/same.png")
    assert [leak.second for leak in report.leaks] == ["test/ant/leak.png"]
    assert not report.is_sound


def test_the_check_reports_range_and_gray_levels(tmp_path):
    scans(tmp_path / "data", 4000)
    report = check_dataset(reader(tmp_path, grayscale=True))
    assert report.files.value_range == (0, 4000)
    assert report.files.levels < 20
    assert "dataset.value_range=[0,4095]" in report.problems[0]


def test_arrays_of_16_bits_need_a_range(tmp_path):
    images = np.linspace(0, 4000, 6 * 64).astype(np.uint16).reshape(6, 8, 8)
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 1] * 3)
    file = str(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"got uint16 with values 0 to 4000\. .* dataset\.value_range=\[0,4095\]$"):
        NumpyArrays(file=file).train()
    assert len(np.unique(NumpyArrays(file=file, value_range=(0, 4000), test_fraction=0.4).train().images)) > 100


def test_dicom_is_scaled_by_its_bits_and_inverted_if_white_is_low(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    for kind, first in (("MONOCHROME2", 0), ("MONOCHROME1", 255)):
        values = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
        for name in ("ant", "bee"):
            for i in range(3):
                values[7, 6] = i
                path = tmp_path / kind / name / f"{i}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                _dicom(pydicom, values, kind).save_as(path, enforce_file_format=True)
        dataset = ImageFolder(root=str(tmp_path / kind), cache=str(tmp_path / "cache"), image_size=8, grayscale=True)
        images = dataset.train().images
        assert (images[0, 0, 0, 0], images[0, 0, 7, 7]) == (first, 255 - first)


def _dicom(pydicom, values: np.ndarray, kind: str):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PixelRepresentation, data.PhotometricInterpretation = 1, 0, kind
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = values.tobytes()
    return data
