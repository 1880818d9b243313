"""Comparison of runs as a table for people, and as CSV and JSON for programs."""

from __future__ import annotations

from rich import box
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from nasx.escaping import to_csv, to_json
from nasx.reports.comparison import ComparedRun, Comparison, Group, RankTest
from nasx.reports.text import format_reference, format_volume

OBSERVED_MARK = "°"


def comparison_table(comparison: Comparison) -> Lines:
    """Return the groups with median and quartiles of their hypervolumes, the tests between them, and the runs."""
    groups = _table("group", "runs", "hypervolume", "quartiles")
    runs = _table("run", "seed", "trials", "networks", "front", "hypervolume")
    for group in comparison.groups:
        low, median, high = group.quartiles()
        spread = f"{format_volume(low)} to {format_volume(high)}" if len(group.runs) > 1 else ""
        groups.add_row(Text(group.label), str(len(group.runs)), format_volume(median), spread)
        for run in group.runs:
            cells = (str(run.seed), f"{run.trials:,}", f"{run.networks:,}", str(len(run.front)), _marked_volume(run))
            runs.add_row(Text(run.name), *cells)
        runs.add_section()
    notes = [_reference(comparison), *_verdicts(comparison)]
    return Lines(groups, *map(Text, notes), runs, *map(Text, _observed(comparison)))


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for header in others:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _marked_volume(run: ComparedRun) -> str:
    return format_volume(run.hypervolume) + (OBSERVED_MARK if run.why_observed else "")


def _observed(comparison: Comparison) -> list[str]:
    """Return notes on hypervolumes of observed means, with the reasons; empty if there are none."""
    runs = [run for group in comparison.groups for run in group.runs]
    reasons = dict.fromkeys(run.why_observed for run in runs if run.why_observed)
    lines = [f"{OBSERVED_MARK} of observed means, which are optimistic, not of estimates: {why}" for why in reasons]
    if any(run.is_estimated for run in runs) and reasons:
        lines.append("do not rank runs of the two kinds: observed means overestimate the networks")
    return lines


def _reference(comparison: Comparison) -> str:
    pairs = zip(comparison.objectives, comparison.reference, strict=True)
    return f"reference point of the hypervolume: {', '.join(f'{o.label} {format_reference(o, r)}' for o, r in pairs)}"


def _verdicts(comparison: Comparison) -> list[str]:
    """Return the results of the tests, one line each."""
    lines = [_verdict(first, second, test) for first, second, test in comparison.tests]
    return [*lines, "p values corrected by Holm"] if len(comparison.tests) > 1 else lines


def _verdict(first: str, second: str, test: RankTest) -> str:
    p = "too few runs for a p value" if test.p is None else f"p = {test.p:.3g}"
    return f"{first} against {second}: larger hypervolume in {test.superiority:.0%} of pairs, {p} ({test.name})"


def comparison_csv(comparison: Comparison) -> str:
    """Return one line per run."""
    rows: list[list[object]] = [
        ["group", "run", "seed", "networks", "front", "hypervolume", "trials", "estimated"],
        *(
            [group.label, r.name, r.seed, r.networks, len(r.front), r.hypervolume, r.trials, r.is_estimated]
            for group in comparison.groups
            for r in group.runs
        ),
    ]
    return to_csv(rows)


def comparison_json(comparison: Comparison) -> str:
    """Return the comparison without the attainment surfaces, which can be computed from the fronts."""
    names = [o.name for o in comparison.objectives]
    content = {
        "objectives": {o.name: {"direction": o.direction, "unit": o.unit} for o in comparison.objectives},
        "reference": dict(zip(names, comparison.reference, strict=True)),
        "groups": [_group(group, comparison) for group in comparison.groups],
        "tests": [{"groups": [a, b], **vars(test)} for a, b, test in comparison.tests],
    }
    return to_json(content) + "\n"


def _group(group: Group, comparison: Comparison) -> dict[str, object]:
    low, median, high = group.quartiles()
    return {
        "label": group.label,
        "hypervolume": {"lower_quartile": low, "median": median, "upper_quartile": high},
        "runs": [
            {
                "run": run.name,
                "seed": run.seed,
                "networks": run.networks,
                "trials": run.trials,
                "estimated": run.is_estimated,
                "why_observed": run.why_observed or None,
                "hypervolume": run.hypervolume,
                "front": [[o.sign * c for o, c in zip(comparison.objectives, row, strict=True)] for row in run.front],
            }
            for run in group.runs
        ],
    }
