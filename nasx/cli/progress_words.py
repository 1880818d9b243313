"""The figures of a running search in words, the same on the panel and in plain lines."""

from __future__ import annotations

from nasx.execution.limits import Progress
from nasx.reports.wording import format_estimate, format_volume
from nasx.trial import Objective


def best(progress: Progress, objective: Objective) -> str:
    """Return the best estimate of an objective on the front, with uncertainty and unit; a dash before there is one."""
    front = progress.summary.front
    if not front:
        return "-"
    member = min(front, key=lambda m: objective.sign * m.metrics[objective.name])
    return format_estimate(objective, member.metrics[objective.name], member.std.get(objective.name))


def hypervolume(progress: Progress) -> str:
    """Return the hypervolume of the front; of observed values it says so."""
    summary = progress.summary
    is_optimistic = summary.front and not summary.is_estimated and not summary.is_exact
    return format_volume(summary.hypervolume) + (" (observed)" if is_optimistic else "")


def certain(progress: Progress) -> str:
    """Return how much of the hypervolume is certain; empty if that is not known."""
    value = progress.summary.certain_hypervolume
    return "" if value is None else format_volume(min(value, progress.summary.hypervolume))


def trainings(progress: Progress) -> str:
    """Return the trainings so far, of how many."""
    return f"{progress.evaluated}/{progress.evaluations} trainings"


def times(progress: Progress) -> str:
    """Return the time of this session and, if there is a forecast, the trainings and the time that are left."""
    elapsed = f"elapsed {duration(progress.elapsed)}"
    if progress.forecast is None:
        return elapsed
    left = progress.forecast.trials
    return f"{elapsed}, {left} training{'s' * (left != 1)} left, ETA {duration(progress.forecast.seconds)}"


def duration(seconds: float | None) -> str:
    """Return a time in words.

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
    """Return how many are infeasible, and how many of them were stopped early: 5 (3 cut)."""
    return f"{progress.infeasible}" + (f" ({progress.dominated} cut)" if progress.dominated else "")


def starting(progress: Progress) -> str:
    """Return how many workers are still starting; empty if all trainings have begun, or will in a moment."""
    n = sum(not job.begun and job.seconds >= 0.5 for job in progress.jobs)
    return f"starting {n} worker{'s' * (n > 1)} ..." if n else ""
