"""The front as a table for people, and as CSV and JSON for programs.

CSV and JSON contain every recorded metric under its own name and in its own unit: shares are in [0, 1]. For an
objective `x`, `x` is the estimate of its true value, `x_observed` the mean over the network's trainings and `x_std` the
standard deviation of the estimate.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nasx.algorithms.estimates import Noise
from nasx.escaping import to_csv, to_json
from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.reports.text import (
    COUNTS,
    certainty_sentence,
    format_estimate,
    format_share,
    format_value,
    hypervolume_sentence,
    latency_sentence,
    noise_sentence,
    trials_sentence,
)
from nasx.trial import OBJECTIVES, Trial

BALANCED = 0.005  # largest difference of error and macro error on balanced data, whose classes differ by single images
KNEE_MARK = "*"
ONCE_MARK = "†"
ARCHITECTURE_WIDTH = 66  # columns of 80 that the id leaves free
WIDE = 1_000  # terminal columns from which architectures are not folded
SHORT_HEADERS = {"introspectability": "introspect-\nability", "macs": "MACs", "macro_error": "macro\nerror"}


def front_table(summary: FrontSummary) -> Group:
    """Return the front for people: metrics, notes, and the architectures in full."""
    if not summary.front:
        return Group(Text("No network on the front yet."), Text(trials_sentence(summary)))
    return Group(FrontMetrics(summary), Text(f"\n{_notes(summary)}\n"), ArchitectureStrings(summary))


class FrontMetrics:
    """Metrics of the front, one line per member, with as many columns as the width allows. Numbers are never cut.

    The objectives, the number of trainings and P(front) are always shown; the means of the trainings and other metrics
    only if there is room. On a very narrow terminal every value has its own line.
    """

    def __init__(self, summary: FrontSummary) -> None:
        self.summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        optional = self._optional_columns()
        unlimited = options.update(width=100 * WIDE)
        for n in range(len(optional), -1, -1):
            table = self._table(optional[:n])
            if Measurement.get(console, unlimited, table).maximum <= options.max_width:
                yield table
                return
        yield from self._list()

    def _list(self) -> Iterator[Text]:
        columns = self._columns()
        for row, member in enumerate(_shown(self.summary)):
            if self.summary.rivals and member is self.summary.rivals[0]:
                yield Text("")
            yield Text(f"{member.arch_id} {_marks(member, self.summary)}".rstrip(), "bold")
            for header, cells in columns.items():
                name = header.replace("-\n", "").replace("\n", " ")
                yield Text(f"  {name} {cells[row]}")

    def _optional_columns(self) -> list[dict[str, list[str]]]:
        """Return the groups of columns that can be omitted, as header -> cells, the most useful first."""
        shown = [o.name for o in self.summary.objectives]
        # on balanced data both errors are the same
        hidden = (
            set() if self._errors_differ() else {"error", "macro_error"} if "macro_error" in shown else {"macro_error"}
        )
        others = [m for m in OBJECTIVES if m not in hidden.union(shown)]
        others = [m for m in others if any(m in a.metrics for a in self.summary.front)]
        groups = [{SHORT_HEADERS.get(m, m): self._cells(m, observed=True)} for m in others]
        measured = [o.name for o in self.summary.objectives if not o.is_exact] if self.summary.is_estimated else []
        observed = {f"observed\n{m}": self._cells(m, observed=True) for m in measured}
        return [*groups, *([observed] if observed else [])]

    def _errors_differ(self) -> bool:
        """Return whether error and macro error differ visibly: the data are unbalanced."""
        pairs = [(m.observed.get("error"), m.observed.get("macro_error")) for m in _shown(self.summary)]
        return any(a is not None and b is not None and abs(a - b) > BALANCED for a, b in pairs)

    def _cells(self, metric: str, *, observed: bool = False) -> list[str]:
        objective, members = OBJECTIVES[metric], _shown(self.summary)
        if observed:
            return [format_value(objective, m.observed.get(metric)) for m in members]
        return [format_estimate(objective, m.metrics.get(metric), m.std.get(metric)) for m in members]

    def _columns(self) -> dict[str, list[str]]:
        """Return the columns that are always shown, as header -> cells."""
        summary, members = self.summary, _shown(self.summary)
        columns = {SHORT_HEADERS.get(o.name, o.name): self._cells(o.name) for o in summary.objectives}
        columns["n"] = [str(m.trainings) for m in members]
        if summary.is_estimated:
            columns["P(front)"] = [format_share(m.front_probability) for m in members]
        return columns

    def _table(self, optional: Sequence[dict[str, list[str]]]) -> Table:
        summary, columns = self.summary, self._columns()
        for group in optional:
            columns |= group
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("architecture", no_wrap=True, vertical="bottom")
        for header in columns:
            table.add_column(header, justify="right", no_wrap=True, vertical="bottom")
        for row, member in enumerate(_shown(summary)):
            style = "bold" if member.arch_id == summary.knee else "dim" if member in summary.rivals else ""
            name = Text(f"{member.arch_id} {_marks(member, summary)}".rstrip())
            table.add_row(name, *(Text(cells[row]) for cells in columns.values()), style=style)
            if member is summary.front[-1]:
                table.add_section()
        return table


class ArchitectureStrings:
    """Architectures of the front as text: folded on a terminal, else one line each."""

    def __init__(self, summary: FrontSummary) -> None:
        self.summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(overflow="fold", min_width=10)
        table.add_column(overflow="fold")
        is_narrow = options.max_width < WIDE
        for member in _shown(self.summary):
            table.add_row(Text(member.arch_id), Text(fold(member.architecture) if is_narrow else member.architecture))
        yield table


def _shown(summary: FrontSummary) -> tuple[ArchitectureResult, ...]:
    return (*summary.front, *summary.rivals)


def _marks(member: ArchitectureResult, summary: FrontSummary) -> str:
    is_once = summary.is_estimated and member.trainings == 1
    return KNEE_MARK * (member.arch_id == summary.knee) + ONCE_MARK * is_once


def _notes(summary: FrontSummary) -> str:
    lines = [f"{KNEE_MARK} knee: the best trade-off of the front"]
    if any(ONCE_MARK in _marks(member, summary) for member in _shown(summary)):
        lines.append(f"{ONCE_MARK} trained once: its estimate relies on similar networks")
    counted = "n: trainings"
    if summary.is_estimated:
        counted += "; ±: standard deviation of the estimate; P(front): probability of being on the true front"
    lines.append(counted)
    if summary.rivals:
        lines.append("below the line: not on the front of the estimates, but possibly on the true one")
    volume = "; ".join(filter(None, (hypervolume_sentence(summary), certainty_sentence(summary))))
    sentences = (*lines, volume, latency_sentence(summary), noise_sentence(summary), trials_sentence(summary))
    return "\n".join(filter(None, sentences))


def fold(architecture: str, width: int = ARCHITECTURE_WIDTH) -> str:
    """Return an architecture in lines of at most `width` characters if possible, broken only after '+'.

    >>> print(fold("|a~0|+|a~0|b~1|+|c~0|", width=14))
    |a~0|+
    |a~0|b~1|+
    |c~0|
    """
    spaced = architecture.replace("+", "+ ")
    return textwrap.fill(spaced, width, break_long_words=False, break_on_hyphens=False).replace("+ ", "+")


def trials_table(trials: Sequence[Trial], objectives: Sequence[str]) -> Table:
    """Return one line per trial: candidate, network, number of the training, outcome, objectives, duration."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    texts = ("architecture", "outcome")
    for header in ("#", "architecture", "training", "outcome", *objectives, "seconds"):
        justify: Literal["left", "right"] = "left" if header in texts else "right"
        title = SHORT_HEADERS.get(header, header)
        table.add_column(title, justify=justify, no_wrap=True, overflow="fold", vertical="bottom")
    for trial in trials:
        evaluation = trial.evaluation
        table.add_row(
            str(trial.candidate.number),
            trial.arch_id,
            str(trial.replicate + 1),
            (evaluation.reason or evaluation.status).replace("_", " "),
            *(format_value(OBJECTIVES[name], trial.metrics.get(name)) for name in objectives),
            f"{evaluation.train_seconds + evaluation.score_seconds:.1f}",
        )
    return table


