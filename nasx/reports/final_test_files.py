"""Files next to the record of a final training: the figures of each class on the test images, and their confusions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nasx.escaping import to_csv
from nasx.files import write_atomically
from nasx.reports.class_tables import classes_csv
from nasx.reports.figures.confusion import confusion_figure
from nasx.reports.figures.style import as_png
from nasx.reports.training_tables import CLASSES_CSV, test_report
from nasx.runs.training_records import FinalRecord

CONFUSION_PNG: Final = "test_confusion.png"


def write_classes(record: FinalRecord, directory: Path) -> None:
    """Write the figures of each class on the test images and the confusion matrix, as CSV and as a picture."""
    report = test_report(record)
    if report is None:
        return
    write_atomically(directory / CLASSES_CSV, to_csv(classes_csv(report)).encode())
    seeds = sum(training.confusion is not None for training in record.trainings)
    images = "test images" if seeds == 1 else f"answers: {record.images['test']:,} test images, {seeds} trainings"
    figure = confusion_figure(report, title=f"Network {record.arch_id}: test images", images=images)
    write_atomically(directory / CONFUSION_PNG, as_png(figure))
