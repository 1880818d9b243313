"""Semantic similarity of classes: weights of their distances in a score, from a CSV or WordNet."""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nasx.errors import DataError, ResourceError
from nasx.escaping import csv_cell, to_csv, valid_name
from nasx.files import read_bounded

MAX_BYTES = 100_000_000  # of a file of similarities or ids


@dataclass(frozen=True, eq=False)
class ClassSimilarity:
    """Similarity of each pair of classes."""

    class_names: tuple[str, ...]
    matrix: NDArray[np.float64]  # (n_classes, n_classes), symmetric, >= 0; the diagonal is not used
    source: str = "similarity"  # file or database, for messages

    def check_names(self, class_names: Sequence[str]) -> None:
        """Raise DataError for the first class that differs from the dataset's `class_names`."""
        self.check_size(len(class_names))
        for number, (own, other) in enumerate(zip(self.class_names, class_names, strict=True), start=1):
            if own not in (other, other.strip(), csv_cell(other)):
                raise DataError(
                    f"{self.source}: class {number} is {own!r}, but {other!r} in the dataset; "
                    "rows and columns must be in the order of the dataset's classes"
                )

    def check_size(self, n_classes: int) -> None:
        """Raise DataError if the dataset has another number of classes."""
        if len(self.class_names) != n_classes:
            raise DataError(f"{self.source} has {len(self.class_names)} classes, the dataset has {n_classes}")


def pair_weights(similarity: ClassSimilarity | None, n_classes: int) -> NDArray[np.float64] | None:
    """Return the weights of the class pairs, (n_classes, n_classes); None if all are 1. Raises DataError."""
    if similarity is None:
        return None
    similarity.check_size(n_classes)
    return similarity.matrix


