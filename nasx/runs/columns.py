"""Values of each column of the journal: type, form and range, checked whenever a row is read.

run.db may come from a stranger or from a damaged disk. A value that passes can be used without further checks: text is
text, numbers are in range, JSON has the expected form. `nasx.runs.rows` checks the values of a row against each other.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nasx.errors import RunError
from nasx.runs.schema import COLUMNS
from nasx.trial import ARCH_ID_DIGITS, OBJECTIVES, Reason, TrialStatus

_ARCH_ID_PATTERN = re.compile(rf"[0-9a-f]{{{ARCH_ID_DIGITS}}}")
MAX_COUNT = 2**53  # larger integers cannot be stored as float
MAX_SECONDS = 1e10  # three hundred years
MAX_CLASSES = 10_000  # the matrix of their distances has 800 MB
MAX_GENES = 10_000
MAX_JSON = 10_000_000  # characters
TOLERANCE = 1e-6  # of ranges, for rounding errors
DISTANCES = np.dtype("<f8")
_ERRORS = ("train_error", "validation_error")  # of an epoch
_LIMITS = {  # metric -> range
    "train_error": (-TOLERANCE, 1 + TOLERANCE),
    **{name: (o.low - TOLERANCE, o.high + TOLERANCE) for name, o in OBJECTIVES.items()},
}
_INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}


class RowError(ValueError):
    """Raised for a row that nasx has not written: names the column, the value and the expected value."""


@dataclass(frozen=True)
class Column:
    """Column of a table."""

    expected: str  # in words, for error messages
    read: Callable[[Any], Any]  # returns the value in Python; raises an exception in _INVALID for any other


_INVALID = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError, StopIteration)


def read_row(table: str, names: Sequence[str], values: Sequence[object]) -> dict[str, Any]:
    """Return the checked values of a row by column. Raises RowError for the first bad value.

    Args:
        table: Name of the table.
        names: Its columns in this version of the schema.
        values: As SQLite returns them.
    """
    columns = READERS[table]
    try:
        return {name: columns[name].read(value) for name, value in zip(names, values, strict=True)}
    except _INVALID:
        for name, value in zip(names, values, strict=True):
            check(name, columns[name], value)
        raise


def check(name: str, column: Column, value: object) -> None:
    """Raise RowError unless a column can have this value."""
    try:
        column.read(value)
    except _INVALID as exc:
        raise RowError(f"{name} is {shown(value)}, expected {column.expected}") from exc


def shown(value: object) -> str:
    """Return a short form of any value for an error message.

    >>> shown(b"\\0" * 100), shown(float("nan")), shown("a" * 100)
    ('100 bytes', 'nan', "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... (100 characters)")
    """
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str) and len(value) > 80:
        return f"{ascii(value[:60])[:-1]}... ({len(value)} characters)"
    return ascii(value)[:100]


def is_arch_id(text: str) -> bool:
    """Return whether a text has the form of an `arch_id`. Ids that were read become parts of paths only if they have.

    >>> is_arch_id("3fa0c11d22"), is_arch_id("../../x"), is_arch_id("3FA0C11D22")
    (True, False, False)
    """
    return _ARCH_ID_PATTERN.fullmatch(text) is not None


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _text(low: int, high: int) -> Column:
    def read(value: Any) -> str:
        _require(type(value) is str and low <= len(value) <= high)
        return str(value)

    return Column(f"text of {low} to {high:,} characters", read)


def _pattern(pattern: re.Pattern[str], expected: str) -> Column:
    def read(value: Any) -> str:
        if pattern.fullmatch(value) is None:
            raise ValueError
        return str(value)

    return Column(expected, read)


def _integer(low: int, high: int = MAX_COUNT) -> Column:
    def read(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise ValueError

    return Column(f"an integer from {low} to {high}", read)


def _real(low: float, high: float, expected: str) -> Column:
    def read(value: Any) -> float:
        if type(value) is float and low <= value <= high:  # False for NaN
            return value
        raise ValueError

    return Column(expected, read)


def _optional(column: Column) -> Column:
    def read(value: Any) -> Any:
        return None if value is None else column.read(value)

    return Column(f"{column.expected}, or NULL", read)


def _time(value: Any) -> str:
    _require(len(value) <= 40 and datetime.fromisoformat(value).tzinfo is not None)
    return str(value)


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(parse_constant=_not_json).raw_decode
_decoder = json.JSONDecoder()  # reads NaN and Infinity, which settings may be


def parse_json(text: Any) -> Any:
    """Return the value of a JSON text. Raises an exception in _INVALID for anything else."""
    if len(text) > MAX_JSON:
        raise ValueError("the text is too long")
    value, end = _scan(text, 0)
    if end != len(text):
        raise ValueError("there is more text behind the JSON value")
    return value


def _list(text: Any) -> list[Any]:
    value = parse_json(text)
    if type(value) is not list:
        raise ValueError
    return value


@lru_cache(5000)  # a candidate and its trial have the same genotype
def _numbers_of_genes(text: Any) -> tuple[int, ...]:
    value = _list(text)
    _require(len(value) <= MAX_GENES and all(type(allele) is int and 0 <= allele < MAX_COUNT for allele in value))
    return tuple(value)


@lru_cache(5000)
def _candidates(text: Any) -> tuple[int, ...]:
    value = _list(text)
    if value and not (set(map(type, value)) == {int} and min(value) >= 0 and max(value) < MAX_COUNT):
        raise ValueError
    return tuple(value)


def _names(text: Any) -> tuple[str, ...]:
    value = _list(text)
    _require(len(value) <= MAX_CLASSES and all(type(name) is str for name in value) and len(set(value)) == len(value))
    return tuple(value)


def _objectives(text: Any) -> tuple[str, ...]:
    value = _names(text)
    _require(bool(value) and all(name in OBJECTIVES for name in value))
    return value


def _alleles(text: Any) -> tuple[tuple[str, ...], ...]:
    genes = [tuple(names) for names in _list(text) if type(names) is list]
    _require(len(genes) == len(_list(text)) <= MAX_GENES)
    _require(all(names and all(type(n) is str for n in names) and len(set(names)) == len(names) for names in genes))
    return tuple(genes)


def _object(text: Any) -> Mapping[str, Any]:
    _require(len(text) <= MAX_JSON)
    value = _decoder.decode(text)
    _require(type(value) is dict)
    return value  # type: ignore[no-any-return]


def _metrics(text: Any) -> dict[str, float]:
    numbers = json_numbers(parse_json(text))
    for name, value in numbers.items():
        if name in _LIMITS and value == value:  # False for NaN
            low, high = _LIMITS[name]
            if not low <= value <= high:
                raise ValueError
    return numbers


class History(Sequence[Mapping[str, float]]):
    """Epochs of a training, parsed and checked when they are first used: most commands do not read them.

    Parsing all histories would take half of the time to open a run.
    """

    def __init__(self, text: str) -> None:
        """`text`: the JSON list."""
        if type(text) is not str or len(text) > MAX_JSON or text[:1] != "[":
            raise ValueError
        self._text = text

    @cached_property
    def epochs(self) -> tuple[Mapping[str, float], ...]:
        """All epochs. Raises RunError if they are damaged."""
        try:
            return _history(self._text)
        except _INVALID as exc:
            raise RunError(
                f"the journal is damaged: the history of a trial is {shown(self._text)}, expected {_EPOCHS}. "
                "Run `nasx runs check` for details."
            ) from exc

    def __getitem__(self, index: Any) -> Any:
        return self.epochs[index]

    def __len__(self) -> int:
        return len(self.epochs)

    def __eq__(self, other: object) -> bool:
        return self.epochs == (other.epochs if isinstance(other, History) else other)

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return repr(self.epochs)


_EPOCHS = "a JSON list of objects of numbers in range, for epochs 1, 2, 3, ..."


def _history(text: Any) -> tuple[dict[str, float], ...]:
    epochs = [json_numbers(epoch) for epoch in _list(text)]
    for position, epoch in enumerate(epochs, 1):
        _require(epoch["epoch"] == position)
        for name in _ERRORS:
            _require(-TOLERANCE <= epoch.get(name, 0.0) <= 1 + TOLERANCE or math.isnan(epoch[name]))
    return tuple(epochs)


def json_numbers(numbers: Any) -> dict[str, float]:
    """Return the numbers of a JSON object: null is NaN, "Infinity" an infinity. Integers stay integers.

    >>> json_numbers({"a": 1, "b": None, "c": "-Infinity"})
    {'a': 1, 'b': nan, 'c': -inf}
    """
    if type(numbers) is not dict:
        raise TypeError
    for name, value in numbers.items():
        kind = type(value)
        if kind is float:
            if value - value != 0:  # 1e999 is read as infinity
                raise ValueError
        elif kind is int:
            if not -MAX_COUNT <= value <= MAX_COUNT:
                raise ValueError
        else:
            numbers[name] = math.nan if value is None else _INFINITIES[value]
    return numbers


def _distances(value: Any) -> NDArray[np.float64]:
    cells = np.frombuffer(value, dtype=DISTANCES)
    n = math.isqrt(cells.size)
    _require(type(value) is bytes and n * n == cells.size and n <= MAX_CLASSES)
    if cells.size and not (np.fmin.reduce(cells) >= -TOLERANCE and np.fmax.reduce(cells) <= 2 + TOLERANCE):
        _require(bool(np.isnan(cells).all()))
    return cells.reshape(n, n)


def _choice(kind: type[TrialStatus | Reason]) -> Column:
    members = {member.value: member for member in kind}
    return Column(f"one of {', '.join(members)}", members.__getitem__)


_COUNT = _integer(0)
_NAME = _text(0, 10_000)
_TEXT = _text(0, 10_000_000)
_ARCH_ID = _pattern(_ARCH_ID_PATTERN, f"{ARCH_ID_DIGITS} hexadecimal digits in lower case")
_TIME = Column("a time in ISO 8601 with its time zone", _time)
_SECONDS = _real(0.0, MAX_SECONDS, f"seconds from 0 to {MAX_SECONDS:g}")
_SHARE = _real(-TOLERANCE, 1 + TOLERANCE, "a share from 0 to 1")
_SPREAD = _real(0.0, 1e15, "a number from 0 to 1e15")
_GENOTYPE = Column("a JSON list of alleles, integers from 0", _numbers_of_genes)
_NUMBERS = Column("a JSON list of candidate numbers", _candidates)
_REPLICATE = _integer(0, 10**6)
_OBJECT = Column("a JSON object", _object)
READERS: Mapping[str, Mapping[str, Column]] = {
    "run": {
        "name": _NAME,
        "created": _TIME,
        "nasx_version": _NAME,
        "torch_version": _NAME,
        "python_version": _NAME,
        "seed": _integer(0, 2**63 - 1),
        "objectives": Column(f"a JSON list of different names from {', '.join(OBJECTIVES)}", _objectives),
        "n_classes": _integer(2, MAX_CLASSES),
        "class_names": Column("a JSON list of different names", _names),
        "config_hash": _text(0, 64),
        "workers": _integer(1, 10**6),
        "alleles": Column("a JSON list with the list of different allele names of each gene", _alleles),
        "config": _OBJECT,
    },
    "candidates": {
        "number": _COUNT,
        "arch_id": _ARCH_ID,
        "genotype": _GENOTYPE,
        "generation": _COUNT,
        "operator": _NAME,
        "parents": _NUMBERS,
        "heard": _NUMBERS,
        "answered": _integer(0, 1),
        "replicate": _REPLICATE,
    },
    "trials": {
        "arch_id": _ARCH_ID,
        "replicate": _REPLICATE,
        "number": _COUNT,
        "genotype": _GENOTYPE,
        "architecture": _text(0, 1_000_000),
        "seed": _integer(0, 2**31 - 1),
        "status": _choice(TrialStatus),
        "reason": _optional(_choice(Reason)),
        "detail": _TEXT,
        "metrics": Column("a JSON object of numbers in range", _metrics),
        "history": Column(_EPOCHS, History),
        "train_seconds": _SECONDS,
        "score_seconds": _SECONDS,
        "finished": _TIME,
        "retries": _COUNT,
        "gpu_seconds": _SECONDS,
    },
    "scores": {
        "arch_id": _ARCH_ID,
        "replicate": _REPLICATE,
        "scorer": _text(1, 10_000),
        "position": _integer(0, 10**6),
        "value": _real(-1e15, 1e15, "a finite number"),
        "profile": Column("a JSON object of numbers", lambda text: json_numbers(parse_json(text))),
        "distances": Column("a square matrix of 8-byte floats from 0 to 2 or NaN", _distances),
        "n_samples": _COUNT,
        "seconds": _SECONDS,
        "completeness_error": _optional(_real(0.0, math.inf, "a number of at least 0")),
    },
    "noise": {
        "trainings": _COUNT,
        "objective": Column(f"one of {', '.join(OBJECTIVES)}", lambda name: OBJECTIVES[name].name),
        "std": _SPREAD,
        "share": _SHARE,
        "own_share": _SHARE,
        "length_scale": _SPREAD,
        "repeated": _COUNT,
    },
    "events": {
        "time": _TIME,
        "kind": _NAME,
        "message": _TEXT,
        "arch_id": _optional(_ARCH_ID),
        "replicate": _optional(_REPLICATE),
    },
    "data": {
        "part": _text(1, 10_000),
        "digest": _pattern(re.compile("([0-9a-f]{64})?"), "64 hexadecimal digits in lower case, or nothing"),
        "facts": _OBJECT,
    },
}
assert all([*READERS[table], "checksum"] == list(columns) for table, columns in COLUMNS.items())
