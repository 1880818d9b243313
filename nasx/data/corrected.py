"""Apply corrections of labels to the images of a dataset, for every reader.

Corrections apply after a reader's own split of an unsplit dataset and after the draw of the validation images, so that
no image moves from one part to another when a label is corrected.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nasx.config.components import build
from nasx.config.describe import yaml_text
from nasx.data.augmentation import Augmentation
from nasx.data.corrections import Action, Corrections, Decision, read_corrections
from nasx.data.dataset import LabeledImages
from nasx.data.digest import Content, digest_text
from nasx.data.files import expand
from nasx.errors import ConfigError, DataError
from nasx.escaping import csv_cell, printable, shorten_words, valid_name
from nasx.protocols import Dataset, HasFiles

MAX_COMPARED: Final = 5000  # names that are compared with an unknown one


def configured_file(node: Mapping[str, Any]) -> Path | None:
    """Return the file of corrections that the section `dataset` of a config names; None if it names none.

    Raises ConfigError if the value is no path.
    """
    file = node.get("corrections")
    if file is None:
        return None
    if not isinstance(file, str) or not file:
        raise ConfigError(f"dataset.corrections must be the path of a CSV file or null, got {yaml_text(file)}.")
    return expand(file)


def configured_corrections(node: Mapping[str, Any]) -> Corrections | None:
    """Return the corrections of a section `dataset`; None if it names none. Raises ConfigError or DataError."""
    file = configured_file(node)
    return None if file is None else read_corrections(file)


def build_corrected(node: Mapping[str, Any]) -> Dataset:
    """Return the dataset of a section `dataset`, with its corrections applied."""
    dataset: Dataset = build(node, "dataset")
    corrections = configured_corrections(node)
    return dataset if corrections is None else CorrectedDataset(dataset, corrections)


@dataclass(frozen=True)
class CorrectedDataset:
    """Dataset whose images have corrected labels, without those that are dropped."""

    original: Dataset
    corrections: Corrections

    @property
    def name(self) -> str:
        return self.original.name

    @property
    def augmentation(self) -> Augmentation:
        return self.original.augmentation

    def train(self) -> LabeledImages:
        return apply(self.corrections, self.original, self.original.train()).images

    def test(self) -> LabeledImages:
        return apply(self.corrections, self.original, self.original.test(), test=True).images


@dataclass(frozen=True, eq=False)
class Applied:
    """Corrections of one part of a dataset."""

    original: LabeledImages  # as read
    file: str  # of the corrections
    file_digest: str  # SHA-256 of the file
    labels: NDArray[np.int64]  # (n,) of all images, corrected
    is_dropped: NDArray[np.bool_]  # (n,)
    is_confirmed: NDArray[np.bool_]  # (n,): a person has confirmed the label that the dataset has
    others: tuple[Decision, ...]  # about images of another part, or about files that the reader skips

    @property
    def is_relabeled(self) -> NDArray[np.bool_]:
        """(n,): images that stay, with another label."""
        changed: NDArray[np.bool_] = self.labels != self.original.labels
        return changed & ~self.is_dropped

    @property
    def relabeled(self) -> LabeledImages:
        """All images with corrected labels, also those that are dropped."""
        return replace(self.original, labels=self.labels)

    @cached_property
    def images(self) -> LabeledImages:
        """The images that are not dropped, with corrected labels."""
        if not self.is_dropped.any():  # images on disk need no other file
            return self.relabeled
        return self.relabeled.take(self.kept(np.arange(len(self.labels))))

    def kept(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of `indices` whose images are not dropped."""
        return indices[~self.is_dropped[indices]]

    @property
    def content(self) -> Content:
        """Content for the journal: the same if the same labels change and the same images are dropped."""
        return describe_corrections(
            [[int(i), int(self.labels[i])] for i in np.flatnonzero(self.is_relabeled)],
            np.flatnonzero(self.is_dropped).tolist(),
            confirmed=int(self.is_confirmed.sum()),
            others=len(self.others),
            file=valid_name(Path(self.file).name),
            file_digest=self.file_digest,
        )


