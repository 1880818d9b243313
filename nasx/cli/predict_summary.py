"""Sums of predictions on a terminal: counts by class, and recall, precision and confusions against class folders."""

from __future__ import annotations

import math

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nasx.diagnostics.class_report import ClassReport
from nasx.export.predict import Summary
from nasx.reports.class_tables import HEADER, class_row, confusion_lines, error_sentence
from nasx.reports.text import clean, shorten
from nasx.terminal import UNLIMITED, Console

MAX_MATRIX = 12  # classes up to which the confusion matrix is printed
MIN_NAME = 12  # columns of a terminal for the names of classes
NAME_WIDTH = 10  # characters of a class name above a column of the matrix


def print_summary(summary: Summary, threshold: float, log: Console) -> None:
    """Print the sums of predictions.

    Args:
        summary: of the predictions.
        threshold: confidence below which they count as unsure.
        log: stderr.
    """
    unsure = f"{summary.n_unsure:,} with a confidence below {threshold:.0%}"
    unreadable = f"; {summary.n_unreadable:,} cannot be read" if summary.n_unreadable else ""
    log.say(f"{summary.n:,} image{'s' * (summary.n != 1)} classified, {unsure}{unreadable}.")
    if not log.is_terminal:  # a file or a pipe: nothing is cut
        log.width = UNLIMITED
    if summary.n:
        log.print(_counts(summary, threshold))
    if summary.report is not None:
        _print_report(summary.report, summary.n_unknown, log)


def _print_report(report: ClassReport, n_unknown: int, log: Console) -> None:
    log.say("Against the classes that the folders are named after:")
    log.say(error_sentence(report, "image"))
    if n_unknown:
        log.say(f"{n_unknown:,} image{'s' * (n_unknown != 1)} in no such folder: not in these figures.")
    log.print(_classes(report))
    if len(report.class_names) <= MAX_MATRIX:
        log.print(_matrix(report))
        return
    for line in confusion_lines(report):
        log.say(f"- {line}")


def _counts(summary: Summary, threshold: float) -> Table:
    table = _new_table("predicted class", "images", "mean confidence", f"below {threshold:.0%}")
    for count in summary.counts:
        mean = "-" if math.isnan(count.mean_confidence) else f"{count.mean_confidence:.1%}"
        table.add_row(Text(clean(count.name)), f"{count.n:,}", mean, f"{count.n_unsure:,}")
    return table


def _classes(report: ClassReport) -> Table:
    table = _new_table(*HEADER)
    for c in report.worst_first():
        table.add_row(*(Text(cell) for cell in class_row(report, c)))
    return table


def _matrix(report: ClassReport) -> Table:
    """Return the confusion matrix: true classes as rows, predicted ones as columns."""
    names = [clean(name) for name in report.class_names]
    table = _new_table("true class \\ predicted", *(shorten(name, NAME_WIDTH) for name in names))
    for c, name in enumerate(names):
        row = report.confusion[c]
        table.add_row(Text(name), *(Text(f"{n:,}", "bold" if i == c else "") for i, n in enumerate(row)))
    return table


def _new_table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, header in enumerate(headers):
        # names may wrap, but never vanish: numbers have no room to give
        width = None if i else min(MIN_NAME, cell_len(header))
        table.add_column(Text(header), justify="right" if i else "left", min_width=width, overflow="fold")
    return table
