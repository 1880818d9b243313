"""Content of a dataset as digests with a few facts, and the difference between two contents in words.

A search records the content of the data that it reads. Whatever reads the data of the run again compares it first:
figures of one run must not rest on different images. Only the arrays as read count; files may move, be renamed or
be touched, as long as the arrays stay the same.

Cost: one pass of SHA-256 over the pixels, 0.1 s for the 50,000 images of CIFAR-10, while Ray starts in the background.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from nasx.data.dataset import LabeledImages, SearchData
from nasx.errors import DataError, NasxError
from nasx.files import parse_record, write_atomically

CLASSES, LABELS, PIXELS, SPLIT, CORRECTIONS = "classes", "labels", "pixels", "split", "corrections"
BACKBONE: Final = "backbone"
_BLOCK: Final = 1024  # images hashed at a time


@dataclass(frozen=True)
class Content:
    """Content of one part of the data."""

    digest: str  # SHA-256, hexadecimal
    facts: Mapping[str, Any] = field(default_factory=dict)  # to say in words what differs; plain JSON


Contents = Mapping[str, Content]  # by part


def describe_images(images: LabeledImages) -> dict[str, Content]:
    """Return the content of labeled images: class names, labels and pixels, each on its own."""
    counts = np.bincount(images.labels, minlength=images.n_classes).tolist()
    return {
        CLASSES: describe_classes(images.class_names),
        LABELS: Content(digest_array(images.labels), {"images": len(images), "counts": counts}),
        PIXELS: Content(digest_pixels(images), {"shape": list(images.shape)}),
    }


def describe_classes(class_names: Sequence[str]) -> Content:
    """Return the content of the names of the classes, in order. Both Unicode forms of a letter are the same."""
    digest = digest_text(json.dumps([unicodedata.normalize("NFC", name) for name in class_names]))
    return Content(digest, {"names": list(class_names)})


def combined(contents: Contents) -> str:
    """Return one digest of all parts."""
    return digest_text(json.dumps({part: content.digest for part, content in contents.items()}, sort_keys=True))


def as_record(contents: Contents) -> dict[str, dict[str, Any]]:
    """Return contents as plain JSON; `from_record` is the inverse."""
    return {part: {"digest": content.digest, "facts": dict(content.facts)} for part, content in contents.items()}


def from_record(record: Mapping[str, Mapping[str, Any]]) -> dict[str, Content]:
    """Return the contents that `as_record` returned."""
    return {part: Content(str(entry.get("digest")), entry.get("facts", {})) for part, entry in record.items()}


def describe_split(train: NDArray[np.int64], validation: NDArray[np.int64]) -> Content:
    """Return the content of a split, from the positions of its images."""
    digest = hashlib.sha256(digest_array(train).encode() + digest_array(validation).encode()).hexdigest()
    return Content(digest, {"train": len(train), "validation": len(validation)})


def describe_file(file: Path) -> Content:
    """Return the content of a file that a setting names. Raises OSError if it cannot be read."""
    content = file.read_bytes()
    return Content(hashlib.sha256(content).hexdigest(), {"bytes": len(content)})


def digest_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def digest_array(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array: of its type, shape and values, whatever its layout in memory."""
    found = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    for start in range(0, len(array), _BLOCK):  # an array on disk may be larger than memory
        found.update(np.ascontiguousarray(array[start : start + _BLOCK]).data)
    return found.hexdigest()


@dataclass(frozen=True)
class _Known:
    """Digest of a memory-mapped file, next to it."""

    size: int  # bytes of the file
    modified: int  # its modification time, ns
    digest: str


_KNOWN: Final = TypeAdapter(_Known)


def digest_pixels(images: LabeledImages) -> str:
    """Return the SHA-256 of the pixels. That of images on disk is kept in a file next to them."""
    pixels = images.images
    if not (images.on_disk and isinstance(pixels, np.memmap) and pixels.filename):
        return digest_array(pixels)
    file = Path(pixels.filename)
    note, state = file.with_name(f"{file.name}.sha256"), file.stat()
    with suppress(OSError, ValueError):  # absent or damaged: compute it again
        known = parse_record(note.read_bytes(), _KNOWN)
        if (known.size, known.modified) == (state.st_size, state.st_mtime_ns):
            return known.digest
    found = _Known(state.st_size, state.st_mtime_ns, digest_array(pixels))
    with suppress(NasxError, OSError):  # a cache that cannot be written only costs time
        write_atomically(note, json.dumps(_KNOWN.dump_python(found)).encode())
    return found.digest


class FileWatch:
    """Detects that the files of images on disk are replaced or changed while they are used."""

    def __init__(self, data: SearchData) -> None:
        arrays = (data.train.images, data.validation.images)
        self._states = {file: _state(file) for a in arrays if isinstance(a, np.memmap) and (file := str(a.filename))}

    def check(self) -> None:
        """Raise DataError if a file is no longer as it was. Costs microseconds."""
        for file, state in self._states.items():
            if _state(file) != state:
                raise DataError(
                    f"{file} has changed while the search was reading images from it. Finished trials are kept; "
                    "the next one would rest on other images. Remove the file, then resume with --resume."
                )


