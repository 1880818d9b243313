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
    """Split images into a stratified training and validation part, with every class in both.

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
    n_validation, validation_key = _at_most(share, validation_images, "split.validation_images")
    n_train, train_key = _at_most(len(images) - share, train_images, "split.train_images")
    _check_sizes(images, (train_key, n_train), (validation_key, n_validation))
    parts = train_test_split(
        np.arange(len(images)), train_size=n_train, test_size=n_validation, stratify=images.labels, random_state=seed
    )
    for part, purpose, key in zip(parts, ("training", "validation"), (train_key, validation_key), strict=True):
        _check_classes(images.labels[part], images.class_names, purpose, key)
    return parts[0], parts[1]


def _at_most(available: int, limit: int | None, key: str) -> tuple[int, str]:
    """Return the number of images to take, and the config key that determines it."""
    return (available, "split.validation_fraction") if limit is None or limit > available else (limit, key)


def hold_out(
    labels: NDArray[np.int64], class_names: Sequence[str], *, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (training, test) indices for a dataset without a test set: a stratified draw.

    Args:
        labels: (n,), indices into `class_names`.
        class_names: of all classes.
        fraction: share of the images in the test set, in (0, 1).
        seed: of the draw.

    Raises:
        SettingError: if a part would lack a class.
        DataError: if a class has fewer than two images.
    """
    _check_counts(labels, class_names)
    n_test = math.ceil(fraction * len(labels))
    if min(n_test, len(labels) - n_test) < len(class_names):
        raise SettingError("test_fraction", f"must leave an image of each class in both parts, got {fraction}")
    train, test = train_test_split(np.arange(len(labels)), test_size=n_test, stratify=labels, random_state=seed)
    for part in (train, test):
        if absent := set(range(len(class_names))) - set(labels[part].tolist()):
            rare = class_names[min(absent)]
            raise SettingError("test_fraction", f"must leave an image of {rare!r} in both parts, got {fraction}")
    return train, test


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
    _check_counts(images.labels, images.class_names)
    for key, size in sizes:
        if size < images.n_classes:
            raise SettingError(key, f"must leave at least one image for each of {images.n_classes} classes, got {size}")


def _check_counts(labels: NDArray[np.int64], class_names: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    rarest = int(counts.argmin())
    if counts[rarest] < 2:
        raise DataError(
            "Every class needs at least 2 images, one for training and one for validation or test: "
            f"{class_names[rarest]!r} has {counts[rarest]}."
        )


def _check_classes(labels: NDArray[np.int64], class_names: Sequence[str], purpose: str, key: str) -> None:
    absent = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if absent.size:
        raise SettingError(
            key, f"leaves no {purpose} image of {class_names[absent[0]]!r}: the class is too rare for this split"
        )
