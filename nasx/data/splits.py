"""Stratified splits: training and validation images of a search, test images of an unsplit dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from nasx.data.dataset import LabeledImages, SearchData
from nasx.errors import DataError, SettingError

_CHUNK = 1024  # images


def split(
    images: LabeledImages,
    *,
    validation_fraction: float = 0.2,
    train_images: int | None = None,
    validation_images: int | None = None,
    seed: int,
) -> SearchData:
    """Split images into a stratified training and validation part, with every class in both, also a rare one.

    Args:
        images: training images of a dataset.
        validation_fraction: share of the images in the validation part.
        train_images: largest size of the training part; None: all other images.
        validation_images: largest size of the validation part; None: the full share.
        seed: of the draw.

    Raises:
        SettingError: if a part would lack a class; names the key in the config section `split`.
        DataError: if a class has fewer than two images.
    """
    parts = split_indices(
        images,
        validation_fraction=validation_fraction,
        train_images=train_images,
        validation_images=validation_images,
        seed=seed,
    )
    return cut(images, *parts)


def cut(images: LabeledImages, train: NDArray[np.int64], validation: NDArray[np.int64]) -> SearchData:
    """Return the images at these positions as training and validation part, with the scale of the training pixels."""
    trained_on = images.take(train)
    return SearchData(trained_on, images.take(validation), *mean_and_std(trained_on.images))


def split_indices(
    images: LabeledImages,
    *,
    validation_fraction: float,
    train_images: int | None,
    validation_images: int | None,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the training and the validation images; see `split` for the arguments."""
    share = round(validation_fraction * len(images))
    if 0 < validation_fraction < 1:  # few images of many classes: one of each class at least
        share = min(max(share, images.n_classes), max(len(images) - images.n_classes, 0))
    n_validation, validation_key = _at_most(share, validation_images, "split.validation_images")
    n_train, train_key = _at_most(len(images) - share, train_images, "split.train_images")
    _check_sizes(images, (train_key, n_train), (validation_key, n_validation))
    return draw_parts(images.labels, images.n_classes, sizes=(n_train, n_validation), seed=seed)