def describe_corrections(
    relabeled: Sequence[Sequence[int]] = (), dropped: Sequence[int] = (), **facts: int | str
) -> Content:
    """Return corrections as content, from index and label of each relabeled image and the index of each dropped one."""
    digest = digest_text(json.dumps([[list(pair) for pair in relabeled], list(dropped)]))
    return Content(digest, {"relabeled": len(relabeled), "dropped": len(dropped), **facts})


NO_CORRECTIONS: Final = describe_corrections()


def apply(corrections: Corrections, dataset: Dataset, images: LabeledImages, *, test: bool = False) -> Applied:
    """Apply corrections to a part of a dataset.

    Args:
        corrections: as read.
        dataset: has read the images.
        images: all images of the part, as read.
        test: they are the test images, which have files but no positions.

    Raises:
        DataError: if a decision names no image or no class of the dataset, if two decisions contradict each other, or
            if a class has no images left.
    """
    find = _Finder(corrections, dataset, images, has_positions=not test)
    labels, others = images.labels.copy(), []
    dropped, confirmed = np.zeros(len(labels), dtype=bool), np.zeros(len(labels), dtype=bool)
    seen: dict[int, Decision] = {}
    for decision in corrections.decisions:
        index = find.image(decision)
        if index is None:
            others.append(decision)
            continue
        label = find.label(decision, int(images.labels[index]))
        is_dropped = decision.action is Action.DROP
        if (before := seen.setdefault(index, decision)) is not decision and (
            is_dropped != dropped[index] or (not is_dropped and label != labels[index])
        ):
            name = printable(images.image_name(index))
            raise corrections.error(decision, f"contradicts line {before.line}, which is about the same image, {name}")
        labels[index], dropped[index] = label, is_dropped
        confirmed[index] = not is_dropped and label == images.labels[index]
    digest = hashlib.sha256(corrections.content).hexdigest()
    found = Applied(images, corrections.file, digest, labels, dropped, confirmed, tuple(others))
    everything = np.arange(len(labels))
    require_classes(found, everything, "test" if test else "training")
    return found


def require_found(corrections: Corrections, dataset: Dataset, train: Applied, test: Applied) -> None:
    """Raise DataError if a decision is about neither a training nor a test image. A file may exist but be skipped."""
    if not isinstance(dataset, HasFiles) and (lost := [d for d in train.others if d in test.others]):
        raise corrections.error(lost[0], f"no image of the dataset is {_quoted(lost[0].image)}")


def require_classes(applied: Applied, indices: NDArray[np.int64], part: str) -> None:
    """Raise DataError if a class that had images in a part has none after the corrections.

    Args:
        applied: corrections of all images.
        indices: of the images in the part, before the corrections.
        part: name of the part, for messages.
    """
    names = applied.original.class_names
    left = np.bincount(applied.labels[applied.kept(indices)], minlength=len(names))
    had = np.bincount(applied.original.labels[indices], minlength=len(names))
    if (empty := np.flatnonzero((left == 0) & (had > 0))).size:
        raise DataError(
            f"{applied.file} leaves no {part} image of the class {printable(names[empty[0]])!r}, which had "
            f"{had[empty[0]]:,}: every class needs at least one. Keep some, or remove the class from the dataset."
        )


