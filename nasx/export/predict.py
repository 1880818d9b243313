"""Classify image files with an exported model, and sum the predictions up: by class, and against known classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx.config.settings import expand_user
from nasx.data.decoding import FULL_RANGE, DecodingError, declared_range, decode, is_wide, opened
from nasx.data.listing import Skipped
from nasx.data.listing import list_images as images_below
from nasx.diagnostics.class_report import ClassReport, class_report
from nasx.errors import DataError
from nasx.escaping import valid_name
from nasx.export.deployed import Description
from nasx.export.load import Model, reason_of
from nasx.export.untrusted import Outputs, limited_memory

BATCH: Final = 64  # images at a time
MIN_USED: Final = 0.25  # share of the 16-bit range that undeclared values must reach, as in training images
MAX_ABOVE: Final = 0.5  # share of the pixels of an image that may be above the range of the training images


@dataclass(frozen=True)
class ImageFile:
    """Image file to classify."""

    path: Path
    true_class: str | None = None  # name of the class folder that contains it; None: it is in no such folder


@dataclass(frozen=True)
class Listing:
    """Files that paths, folders and globs select."""

    files: tuple[ImageFile, ...]
    skipped: Skipped = field(default_factory=Skipped)  # other files in the folders


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for one image."""

    file: Path
    label: str | None  # name of the predicted class; None: the image cannot be read
    probability: float | None  # of the predicted class
    confidence: float | None  # calibrated probability that the prediction is correct
    problem: str = ""  # why the image cannot be read
    true_class: str | None = None  # name of its class folder; None: unknown


@dataclass(frozen=True)
class ClassCount:
    """Predictions of one class."""

    name: str
    n: int
    mean_confidence: float  # NaN without predictions
    n_unsure: int  # predictions with a confidence below the threshold


@dataclass(frozen=True, eq=False)
class Summary:
    """Predictions in sum."""

    counts: tuple[ClassCount, ...]  # by class, the most frequent first
    n_unreadable: int
    report: ClassReport | None  # against the class folders of the images; None: there are none
    n_unknown: int  # images that are in no class folder

    @property
    def n(self) -> int:
        """Number of images that were classified."""
        return sum(count.n for count in self.counts)

    @property
    def n_unsure(self) -> int:
        return sum(count.n_unsure for count in self.counts)


def predict(model: Model, files: Sequence[ImageFile]) -> Iterator[Prediction]:
    """Yield the prediction for each image in order; for an image that cannot be read, the reason."""
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        images = [_read(file.path, model.description) for file in batch]
        pixels = [image for image in images if not isinstance(image, str)]
        outputs = zip(*run_model(model, np.stack(pixels)), strict=True) if pixels else iter(())
        for file, image in zip(batch, images, strict=True):
            if isinstance(image, str):
                yield Prediction(file.path, None, None, None, image, file.true_class)
                continue
            probabilities, confidence = next(outputs)
            best = int(probabilities.argmax())
            label = model.description.class_names[best]
            yield Prediction(file.path, label, float(probabilities[best]), float(confidence), "", file.true_class)


def run_model(model: Model, pixels: NDArray[np.uint8]) -> Outputs:
    """Return the outputs of a model. Raises DataError if it fails, or if they are not probabilities."""
    try:
        with limited_memory():
            return model.run(pixels)
    except Exception as exc:  # of the library that runs it
        raise DataError(f"the model has no valid outputs for these images ({reason_of(exc)}).") from exc


def read_for(file: Path, description: Description) -> NDArray[np.uint8]:
    """Return the pixels of an image file as a model expects them, uint8 (channels, height, width).

    Raises DataError if the file cannot be read, or if its values do not fit the range of the training images.
    """
    channels, height, width = description.shape
    try:
        check_range(file, description.value_range)
        return decode(
            file,
            size=(height, width),
            channels=channels,
            value_range=description.value_range,
            interpolation=description.interpolation,
        )
    except DecodingError as error:
        raise DataError(f"{file} cannot be read as an image ({error}). {error.advice}") from error


