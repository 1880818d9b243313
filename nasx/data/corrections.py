"""Corrections of labels: a CSV file with a decision per image, as a person makes them when reviewing a dataset.

Format: UTF-8 (a byte order mark is accepted), one header row, then one row per image, in any order::

    image,action,label,reason
    cat/a 17.jpg,relabel,dog,clearly a dog
    cat/b.jpg,drop,,blurred
    dog/c.jpg,keep,,
    31415,relabel,truck,

- `image`: file of the image relative to the root of the dataset, with "/", as in `LabeledImages.files`; or its absolute
  path; or its position among the training images as read, from 0, as in `LabeledImages.positions`. A file may be a
  training or a test image, a position is always a training image. Images without files have only positions.
- `action`: `keep` records that a person has confirmed the label; `relabel` replaces it; `drop` leaves the image out.
  A row in which both action and label are empty is undecided and has no effect.
- `label`: with `relabel` the name of a class of the dataset, as printed by `nasx data check`; with `keep` and `drop`
  empty or the present label of the image.
- `reason`: optional, any text. Other columns are ignored.

Cells may be separated by commas, semicolons or tabs, as spreadsheets write them; a cell that contains the separator is
quoted, as usual in CSV. Names may be written plainly or as `nasx.escaping.to_csv` writes them, with an apostrophe
before a text that a spreadsheet would run as a formula. Unicode forms NFC and NFD are the same name.

This module reads the file. `nasx.data.corrected` applies it to images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from nasx.errors import DataError, RunError, did_you_mean
from nasx.escaping import printable, shorten_words
from nasx.files import read_bounded

MAX_BYTES: Final = 2**26  # of a file: about a million rows
COLUMNS: Final = ("image", "action", "label", "reason")
_REQUIRED: Final = COLUMNS[:3]
_SEPARATORS: Final = (",", ";", "\t")


class Action(StrEnum):
    """Decision about the label of an image."""

    KEEP = "keep"
    RELABEL = "relabel"
    DROP = "drop"


@dataclass(frozen=True)
class Decision:
    """One row of the file."""

    image: str  # as written: a file or a position
    action: Action
    label: str  # as written: name of a class; "" if there is none
    line: int  # in the file, from 1, for messages


@dataclass(frozen=True)
class Corrections:
    """Content of a file of corrections, not yet compared with a dataset."""

    file: str  # its path, for messages
    content: bytes  # of the file
    decisions: tuple[Decision, ...]

    def error(self, decision: Decision, problem: str) -> DataError:
        """Return the error for a row."""
        return _error(self.file, decision.line, problem)


def read_corrections(file: Path) -> Corrections:
    """Read a file of corrections. Raises DataError if it is missing or malformed."""
    try:
        content = read_bounded(file, MAX_BYTES, follow=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{file} does not exist: dataset.corrections must name a CSV file.") from error
    except (RunError, ValueError) as error:  # ValueError: a NUL character in the path
        problem = str(error).rstrip(".")
        raise DataError(f"dataset.corrections must name a CSV file: {problem}.") from error
    return parse_corrections(content, str(file))


def parse_corrections(content: bytes, file: str) -> Corrections:
    """Return the corrections in the content of a file.

    Args:
        content: of the file.
        file: its path, for messages.

    Raises:
        DataError: if the content is not a CSV of the format above.
    """
    rows = _rows(content, file)
    _, header = next(rows)
    columns = _columns(header, file)
    return Corrections(file, content, tuple(_decisions(rows, columns, len(header), file)))


def _rows(content: bytes, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row that is not blank."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8: save it as CSV in UTF-8.") from error
    if not text.strip():
        raise DataError(f"{file} is empty. {_EXPECTED}")
    first = text.lstrip().splitlines()[0]
    separator = max(_SEPARATORS, key=first.count)  # of the header, whose own cells contain none
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise _error(file, reader.line_num, f"is not CSV: {error}") from error


_EXPECTED: Final = f"Expected a CSV with the header {','.join(COLUMNS)}."


def _columns(header: Sequence[str], file: str) -> dict[str, int]:
    """Return the index of each column that is read. Raises DataError if one is missing or occurs twice."""
    names = [name.strip().casefold() for name in header]
    if not set(_REQUIRED) & set(names):
        raise DataError(f"{file} has no header. {_EXPECTED}")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise DataError(f"{file} has no column {missing[0]}. {_EXPECTED}")
    if twice := [name for name in COLUMNS if names.count(name) > 1]:
        raise DataError(f"{file} has two columns {twice[0]}. {_EXPECTED}")
    return {name: names.index(name) for name in _REQUIRED}


def _decisions(
    rows: Iterator[tuple[int, list[str]]], columns: dict[str, int], width: int, file: str
) -> Iterator[Decision]:
    """Yield the decisions of all rows after the header, without undecided ones."""
    for line, cells in rows:
        if len(cells) > width:
            raise _error(file, line, f"has {len(cells)} cells, expected {width}: quote a name that has the separator")
        image, action, label = (cells[i] if i < len(cells) else "" for i in columns.values())
        if not image.strip():
            raise _error(file, line, "names no image")
        if not action.strip() and not label.strip():
            continue
        yield Decision(image, _action(action, file, line), label, line)


def _action(text: str, file: str, line: int) -> Action:
    try:
        return Action(text.strip().casefold())
    except ValueError as error:
        word = text.strip().casefold()
        hint = did_you_mean(word, list(Action)) if word else "Write relabel to use its label."
        raise _error(file, line, f"its action is {_quoted(text)}, expected keep, relabel or drop. {hint}") from error


def _quoted(text: str) -> str:
    return repr(shorten_words(printable(text), 80)) if text.strip() else "empty"


def _error(file: str, line: int, problem: str) -> DataError:
    return DataError(f"{file}, line {line}: {problem}{'' if problem.endswith(('.', '?')) else '.'}")


def in_words(facts: Mapping[str, Any]) -> str:
    """Return corrections in words, from the facts of their content; "" if there are none.

    >>> in_words({"relabeled": 31, "dropped": 4, "confirmed": 12, "file": "fixes.csv"})
    '31 labels changed, 4 images dropped, 12 confirmed (fixes.csv)'
    """
    if "relabeled" not in facts:
        return ""
    names = ("relabeled", "dropped", "confirmed", "others")
    relabeled, dropped, confirmed, others = (n if isinstance(n := facts.get(name), int) else 0 for name in names)
    parts = [f"{relabeled:,} label{'s' * (relabeled != 1)} changed", f"{dropped:,} image{'s' * (dropped != 1)} dropped"]
    if "confirmed" in facts:
        parts.append(f"{confirmed:,} confirmed")
    if others:
        parts.append(f"{others:,} of test images or skipped files")
    file = f" ({printable(str(facts['file']))})" if facts.get("file") else ""
    return ", ".join(parts) + file
