"""The front as a table for people and as CSV and JSON for programs.

CSV and JSON hold every recorded metric under its own name and in its own unit: shares are in [0, 1].
"""

from __future__ import annotations

import csv
import io
import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.reports.wording import COUNTS, format_value, hypervolume_sentence, trials_sentence
from nasx.trial import OBJECTIVES, Trial

KNEE_MARK = "*"
ARCHITECTURE_WIDTH = 66  # what 80 columns leave beside the id


def front_table(summary: FrontSummary) -> Group:
    """The front for people, fit for 80 columns: its figures, what they mean, and the string forms in full."""
    if not summary.front:
        return Group(Text("No network on the front yet."), Text(trials_sentence(summary)))
    return Group(_figures(summary), Text(_notes(summary) + "\n"), _string_forms(summary))


def _figures(summary: FrontSummary) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("architecture", no_wrap=True)
    metrics = _shown_metrics(summary)
    for metric in metrics:
        table.add_column("MACs" if metric == "macs" else metric, justify="right", no_wrap=True)
    is_repeated = any(member.trainings > 1 for member in summary.front)
    if is_repeated:
        table.add_column("P(front)", justify="right", no_wrap=True)
    for member in (*summary.front, *summary.rivals):
        is_knee = member.arch_id == summary.knee
        cells = [_with_spread(member, metric) for metric in metrics]
        cells += [f"{member.front_probability:.0%}"] if is_repeated else []
        mark = f" {KNEE_MARK}" if is_knee else ""
        style = "bold" if is_knee else "dim" if member in summary.rivals else ""
        table.add_row(Text(member.arch_id + mark), *map(Text, cells), style=style)
        if member is summary.front[-1]:
            table.add_section()
    return table


def _with_spread(member: ArchitectureResult, metric: str) -> str:
    """The mean of a metric, with the standard deviation of a single training where it was repeated and varies."""
    objective = OBJECTIVES[metric]
    mean = format_value(objective, member.metrics.get(metric))
    if not (spread := member.std.get(metric)):
        return mean
    number, _, unit = mean.partition(" ")
    return f"{number} ± {format_value(objective, spread).partition(' ')[0]} {unit}".rstrip()


def _shown_metrics(summary: FrontSummary) -> list[str]:
    """The objectives first, then what else is recorded; of the two errors one alone: a line has no room for both."""
    objectives = [o.name for o in summary.objectives]
    hidden = {"error", "macro_error"} if "macro_error" in objectives else {"macro_error"}
    others = [m for m in OBJECTIVES if m not in hidden.union(objectives)]
    return objectives + [m for m in others if any(m in a.metrics for a in summary.front)]


def _notes(summary: FrontSummary) -> str:
    lines = [f"{KNEE_MARK} knee: the front's best compromise"]
    if summary.rivals:
        lines.append("below the line: off the front of the means, but perhaps on the true one")
    return "\n".join((*lines, hypervolume_sentence(summary), trials_sentence(summary)))


def _string_forms(summary: FrontSummary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for member in (*summary.front, *summary.rivals):
        table.add_row(Text(member.arch_id), Text(fold(member.architecture)))
    return table


def fold(architecture: str, width: int = ARCHITECTURE_WIDTH) -> str:
    """The string form in lines of at most `width` where it allows, broken after '+' alone.

    >>> print(fold("|a~0|+|a~0|b~1|+|c~0|", width=14))
    |a~0|+
    |a~0|b~1|+
    |c~0|
    """
    spaced = architecture.replace("+", "+ ")
    return textwrap.fill(spaced, width, break_long_words=False, break_on_hyphens=False).replace("+ ", "+")


def trials_table(trials: Sequence[Trial], objectives: Sequence[str]) -> Table:
    """Every trial on a line, fit for 80 columns: what became of it, and what it cost."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("#", "architecture", "outcome", *objectives, "seconds"):
        is_text = header in ("architecture", "outcome")
        table.add_column(header, justify="left" if is_text else "right", no_wrap=True)
    for trial in trials:
        evaluation = trial.evaluation
        repeat = f" ({trial.replicate})" if trial.replicate else ""
        table.add_row(
            str(trial.candidate.number),
            trial.arch_id + repeat,
            (evaluation.reason or evaluation.status).replace("_", " "),
            *(format_value(OBJECTIVES[name], trial.metrics.get(name)) for name in objectives),
            f"{evaluation.train_seconds + evaluation.score_seconds:.1f}",
        )
    return table


def front_csv(summary: FrontSummary) -> str:
    """The front as CSV with a header; a metric that a member lacks is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=_fields(summary), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(member, summary) for member in summary.front)
    return out.getvalue()


def front_json(summary: FrontSummary) -> str:
    """The whole summary as a JSON object; what is not a finite number is null."""
    names = [o.name for o in summary.objectives]
    return (
        json.dumps(
            {
                "objectives": {o.name: {"direction": o.direction, "unit": o.unit} for o in summary.objectives},
                "hypervolume": summary.hypervolume,
                "reference": dict(zip(names, summary.reference, strict=True)),
                "knee": summary.knee,
                "trials": dict(sorted(summary.statuses.items())),
                "reasons": dict(sorted(summary.reasons.items())),
                "front": [_row(member, summary) for member in summary.front],
                "rivals": [_row(member, summary) for member in summary.rivals],
            },
            indent=2,
            allow_nan=False,
        )
        + "\n"
    )


def _fields(summary: FrontSummary) -> list[str]:
    """Stable: which network, the objectives in their order, the other metrics by name, the string form."""
    objectives = [o.name for o in summary.objectives]
    members = (*summary.front, *summary.rivals)
    others = sorted({m for member in members for m in member.metrics} - set(objectives))
    spreads = [f"{o}_std" for o in objectives]
    noise = ["front_probability", *spreads] if any(member.trainings > 1 for member in members) else []
    return ["arch_id", "knee", "trainings", *noise, *objectives, *others, "architecture"]


def _row(member: ArchitectureResult, summary: FrontSummary) -> dict[str, Any]:
    values: dict[str, Any] = {
        "arch_id": member.arch_id,
        "knee": member.arch_id == summary.knee,
        "trainings": member.trainings,
        "architecture": member.architecture,
    }
    values |= {name: _plain(name, value) for name, value in member.metrics.items()}
    values |= {f"{name}_std": _plain("", value) for name, value in member.std.items()}
    values["front_probability"] = _plain("", member.front_probability)
    return {field: values.get(field) for field in _fields(summary)}


def _plain(name: str, value: float) -> float | int | None:
    """A number as JSON knows it."""
    if not math.isfinite(value):
        return None
    return int(value) if name in COUNTS and float(value).is_integer() else value
