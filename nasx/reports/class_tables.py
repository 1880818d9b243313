"""Figures class by class as tables and lines: recall with its interval, precision, the most frequent confusions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from nasx.diagnostics.class_report import FEW, ClassReport, class_report
from nasx.reports.page import count
from nasx.reports.text import clean, error_facts

SHOWN_CONFUSIONS: Final = 5
HEADER: Final = ("class", "images", "recall", "95 % interval", "precision", "most often taken for")


def error_sentence(report: ClassReport, images: str = "validation image") -> str:
    """Return error and macro error with the number of images on which they rest.

    >>> error_sentence(class_report([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog"]))
    'Error 25.00 % (1 of 4 validation images); macro error, the mean over the classes, 16.67 % (2 classes).'
    """
    present = int((report.support > 0).sum())
    return (
        f"Error {percent(report.error)} ({report.n_errors:,} of {count(report.n_images, images)}); macro error, the "
        f"mean over the classes, {percent(report.macro_error)} ({count_classes(present)})."
    )


def quality_facts(
    report: ClassReport, recorded: Mapping[str, float], objectives: Sequence[str] = (), again: str = ""
) -> tuple[tuple[str, str], ...]:
    """Return the errors of a network as facts (name, value), the one that the run searched by first.

    The macro error is included if it is an objective or the data are unbalanced.

    Args:
        report: of the validation images, as computed again.
        recorded: metrics in the journal.
        objectives: names of the objectives of the run.
        again: how the predictions were computed again, in words.

    >>> report = class_report([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog"])
    >>> quality_facts(report, {"error": 0.25, "macro_error": 1 / 6}, ["macro_error"])[0]
    ('macro error', '16.67 % (mean over 2 classes, 4 images)')
    """
    facts = error_facts(recorded.get("error", report.error), report.n_errors, report.n_images, again)
    if not report.n_images or not ("macro_error" in objectives or report.is_unbalanced):
        return facts
    rests = f"mean over {count_classes(int((report.support > 0).sum()))}, {count(report.n_images, 'image')}"
    before = recorded.get("macro_error", report.macro_error)
    macro = [("macro error", f"{percent(before)} ({rests})")]
    if abs(before - report.macro_error) > 5e-5:
        macro.append(("macro error, computed again here", f"{percent(report.macro_error)}, {again}".rstrip(", ")))
    return (*macro, *facts) if "macro_error" in objectives else (*facts, *macro)


def count_classes(n: int) -> str:
    return f"{n:,} class" if n == 1 else f"{n:,} classes"


def class_row(report: ClassReport, c: int) -> tuple[str, ...]:
    """Return the row of class `c` in a table with HEADER."""
    n, right = int(report.support[c]), int(report.confusion[c, c])
    low, high = report.recall_interval(c)
    mark = " †" if 0 < n < FEW else ""
    return (
        clean(report.class_names[c]),
        f"{n:,}{mark}",
        f"{percent(float(report.recall[c]), 1)} ({right:,} of {n:,})" if n else "-",
        f"{100 * low:.0f} to {100 * high:.0f} %" if n else "-",
        percent(float(report.precision[c]), 1),
        _taken_for(report, c),
    )


def _taken_for(report: ClassReport, c: int) -> str:
    wrong = report.confusion[c].copy()
    wrong[c] = 0
    other = int(wrong.argmax())
    return f"{clean(report.class_names[other])} ({wrong[other]:,})" if wrong.any() else "-"


def confusion_lines(report: ClassReport, n: int = SHOWN_CONFUSIONS) -> list[str]:
    """Return the `n` most frequent confusions, one line each.

    >>> confusion_lines(class_report([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog"]))
    ['1 of 3 images of cat predicted as dog']
    """
    names = [clean(name) for name in report.class_names]
    return [
        f"{times:,} of {count(int(report.support[a]), 'image')} of {names[a]} predicted as {names[b]}"
        for a, b, times in report.confusions()[:n]
    ]


def class_lines(labels: ArrayLike, predicted: ArrayLike, class_names: Sequence[str]) -> list[str]:
    """Return recall and precision of each class, one line each, the lowest recall first.

    Args:
        labels: (n,) true classes.
        predicted: (n,) predicted classes.
        class_names: of all classes.

    >>> class_lines([0, 0, 0, 1], [0, 0, 1, 1], ["cat", "dog"])[0]
    'cat: recall 66.7 % (2 of 3; 95 % interval 21 to 94 %), precision 100.0 %; fewer than 10 images'
    """
    return class_lines_of(class_report(labels, predicted, class_names))


def class_lines_of(report: ClassReport) -> list[str]:
    """Return recall and precision of each class, one line each, the lowest recall first."""
    lines = []
    for c in report.worst_first():
        name, images, recall, interval, precision, _ = class_row(report, c)
        if not report.support[c]:
            lines.append(f"{name}: no images")
            continue
        few = f"; fewer than {FEW} images" if images.endswith("†") else ""
        figures = f"{recall.removesuffix(')')}; 95 % interval {interval})"
        lines.append(f"{name}: recall {figures}, precision {precision}{few}")
    return lines


def class_records(report: ClassReport) -> list[dict[str, Any]]:
    """Return one record of plain values per class, in the order of the classes; None: undefined."""
    recall, precision = report.recall, report.precision
    return [
        {
            "class": name,
            "images": int(report.support[c]),
            "predicted": int(report.predicted[c]),
            "recall": _plain(recall[c]),
            "recall_low": report.recall_interval(c)[0] if report.support[c] else None,
            "recall_high": report.recall_interval(c)[1] if report.support[c] else None,
            "precision": _plain(precision[c]),
        }
        for c, name in enumerate(report.class_names)
    ]


def classes_csv(report: ClassReport) -> list[list[object]]:
    """Return the rows of a CSV file with the figures of each class and its row of the confusion matrix."""
    records = class_records(report)
    predicted = [f"predicted as {name}" for name in report.class_names]
    header: list[object] = [*records[0], *predicted]
    return [header, *([*record.values(), *map(int, report.confusion[c])] for c, record in enumerate(records))]


def percent(share: float, digits: int = 2) -> str:
    """Return a share in percent; "-" if it is undefined.

    >>> percent(0.0213), percent(math.nan)
    ('2.13 %', '-')
    """
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
