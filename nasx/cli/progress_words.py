"""The figures of a running search in words, the same on the panel and in plain lines."""

from __future__ import annotations

from nasx.execution.limits import Progress
from nasx.reports.wording import format_value
from nasx.trial import Direction, Objective


def best(progress: Progress, objective: Objective) -> str:
    """The best value of an objective on the front, with its unit; a dash before there is one."""
    values = [member.metrics[objective.name] for member in progress.summary.front]
    if not values:
        return "-"
    return format_value(objective, min(values) if objective.direction is Direction.MINIMIZE else max(values))


def duration(seconds: float | None) -> str:
    """A time for people.

    >>> duration(5.2), duration(75), duration(3 * 3600 + 60), duration(None)
    ('5 s', '1 min 15 s', '3 h 01 min', '-')
    """
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def infeasible(progress: Progress) -> str:
    """How many are infeasible, and how many of them were stopped early: 5 (3 cut)."""
    return f"{progress.infeasible}" + (f" ({progress.dominated} cut)" if progress.dominated else "")


def to_go(progress: Progress) -> str:
    """The forecast: trials and time; a dash before there is one."""
    if progress.forecast is None:
        return "-"
    return f"{progress.forecast.trials} trials, {duration(progress.forecast.seconds)}"


def starting(progress: Progress) -> str:
    """How many workers are not there yet; empty where all trials have begun, or will in a moment."""
    n = sum(not job.begun and job.seconds >= 0.5 for job in progress.jobs)
    return f"starting {n} worker{'s' * (n > 1)} ..." if n else ""
