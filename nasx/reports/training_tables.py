"""Tables of final trainings and of fine-tuned networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasx import pareto
from nasx.diagnostics.class_report import ClassReport, from_entries
from nasx.escaping import to_json
from nasx.reports.class_tables import class_lines_of, class_records
from nasx.reports.summary import FrontSummary
from nasx.reports.text import format_estimate
from nasx.runs.training_records import SCORED_IMAGES, Finetuned
from nasx.trial import OBJECTIVES, Objective, costs

if TYPE_CHECKING:
    from nasx.runs.training_records import FinalRecord

ALL_CLASSES: Final = 20  # lines about the classes of a network
FEWEST_CLASSES: Final = 3  # if several networks are listed
CLASSES_CSV: Final = "test_classes.csv"

NOTES = (
    "search error: on validation images, estimated from the trainings of the search, ± standard deviation",
    "ECE: expected calibration error of the confidence in exported models",
    "± in the other columns: standard deviation over the seeds",
)
NO_SCORE = (
    "{arch_id}: no introspectability in {lacking} of {seeds} trainings: their networks are no better than guessing or "
    "separate no pair of classes. Train longer or with another learning rate"
)


def finals_table(records: Sequence[FinalRecord], objectives: Sequence[str] = ()) -> Group:
    """Return one line per network, in 80 columns, lowest test error first.

    The macro error is included if the test images are unbalanced or it is among `objectives`, the names of those
    of the run; in the latter case it is the first column and decides on the order.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    leads = "macro_error" in objectives
    errors = ["macro_error", "error"] if leads else ["error", *(["macro_error"] if _are_unbalanced(records) else [])]
    named = {"error": "test error", "macro_error": "test macro\nerror"}
    headers = (
        "network",
        "search\nerror",
        *(named[error] for error in errors),
        "introspect-\nability",
        "ECE",
        "parameters",
    )
    for header in headers:
        table.add_column(header, justify="left" if header == headers[0] else "right", no_wrap=True, vertical="bottom")
    for record in sorted(records, key=lambda r: fmean(test_values(r, errors[0]) or [math.inf])):
        table.add_row(
            record.arch_id,
            format_estimate(OBJECTIVES["error"], record.validation_error, record.validation_error_std),
            *(format_mean_std(test_values(record, error), _percent) for error in errors),
            format_mean_std(test_values(record, "introspectability"), lambda value: f"{value:.3f}"),
            format_mean_std(test_values(record, "calibrated_ece"), lambda value: f"{100 * value:.1f} %"),
            f"{record.parameters:,}",
        )
    images, seeds = records[0].images, len(test_values(records[0], "error"))
    counts = (
        f"{images['train']:,} training images, {images['calibration']:,} for calibration, "
        f"{images['test']:,} test images; {seeds} seed{'s' * (seeds > 1)}"
    )
    notes = [counts, *(NOTES if seeds > 1 else NOTES[:-1])]
    if scored := {int(n) for record in records for n in test_values(record, SCORED_IMAGES)}:
        notes.append(f"introspectability: of {max(scored):,} test images, drawn at random")
    for record in records:
        lacking = seeds - len(test_values(record, "introspectability"))
        if lacking:
            notes.append(NO_SCORE.format(arch_id=record.arch_id, lacking=lacking, seeds=seeds))
    return Group(table, Text("\n".join(notes)), *(Text(line) for r in records for line in _class_by_class(r, records)))


def _are_unbalanced(records: Sequence[FinalRecord]) -> bool:
    """Return whether the test images of all networks are known to be unbalanced."""
    reports = [test_report(record) for record in records]
    return all(report is not None and report.is_unbalanced for report in reports)


def test_report(record: FinalRecord) -> ClassReport | None:
    """Return the report over all tested trainings, each image counted once per training; None: not recorded."""
    tested = [training.confusion for training in record.trainings if training.confusion is not None]
    return from_entries(chain.from_iterable(tested), record.class_names) if tested else None


def _class_by_class(record: FinalRecord, records: Sequence[FinalRecord]) -> list[str]:
    """Return the classes of one network; of several networks only those with the lowest recall."""
    report = test_report(record)
    if report is None:
        return []
    lines = class_lines_of(report)
    most = ALL_CLASSES if len(records) == 1 else FEWEST_CLASSES
    seeds = sum(training.confusion is not None for training in record.trainings)
    over = f", {seeds} trainings together" if seeds > 1 else ""
    left = [f"... and {len(lines) - most} more: {CLASSES_CSV}"] if len(lines) > most else []
    return [f"\n{record.arch_id}, test images class by class{over}:", *lines[:most], *left]


