"""List the image files of a folder at any depth, in one way for every command, and count those that are skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nasx.data.image_files import is_image_file
from nasx.errors import DataError
from nasx.escaping import printable, valid_name
from nasx.extras import install_command

SYSTEM_FOLDERS: Final = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
SYSTEM_FILES: Final = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})  # in lower case
_ADVICE: Final = {
    ".heic": "convert them to JPEG or PNG",
    ".heif": "convert them to JPEG or PNG",
    ".dcm": f"install pydicom: {install_command('medical')}",
    ".dicom": f"install pydicom: {install_command('medical')}",
}


@dataclass
class Skipped:
    """Files and folders that are not read, by kind."""

    suffixes: Counter[str] = field(default_factory=Counter)  # files that are no images, by suffix in lower case
    hidden: int = 0  # files and folders whose name begins with a dot
    system: Counter[str] = field(default_factory=Counter)  # files and folders of operating systems, by name
    broken_links: int = 0
    loose: int = 0  # files next to class folders
    repeated_links: int = 0  # links to a folder that was already read

    @property
    def n_files(self) -> int:
        """Number of files that a user may have taken for images."""
        return self.suffixes.total() + self.broken_links + self.loose

    def describe(self) -> list[str]:
        """Return one sentence for each kind."""
        lines = []
        for suffix, n in self.suffixes.most_common():
            advice = f": {_ADVICE[suffix]}" if suffix in _ADVICE else ""
            kind = printable(suffix) if suffix else "without suffix"
            lines.append(f"{_count(n, 'file')} {kind}{advice}")
        if self.loose:
            lines.append(f"{_count(self.loose, 'file')} outside of class folders")
        if self.broken_links:
            lines.append(_count(self.broken_links, "broken link"))
        if self.repeated_links:
            lines.append(f"{_count(self.repeated_links, 'link')} to folders that are already read")
        if self.hidden:
            lines.append(f"{_count(self.hidden, 'hidden file')} or folders")
        lines += [f"{_count(n, 'time')} {printable(name)}" for name, n in sorted(self.system.items())]
        return lines

    def add(self, other: Skipped) -> None:
        self.suffixes += other.suffixes
        self.system += other.system
        self.hidden += other.hidden
        self.loose += other.loose
        self.broken_links += other.broken_links
        self.repeated_links += other.repeated_links


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def image_files(folder: Path) -> list[Path]:
    """Return the image files of a folder at any depth, sorted by name, without hidden and system folders."""
    return list_images(folder)[0]


def list_images(folder: Path) -> tuple[list[Path], Skipped]:
    """Return the image files of a folder, sorted by name, and the count of what was skipped.

    Links are followed; a folder that several links or a loop lead to is read once.

    Raises:
        DataError: if a folder cannot be read.
    """
    skipped = Skipped()
    above = {_identity(parent) for parent in folder.absolute().parents}  # links to these are loops
    found = [path for path in _files(folder, skipped, above) if _is_image(path, skipped)]
    return sorted(found, key=lambda path: sort_key(path, folder)), skipped


def sort_key(path: Path, folder: Path) -> list[str]:
    """Return a key for sorting paths that is equal for both Unicode forms of a name."""
    return valid_name(path.relative_to(folder).as_posix()).split("/")


def is_visible(name: str, skipped: Skipped | None = None) -> bool:
    """Return whether a file or folder is neither hidden nor of an operating system; count it otherwise."""
    counted = skipped or Skipped()
    if name in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES or name == ".DS_Store":
        counted.system[name] += 1
        return False
    if name.startswith("."):
        counted.hidden += 1
        return False
    return True


def children(folder: Path, skipped: Skipped | None = None) -> list[os.DirEntry[str]]:
    """Return the visible content of a folder, sorted by name. Raises DataError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if is_visible(e.name, skipped)), key=lambda e: valid_name(e.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from error


def _files(folder: Path, skipped: Skipped, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """Yield all files below a folder; real folders before links, so that an image keeps its own name."""
    seen.add(_identity(folder))
    folders = []
    for entry in children(folder, skipped):
        if _is_folder(entry):
            folders.append(entry)
        else:
            yield Path(entry.path)
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):
        if _identity(entry) in seen:
            skipped.repeated_links += 1
        else:
            yield from _files(Path(entry.path), skipped, seen)


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    state = folder.stat()
    return state.st_dev, state.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_image(path: Path, skipped: Skipped) -> bool:
    if not os.path.exists(path):  # noqa: PTH110 - unlike Path.exists, False for a link to itself
        skipped.broken_links += 1
        return False
    if is_image_file(path) and path.is_file():
        return True
    skipped.suffixes[path.suffix.lower()] += 1
    return False
