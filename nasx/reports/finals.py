"""Final trainings as a table for people and as data for programs: means over the seeds, with their spread."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasx.reports.wording import format_estimate
from nasx.trial import OBJECTIVES

if TYPE_CHECKING:
    from nasx.final.record import FinalRecord

NOTES = (
    "search error: on validation images, estimated from the trainings of the search, ± uncertainty of the estimate",
    "ECE: expected calibration error of the confidence that goes into an exported model",
    "± of the other columns: standard deviation of a single training over the seeds",
)

NO_SCORE = (
    "{arch_id}: no introspectability in {lacking} of {seeds} trainings, which are no better than guessing or hold no "
    "pair of classes apart: train longer, or with another learning rate"
)


def finals_table(records: Sequence[FinalRecord]) -> Group:
    """Networks on a line each, fit for 80 columns, best test error first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headers = ("network", "search\nerror", "test error", "introspect-\nability", "ECE", "parameters")
    for header in headers:
        table.add_column(header, justify="left" if header == headers[0] else "right", no_wrap=True, vertical="bottom")
    for record in sorted(records, key=lambda r: fmean(values(r, "error"))):
        table.add_row(
            record.arch_id,
            format_estimate(OBJECTIVES["error"], record.validation_error, record.validation_error_std),
            with_spread(values(record, "error"), _percent),
            with_spread(values(record, "introspectability"), lambda value: f"{value:.3f}"),
            with_spread(values(record, "calibrated_ece"), lambda value: f"{100 * value:.1f} %"),
            f"{record.parameters:,}",
        )
    images, seeds = records[0].images, len(values(records[0], "error"))
    told = (
        f"{images['train']:,} images trained on, {images['calibration']:,} for the confidence, "
        f"{images['test']:,} tested; {seeds} seed{'s' * (seeds > 1)}"
    )
    notes = [told, *(NOTES if seeds > 1 else NOTES[:-1])]
    for record in records:
        lacking = seeds - len(values(record, "introspectability"))
        if lacking:
            notes.append(NO_SCORE.format(arch_id=record.arch_id, lacking=lacking, seeds=seeds))
    return Group(table, Text("\n".join(notes)))


def values(record: FinalRecord, metric: str) -> list[float]:
    """A test metric of every training that has it."""
    found = [training.test[metric] for training in record.trainings if training.test]
    return [value for value in found if value is not None]


def with_spread(numbers: Sequence[float], form: Callable[[float], str]) -> str:
    """The mean, with the standard deviation where there are several; a dash for none.

    >>> with_spread([0.04, 0.06], lambda value: f"{100 * value:.1f} %")
    '5.0 ± 1.4 %'
    """
    if not numbers:
        return "-"
    mean, _, unit = form(fmean(numbers)).partition(" ")
    spread = f" ± {form(stdev(numbers)).partition(' ')[0]}" if len(numbers) > 1 else ""
    return f"{mean}{spread} {unit}".rstrip()


def finals_json(records: Sequence[FinalRecord]) -> str:
    """The test metrics of every training, and their means, as JSON."""
    rows = [
        {
            "arch_id": record.arch_id,
            "architecture": record.architecture,
            "course": dict(record.course),
            "images": dict(record.images),
            "parameters": record.parameters,
            "macs": record.macs,
            "validation_error": record.validation_error,
            "validation_error_std": record.validation_error_std,
            "search_trainings": record.search_trainings,
            "test_error": fmean(values(record, "error")),
            "trainings": [{"number": t.number, "seed": t.seed, **(t.test or {})} for t in record.trainings],
        }
        for record in records
    ]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
