"""Functions shared by readers: find files, report damaged ones, check labels, concatenate parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nasx.config.settings import expand_user
from nasx.data.dataset import LabeledImages
from nasx.errors import DataError

FETCH_AGAIN = "Download the file again."
TestFraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


def expand(path: str) -> Path:
    """Return a path with ~ and environment variables replaced; one that exists, as it is.

    Raises SettingError for the ~ of an unknown user.
    """
    if os.path.lexists(path):
        return Path(path)
    return expand_user(Path(os.path.expandvars(path)), "the path")


def existing_folder(root: str, need: str) -> Path:
    """Return the folder `root`. Raises DataError, ending in `need`, if it does not exist."""
    path = expand(root)
    if not os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, False for a path that is too long
        raise DataError(f"{path} {'is not a folder' if os.path.exists(path) else 'does not exist'}: {need}.")  # noqa: PTH110
    return path


def find_folder(title: str, root: str | None, folder: str) -> Path:
    """Return the folder with the files of a published dataset: `folder` inside `root`, or `root` itself.

    Args:
        title: of the dataset, for messages, e.g. "Fashion-MNIST".
        root: the setting dataset.root; None: not set.
        folder: published name of the folder, e.g. "MNIST/raw".

    Raises:
        DataError: if `root` is None or not a folder.
    """
    if not root:
        raise DataError(f"{title} needs its files: set dataset.root=DIR, the folder that contains {folder}.")
    path = existing_folder(root, f"{title} needs dataset.root=DIR, the folder that contains {folder}")
    return path / folder if (path / folder).is_dir() else path


@contextmanager
def read_errors(path: Path, title: str, folder: str) -> Iterator[None]:
    """Raise a DataError in place of an error of opening or reading a file."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: {title} needs dataset.root=DIR, the folder that contains {folder} with all its files."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def damaged_file(path: Path, problem: str, advice: str = FETCH_AGAIN) -> DataError:
    """Return the error for a file with unexpected content."""
    return DataError(f"{path} is damaged or of another format: {problem}. {advice}")


def checked_labels(
    path: Path, labels: object, n: int, class_names: Sequence[str], advice: str = FETCH_AGAIN
) -> NDArray[np.int64]:
    """Return labels as an array (n,).

    Args:
        path: of their file, for messages.
        labels: expected to be n integers.
        n: number of images.
        class_names: of all classes; labels are indices into them.
        advice: last sentence of messages.

    Raises:
        DataError: if the labels are not n integers, or one is not an index of a class.
    """
    try:
        array = np.asarray(labels)
    except ValueError as error:  # lists of unequal lengths
        raise damaged_file(path, "expected a list of integers as labels", advice) from error
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise damaged_file(path, "expected a list of integers as labels", advice)
    if len(array) != n:
        raise damaged_file(path, f"expected one label per image, got {n} images and {len(array)} labels", advice)
    outside = np.flatnonzero((array < 0) | (array >= len(class_names)))
    if outside.size:
        first = outside[0]
        raise damaged_file(
            path, f"expected labels 0 to {len(class_names) - 1}, got {array[first]} at image {first}", advice
        )
    return array.astype(np.int64)


def concatenate(parts: Sequence[LabeledImages]) -> LabeledImages:
    """Return the parts of a dataset as one, in the given order."""
    return LabeledImages(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].class_names,
        files=tuple(file for part in parts for file in part.files),
    )