def read_similarity(path: Path) -> ClassSimilarity:
    """Return the class similarities in a CSV. Raises DataError with the line that is wrong."""
    try:
        text = read_bounded(path, MAX_BYTES, follow=True).decode("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise DataError(f"cannot read the class similarities {path}: {exc}") from exc
    names = tuple(valid_name(name.strip()) for name in rows[0][1:]) if rows else ()
    if len(names) < 2 or len(rows) != len(names) + 1:
        raise DataError(
            f"{path}: expected a header with the class names after an empty first cell, then one line per class; "
            f"found {len(names)} names and {max(len(rows) - 1, 0)} lines"
        )
    matrix = np.array([_parse_row(path, line, row, names) for line, row in enumerate(rows[1:], start=2)])
    if not np.array_equal(matrix, matrix.T):
        i, k = np.argwhere(matrix != matrix.T)[0]
        raise DataError(
            f"{path} is not symmetric: {names[i]} to {names[k]} is {matrix[i, k]:g}, the reverse is {matrix[k, i]:g}"
        )
    return ClassSimilarity(names, matrix, str(path))


def similarity_csv(similarity: ClassSimilarity) -> str:
    """Return the CSV that `read_similarity` reads, with all digits."""
    rows = zip(similarity.class_names, similarity.matrix.tolist(), strict=True)
    return to_csv([("", *similarity.class_names), *((name, *row) for name, row in rows)])


def read_synsets(path: Path) -> tuple[str, ...]:
    """Return the WordNet ids in a file, one per line. Raises DataError if it cannot be read."""
    try:
        return tuple(read_bounded(path, MAX_BYTES, follow=True).decode().split())
    except (OSError, UnicodeDecodeError) as exc:
        raise DataError(f"cannot read the WordNet ids {path}: {exc}") from exc


def wordnet_similarity(class_names: Sequence[str], synsets: Sequence[str], *, wordnet: Path) -> ClassSimilarity:
    """Return the similarity in WordNet of each pair of classes: 1 / (1 + steps of the shortest path over hypernyms).

    Args:
        class_names: names of the classes.
        synsets: noun of each class by its offset, as ImageNet names them ("n02123045").
        wordnet: directory of the database of WordNet 3.0 with the file data.noun ("/usr/share/wordnet" on Debian,
            package wordnet-base).

    Raises:
        ResourceError: if the database is missing.
        DataError: if a synset is unknown.
    """
    if len(class_names) != len(synsets):
        raise DataError(f"expected one synset per class, got {len(synsets)} for {len(class_names)} classes")
    try:
        with (wordnet / "data.noun").open("rb") as nouns:
            ancestors = [_ancestors(nouns, synset) for synset in synsets]
    except FileNotFoundError as exc:
        raise ResourceError(
            f"no WordNet database in {wordnet}: expected the file data.noun. On Debian and Ubuntu: "
            "apt install wordnet-base. Elsewhere unpack WordNet 3.0 and pass its directory dict."
        ) from exc
    matrix = np.array([[path_similarity(a, b) for b in ancestors] for a in ancestors])
    return ClassSimilarity(tuple(class_names), matrix, f"WordNet in {wordnet}")


def is_synset(word: str) -> bool:
    """Return whether `word` has the form of a noun id in WordNet, e.g. "n02123045"."""
    return re.fullmatch(r"n\d{8}", word) is not None


def path_similarity(first: Mapping[int, int], second: Mapping[int, int]) -> float:
    """Return 1 / (1 + length of the shortest path over a common ancestor); 0 if there is none.

    Each argument maps the ancestors of a node, including itself, to their distance in steps.

    >>> path_similarity({7: 0, 3: 1, 1: 2}, {8: 0, 3: 2, 1: 3})
    0.25
    """
    lengths = [steps + second[node] for node, steps in first.items() if node in second]
    return 1 / (1 + min(lengths)) if lengths else 0.0


def _ancestors(nouns: BinaryIO, synset: str) -> dict[int, int]:
    """Return the distance in steps to each hypernym, including the synset itself, by breadth-first search."""
    if not is_synset(synset):
        raise DataError(f"a synset must be n and eight digits, as n02123045, got {synset!r}")
    steps = {int(synset[1:]): 0}
    queue = deque(steps)
    while queue:
        node = queue.popleft()
        for hypernym in _hypernyms(nouns, node):
            if hypernym not in steps:
                steps[hypernym] = steps[node] + 1
                queue.append(hypernym)
    return steps


def _hypernyms(nouns: BinaryIO, offset: int) -> list[int]:
    """Return the direct hypernyms of a synset, including those of which it is an instance.

    A line of data.noun begins with its own byte offset: "offset file type n_words (hex) {word id} n_pointers
    {symbol offset part source}"; the symbols are "@" and "@i". Source: WordNet's manual page wndb(5).
    """
    nouns.seek(offset)
    fields = nouns.readline().decode("utf-8", errors="replace").split()
    if not fields or fields[0] != f"{offset:08d}":
        raise DataError(
            f"synset n{offset:08d} is not in {Path(nouns.name).parent}; the ids must be those of WordNet 3.0"
        )
    pointers = fields[4 + 2 * int(fields[3], base=16) + 1 :]
    return [int(pointers[i + 1]) for i in range(0, len(pointers) - 3, 4) if pointers[i] in ("@", "@i")]


def _parse_row(path: Path, line: int, row: list[str], names: tuple[str, ...]) -> list[float]:
    expected = names[line - 2]
    if row[0].strip() != expected:
        raise DataError(f"{path}, line {line}: expected the class {expected!r} as in the header, found {row[0]!r}")
    if len(row) != len(names) + 1:
        raise DataError(f"{path}, line {line}: expected {len(names)} numbers, found {len(row) - 1}")
    try:
        values = [float(cell) for cell in row[1:]]
    except ValueError as exc:
        raise DataError(f"{path}, line {line}: {exc}") from exc
    if not all(0 <= value < np.inf for value in values):
        raise DataError(f"{path}, line {line}: similarities must be finite and at least 0, found {min(values):g}")
    return values