def front_csv(summary: FrontSummary) -> str:
    """Return the front as CSV with a header. A metric that a member does not have is empty."""
    return to_csv([_fields(summary), *([*_row(member, summary).values()] for member in summary.front)])


def front_json(summary: FrontSummary) -> str:
    """Return the summary as a JSON object. A value that is not finite or unknown is null."""
    names = [o.name for o in summary.objectives]
    return (
        to_json(
            {
                "objectives": {o.name: {"direction": o.direction, "unit": o.unit} for o in summary.objectives},
                "hypervolume": summary.hypervolume,
                "certain_hypervolume": summary.certain_hypervolume,
                "estimated": summary.is_estimated,
                "why_observed": summary.why_observed or None,
                "latency_devices": list(summary.latency_devices),
                "noise": {n.objective: _noise(n) for n in summary.noise},
                "reference": dict(zip(names, summary.reference, strict=True)),
                "knee": summary.knee,
                "trials": dict(sorted(summary.statuses.items())),
                "reasons": dict(sorted(summary.reasons.items())),
                "front": [_row(member, summary) for member in summary.front],
                "rivals": [_row(member, summary) for member in summary.rivals],
            }
        )
        + "\n"
    )


def _noise(noise: Noise) -> dict[str, float | int]:
    return {
        "std": noise.std,
        "share": noise.share,
        "own_share": noise.own_share,
        "length_scale": noise.length_scale,
        "repeated": noise.repeated,
        "trainings": noise.trainings,
    }


def _fields(summary: FrontSummary) -> list[str]:
    """Return the field names in a stable order: network, trainings, objectives, other metrics, architecture."""
    names = [o.name for o in summary.objectives]
    objectives = [field for name in names for field in (name, f"{name}_observed", f"{name}_std")]
    others = sorted({m for member in _shown(summary) for m in member.metrics} - set(objectives))
    return ["arch_id", "knee", "trainings", "front_probability", *objectives, *others, "architecture"]


def _row(member: ArchitectureResult, summary: FrontSummary) -> dict[str, Any]:
    """Return one member as plain values; None: unknown."""
    values: dict[str, Any] = {
        "arch_id": member.arch_id,
        "knee": member.arch_id == summary.knee,
        "trainings": member.trainings,
        "front_probability": _plain("", member.front_probability),
        "architecture": member.architecture,
    }
    values |= {name: _plain(name, value) for name, value in member.metrics.items()}
    for objective in summary.objectives:
        name = objective.name
        values[f"{name}_observed"] = _plain(name, member.observed.get(name, math.nan))
        values[f"{name}_std"] = _plain("", member.std.get(name, math.nan))
    return {field: values.get(field) for field in _fields(summary)}


def _plain(name: str, value: float) -> float | int | None:
    """Return a number that JSON can represent; None if it is not finite."""
    if not math.isfinite(value):
        return None
    return int(value) if name in COUNTS and float(value).is_integer() else value