def check_range(file: Path, value_range: tuple[float, float] | None) -> None:
    """Raise DecodingError if values of more than 8 bits do not fit the range of the training images.

    Args:
        file: of an image.
        value_range: of the training images; None: by the format of each file.
    """
    with opened(file) as image:
        is_known = value_range is None and (image.mode == "F" or declared_range(image) is not None)
        if not is_wide(image) or is_known:  # `decode` refuses floating-point values of unknown range
            return
        values = np.asarray(image)
    highest = float(values.max())
    if value_range is None and highest < MIN_USED * FULL_RANGE[1]:
        raise DecodingError(
            f"16-bit values of at most {highest:g}, of a range that the file does not declare and the model not know",
            "Scale it to 8 bits, or train and export with dataset.value_range.",
        )
    if value_range is not None and (values > value_range[1]).mean() > MAX_ABOVE:
        raise DecodingError(
            f"most values are above {value_range[1]:g}, the highest of the training images; here up to {highest:g}",
            f"Scale it to the range {value_range[0]:g} to {value_range[1]:g}.",
        )


def _read(file: Path, description: Description) -> NDArray[np.uint8] | str:
    """Return the pixels of an image in the shape of the model, or why it cannot be read."""
    try:
        return read_for(file, description)
    except DataError as error:
        return str(error)


def list_images(patterns: Sequence[str], class_names: Sequence[str] = ()) -> Listing:
    """Return the images in paths, folders (at any depth) and globs, each once, in order.

    Paths and globs select files of any name, folders the image files that a dataset of the folder would have.

    Args:
        patterns: paths, folders and globs.
        class_names: of the model; an image in a folder of such a name has this true class.

    Raises:
        DataError: a pattern matches no file.
    """
    found: dict[Path, ImageFile] = {}
    skipped = Skipped()
    for pattern in patterns:
        path = expand_user(Path(pattern), "IMAGE")
        if path.is_dir():
            images, others = images_below(path)
            skipped.add(others)
            matches = [ImageFile(image, _true_class(image, path, class_names)) for image in images]
        elif any(c in pattern for c in "*?[") and not path.exists():
            names = glob(str(path), recursive=True)  # noqa: PTH207 - Path.glob rejects absolute patterns
            matches = [ImageFile(match) for match in sorted(map(Path, names)) if match.is_file()]
        else:
            matches = [ImageFile(path)]
        if not matches:
            only = f", only others: {'; '.join(skipped.describe())}" if skipped.n_files else ""
            raise DataError(f"{pattern} matches no images{only}.")
        for match in matches:
            found.setdefault(match.path, match)
    return Listing(tuple(found.values()), skipped)


def _true_class(file: Path, folder: Path, class_names: Sequence[str]) -> str | None:
    """Return the name of the outermost class folder of a file below `folder`, or of `folder` itself; None: no such."""
    names = set(class_names)
    below = (valid_name(part) for part in file.relative_to(folder).parts[:-1])
    own = valid_name(folder.absolute().name)
    return next((part for part in (*below, own) if part in names), None)


def summarize(predictions: Sequence[Prediction], class_names: Sequence[str], *, threshold: float) -> Summary:
    """Sum predictions up.

    Args:
        predictions: of all images.
        class_names: of the model.
        threshold: confidence below which a prediction is unsure.
    """
    read = [p for p in predictions if p.label is not None]
    known = [p for p in read if p.true_class is not None]
    index = {name: i for i, name in enumerate(class_names)}
    report = None
    if known:
        labels, found = ([index[str(name)] for name in names] for names in zip(*_pairs(known), strict=True))
        report = class_report(labels, found, class_names)
    counts = [_count(name, [p for p in read if p.label == name], threshold) for name in class_names]
    return Summary(
        tuple(sorted(counts, key=lambda count: -count.n)), len(predictions) - len(read), report, len(read) - len(known)
    )


def _pairs(known: Sequence[Prediction]) -> Iterator[tuple[str | None, str | None]]:
    return ((p.true_class, p.label) for p in known)


def _count(name: str, own: Sequence[Prediction], threshold: float) -> ClassCount:
    confidence = np.array([p.confidence for p in own], dtype=np.float64)
    mean = float(confidence.mean()) if own else float("nan")
    return ClassCount(name, len(own), mean, int((confidence < threshold).sum()))
