"""Text from outside, e.g. names of files and classes, made safe for terminals, CSV and JSON.

`printable` is the only function for text that goes to a terminal, `to_csv` for CSV, `to_json` for JSON for programs.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# invisible characters that str.isprintable accepts: fillers, joiners and the variation selectors that can hide data
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2028\u2029\u2065\u3164\uffa0\U000e0100-\U000e01ef]"
)

_JOINERS = "\u200c\u200d"  # zero-width non-joiner and joiner


def printable(text: str, *, lines: bool = False, joiners: bool = False) -> str:
    r"""Return text in which no character controls a terminal or hides: those are escaped as in Python.

    Escapes control characters, bidirectional overrides, invisible characters, unassigned characters, and bytes of file
    names that are not UTF-8, which Python reads as lone surrogates. `lines`: keep newlines and tabs. `joiners`: keep
    the joiners of Persian words and of emoji, which terminals do not draw.

    >>> print(printable("cat\x1b[2J\ndog"), printable("a\u202eb"), printable("caf\udce9"), printable("naïve ± 日本"))
    cat\x1b[2J\ndog a\u202eb caf\xe9 naïve ± 日本
    """
    kept = ("\n\t" if lines else "") + (_JOINERS if joiners else "")
    rest = text.translate(dict.fromkeys(map(ord, kept))) if kept and not text.isprintable() else text
    if rest.isprintable() and not _INVISIBLE.search(rest):  # almost every text
        return text
    return "".join(c if c in kept or _is_harmless(c) else _escape(c) for c in text)


def _is_harmless(character: str) -> bool:
    is_visible = character.isprintable() or unicodedata.category(character) == "Zs"  # Zs: spaces of any width
    return is_visible and not _INVISIBLE.match(character)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def valid_name(name: str) -> str:
    r"""Return the name of a file as valid Unicode in form NFC: each of its bytes that are not UTF-8 becomes \xNN.

    Python reads such bytes as lone surrogates, which no file format accepts. Letters with accents have two forms, of
    which some systems write one and some the other: they are the same name.

    >>> print(valid_name("caf\udce9"), valid_name("café"))
    caf\xe9 café
    """
    return unicodedata.normalize("NFC", re.sub("[\ud800-\udfff]", lambda found: _escape(found[0]), name))


def shorten_words(text: str, length: int = 400) -> str:
    """Return text with the middle of each word cut that has more characters than `length`.

    >>> shorten_words("no file " + "x" * 20 + ".npz", 12)
    'no file xxxxxx…x.npz'
    """
    return re.sub(
        rf"\S{{{length + 1},}}", lambda found: f"{found[0][: length // 2]}…{found[0][1 - length // 2 :]}", text
    )


_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")


def csv_cell(value: object) -> object:
    """Return a value for a cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe.

    >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell(-0.5), csv_cell("cat")
    ("'=1+1", '-0.5', -0.5, 'cat')
    """
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if _FORMULA.match(value) and not _is_number(value) else text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None


def to_csv(rows: Iterable[Sequence[object]]) -> str:
    r"""Return rows as CSV. None and numbers that are not finite are empty cells.

    >>> to_csv([("class", "n"), ("=cmd()", 3), ("a,b", None)])
    'class,n\n\'=cmd(),3\n"a,b",\n'
    """
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([csv_cell(value) for value in row] for row in rows)
    return out.getvalue()


def to_json(value: Any, *, indent: int | None = 2) -> str:
    r"""Return a value as JSON in printable ASCII. Numbers that are not finite are null.

    >>> print(to_json({"a": float("nan"), "b": "\x7f\u202e"}, indent=None))
    {"a": null, "b": "\u007f\u202e"}
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False, default=str).replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