def test_values(record: FinalRecord, metric: str) -> list[float]:
    """Return a test metric of all trainings that have it."""
    found = [training.test.get(metric) for training in record.trainings if training.test]
    return [value for value in found if value is not None]


def format_mean_std(numbers: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the mean, with the standard deviation if there are several numbers; "-" if there are none.

    >>> format_mean_std([0.04, 0.06], lambda value: f"{100 * value:.1f} %")
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
            "test_error": fmean(test_values(record, "error")),
            "test_macro_error": fmean(macro) if (macro := test_values(record, "macro_error")) else None,
            **_classes_json(record),
            "trainings": [{"number": t.number, "seed": t.seed, **(t.test or {})} for t in record.trainings],
        }
        for record in records
    ]
    return to_json(rows) + "\n"


def _classes_json(record: FinalRecord) -> dict[str, Any]:
    """Return the figures of each class and the confusion matrix over all tested trainings; None: not recorded."""
    report = test_report(record)
    if report is None:
        return {"classes": None, "confusion": None}
    return {"classes": class_records(report), "confusion": report.confusion.tolist()}


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


SCORE = "introspectability_"  # prefix of the metric of a scorer


def finetuned_table(records: Sequence[Finetuned], summary: FrontSummary) -> Group:
    """Return error and introspectability by scorer of the fine-tuned networks: before, after, and of the control."""
    scorers = [name.removeprefix(SCORE) for name in records[0].after if name.startswith(SCORE)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))  # two scorers fit into 80 columns
    table.add_column("fine-tuned", no_wrap=True)
    for name in ("error, %", *scorers):
        table.add_column(Text(name), justify="right")
    for record in records:
        scores = [_change(record, f"{SCORE}{scorer}", 1, 3) for scorer in scorers]
        table.add_row(record.arch_id, _change(record, "error", 100, 2), *scores)
    first = records[0]
    how = (
        f"Fine-tuned for {first.epochs} epochs with the regularizer at {first.regularizer:g}, which acts on "
        f"activations; in brackets: the control, trained as long without it.{_hypervolume_sentence(records, summary)}"
    )
    return Group(table, Text(how))


def _change(record: Finetuned, name: str, factor: float, digits: int) -> str:
    states = (record.before, record.after, record.control)
    before, after, twin = (f"{factor * m[name]:.{digits}f}" if name in m else "-" for m in states)
    return f"{before} → {after} ({twin})"


def _hypervolume_sentence(records: Sequence[Finetuned], summary: FrontSummary) -> str:
    """Return the hypervolume of the front, with the fine-tuned networks, and with their controls instead."""
    if None in summary.reference:
        return ""
    with_all = _hypervolume(summary, {r.arch_id: _change_of(r.before, r.after) for r in records})
    with_controls = _hypervolume(summary, {r.arch_id: _change_of(r.before, r.control) for r in records})
    return (
        f" Hypervolume of the front {summary.hypervolume:.4f}, with the fine-tuned networks {with_all:.4f} "
        f"({with_controls:.4f})."
    )


def _change_of(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before if name in after}


def _hypervolume(summary: FrontSummary, changes: Mapping[str, Mapping[str, float]]) -> float:
    """Return the hypervolume of the front together with the same networks after changes of their metrics.

    The changes are added to the estimates, since the training before and the one after share most of their noise.
    """
    points = [costs(member.metrics, summary.objectives) for member in summary.front]
    for member in summary.front:
        if member.arch_id in changes:
            change = changes[member.arch_id]
            shifted = {o.name: _shifted(o, member.metrics[o.name], change.get(o.name, 0.0)) for o in summary.objectives}
            points.append(costs(shifted, summary.objectives))
    reference = [o.sign * float(r) for o, r in zip(summary.objectives, summary.reference, strict=True) if r is not None]
    return pareto.hypervolume(np.array(points), reference)


def _shifted(objective: Objective, value: float, change: float) -> float:
    return min(max(value + change, objective.low), objective.high)
