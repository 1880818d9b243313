"""Directories of class folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.data import folder as module
from nasx.data.folder import ImageFolder, list_files
from nasx.data.image_files import is_image_file, read_image
from nasx.errors import DataError, ResourceError


def save_image(path: Path, color=(200, 100, 50), size=(20, 20), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)
    return path


def class_folders(root: Path, **counts: int) -> None:
    """Write the given number of images of each class; every image has its own gray value."""
    for place, (name, n) in enumerate(counts.items()):
        for i in range(n):
            save_image(root / name / f"{i:02}.png", color=(40 * place + i,) * 3)


def reader(tmp_path: Path, **settings) -> ImageFolder:
    return ImageFolder(root=str(tmp_path / "data"), cache=str(tmp_path / "cache"), **settings)


# --- one image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG", "bmp", "gif", "tiff", "webp", "ppm", "tga", "ico", "jp2"])
def test_images_of_every_format_are_read_in_color(ending, tmp_path):
    path = save_image(tmp_path / f"a.{ending}", size=(32, 32))
    assert is_image_file(path)
    pixels = read_image(path, size=8, channels=3)
    assert pixels.shape == (3, 8, 8)
    assert np.abs(pixels.mean((1, 2)) - [200, 100, 50]).max() < 4  # JPEG is not exact


def test_gray_weighs_the_colors_as_the_eye_does(tmp_path):
    pixels = read_image(save_image(tmp_path / "a.png"), size=8, channels=1)
    assert pixels.shape == (1, 8, 8)
    assert (pixels == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_a_image_is_cut_to_its_central_square(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", size=10, channels=3) == 255).all()


def test_a_image_of_the_right_size_keeps_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", size=16, channels=3), pixels.transpose(2, 0, 1))


def test_a_image_is_turned_upright_as_its_camera_noted(tmp_path):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert (read_image(tmp_path / "a.png", size=8, channels=1)[0, -1] == 255).all()


def test_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "a.png")
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "b.png", transparency=b"\xff\x00")
    for name in ("a.png", "b.png"):
        assert (read_image(tmp_path / name, size=8, channels=3) == 255).all()


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    Image.fromarray(np.full((8, 8), 257 * 100, np.uint16)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", size=8, channels=1) == 100).all()


def test_of_an_animation_the_first_image_counts(tmp_path):
    first, second = Image.new("RGB", (8, 8), "black"), Image.new("RGB", (8, 8), "white")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert (read_image(tmp_path / "a.gif", size=8, channels=1) == 0).all()


def test_a_image_that_is_gone_is_reported(tmp_path):
    with pytest.raises(DataError, match="No such file or directory"):
        read_image(tmp_path / "a.png", size=8, channels=3)


@pytest.mark.parametrize("name", [".hidden.png", "notes.txt", "Thumbs.db", "a.eps", "a.h5", "a.pdf", "png"])
def test_other_files_are_no_images(name):
    assert not is_image_file(Path(name))


# --- the directory --------------------------------------------------------------------------------------------------


def test_classes_are_the_folders_in_the_order_of_their_names(tmp_path):
    class_folders(tmp_path / "data", zebra=5, ant=5)
    train = reader(tmp_path, image_size=8).train()
    assert train.class_names == ("ant", "zebra")
    grays = train.images[:, 0, 0, 0]
    assert ((grays < 40) == (train.labels == 1)).all()  # zebras were drawn first


def test_one_level_is_split_class_by_class_by_the_seed(tmp_path):
    class_folders(tmp_path / "data", ant=10, bee=20)
    dataset = reader(tmp_path)
    train, test = dataset.train_files(), dataset.test_files()
    assert np.bincount(train.labels).tolist() == [8, 16]
    assert np.bincount(test.labels).tolist() == [2, 4]
    assert not set(train.paths) & set(test.paths)
    assert reader(tmp_path, seed=1).test_files() != test == reader(tmp_path).test_files()


def test_images_are_found_at_any_depth_and_other_files_are_ignored(tmp_path):
    class_folders(tmp_path / "data", ant=2, bee=2)
    save_image(tmp_path / "data/ant/deep/er/a.png")
    (tmp_path / "data/ant/notes.txt").write_text("")
    (tmp_path / "data/.git").mkdir()
    (tmp_path / "data/readme.png").write_text("not in a class folder")
    assert np.bincount(list_files(tmp_path / "data").labels).tolist() == [3, 2]


def test_validation_images_join_the_training_images(tmp_path):
    for part, n in (("train", 4), ("val", 2), ("test", 1)):
        class_folders(tmp_path / "data" / part, ant=n, bee=n)
    dataset = reader(tmp_path)
    assert np.bincount(dataset.train().labels).tolist() == [6, 6]
    assert np.bincount(dataset.test().labels).tolist() == [1, 1]


BAD_FOLDERS = {
    "empty": ({}, r"data must contain one folder for each of at least two classes, got 0\."),
    "one class": ({"ant": 2}, r"data must contain one folder for each of at least two classes, got 1\."),
    "images without classes": ({".": 2}, r"must contain one folder for each of at least two classes, got 0\."),
    "a class without images": ({"ant": 2, "bee": 0}, r"bee contains no images: add some, or remove it\."),
    "a class of one image": (
        {"ant": 5, "bee": 1},
        r"Every class needs at least 2 images, .*: 'bee' has 1 \(bee/0\.png\)\. Add images",
    ),
    "no training images": ({"test/ant": 2, "test/bee": 2}, r"data has a folder test with class folders, but no folder"),
    "two training parts": (
        {"train/ant": 2, "Training/ant": 2, "test/ant": 1},
        r"data has two train folders, Training and train: keep one of them\.",
    ),
    "test images without classes": (
        {"train/ant": 2, "train/bee": 2, "test/.": 1},
        r"test contains images but no class folders, next to train with class folders: sort its images into",
    ),
    "a class named train with folders": (
        {"train/fast": 2, "train/slow": 2, "car": 2},
        r"data has a folder train with class folders, next to the folders car with images: rename it if it is a class",
    ),
    "a dataset in a folder": ({"inner/ant": 2, "inner/bee": 2}, r"one level deeper: set dataset\.root=.*data/inner\."),
    "an unknown class": (
        {"train/ant": 2, "train/bee": 2, "test/cow": 1},
        r"unexpected class folder .*test/cow\. Expected: ant, bee\.$",
    ),
    "an empty test": ({"train/ant": 2, "train/bee": 2, "test/.": 0}, r"test contains no images\."),
}


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_a_bad_directory_says_what_was_expected(case, tmp_path):
    counts, message = BAD_FOLDERS[case]
    (tmp_path / "data").mkdir()
    for name, n in counts.items():
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            save_image(tmp_path / "data" / name / f"{i}.png")
    with pytest.raises(DataError, match=message) as caught:
        reader(tmp_path).test()
    assert "\n" not in str(caught.value)


def test_damaged_images_are_counted_and_the_first_are_named(tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    for path in (tmp_path / "data/bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"^4 of 8 images cannot be read: bee/0.*: dataset\.skip_damaged=true\.$"):
        reader(tmp_path).train()
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_a_rare_class_is_in_the_training_and_in_the_test_images(tmp_path):
    class_folders(tmp_path / "data", ant=30, bee=3)
    dataset = reader(tmp_path, test_fraction=0.1)
    assert [dataset.train().labels.tolist().count(1), dataset.test().labels.tolist().count(1)] == [2, 1]


def test_a_class_with_one_image_is_named_with_its_file(tmp_path):
    class_folders(tmp_path / "data", ant=30, bee=1)
    with pytest.raises(DataError, match=r"at least 2 images, .*: 'bee' has 1 \(bee/.*\)\. Add images, or remove the"):
        reader(tmp_path).train()


# --- the cache ------------------------------------------------------------------------------------------------------


@pytest.fixture
def read_paths(monkeypatch) -> list[Path]:
    """Record the paths of decoded images."""
    paths: list[Path] = []

    def counting(path, **options):
        paths.append(path)
        return read_image(path, **options)

    monkeypatch.setattr(module, "read_image", counting)
    return paths


def test_images_are_decoded_once(tmp_path, read_paths):
    class_folders(tmp_path / "data", ant=5, bee=5)
    first = reader(tmp_path).train().images
    again = reader(tmp_path).train().images
    assert len(read_paths) == len(first) == 8
    np.testing.assert_array_equal(first, again)


def test_train_decodes_no_test_image_when_one_level_is_split(tmp_path, read_paths):
    class_folders(tmp_path / "data", ant=5, bee=5)
    dataset = reader(tmp_path)
    dataset.train()
    assert not set(read_paths) & set(dataset.test_files().paths)


@pytest.mark.parametrize("change", [{"image_size": 16}, {"grayscale": True}, {"seed": 3}])
def test_other_settings_are_cached_apart(change, tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    before = reader(tmp_path).train().images.copy()
    reader(tmp_path, **change).train()
    np.testing.assert_array_equal(reader(tmp_path).train().images, before)


def test_a_image_that_changes_is_read_again(tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    dataset = reader(tmp_path)
    dataset.train()
    changed = dataset.train_files().paths[0]
    save_image(changed, color=(255, 255, 255))
    os.utime(changed, ns=(1, 1))
    assert (dataset.train().images[0] == 255).all()


def test_a_cache_cut_short_is_made_again(tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    before = reader(tmp_path).train().images.copy()
    (cached,) = (tmp_path / "cache").glob("images-*.npy")
    cached.write_bytes(cached.read_bytes()[:-1])
    np.testing.assert_array_equal(reader(tmp_path).train().images, before)


def test_images_are_mapped_from_disk_and_not_loaded(tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    assert isinstance(reader(tmp_path).train().images, np.memmap)


def test_a_cache_that_cannot_be_written_is_reported(tmp_path):
    class_folders(tmp_path / "data", ant=5, bee=5)
    (tmp_path / "cache").write_text("a file where the directory should be")
    with pytest.raises(ResourceError, match=r"cache cannot store the resized images \(.+\): set dataset\.cache=DIR\."):
        reader(tmp_path).train()
