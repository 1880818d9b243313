"""Measurements as a table for readers and as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from scripts.bench.measurement import Measurement, Options, Skipped

Result = Measurement | Skipped


def one_line(result: Result) -> str:
    """Format a result as one line."""
    if isinstance(result, Skipped):
        return f"{result.what}: skipped, {result.why}"
    return f"{result.what}, against {result.against}: {figure(result, result.median)} {verdict(result)}"


def figure(measurement: Measurement, value: float) -> str:
    """Format a ratio, or a value with its unit, to three digits."""
    digits = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits}x" if measurement.theirs else f"{digits} {measurement.unit}"


def spread(measurement: Measurement) -> str:
    """Format the smallest and the largest figure; empty for a single figure."""
    figures = measurement.figures
    return f"{min(figures):.3g} - {max(figures):.3g}" if len(figures) > 1 else ""


def target(measurement: Measurement) -> str:
    """Format the target with its direction; empty without a target."""
    if measurement.target is None:
        return ""
    at_least = bool(measurement.theirs) or measurement.better == "more"
    return f"{'>=' if at_least else '<='} {figure(measurement, measurement.target)}"


def verdict(measurement: Measurement) -> str:
    return {True: "met", False: "MISSED", None: ""}[measurement.met]


def table(results: Mapping[str, Sequence[Result]], title: str) -> Table:
    """Draw all results; a ratio above 1 means that nasx is better."""
    drawn = Table(title=title, title_justify="left")
    for heading in ("benchmark", "what", "against"):
        drawn.add_column(heading, overflow="fold")
    for heading in ("median", "spread", "target", ""):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for name, rows in results.items():
        for row in rows:
            if isinstance(row, Skipped):
                drawn.add_row(name, row.what, f"skipped: {row.why}", style="dim")
                continue
            style = "red" if row.met is False else ""
            median = figure(row, row.median)
            drawn.add_row(name, row.what, row.against, median, spread(row), target(row), verdict(row), style=style)
    return drawn


def record(results: Mapping[str, Sequence[Result]], machine: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Return all results as plain data for JSON.

    Args:
        results: by benchmark.
        machine: facts of `scripts.bench.machine`.
        options: options of the runner.
    """
    return {
        "machine": machine,
        "quick": options.quick,
        "measurements": [
            {"benchmark": name, **r.record()}
            for name, rows in results.items()
            for r in rows
            if isinstance(r, Measurement)
        ],
        "skipped": [
            {"benchmark": name, **vars(r)} for name, rows in results.items() for r in rows if isinstance(r, Skipped)
        ],
    }
