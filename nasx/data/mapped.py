"""Images that stay on disk: .npy files mapped into memory, for datasets that are larger than it.

What is read of a mapped file, the operating system keeps as long as there is room, and drops first when there is not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx.errors import ResourceError

SHARE: Final = 0.25  # of the machine's memory: images that take more stay on disk, unless the config says otherwise
CHUNK: Final = 256  # images copied at a time


def stays_on_disk(memory_map: bool | None, n_bytes: int) -> bool:
    """Whether images of so many bytes are streamed from disk; `memory_map`: as the config has it, None: by the size."""
    return n_bytes > SHARE * _memory() if memory_map is None else memory_map


def _memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def open_rows(file: Path) -> NDArray[np.uint8]:
    """The array in an .npy file, mapped and not to be written."""
    return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def write_rows(target: Path, shape: tuple[int, ...], rows: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """An .npy file of `rows`, together of that shape, there as a whole or not at all; gives it mapped.

    Raises ResourceError where the disk does not take it. (Writing through a map crashes when the disk is full.)
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
            f"{target.parent} cannot take the resized images ({error.strerror or error}): give dataset.cache=DIR."
        ) from error
    return open_rows(target)


def take_rows(images: NDArray[np.uint8], indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The images at `indices`, in that order, in a mapped file of their own beside that of `images`.

    Copied once a choice of indices: the file is found again by their hash.
    """
    assert isinstance(images, np.memmap) and images.filename is not None
    source = Path(images.filename)
    digest = hashlib.sha256(np.ascontiguousarray(indices, dtype=np.int64).tobytes()).hexdigest()[:12]
    target, shape = source.with_name(f"{source.stem}-{digest}.npy"), (len(indices), *images.shape[1:])
    try:
        found = open_rows(target)
        if found.shape == shape:
            return found
    except (OSError, ValueError, EOFError):  # not there yet, or cut short from outside: made anew
        pass
    return write_rows(target, shape, (images[indices[i : i + CHUNK]] for i in range(0, len(indices), CHUNK)))