class _Finder:
    """Finds the images and classes that decisions name."""

    def __init__(
        self, corrections: Corrections, dataset: Dataset, images: LabeledImages, *, has_positions: bool
    ) -> None:
        self.corrections, self.dataset, self.images, self.has_positions = corrections, dataset, images, has_positions

    @cached_property
    def _files(self) -> dict[str, list[int]]:
        return _by_name(self.images.files)

    @cached_property
    def _classes(self) -> dict[str, list[int]]:
        return _by_name(self.images.class_names)

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {position: index for index, position in enumerate(self.images.positions.tolist())}

    @cached_property
    def _by_base(self) -> dict[str, list[int]]:
        """Indices of the files by the last part of their names."""
        found: dict[str, list[int]] = {}
        for index, file in enumerate(self.images.files):
            found.setdefault(file.rpartition("/")[2], []).append(index)
        return found

    @cached_property
    def _root(self) -> str:
        """Directory of the files, with a slash; "" if it is unknown."""
        if not (self.images.files and isinstance(self.dataset, HasFiles)):
            return ""
        first = self.images.files[0]
        return _absolute(self.dataset.path(first).parents[first.count("/")]) + os.sep

    def image(self, decision: Decision) -> int | None:
        """Return the index of the image of a decision; None if it is an image of another part."""
        found = _lookup(self._files, decision.image) or self._at_path(decision.image)
        if len(found) > 1:
            raise self._error(decision, f"{_quoted(decision.image)} may be any of {len(found)} files: use its position")
        if found:
            return found[0]
        if re.fullmatch(r"\s*[0-9]{1,18}\s*", decision.image):
            return self._at_position(decision)
        if self._may_be_elsewhere(decision.image):
            return None
        raise self._error(decision, f"no image of the dataset is {_quoted(decision.image)}. {self._hint(decision)}")

    def _at_position(self, decision: Decision) -> int | None:
        if not self.has_positions:
            return None  # a position is a training image
        position = int(decision.image)
        if position not in self._positions:
            low, high = min(self._positions), max(self._positions)
            raise self._error(decision, f"no training image has the position {position}, expected {low} to {high}")
        return self._positions[position]

    def _at_path(self, cell: str) -> list[int]:
        """Return the index of the image at an absolute path, as a list; empty if there is none."""
        name = _absolute(Path(cell.strip()))
        if not (self._root and cell.strip().startswith(os.sep) and name.startswith(self._root)):
            return []
        return _lookup(self._files, name.removeprefix(self._root).replace(os.sep, "/"))

    def _may_be_elsewhere(self, cell: str) -> bool:
        """Return whether a file that is none of these images may be one of another part, or one that was skipped."""
        if not self._root:
            return bool(self.images.files)  # files that cannot be looked up
        name = _absolute(Path(self._root, cell.strip()))
        forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
        return name.startswith(self._root) and any(map(os.path.isfile, forms))

    def _hint(self, decision: Decision) -> str:
        files = self.images.files
        if not files:
            return f"Images of this dataset are named by their position, 0 to {len(self.images) - 1}."
        name = unicodedata.normalize("NFC", decision.image).replace("\\", "/").strip().removeprefix("./")
        moved = [files[index] for index in self._by_base.get(name.rpartition("/")[2], ())]
        near = moved or difflib.get_close_matches(name, files[:MAX_COMPARED], n=1)
        example = f"Files are written as {_quoted(files[0])}."
        return f"Did you mean {_quoted(near[0])}?" if near else example

    def label(self, decision: Decision, present: int) -> int:
        """Return the label of an image after a decision; `present`: before it."""
        if decision.action is Action.DROP or not decision.label.strip():
            if decision.action is Action.RELABEL:
                raise self._error(decision, "relabel needs the name of a class as label")
            return present
        found = _lookup(self._classes, decision.label)
        if len(found) == 1:
            return found[0]
        names = self.images.class_names
        near = difflib.get_close_matches(decision.label.strip(), names, n=1)
        few = ", ".join(map(printable, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        hint = f"Did you mean {_quoted(near[0])}?" if near else f"Its classes: {few}."
        problem = f"the dataset has no class {_quoted(decision.label)}, and corrections cannot add one. {hint}"
        raise self._error(decision, problem)

    def _error(self, decision: Decision, problem: str) -> DataError:
        return self.corrections.error(decision, problem)


def _by_name(names: Iterable[str]) -> dict[str, list[int]]:
    """Return the indices of each name, also as `to_csv` writes it."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        plain = unicodedata.normalize("NFC", name)
        for form in {plain, str(csv_cell(plain))}:
            found.setdefault(form, []).append(index)
    return found


def _lookup(known: Mapping[str, list[int]], cell: str) -> list[int]:
    name = unicodedata.normalize("NFC", cell)
    return known.get(name) or known.get(name.strip()) or known.get(name.strip().removeprefix("./")) or []


def _absolute(path: Path) -> str:
    return unicodedata.normalize("NFC", os.path.abspath(path))  # noqa: PTH100 - resolves no links


def _quoted(text: str) -> str:
    return repr(shorten_words(printable(text.strip()), 120))
