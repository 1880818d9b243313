"""Feature maps on disk, found by the content of an image: computed once for all runs, commands and workers.

A store belongs to one backbone (weights and preprocessing) and one shape of images. For each cut it has two files to
which rows are appended: the maps as float16, and the digests of the images that they belong to. A digest covers the
pixels, and for an augmented view its number and the augmentation, so a changed picture or setting never finds old maps.
Digests are appended after the maps are on disk: rows of an interrupted computation are kept, incomplete ones are cut
off when the computation goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from nasx.data.features import open_features
from nasx.errors import ResourceError
from nasx.files import translate_disk_errors, write_atomically

FOLDER: Final = "features"  # in the cache directory
KEY_BYTES: Final = 16  # of the digest of an image
LIMIT: Final = 20_000_000_000  # bytes of all stores; those that were not used for the longest time are removed
SPARE: Final = 500_000_000  # bytes of the disk that stay free
NOTICE_SECONDS: Final = 2.0  # of waiting for another process before it is reported
_ABOUT, _LOCK = "about.json", "lock"

Shape = tuple[int, int, int]  # (channels, height, width)
Notify = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """Facts about a store, for people."""

    backbone: str
    shape: Shape  # of the images
    datasets: tuple[str, ...]  # names of those whose images were computed


@dataclass(frozen=True)
class StoredFeatures:
    """A store on disk, for a list."""

    directory: Path
    about: About
    maps: Mapping[str, int]  # number of maps at each cut
    n_bytes: int
    used: float  # time of the last use, seconds since the epoch


_ABOUT_RECORD: Final = TypeAdapter(About)


class FeatureStore:
    """Feature maps of one backbone for images of one shape."""

    def __init__(self, directory: Path, shapes: Mapping[str, Shape]) -> None:
        """Open or create a store.

        Args:
            directory: of the store.
            shapes: of the feature maps, by cut.
        """
        self.directory = directory
        self.shapes = shapes

    def find(self, cut: str, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the row of each digest at a cut, (n,); -1: there is none."""
        known = self._known(cut)
        return np.fromiter((known.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))

    def open(self, cut: str) -> NDArray[np.float16]:
        """Return all maps at a cut, (rows, channels, height, width), mapped from the file."""
        return open_features(self._maps_file(cut), (len(self._known(cut)), *self.shapes[cut]))

    def bytes_per_image(self, cuts: Sequence[str]) -> int:
        """Return the bytes that one view of one image takes at some cuts."""
        return sum(2 * prod(self.shapes[cut]) + KEY_BYTES for cut in cuts)

    def append(self, cut: str, keys: Sequence[bytes], maps: NDArray[np.float16]) -> None:
        """Append maps, (n, channels, height, width), with their digests. Needs the lock.

        Raises:
            ResourceError: if the disk is full or read-only.
        """
        with translate_disk_errors(str(self.directory)):
            with self._maps_file(cut).open("ab") as file:
                file.write(np.ascontiguousarray(maps).data)
                file.flush()
                os.fsync(file.fileno())
            with self._keys_file(cut).open("ab") as file:
                file.write(b"".join(keys))

    @contextmanager
    def locked(self, notify: Notify) -> Iterator[None]:
        """Lock the store for writing in the block; wait for another process that computes maps.

        Raises:
            ResourceError: if the directory cannot be written, or has no locks.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.directory / _LOCK)
            try:
                lock.acquire(timeout=NOTICE_SECONDS)
            except Timeout:
                notify("another process computes features of this backbone: waiting for it.")
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ResourceError(
                f"{self.directory} cannot store features ({reason}): set another directory by dataset.cache=DIR or "
                "XDG_CACHE_HOME=DIR."
            ) from error
        try:
            for cut in self.shapes:
                self._cut_off_incomplete(cut)
            yield
        finally:
            lock.release()

    def record_use(self, backbone: str, shape: Shape, dataset: str) -> None:
        """Record the dataset, and the time as that of the last use."""
        file = self.directory / _ABOUT
        before = _read_about(file)
        datasets = () if before is None else before.datasets
        if dataset not in datasets:
            about = About(backbone, shape, (*datasets, dataset))
            write_atomically(file, json.dumps(_ABOUT_RECORD.dump_python(about)).encode())
        self.touch()

    def touch(self) -> None:
        """Record this time as that of the last use."""
        with suppress(OSError):  # a cache that may only be read
            os.utime(self.directory / _ABOUT)

    def check_room(self, n_bytes: int, notify: Notify) -> None:
        """Make room for some more bytes: remove other stores above the limit, oldest first.

        Raises:
            ResourceError: if there is no room on the disk or below the limit.
        """
        own = _size(self.directory)
        others = sorted(
            (each for each in list_stores(self.directory.parent) if each.directory != self.directory),
            key=lambda each: each.used,
        )
        while others and own + n_bytes + sum(each.n_bytes for each in others) > LIMIT:
            oldest = others.pop(0)
            if remove_store(oldest.directory):
                notify(f"removed the cached features of {', '.join(oldest.about.datasets)}: they were the oldest.")
        free = min(shutil.disk_usage(self.directory).free - SPARE, LIMIT - own)
        if n_bytes > free:
            raise ResourceError(
                f"{self.directory} has no room for the features: {_gigabytes(n_bytes)} are needed, "
                f"{_gigabytes(max(0, free))} can be used. Use smaller pictures (dataset.image_size), fewer views "
                "(training.views) or fewer cuts (space.cuts); another directory (dataset.cache=DIR); or clear the "
                "cache: nasx data cache --clear."
            )

    def _known(self, cut: str) -> dict[bytes, int]:
        """Return the row of each digest at a cut."""
        try:
            content = self._keys_file(cut).read_bytes()
            n_maps = self._maps_file(cut).stat().st_size // (2 * prod(self.shapes[cut]))
        except FileNotFoundError:
            return {}
        n = min(len(content) // KEY_BYTES, n_maps)
        return {content[KEY_BYTES * row : KEY_BYTES * (row + 1)]: row for row in range(n)}

    def _cut_off_incomplete(self, cut: str) -> None:
        """Remove maps without a digest, and digests without a map."""
        n, row_bytes = len(self._known(cut)), 2 * prod(self.shapes[cut])
        for file, size in ((self._maps_file(cut), n * row_bytes), (self._keys_file(cut), n * KEY_BYTES)):
            if file.exists() and file.stat().st_size != size:
                os.truncate(file, size)

    def _maps_file(self, cut: str) -> Path:
        return self.directory / f"{cut}.float16"

    def _keys_file(self, cut: str) -> Path:
        return self.directory / f"{cut}.digests"


def list_stores(folder: Path) -> list[StoredFeatures]:
    """Return the stores in a folder, the last used first."""
    found = []
    for directory in folder.iterdir() if folder.is_dir() else ():
        about = _read_about(directory / _ABOUT)
        if about is None:
            continue
        maps = {file.stem: file.stat().st_size // KEY_BYTES for file in sorted(directory.glob("*.digests"))}
        used = (directory / _ABOUT).stat().st_mtime
        found.append(StoredFeatures(directory, about, maps, _size(directory), used))
    return sorted(found, key=lambda each: -each.used)


def remove_store(directory: Path) -> bool:
    """Remove a store, and return whether it was removed: not while another process writes to it."""
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError, NotImplementedError):
        return False
    try:
        gone = directory.with_name(f".{directory.name}.{os.getpid()}.{time.monotonic_ns()}")
        directory.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    except OSError:
        return False
    finally:
        lock.release()
    return True


def _read_about(file: Path) -> About | None:
    try:
        return _ABOUT_RECORD.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir() if file.is_file()) if directory.is_dir() else 0


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
