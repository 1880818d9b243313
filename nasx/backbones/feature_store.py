"""Feature maps on disk, found by the content of an image: computed once for all runs, commands and workers.

A store belongs to one backbone (weights, structure and preprocessing), one shape of images and one kind of device. For
each cut it has two files to which rows are appended: the maps as float16, and a record of each row: the digest of the
image, and a checksum of the map. A digest covers the pixels, and for an augmented view its number and the augmentation,
so old maps are never read for a changed picture or setting. Records are appended after the maps are on disk: rows of an
interrupted computation are kept, incomplete ones are removed when it is continued.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Final
from urllib.parse import quote
from zlib import crc32

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from nasx.backbones.store_folder import DIGESTS, MORE_ROOM, RECORD_BYTES, Notify, Shape, cannot_store
from nasx.data.features import open_features
from nasx.errors import ResourceError

KEY_BYTES: Final = 16  # of the digest of an image; 4 bytes of checksum follow
NOTICE_SECONDS: Final = 2.0  # of waiting for another process before it is reported
_LOCK = "lock"


class FeatureStore:
    """Feature maps of one backbone for images of one shape."""

    def __init__(self, directory: Path, shapes: Mapping[str, Shape]) -> None:
        """Store the arguments.

        Args:
            directory: of the store; see `nasx.backbones.store_folder.use_store`.
            shapes: of the feature maps, by cut.
        """
        self.directory = directory
        self.shapes = shapes

    def find(self, cut: str, keys: Sequence[bytes]) -> tuple[NDArray[np.int64], int]:
        """Return the row of each digest at a cut, (n,), -1 if there is none, and the number of damaged maps.

        Reads the maps and compares their checksums: damaged ones count as missing.

        Raises:
            ResourceError: if the files cannot be read.
        """
        records = self._records(cut)
        known = {record[:KEY_BYTES]: row for row, record in enumerate(records)}
        rows = np.fromiter((known.get(key, -1) for key in keys), dtype=np.int64, count=len(keys))
        maps = self._mapped(cut, len(records))
        damaged = {row for row in set(rows.tolist()) - {-1} if _record(records[row], maps[row]) != records[row]}
        rows[np.isin(rows, list(damaged))] = -1
        return rows, len(damaged)

    def open(self, cut: str) -> NDArray[np.float16]:
        """Return all maps at a cut, (rows, channels, height, width), mapped from the file."""
        return self._mapped(cut, len(self._records(cut)))

    def bytes_per_image(self, cuts: Sequence[str]) -> int:
        """Return the bytes that one view of one image takes at some cuts."""
        return sum(self._map_bytes(cut) + RECORD_BYTES for cut in cuts)

    def append(self, cut: str, keys: Sequence[bytes], maps: NDArray[np.float16]) -> None:
        """Append maps, (n, channels, height, width), with their records. Needs the lock.

        Raises:
            ResourceError: if the disk is full or read-only; earlier maps stay.
        """
        maps = np.ascontiguousarray(maps)
        try:
            with self._maps_file(cut).open("ab") as file:
                file.write(maps.data)
                file.flush()
                os.fsync(file.fileno())
            with self._records_file(cut).open("ab") as file:
                file.write(b"".join(map(_record, keys, maps)))
        except OSError as error:
            raise ResourceError(
                f"the features cannot be written to {self.directory} ({error.strerror}); those so far are kept. "
                f"{MORE_ROOM}"
            ) from error

    @contextmanager
    def locked(self, notify: Notify) -> Iterator[None]:
        """Lock the store for writing in the block; wait for another process that computes maps.

        Raises:
            ResourceError: if the directory cannot be written, or has no locks.
        """
        lock = FileLock(self.directory / _LOCK)
        try:
            try:
                lock.acquire(timeout=NOTICE_SECONDS)
            except Timeout:
                notify("another process computes features by this backbone: waiting for it.")
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise cannot_store(self.directory, error) from error
        try:
            for cut in self.shapes:
                self._cut_off_incomplete(cut)
            yield
        finally:
            lock.release()

    def _records(self, cut: str) -> list[bytes]:
        """Return the records of the complete rows at a cut."""
        try:
            content = self._records_file(cut).read_bytes()
            n_maps = self._maps_file(cut).stat().st_size // self._map_bytes(cut)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ResourceError(
                f"the features in {self.directory} cannot be read ({error.strerror}): check the permissions, or clear "
                "the cache: nasx data cache --clear."
            ) from error
        n = min(len(content) // RECORD_BYTES, n_maps)
        return [content[RECORD_BYTES * row : RECORD_BYTES * (row + 1)] for row in range(n)]

    def _mapped(self, cut: str, n_rows: int) -> NDArray[np.float16]:
        try:
            return open_features(self._maps_file(cut), (n_rows, *self.shapes[cut]))
        except (OSError, ValueError) as error:  # removed or truncated at this moment
            raise ResourceError(
                f"the features in {self.directory} cannot be read ({error}): run the command again."
            ) from error

    def _cut_off_incomplete(self, cut: str) -> None:
        """Remove maps without a record, and records without a map."""
        n = len(self._records(cut))
        for file, size in (
            (self._maps_file(cut), n * self._map_bytes(cut)),
            (self._records_file(cut), n * RECORD_BYTES),
        ):
            try:
                if file.exists() and file.stat().st_size != size:
                    os.truncate(file, size)
            except OSError as error:
                raise cannot_store(self.directory, error) from error

    def _map_bytes(self, cut: str) -> int:
        return 2 * prod(self.shapes[cut])

    def _maps_file(self, cut: str) -> Path:
        return self.directory / f"{quote(cut, safe='')}.float16"

    def _records_file(self, cut: str) -> Path:
        return self.directory / f"{quote(cut, safe='')}{DIGESTS}"


def _record(key: bytes, maps: NDArray[np.float16]) -> bytes:
    """Return the record of a row: the digest of the image, and the checksum of digest and map.

    Args:
        key: the digest; bytes after it are ignored.
        maps: (channels, height, width), contiguous.
    """
    key = key[:KEY_BYTES]
    return key + crc32(maps.data, crc32(key)).to_bytes(4)