def _state(file: str) -> tuple[int, int, int] | None:
    """Return inode, size and modification time of a file; None if it is gone."""
    try:
        state = Path(file).stat()
    except OSError:
        return None
    return (state.st_ino, state.st_size, state.st_mtime_ns)


def find_difference(before: Contents, now: Contents) -> str:
    """Return how the content of data differs, in words; "" if the parts that both have are equal.

    >>> then = {"labels": Content("a", {"images": 180, "counts": [60, 60, 60]})}
    >>> find_difference(then, {"labels": Content("b", {"images": 360, "counts": [120, 120, 120]})})
    '180 images of 3 classes then, 360 now'
    """
    differing = [part for part in before if part in now and before[part].digest != now[part].digest]
    if not differing:
        return ""
    try:
        return _in_words(differing, before, now)
    except (LookupError, TypeError, ValueError, AttributeError):  # the facts of a stranger's run may be anything
        return f"the {differing[0]} have other content"


def _in_words(differing: Sequence[str], before: Contents, now: Contents) -> str:
    for part in (CLASSES, LABELS):  # how many there are says more than how they are named
        if part in differing and (sizes := _sizes(before, now)):
            return sizes
    part = differing[0]
    describe = _WORDS.get(part)
    return describe(before[part].facts, now[part].facts) if describe else _file(part, before[part], now[part])


def _sizes(before: Contents, now: Contents) -> str:
    """Return the numbers of images and classes if they differ."""
    try:
        (n, counts), (m, others) = ((c[LABELS].facts["images"], c[LABELS].facts["counts"]) for c in (before, now))
    except KeyError:
        return ""
    if len(counts) != len(others):
        return f"{n:,} images of {len(counts)} classes then, {m:,} of {len(others)} now"
    return f"{n:,} images of {len(counts)} classes then, {m:,} now" if n != m else ""


def _classes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = before["names"], now["names"]
    if Counter(old) == Counter(new):
        return "the classes are in another order"
    if len(old) != len(new):
        return f"{len(old)} classes then, {len(new)} now"
    changed = [f"class {a!r} is now called {b!r}" for a, b in zip(old, new, strict=False) if a != b]
    return _first(changed) or "the names of the classes differ"


def _labels(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    counts = zip(before["counts"], now["counts"], strict=False)
    changed = [f"class {number} had {a:,} images, now {b:,}" for number, (a, b) in enumerate(counts, 1) if a != b]
    return _first(changed) or "as many images of each class, but other labels or another order"


def _pixels(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if before["shape"] != now["shape"]:
        return f"images of {_by(before['shape'])} then, {_by(now['shape'])} now (channels, height, width)"
    return "as many images of each class, but other pixels or another order"


def _split(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    sizes = [f"{facts['train']:,} + {facts['validation']:,}" for facts in (before, now)]
    if sizes[0] != sizes[1]:
        return f"{sizes[0]} training and validation images then, {sizes[1]} now"
    return "the same images, but split otherwise into training and validation; another version of scikit-learn?"


def _corrections(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    counts = [f"{facts['relabeled']:,} and {facts['dropped']:,}" for facts in (before, now)]
    differ = "the corrections differ (labels changed and images dropped"
    if counts[0] == counts[1]:
        return f"{differ}: {counts[0]} then and now, but not the same)"
    return f"{differ}: {counts[0]} then, {counts[1]} now)"


def _backbone(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    networks = [f"{facts['name']} with {facts['weights']:,} weights" for facts in (before, now)]
    if networks[0] != networks[1]:
        return f"the backbone was {networks[0]} then, is {networks[1]} now"
    return f"the backbone {networks[0]} has other values of its weights, or another preprocessing"


def _table(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    rows = [f"{facts['rows']:,} rows of {facts['networks']:,} networks" for facts in (before, now)]
    return f"{rows[0]} then, {rows[1]} now" if rows[0] != rows[1] else "as many rows, but other values"


_WORDS: Final = {
    CLASSES: _classes,
    LABELS: _labels,
    PIXELS: _pixels,
    CORRECTIONS: _corrections,
    SPLIT: _split,
    BACKBONE: _backbone,
    "table": _table,
}


def _file(part: str, before: Content, now: Content) -> str:
    sizes = [f"{content.facts.get('bytes', 0):,} bytes" for content in (before, now)]
    return f"the {part} has other content ({sizes[0]} then, {sizes[1]} now)"


def _first(changed: Sequence[str]) -> str:
    return "" if not changed else changed[0] + (f" ({len(changed) - 1} more differ)" if len(changed) > 1 else "")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
