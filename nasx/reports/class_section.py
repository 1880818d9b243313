"""Section of a page about the classes: recall and precision of each, and the confusion matrix."""

from __future__ import annotations

from typing import Final

from nasx.diagnostics.class_report import FEW, ClassReport
from nasx.reports.class_tables import HEADER, class_row, count_classes, error_sentence
from nasx.reports.figures.names import undrawable
from nasx.reports.page import Section
from nasx.reports.text import clean

CONFUSION: Final = "confusion.png"
HEADING: Final = "How well it does, class by class"
MEANING: Final = (
    "Recall: share of the images of a class that are recognized. Precision: share of the images predicted as the class "
    "that are of it. Lowest recall first."
)


def class_section(report: ClassReport, images: str = "validation image", figure: str = CONFUSION) -> Section:
    """Return the section of a page with recall and precision of each class and the confusion matrix.

    Args:
        report: of the network.
        images: noun of the images on which it rests, in the singular.
        figure: file name of the confusion matrix.
    """
    few = int(((report.support > 0) & (report.support < FEW)).sum())
    return Section(
        HEADING,
        (error_sentence(report, images), MEANING, *_notes(report, few)),
        table=(HEADER, *(class_row(report, c) for c in report.worst_first())),
        figure=figure,
        alt="confusion matrix: images by true and predicted class",
    )


def _notes(report: ClassReport, few: int) -> list[str]:
    notes = []
    if by_number := undrawable(report.class_names):
        listed = "; ".join(f"#{c} is {clean(name)}" for c, name in by_number.items())
        notes.append(
            f"Pictures show {count_classes(len(by_number))} by number, since no installed font has their characters "
            f"(Noto Sans CJK or Noto Emoji may help): {listed}."
        )
    if few:
        notes.append(
            f"† fewer than {FEW} images ({count_classes(few)}): their figures are not reliable, see the interval."
        )
    if empty := int((report.support == 0).sum()):
        notes.append(f"{count_classes(empty)} without images here: no recall.")
    return notes
