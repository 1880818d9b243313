"""Names in figures: cut to the width that they have, measured in the font, distinct, in characters that fonts have."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Final

from matplotlib import font_manager
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from nasx.reports.text import clean

DPI: Final = 100
FIRST: Final = "DejaVu Sans"  # part of matplotlib: the same figure on every machine
# for characters that it lacks (Chinese, Japanese, Korean, Indian scripts, emoji), if they are installed
OTHERS: Final = (
    "Noto Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Noto Emoji",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Yu Gothic",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Segoe UI Symbol",
    "Segoe UI Emoji",
)


@cache
def font_families() -> tuple[str, ...]:
    """Return the families of fonts that figures use, in this order; matplotlib warns about missing ones."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (FIRST, *(name for name in OTHERS if name in installed))


@cache
def _characters() -> frozenset[int]:
    """Return the code points that at least one of the fonts can draw."""
    found: set[int] = set()
    for family in font_families():
        path = font_manager.findfont(FontProperties(family=[family]))
        found.update(font_manager.get_font(path).get_charmap())
    return frozenset(found)


def is_drawable(text: str) -> bool:
    """Return whether the fonts have all characters of a text.

    >>> is_drawable("naïve ± кот"), is_drawable("a\U000f0000")
    (True, False)
    """
    return all(ord(c) in _characters() for c in text)


def drawable(text: str) -> str:
    r"""Return text in which characters that no font can draw are escaped as in Python.

    >>> print(drawable("cat \U000f0000"))
    cat \U000f0000
    """
    if is_drawable(text):
        return text
    return "".join(c if ord(c) in _characters() else c.encode("unicode_escape").decode() for c in text)


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, DPI)  # type: ignore[no-untyped-call]


@cache
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a line of text in inches.

    Args:
        text: without characters that the fonts lack.
        size: in points.
        weight: "normal" or "bold".
    """
    properties = FontProperties(family=list(font_families()), size=size, weight=weight)
    size_of = _renderer().get_text_width_height_descent
    return float(size_of(text, properties, False)[0]) / DPI  # type: ignore[no-untyped-call]


def fit(name: str, inches: float, size: float, weight: str = "normal") -> str:
    """Return a name on one line, its middle cut so that it is at most `inches` wide.

    Args:
        name: from outside: characters that the fonts lack are escaped.
        inches: width.
        size: of the text, in points.
        weight: "normal" or "bold".

    >>> fit("cat", 1.0, 8), len(fit("abcdefgh" * 10, 1.0, 8)) < 20
    ('cat', True)
    """
    text = drawable(clean(name))
    if text_width(text, size, weight) <= inches:
        return text
    low, high = 0, len(text) - 1  # characters that are kept
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if text_width(_cut(text, kept), size, weight) <= inches else (low, kept - 1)
    return _cut(text, low)


def _cut(text: str, kept: int) -> str:
    """Return the first and the last characters of a text, `kept` in all; marks stay with their letters."""
    head, tail = text[: kept - kept // 2], text[len(text) - kept // 2 :]
    while tail and (unicodedata.combining(tail[0]) or tail[0] in "\u200d\ufe0f"):
        tail = tail[1:]
    return f"{head.rstrip(chr(0x200D))}…{tail}"


def drawable_names(class_names: Sequence[str]) -> list[str]:
    """Return the names of all classes, and the number of those that the fonts cannot draw, e.g. "#3"."""
    cleaned = [clean(name) for name in class_names]
    return [name if is_drawable(name) else f"#{c}" for c, name in enumerate(cleaned)]


def class_labels(class_names: Sequence[str], inches: float, size: float) -> list[str]:
    """Return labels of all classes that fit, differ from each other, and can be drawn.

    A class is named by its number, "#3", if no font has the characters of its name; the number follows the name if
    the cut names of several classes are equal.

    Args:
        class_names: of all classes: numbers refer to them.
        inches: width of a label.
        size: of the text, in points.

    >>> class_labels(["cat", "\U00012000", "x" * 40 + "1" + "x" * 40, "x" * 40 + "2" + "x" * 40], 1.0, 8)[:2]
    ['cat', '#1']
    >>> len(set(class_labels(["x" * 40 + "1" + "x" * 40, "x" * 40 + "2" + "x" * 40], 1.0, 8)))
    2
    """
    names = drawable_names(class_names)
    labels = [fit(name, inches, size) for name in names]
    repeated = {label for label, n in Counter(labels).items() if n > 1}
    for c, label in enumerate(labels):
        if label in repeated:
            number = f" #{c}"
            labels[c] = fit(names[c], max(0.0, inches - text_width(number, size)), size) + number
    return labels


def wrap(text: str, inches: float, size: float) -> str:
    """Return text with lines at most `inches` wide, broken between words; its own line breaks are kept.

    Args:
        text: without characters that the fonts lack.
        inches: width.
        size: of the text, in points.

    >>> wrap("one two three", 0.6, 8)
    'one two\\nthree'
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".lstrip()
            if line and text_width(longer, size) > inches:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def undrawable(class_names: Sequence[str]) -> dict[int, str]:
    """Return the classes that figures show by number, as number -> name."""
    return {c: name for c, name in enumerate(class_names) if not is_drawable(clean(name))}
