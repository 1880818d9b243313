"""What every reader of files shares: finding the files, saying what is wrong with them, checking what was read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasx.data.dataset import LabeledImages
from nasx.errors import DataError

FETCH_AGAIN = "Fetch the file again."


def expand(path: str) -> Path:
    """A path as a user writes it, with ~ and environment variables put in."""
    return Path(os.path.expandvars(path)).expanduser()


def existing_folder(root: str, need: str) -> Path:
    """The folder that `root` names. Raises DataError where there is none, ending in `need`."""
    path = expand(root)
    if not path.is_dir():
        raise DataError(f"{path} {'is not a folder' if path.exists() else 'does not exist'}: {need}.")
    return path


def find_folder(title: str, root: str | None, folder: str) -> Path:
    """The folder with the files of a published dataset: `folder` inside `root`, or `root` itself.

    `title` names the dataset to people, `folder` is the published folder, e.g. "MNIST/raw".
    Raises DataError where no root is given or it is no folder.
    """
    if not root:
        raise DataError(f"{title} needs its files: give dataset.root=DIR, the folder that holds {folder}.")
    path = existing_folder(root, f"{title} needs dataset.root=DIR, the folder that holds {folder}")
    return path / folder if (path / folder).is_dir() else path


@contextmanager
def read_errors(path: Path, title: str, folder: str) -> Iterator[None]:
    """Tells a file that cannot be opened or read as a DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: {title} needs dataset.root=DIR, the folder that holds {folder} with all its files."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def damaged_file(path: Path, problem: str, advice: str = FETCH_AGAIN) -> DataError:
    """The error for a file whose content is not what it should be."""
    return DataError(f"{path} is damaged or of another format: {problem}. {advice}")


def checked_labels(
    path: Path, labels: object, n: int, class_names: Sequence[str], advice: str = FETCH_AGAIN
) -> NDArray[np.int64]:
    """`labels` as an array (n,), if they are n whole numbers that each name a class. Else raises DataError."""
    try:
        array = np.asarray(labels)
    except ValueError as error:  # lists of unequal lengths
        raise damaged_file(path, "expected a list of whole numbers as labels", advice) from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise damaged_file(path, "expected a list of whole numbers as labels", advice)
    if len(array) != n:
        raise damaged_file(path, f"expected one label an image, got {n} images and {len(array)} labels", advice)
    outside = np.flatnonzero((array < 0) | (array >= len(class_names)))
    if outside.size:
        first = outside[0]
        raise damaged_file(
            path, f"expected labels 0 to {len(class_names) - 1}, got {array[first]} at image {first}", advice
        )
    return array.astype(np.int64)


def concatenate(parts: Sequence[LabeledImages]) -> LabeledImages:
    """Parts of one dataset as a whole, in the order given."""
    return LabeledImages(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
    )
