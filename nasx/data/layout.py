"""Layout of a directory of images: class folders in parts (train, test, val), or class folders only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nasx.data.image_files import is_image_file
from nasx.data.listing import Skipped, children, image_files, list_images
from nasx.errors import DataError
from nasx.escaping import printable, valid_name

TRAIN, TEST, VALIDATION = "train", "test", "val"
_SYNONYMS: Final = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
}


@dataclass(frozen=True)
class Layout:
    """Folders of a dataset; each contains one folder per class."""

    root: Path
    train: Path  # the root itself if it has no parts
    test: Path | None = None  # None: a share of the training images
    validation: Path | None = None
    ignored: tuple[str, ...] = ()  # files and folders next to those that are read

    def describe(self) -> str:
        """Return the layout in words."""
        if self.train == self.root:
            return "class folders, of which a share becomes the test set"
        parts = [(TRAIN, self.train), (VALIDATION, self.validation), (TEST, self.test)]
        named = ", ".join(f"{printable(path.name)}/ ({part})" for part, path in parts if path is not None)
        held_out = "; there is no test part: a share of the training images becomes the test set"
        return f"class folders in {named}{'' if self.test else held_out}"


def find_layout(root: Path) -> Layout:
    """Return the layout of a directory, decided by the content of its folders.

    Raises:
        DataError: if it is ambiguous.
    """
    entries = children(root)
    folders = [Path(entry.path) for entry in entries if Path(entry.path).is_dir()]
    loose = tuple(valid_name(entry.name) for entry in entries if not Path(entry.path).is_dir())
    named = [(part, place) for place in folders if (part := _SYNONYMS.get(valid_name(place.name).casefold()))]
    split = [(part, place) for part, place in named if _has_class_folders(place)]
    if not split:
        _check_wrapped(root, folders)
        return Layout(root, root, ignored=loose)
    others = [place for place in folders if place not in {place for _, place in named}]
    parts = _parts(root, named, split, others)
    return Layout(
        root,
        parts[TRAIN],
        parts.get(TEST),
        parts.get(VALIDATION),
        ignored=(*loose, *(f"{valid_name(place.name)}/" for place in others)),
    )


def _parts(
    root: Path, named: Sequence[tuple[str, Path]], split: Sequence[tuple[str, Path]], others: Sequence[Path]
) -> dict[str, Path]:
    """Return the folder of each part; refuse layouts that can be understood in two ways."""
    parts: dict[str, Path] = {}
    for part, place in split:
        if part in parts:
            raise DataError(f"{root} has two {part} folders, {parts[part].name} and {place.name}: keep one of them.")
        parts[part] = place
    unsplit = [place for part, place in named if place not in parts.values()]
    if TRAIN not in parts:
        raise DataError(
            f"{root} has a folder {next(iter(parts.values())).name} with class folders, but no folder train with class "
            "folders: add it, or rename the folder if it is a class."
        )
    for place in unsplit:
        if image_files(place):
            raise DataError(
                f"{place} contains images but no class folders, next to {parts[TRAIN].name} with class folders: sort "
                "its images into class folders, or move it elsewhere."
            )
    for part, place in named:
        parts.setdefault(part, place)  # empty: reported when it is read
    if len(parts) == 1 and (rivals := [place.name for place in others if image_files(place)]):
        raise DataError(
            f"{root} has a folder {parts[TRAIN].name} with class folders, next to the folders {_few(rivals)} with "
            "images: rename it if it is a class, or move the other folders elsewhere."
        )
    return parts


def _has_class_folders(place: Path) -> bool:
    """Return whether a folder contains folders with images. One folder next to images is a part of a class."""
    entries = [Path(entry.path) for entry in children(place)]
    n_folders = sum(1 for entry in entries if entry.is_dir() and image_files(entry))
    has_images = any(is_image_file(entry) and entry.is_file() for entry in entries)
    return n_folders > (1 if has_images else 0)


def _check_wrapped(root: Path, folders: Sequence[Path]) -> None:
    """Suggest the folder inside if the directory contains a dataset instead of being one."""
    if len(folders) != 1 or len([entry for entry in children(folders[0]) if Path(entry.path).is_dir()]) < 2:
        return
    if _has_class_folders(folders[0]):
        raise DataError(
            f"{root} must contain one folder for each of at least two classes, got 1. The classes may be one level "
            f"deeper: set dataset.root={folders[0]}."
        )


def skipped_files(layout: Layout) -> Skipped:
    """Return the count of all files of a dataset that are not read as images, by kind."""
    total = Skipped()
    for part in {layout.train, layout.test, layout.validation} - {None}:
        assert part is not None
        for entry in children(part, total):
            path = Path(entry.path)
            if path.is_dir():
                total.add(list_images(path)[1])
            elif part != layout.root or is_image_file(path):
                total.loose += 1
    return total


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(valid_name, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
