"""Labeled images, in memory or mapped from .npy files: the type that readers return and networks are trained on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from nasx import machine
from nasx.errors import ResourceError

if TYPE_CHECKING:
    from nasx.data.features import FeatureSource

MEMORY_SHARE: Final = (
    0.25  # of the memory of this process: larger sets of images stay on disk, unless the config sets memory_map
)
CHUNK: Final = 256  # images copied at a time


def stays_on_disk(memory_map: bool | None, n_bytes: int) -> bool:
    """Return whether images of `n_bytes` stay on disk: as `memory_map` says, or by their size if it is None."""
    return n_bytes > MEMORY_SHARE * machine.memory().amount if memory_map is None else memory_map


def open_rows(file: Path) -> NDArray[np.uint8]:
    """Return the array in an .npy file, mapped read-only."""
    return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def write_rows(target: Path, shape: tuple[int, ...], rows: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Write an .npy file atomically, without holding all of it in memory, and return it mapped.

    Writes to a file, not through a memory map: that crashes when the disk is full.

    Args:
        target: the file.
        shape: of the whole array.
        rows: arrays that make up the whole when concatenated.

    Raises:
        ResourceError: if the disk is full or read-only.
    """
    part = target.with_suffix(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for row in rows:
                    file.write(np.ascontiguousarray(row).tobytes())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{target.parent} cannot store the resized images ({error.strerror or error}): set dataset.cache=DIR."
        ) from error
    return open_rows(target)


def take_rows(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images at `indices`, in that order, mapped from a file next to that of `images`.

    The file is written once per set of indices and found again by their hash.
    """
    assert isinstance(images, np.memmap) and images.filename is not None
    source = Path(images.filename)
    digest = hashlib.sha256(np.ascontiguousarray(indices, dtype=np.int64).tobytes()).hexdigest()[:12]
    target, shape = source.with_name(f"{source.stem}-{digest}.npy"), (len(indices), *images.shape[1:])
    try:
        found = open_rows(target)
        if found.shape == shape:
            return found
    except (OSError, ValueError, EOFError):  # absent, or truncated: write it again
        pass
    return write_rows(target, shape, (images[indices[i : i + CHUNK]] for i in range(0, len(indices), CHUNK)))


IMAGE_SIZES = (8, 224)  # smallest and largest side in pixels that the networks support


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images of equal size with one label each."""

    images: NDArray[np.uint8]  # (n, channels, height, width), 0 to 255
    labels: NDArray[np.int64]  # (n,), 0 <= label < len(class_names)
    class_names: tuple[str, ...]
    on_disk: bool = False  # `images` is mapped from a file and never loaded as a whole: batches are read from it
    files: tuple[str, ...] = ()  # of each image, relative to the root of the dataset, with "/"; (): no files
    indices: NDArray[np.int64] | None = None  # (n,) position of each image in what was read; None: 0, 1, ..., n - 1

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        size = " x ".join(map(str, self.shape))
        return f"<nasx images: {len(self):,} of {size}, {self.n_classes} classes>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        return self.images.shape[1:]

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def positions(self) -> NDArray[np.int64]:
        """(n,) position of each image in what was read, before splits and corrections."""
        return np.arange(len(self)) if self.indices is None else self.indices

    def image_name(self, index: int) -> str:
        """Return the file of an image, or its position if the images have no files: `corrections` accepts both."""
        return self.files[index] if self.files else str(self.positions[index])

    def take(self, indices: NDArray[np.int64]) -> LabeledImages:
        """Return the images at `indices`, in that order; on disk if these are."""
        return replace(
            self,
            images=take_rows(self.images, indices) if self.on_disk else self.images[indices],
            labels=self.labels[indices],
            files=tuple(self.files[i] for i in indices) if self.files else (),
            indices=self.positions[indices],
        )

    def __reduce__(self) -> Any:
        """Pickle images on disk as the path of their file: numpy would send all pixels."""
        facts = (self.labels, self.class_names, self.on_disk, self.files, self.indices)
        if not self.on_disk:
            return LabeledImages, (self.images, *facts)
        assert isinstance(self.images, np.memmap)
        return _reopened, (self.images.filename, *facts)


def _reopened(file: str, *facts: Any) -> LabeledImages:
    return LabeledImages(open_rows(Path(file)), *facts)


@dataclass(frozen=True, eq=False)
class SearchData:
    """Data of a trial: training and validation images, and the scale of their pixels. Never the test images."""

    train: LabeledImages
    validation: LabeledImages
    mean: NDArray[np.float32]  # (channels,) of the training images, pixels scaled to [0, 1]
    std: NDArray[np.float32]  # (channels,) of the same pixels; 1 for a constant channel
    # source of the feature maps of a frozen backbone, which is trained on instead of images; None: no backbone
    features: FeatureSource | None = None

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        return f"<nasx data: training {self.train}, validation {self.validation}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.train.shape

    @property
    def n_classes(self) -> int:
        return self.train.n_classes
