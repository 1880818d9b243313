"""MNIST and Fashion-MNIST as published: idx files, plain or gzipped, of 28x28 gray images.

An idx file is a magic number (two zero bytes, the type of the values, the number of dimensions), the dimensions as
big-endian 32-bit integers, and the values (LeCun, Cortes and Burges 1998, website of MNIST).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from nasx.config.settings import settings
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages
from nasx.data.files import checked_labels, damaged_file, find_folder, read_errors

_UINT8 = 0x08  # the type of the values, in the third byte of the magic number
_CHUNK = 1 << 20  # bytes
_DIGITS = Augmentation(crop_padding=0.125, horizontal_flip=False, cutout=0.25)  # a mirrored digit is not a digit
_CLOTHES = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.25)


@settings
class _IDX:
    """Base of both: a folder with four files, images and labels of the training and the test part."""

    root: str | None = None  # the published folder, or the folder that contains it

    places: ClassVar[tuple[str, ...]] = ("root",)
    name: ClassVar[str]
    title: ClassVar[str]
    folder: ClassVar[str]
    class_names: ClassVar[tuple[str, ...]]

    def train(self) -> LabeledImages:
        return self._read("train")

    def test(self) -> LabeledImages:
        return self._read("t10k")

    def _read(self, part: str) -> LabeledImages:
        folder = find_folder(self.title, self.root, self.folder)
        images, images_path = self._read_file(folder / f"{part}-images-idx3-ubyte", n_dimensions=3)
        raw_labels, labels_path = self._read_file(folder / f"{part}-labels-idx1-ubyte", n_dimensions=1)
        if images.size == 0:
            raise damaged_file(images_path, "it contains no images")
        labels = checked_labels(labels_path, raw_labels, len(images), self.class_names)
        return LabeledImages(images[:, np.newaxis], labels, self.class_names)

    def _read_file(self, path: Path, *, n_dimensions: int) -> tuple[NDArray[np.uint8], Path]:
        """Return the array in `path`, or in its gzipped form if only that exists, and the path that was read."""
        gzipped = path.with_name(f"{path.name}.gz")
        if not path.exists() and gzipped.exists():
            path = gzipped
        with read_errors(path, self.title, self.folder):
            return read_idx(path, n_dimensions=n_dimensions), path


@settings
class MNIST(_IDX):
    """MNIST: 60,000 training and 10,000 test images of handwritten digits."""

    augmentation: Augmentation = _DIGITS

    name = "mnist"
    title = "MNIST"
    folder = "MNIST/raw"
    class_names = tuple("0123456789")


@settings
class FashionMNIST(_IDX):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 60,000 training and 10,000 test images of ten kinds of clothes."""

    augmentation: Augmentation = _CLOTHES

    name = "fashion_mnist"
    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"
    class_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )


def read_idx(path: Path, *, n_dimensions: int) -> NDArray[np.uint8]:
    """Return the uint8 array in an idx file, gzipped if its suffix is .gz. Raises DataError if it is damaged."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            header = file.read(4 + 4 * n_dimensions)
            if len(header) < 4 + 4 * n_dimensions:
                raise damaged_file(path, f"it ends inside its header, after {len(header)} bytes")
            magic, *shape = struct.unpack(f">{1 + n_dimensions}I", header)
            if magic != (expected := _UINT8 << 8 | n_dimensions):
                raise damaged_file(path, f"expected the magic number {expected}, got {magic}")
            content = _read_at_most(file, math.prod(shape) + 1)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise damaged_file(path, f"it cannot be unzipped ({error})") from error
    if len(content) != math.prod(shape):
        more = "more" if len(content) > math.prod(shape) else f"{len(content)}"
        raise damaged_file(path, f"its header declares {math.prod(shape)} values, got {more}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_at_most(file: BinaryIO | gzip.GzipFile, n: int) -> bytes:
    """Read up to `n` bytes in pieces, so that a forged header cannot allocate more memory than the file has bytes."""
    pieces = []
    while n > 0 and (piece := file.read(min(n, _CHUNK))):
        pieces.append(piece)
        n -= len(piece)
    return b"".join(pieces)
