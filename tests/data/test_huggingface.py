"""Parquet files in the format of the Hugging Face hub, written with its library."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasx.data.decoding import decode
from nasx.data.huggingface import HuggingFace
from nasx.errors import DataError, ResourceError

datasets = pytest.importorskip("datasets")
CLASSES = ["cat", "dog"]
pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of the library and of pyarrow


def png(gray: int) -> dict:
    out = io.BytesIO()
    Image.new("RGB", (12, 10), (gray, gray, gray)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def write(path: Path, rows: list, labels: list, *, names=CLASSES, image=None, label=None) -> Path:
    """Write a parquet file of images and labels."""
    features = datasets.Features(
        {"label": label or datasets.ClassLabel(names=names), "image": image or datasets.Image()}
    )
    columns = {"label": labels, "image": rows}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return path


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def file(tmp_path) -> Path:
    return write(tmp_path / "train.parquet", [png(10 * i) for i in range(20)], [i % 2 for i in range(20)])


def test_images_labels_and_class_names_of_a_file_are_read(file):
    dataset = HuggingFace(path=str(file), test_split=None, image_size=8)

    train, test = dataset.train(), dataset.test()

    assert (len(train), len(test)) == (16, 4)
    assert train.shape == (3, 8, 8)
    assert train.class_names == ("cat", "dog")
    assert {int(image.mean()) for image in (*train.images, *test.images)} == {10 * i for i in range(20)}
    assert all(image.mean() // 10 % 2 == label for image, label in zip(train.images, train.labels, strict=True))


def test_images_are_resized_by_the_interpolation_of_the_dataset(tmp_path):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(256, size=(20, 20, 3), dtype=np.uint8)).save(out, "PNG")
    rows = [{"bytes": out.getvalue(), "path": None}] * 4
    path = write(tmp_path / "noise.parquet", rows, [0, 1, 0, 1])

    dataset = HuggingFace(path=str(path), test_split=None, image_size=8, interpolation="bilinear")

    expected = decode(out, size=8, channels=3, interpolation="bilinear")
    assert np.array_equal(dataset.train().images[0], expected)


def test_a_directory_has_the_splits_that_its_files_are_named_after(file, tmp_path):
    write(tmp_path / "test.parquet", [png(3), png(5)], [0, 1])

    dataset = HuggingFace(path=str(tmp_path), image_size=8, grayscale=True)

    assert dataset.train().shape == (1, 8, 8)
    assert dataset.test().images[:, 0, 0, 0].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("kind", "labels", "names"), [("string", ["b", "a", "b"], ("a", "b")), ("int64", [7, 3, 7], ("3", "7"))]
)
def test_labels_without_names_name_themselves(kind, labels, names, tmp_path):
    path = write(tmp_path / "x.parquet", [png(i) for i in range(3)], labels, label=datasets.Value(kind))

    train = HuggingFace(path=str(path), label_column="label", test_split="train", image_size=8).train()

    assert train.class_names == names
    assert [train.class_names[label] for label in train.labels] == [str(label) for label in labels]


def hostile_path(path: Path) -> None:
    write(path, [{"bytes": None, "path": "/etc/hostname"}] * 2, [0, 1])


BAD = {
    "noise": (lambda p: p.write_bytes(np.random.default_rng(0).bytes(500)), "cannot be read: "),
    "empty": (lambda p: p.write_bytes(b""), "cannot be read: "),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:-20]), "cannot be read: "),
    "gone": (lambda p: p.unlink(), "does not exist"),
    "a damaged image": (lambda p: write(p, [{"bytes": b"not an image", "path": None}], [0]), "row 0 cannot be read as"),
    "a path to another file": (hostile_path, "row 0 has no image in the column image"),
    "no images": (lambda p: write(p, ["a"], [0], image=datasets.Value("string")), "has no column of kind Image"),
    "no labels": (lambda p: write(p, [png(1)], [0], label=datasets.Value("int64")), "has no column of kind ClassLabel"),
    "no rows": (lambda p: write(p, [], []), "contains no images|cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_reported_in_one_line(case, file):
    change, message = BAD[case]
    change(file)
    with pytest.raises(DataError, match=message) as caught:
        HuggingFace(path=str(file), test_split=None).train()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, r"set dataset\.path to a name on the hub or a parquet file\."),
        ({"train_split": "trian", "test_split": "train"}, None),
        ({"test_split": "test"}, r"has no split 'test'.*set dataset\.test_split=null"),
        ({"image_column": "imgae"}, r"has no column 'imgae', set as dataset\.image_column\. Did you mean image\?"),
    ],
)
def test_a_wrong_name_is_reported(settings, message, file):
    dataset = HuggingFace(**{"path": str(file), "test_split": None, **settings})
    if message is None:  # a single file is the requested split
        assert len(dataset.train()) == 20
        return
    with pytest.raises(DataError, match=message):
        dataset.train()
        dataset.test()


def test_without_the_library_the_command_that_installs_it_is_named(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ResourceError, match=r"pip install datasets"):
        HuggingFace(path=str(file)).train()
