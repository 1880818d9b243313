"""The directory of all feature stores: a list of them, protection of those in use, and removal of old ones."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote
from weakref import WeakValueDictionary, finalize

from pydantic import TypeAdapter

from nasx.data.download import cache_folder
from nasx.errors import ResourceError, RunError
from nasx.files import read_record, write_record

FOLDER: Final = "features"  # in the cache directory
RECORD_BYTES: Final = 20  # of a row: digest of the image, checksum of the map
LIMIT: Final = 20_000_000_000  # bytes of all stores; those that were not used for the longest time are removed
SPARE: Final = 500_000_000  # bytes of the disk that stay free
IN_USE: Final = "is in use by another process"
DIGESTS: Final = ".digests"  # suffix of the files that contain the records of a cut
_ABOUT, _USED = "about.json", "used"
_NAME: Final = re.compile(r"[0-9a-f]{16}")  # of a store
_REMOVED: Final = re.compile(r"\.[0-9a-f]{16}\.\d+\.\d+")  # of a store whose removal was interrupted

Shape = tuple[int, int, int]  # (channels, height, width)
Notify = Callable[[str], None]


@dataclass(frozen=True)
class About:
    """Facts about a store, for people."""

    backbone: str = "unknown"
    shape: Shape = (0, 0, 0)  # of the images
    datasets: tuple[str, ...] = ()  # names of those whose images were computed


@dataclass(frozen=True)
class StoredFeatures:
    """A store on disk, for a list."""

    directory: Path
    about: About
    maps: Mapping[str, int]  # number of maps at each cut
    n_bytes: int
    used: float  # time of the last use, seconds since the epoch


_ABOUT_RECORD: Final = TypeAdapter(About)


def feature_folder(cache: Path | None) -> Path:
    """Return the directory of the stores.

    Args:
        cache: setting of the dataset; None: the user's cache directory.
    """
    return (cache_folder() if cache is None else cache) / FOLDER


class Use:
    """Shared lock on a store: no process removes the store as long as the object exists."""

    def __init__(self, descriptor: int) -> None:
        finalize(self, os.close, descriptor)


_uses: WeakValueDictionary[Path, Use] = WeakValueDictionary()


def use_store(directory: Path) -> Use:
    """Create a store if there is none, record this time as that of its last use, and protect it from removal.

    Raises:
        ResourceError: if it can be neither created nor read.
    """
    found = _uses.get(directory)
    if found is None:
        try:
            found = _uses[directory] = Use(_locked_file(directory))
        except OSError as error:
            raise cannot_store(directory, error) from error
    with suppress(OSError):  # a cache that may only be read
        os.utime(directory / _USED)
    return found


def _locked_file(directory: Path) -> int:
    """Return the descriptor of the file whose lock says that a store is in use."""
    file = directory / _USED
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # a cache that may only be read
            descriptor = os.open(file, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks: there, nothing is removed either
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):  # another process has removed the store meanwhile
            if os.fstat(descriptor).st_ino == file.stat().st_ino:
                return descriptor
        os.close(descriptor)


def cannot_store(directory: Path, error: Exception) -> ResourceError:
    """Return the error for a directory in which no features can be stored."""
    reason = getattr(error, "strerror", None) or error
    return ResourceError(
        f"{directory} cannot store features ({reason}): set another directory by XDG_CACHE_HOME=DIR, or by "
        "dataset.cache=DIR for a folder of images."
    )


def record_dataset(directory: Path, backbone: str, shape: Shape, dataset: str) -> None:
    """Record the name of a dataset of which features are computed. Needs the lock of the store.

    Args:
        directory: of the store.
        backbone: its name.
        shape: of the images.
        dataset: name, for people.
    """
    datasets = _read_about(directory).datasets
    if dataset not in datasets:
        write_record(directory / _ABOUT, About(backbone, shape, (*datasets, dataset)), _ABOUT_RECORD)


def record_backbone(directory: Path, backbone: str, shape: Shape) -> None:
    """Record the facts about a store before it has features: it may contain a graph only.

    Args:
        directory: of the store.
        backbone: its name.
        shape: of the images.
    """
    if not (directory / _ABOUT).exists():
        with suppress(ResourceError):  # a cache that may only be read
            write_record(directory / _ABOUT, About(backbone, shape), _ABOUT_RECORD)


def list_stores(folder: Path) -> list[StoredFeatures]:
    """Return the stores in a folder, the last used first.

    Raises:
        ResourceError: if the folder cannot be read.
    """
    try:
        directories = [each for each in folder.iterdir() if _NAME.fullmatch(each.name) and _is_own(each)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    return sorted(filter(None, map(_describe, directories)), key=lambda each: -each.used)


def _is_own(directory: Path) -> bool:
    return directory.is_dir() and not directory.is_symlink()


def _describe(directory: Path) -> StoredFeatures | None:
    """Return the facts about a store; None if another process has removed it meanwhile."""
    try:
        sizes = {file.name: file.stat().st_size for file in sorted(directory.iterdir()) if file.is_file()}
        used = (directory / _USED if _USED in sizes else directory).stat().st_mtime
    except OSError:
        return None
    maps = {unquote(n.removesuffix(DIGESTS)): s // RECORD_BYTES for n, s in sizes.items() if n.endswith(DIGESTS)}
    return StoredFeatures(directory, _read_about(directory), maps, sum(sizes.values()), used)


def remove_store(directory: Path) -> str | None:
    """Remove a store that no process uses, and the remains of interrupted removals.

    Returns:
        The reason if it was not removed: it is in use, or it cannot be written. None: it was removed.
    """
    try:
        descriptor = os.open(directory / _USED, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        return f"cannot be removed ({error.strerror})"
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return IN_USE
        directory.rename(directory.with_name(f".{directory.name}.{os.getpid()}.{time.monotonic_ns()}"))
    except OSError as error:
        return f"cannot be removed ({error.strerror})"
    finally:
        os.close(descriptor)
    for each in directory.parent.iterdir():
        if _REMOVED.fullmatch(each.name):
            shutil.rmtree(each, ignore_errors=True)
    return None


def make_room(directory: Path, n_bytes: int, notify: Notify) -> None:
    """Make room for some more bytes of a store: remove other stores that are not in use, oldest first.

    Args:
        directory: of the store.
        n_bytes: that it will grow by.
        notify: receives a line for each store that is removed.

    Raises:
        ResourceError: if there is no room on the disk or below the limit.
    """
    stores = list_stores(directory.parent)
    others = [each for each in stores if each.directory != directory]
    own = sum(each.n_bytes for each in stores) - sum(each.n_bytes for each in others)
    while n_bytes > (room := _room(directory, own + sum(each.n_bytes for each in others))):
        removable = sum(each.n_bytes for each in others)
        if n_bytes > room + removable or not others:  # not enough: keep them
            raise _no_room(directory, n_bytes, room)
        oldest = others.pop()
        if remove_store(oldest.directory) is None:
            of = f" of {', '.join(oldest.about.datasets)}" if oldest.about.datasets else ""
            notify(f"removed the features{of} by {oldest.about.backbone} from the cache: they were the oldest.")
        else:
            own += oldest.n_bytes  # in use


def _room(directory: Path, stored: int) -> int:
    """Return the bytes that can be stored, if all stores together have some already."""
    return min(shutil.disk_usage(directory).free - SPARE, LIMIT - stored)


def _no_room(directory: Path, n_bytes: int, room: int) -> ResourceError:
    return ResourceError(
        f"{directory} has no room for the features: {gigabytes(n_bytes)} are needed, "
        f"{gigabytes(max(0, room))} can be used. {MORE_ROOM}"
    )


MORE_ROOM: Final = (
    "Use smaller pictures (dataset.image_size), fewer views (training.views) or fewer cuts (space.cuts); another "
    "directory (XDG_CACHE_HOME=DIR, or dataset.cache=DIR for a folder of images); or clear the cache: "
    "nasx data cache --clear."
)


def _read_about(directory: Path) -> About:
    try:
        return read_record(directory / _ABOUT, _ABOUT_RECORD, remedy="") or About()
    except RunError:  # damaged: it is for people only
        return About()


def gigabytes(n_bytes: int) -> str:
    """Return a number of bytes in words.

    >>> gigabytes(1_234_000_000), gigabytes(56_700)
    ('1.2 GB', '0.1 MB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def total_bytes(stores: Sequence[StoredFeatures]) -> int:
    return sum(each.n_bytes for each in stores)