def draw_parts(
    labels: NDArray[np.int64], n_classes: int, *, sizes: tuple[int, int], seed: int, least: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of two disjoint, stratified parts, each with images of every class.

    Scikit-learn draws them. If a rare class would be missing in a part, the parts are drawn class by class instead.

    Args:
        labels: (n,), of all images; every class has at least two.
        n_classes: number of classes.
        sizes: images of the first and of the second part, at least one per class.
        seed: of the draw.
        least: images of a class in the first part, if the class has more.
    """
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    try:
        first, second = train_test_split(
            np.arange(len(labels)), train_size=sizes[0], test_size=sizes[1], stratify=labels, random_state=seed
        )
    except ValueError:  # an absent class, or one that is too rare for scikit-learn
        return _class_by_class(labels, n_classes, sizes, seed, least)
    counts, left = (np.bincount(labels[part], minlength=n_classes) for part in (slice(None), first))
    if (left >= np.minimum(least, counts - 1)).all() and len(set(labels[second].tolist())) == n_classes:
        return (first, second)
    return _class_by_class(labels, n_classes, sizes, seed, least)


def _class_by_class(
    labels: NDArray[np.int64], n_classes: int, sizes: tuple[int, int], seed: int, least: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    counts = np.bincount(labels, minlength=n_classes)
    kept = np.clip(counts - 1, 1, least)  # of each class for the first part
    second = shares(counts, sizes[1], np.minimum(counts - 1, 1), counts - kept)
    first = shares(counts, sizes[0], kept, counts - second)
    rng = np.random.default_rng(seed)
    parts: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = ([], [])
    for label in range(n_classes):
        order = rng.permutation(np.flatnonzero(labels == label))
        parts[1].append(order[: second[label]])
        parts[0].append(order[second[label] : second[label] + first[label]])
    return rng.permutation(np.concatenate(parts[0])), rng.permutation(np.concatenate(parts[1]))


def shares(counts: NDArray[np.int64], total: int, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divide a total among classes in proportion to their counts, within bounds. By largest remainder.

    >>> shares(np.array([200, 3]), 41, np.array([1, 1]), np.array([199, 2]))
    array([40,  1])

    Args:
        counts: (n_classes,), images of each class.
        total: sum of the shares, as far as the bounds allow.
        low: (n_classes,), smallest share.
        high: (n_classes,), largest share.
    """
    wanted = counts * total / counts.sum()
    found: NDArray[np.int64] = np.clip(np.floor(wanted), low, high).astype(np.int64)
    while found.sum() != total:
        step = 1 if found.sum() < total else -1
        free = found < high if step > 0 else found > low
        if not free.any():
            return found
        found[np.argmax(np.where(free, step * (wanted - found), -np.inf))] += step
    return found


def _at_most(available: int, limit: int | None, key: str) -> tuple[int, str]:
    """Return the number of images to take, and the config key that determines it."""
    return (available, "split.validation_fraction") if limit is None or limit > available else (limit, key)


def hold_out(
    labels: NDArray[np.int64], class_names: Sequence[str], *, fraction: float, seed: int, files: Sequence[str] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (training, test) indices for a dataset without a test set: a stratified draw.

    Args:
        labels: (n,), indices into `class_names`.
        class_names: of all classes.
        fraction: share of the images in the test set, in (0, 1).
        seed: of the draw.
        files: names of the images, for messages; (): they have none.

    Raises:
        SettingError: if a part would lack a class.
        DataError: if a class has fewer than two images.
    """
    _check_counts(labels, class_names, files)
    n_test = max(math.ceil(fraction * len(labels)), len(class_names))
    if len(labels) - n_test < len(class_names):
        raise SettingError("test_fraction", f"must leave an image of each class in both parts, got {fraction}")
    # two images of each class for the training part: a search draws its validation images from it
    return draw_parts(labels, len(class_names), sizes=(len(labels) - n_test, n_test), seed=seed, least=2)


def mean_and_std(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each channel, (channels,), of pixels scaled to [0, 1].

    The standard deviation of a constant channel is 1. Exact: computed from the histogram of the 256 values.
    """
    n_channels = images.shape[1]
    counts = np.zeros((n_channels, 256), dtype=np.int64)
    for start in range(0, len(images), _CHUNK):  # bincount copies to 8 bytes per pixel: in chunks
        for channel in range(n_channels):
            counts[channel] += np.bincount(images[start : start + _CHUNK, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, np.newaxis]) ** 2).sum(axis=1))
    return mean.astype(np.float32), np.where(np.count_nonzero(counts, axis=1) > 1, std, 1).astype(np.float32)


def _check_sizes(images: LabeledImages, *sizes: tuple[str, int]) -> None:
    """Raise SettingError if a part is smaller than the number of classes; scikit-learn would not name the key."""
    _check_counts(images.labels, images.class_names, images.files)
    for key, size in sizes:
        if size < images.n_classes:
            raise SettingError(key, f"must leave at least one image for each of {images.n_classes} classes, got {size}")


def _named(labels: NDArray[np.int64], label: int, files: Sequence[str]) -> str:
    """Return the file of the only image of a class in brackets, if there are files."""
    found = np.flatnonzero(labels == label)
    return f" ({files[found[0]]})" if files and found.size else ""


def _check_counts(labels: NDArray[np.int64], class_names: Sequence[str], files: Sequence[str] = ()) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    rarest = int(counts.argmin())
    if counts[rarest] < 2:
        raise DataError(
            "Every class needs at least 2 images, one for training and one for validation or test, and 3 if the test "
            f"images are drawn, too: {class_names[rarest]!r} has {counts[rarest]}{_named(labels, rarest, files)}. "
            "Add images, or remove the class."
        )
