"""Messages for damaged and missing files of datasets: one line that names the file."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from nasx.data.cifar import CIFAR10, CIFAR100
from nasx.data.mnist import MNIST, FashionMNIST
from nasx.errors import DataError
from tests.factories.published_formats import (
    cifar_batch,
    idx_bytes,
    python2_pickle,
    write_cifar10,
    write_cifar100,
    write_idx,
)

READERS = (CIFAR10, CIFAR100, MNIST, FashionMNIST)


def assert_one_line(error: DataError, *words: str) -> None:
    message = str(error)
    assert "\n" not in message
    assert len(message) < 400
    assert message.endswith(".")
    for word in words:
        assert word in message


# --- the root -------------------------------------------------------------------------------------------------------


ROOTS = {  # name under the test's directory; None, "": as it is
    None: r"needs its files: set dataset\.root=DIR, the folder that contains",
    "": r"needs its files: set dataset\.root=DIR, the folder that contains",
    "nowhere": r"nowhere does not exist: .* needs dataset\.root=DIR",
    "file": r"file is not a folder: .* needs dataset\.root=DIR",
    ".": r"is missing: .* needs dataset\.root=DIR, .* with all its files\.",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("root", ROOTS)
def test_a_root_without_the_files_is_reported(reader, root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=ROOTS[root]) as caught:
        reader(root=str(tmp_path / root) if root else root).train()
    assert_one_line(caught.value, reader.title, reader.folder)


# --- any file -------------------------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def last_byte_lost(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(1000))


def a_web_page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404</body></html>")


DAMAGES = {
    missing: "is missing: .* needs dataset.root=DIR",
    a_folder: "cannot be read: Is a directory",
    empty: "Download the file again",
    halved: "Download the file again",
    last_byte_lost: "Download the file again",
    noise: "Download the file again",
    a_web_page: "Download the file again",
}
FILES = [
    (CIFAR10, "batches.meta"),
    (CIFAR10, "data_batch_1"),
    (CIFAR10, "data_batch_5"),
    (CIFAR100, "meta"),
    (CIFAR100, "train"),
    (MNIST, "train-images-idx3-ubyte"),
    (MNIST, "train-labels-idx1-ubyte"),
    (FashionMNIST, "train-images-idx3-ubyte.gz"),
    (FashionMNIST, "train-labels-idx1-ubyte.gz"),
]


def write(reader, root: Path) -> Path:
    """Write the published files of `reader` to `root`; return their folder."""
    if reader is CIFAR10:
        write_cifar10(root)
    elif reader is CIFAR100:
        write_cifar100(root)
    else:
        write_idx(root / reader.folder, gzipped=reader is FashionMNIST)
    return root / reader.folder


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(("reader", "file"), FILES, ids=lambda value: getattr(value, "name", value))
def test_a_bad_file_is_reported_in_one_line(reader, file, damage, tmp_path):
    folder = write(reader, tmp_path)
    damage(folder / file)
    with pytest.raises(DataError, match=DAMAGES[damage]) as caught:
        reader(root=str(tmp_path)).train()
    assert_one_line(caught.value, str(folder / file.removesuffix(".gz")))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_is_not_readable_is_named(tmp_path):
    folder = write(MNIST, tmp_path)
    (folder / "train-images-idx3-ubyte").chmod(0)
    with pytest.raises(DataError, match="train-images-idx3-ubyte cannot be read: Permission denied"):
        MNIST(root=str(tmp_path)).train()


# --- CIFAR: pickles of the wrong content ----------------------------------------------------------------------------

GOOD = cifar_batch(20, 10, 1)
BAD_BATCHES = {
    "no pixels": ({"labels": GOOD["labels"]}, r"expected data of shape \(n, 3072\) and type uint8"),
    "pixels as a list": (GOOD | {"data": [1, 2]}, "expected data of shape"),
    "pixels as floats": (GOOD | {"data": GOOD["data"].astype(float)}, "expected data of shape"),
    "wide integers": (GOOD | {"data": GOOD["data"].astype(np.int64)}, "expected data of shape"),
    "too few pixels": (GOOD | {"data": GOOD["data"][:, :3000]}, "expected data of shape"),
    "images unrolled": (GOOD | {"data": GOOD["data"].reshape(20, 3, 32, 32)}, "expected data of shape"),
    "one image lost": (GOOD | {"data": GOOD["data"][1:]}, "expected 20 images, got 19"),
    "one label lost": (GOOD | {"labels": GOOD["labels"][1:]}, "one label per image, got 20 images and 19 labels"),
    "no labels": ({"data": GOOD["data"]}, "a list of integers as labels"),
    "labels as words": (GOOD | {"labels": ["cat"] * 20}, "a list of integers as labels"),
    "labels as floats": (GOOD | {"labels": [0.5] * 20}, "a list of integers as labels"),
    "labels as booleans": (GOOD | {"labels": [True] * 20}, "a list of integers as labels"),
    "ragged labels": (GOOD | {"labels": [[1], [2, 3]] * 10}, "a list of integers as labels"),
    "nested labels": (GOOD | {"labels": [[1]] * 20}, "a list of integers as labels"),
    "labels as a mapping": (GOOD | {"labels": {"a": 1}}, "a list of integers as labels"),
    "label too large": (GOOD | {"labels": [10] * 20}, "expected labels 0 to 9, got 10 at image 0"),
    "label negative": (GOOD | {"labels": [0] * 19 + [-1]}, "expected labels 0 to 9, got -1 at image 19"),
    "label huge": (GOOD | {"labels": [2**80] * 20}, "a list of integers as labels"),
    "a list": ([GOOD], "expected a dictionary, got list"),
    "a number": (7, "expected a dictionary, got int"),
    "keys that are no words": ({1: 2}, "expected text, got int"),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_a_batch_of_the_wrong_content_says_what_was_expected(case, tmp_path):
    content, message = BAD_BATCHES[case]
    folder = write(CIFAR10, tmp_path)
    (folder / "data_batch_1").write_bytes(pickle.dumps(content, protocol=4))
    with pytest.raises(DataError, match=message) as caught:
        CIFAR10(root=str(tmp_path)).train()
    assert_one_line(caught.value, str(folder / "data_batch_1"))


@pytest.mark.parametrize("names", [None, [], "abc", [1, 2], [b"cat", None]])
def test_a_meta_file_without_class_names_is_reported(names, tmp_path):
    folder = write(CIFAR10, tmp_path)
    python2_pickle({"label_names": names, "num_cases_per_batch": 20}, folder / "batches.meta")
    with pytest.raises(DataError, match="expected the names of the classes in label_names"):
        CIFAR10(root=str(tmp_path)).train()


def test_an_empty_batch_is_reported(tmp_path):
    folder = write(CIFAR100, tmp_path)
    python2_pickle({"data": np.zeros((0, 3072), np.uint8), "fine_labels": []}, folder / "train")
    with pytest.raises(DataError, match="it contains no images"):
        CIFAR100(root=str(tmp_path)).train()


# --- idx: headers and sizes -----------------------------------------------------------------------------------------

IMAGES = np.zeros((60, 28, 28), np.uint8)
BAD_IMAGES = {
    "labels in place of images": (idx_bytes(np.zeros(60)), "expected the magic number 2051, got 2049"),
    "another type of value": (b"\0\0\x0d\3" + idx_bytes(IMAGES)[4:], "expected the magic number 2051, got 3331"),
    "little endian": (struct.pack("<4I", 2051, 60, 28, 28) + bytes(60 * 784), "magic number 2051, got 50855936"),
    "half a header": (idx_bytes(IMAGES)[:10], "ends inside its header, after 10 bytes"),
    "one value missing": (idx_bytes(IMAGES)[:-1], "declares 47040 values, got 47039"),
    "one value more": (idx_bytes(IMAGES) + b"\0", "declares 47040 values, got more"),
    "forged length": (struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(100), "values, got 100"),
    "no images": (idx_bytes(IMAGES[:0]), "it contains no images"),
    "images without height": (idx_bytes(IMAGES[:, :0]), "it contains no images"),
    "fewer images than labels": (idx_bytes(IMAGES[:59]), "one label per image, got 59 images and 60 labels"),
}


@pytest.mark.parametrize("reader", [MNIST, FashionMNIST])
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_an_idx_file_of_the_wrong_content_says_what_was_expected(reader, case, tmp_path):
    content, message = BAD_IMAGES[case]
    folder = write(reader, tmp_path)
    if reader is FashionMNIST:
        (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    else:
        (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        reader(root=str(tmp_path)).train()
    assert_one_line(caught.value, str(folder))


def test_an_idx_label_outside_the_classes_is_reported(tmp_path):
    folder = write(MNIST, tmp_path)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(60, 10)))
    with pytest.raises(DataError, match="expected labels 0 to 9, got 10 at image 0"):
        MNIST(root=str(tmp_path)).train()
