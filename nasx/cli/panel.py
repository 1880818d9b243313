"""Live panel of a search: numbers, a small scatter plot of the front, running jobs, failures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from nasx.execution.budget import Progress, Running, last_line
from nasx.reports.text import clean, duration, format_estimate, format_value, format_volume
from nasx.trial import Objective, Trial


def best(progress: Progress, objective: Objective) -> str:
    """Return the best estimate of an objective on the front, with uncertainty and unit; a dash if there is none."""
    front = progress.summary.front
    if not front:
        return "-"
    member = min(front, key=lambda m: objective.sign * m.metrics[objective.name])
    return format_estimate(objective, member.metrics[objective.name], member.std.get(objective.name))


def hypervolume(progress: Progress) -> str:
    """Return the hypervolume of the front, marked if it is of observed values."""
    summary = progress.summary
    is_optimistic = summary.front and not summary.is_estimated and not summary.is_exact
    return format_volume(summary.hypervolume) + (" (observed)" if is_optimistic else "")


def certain(progress: Progress) -> str:
    """Return the certain part of the hypervolume; empty if it is unknown."""
    value = progress.summary.certain_hypervolume
    return "" if value is None else format_volume(min(value, progress.summary.hypervolume))


def trainings(progress: Progress) -> str:
    """Return the number of trainings so far and in all."""
    return f"{progress.evaluated}/{progress.evaluations} trainings"


def times(progress: Progress) -> str:
    """Return the elapsed time of this session and, if there is a forecast, the trainings left and the ETA."""
    elapsed = f"elapsed {duration(progress.elapsed)}"
    if progress.forecast is None:
        return elapsed
    left = progress.forecast.trials
    return f"{elapsed}, {left} training{'s' * (left != 1)} left, ETA {duration(progress.forecast.seconds)}"


def infeasible(progress: Progress) -> str:
    """Return the number of infeasible trials, and how many of them were stopped early: 5 (3 stopped)."""
    return f"{progress.infeasible}" + (f" ({progress.dominated} stopped)" if progress.dominated else "")


def starting(progress: Progress) -> str:
    """Return the number of workers that are starting; empty if all trainings have begun or are about to."""
    n = sum(not job.begun and job.seconds >= 0.5 for job in progress.jobs)
    return f"starting {n} worker{'s' * (n > 1)} ..." if n else ""


FRONT, OTHER = "o", "."


def scatter(points: Sequence[tuple[float, float]], on_front: Sequence[bool], width: int, height: int) -> list[str]:
    """Draw points in plain characters: x grows to the right, y upwards; the front is drawn last.

    The axes cover the range of the points. Points that all share a coordinate are in the middle of that axis.

    Args:
        points: (n_points, 2) coordinates.
        on_front: for each point whether it is on the front.
        width: characters per line.
        height: lines.

    >>> for line in scatter([(0, 0), (1, 1), (1, 0)], [True, True, False], 5, 3): print(f"|{line}|")
    |    o|
    |     |
    |o   .|
    """
    rows = [[" "] * width for _ in range(height)]
    if points:
        columns = _places([x for x, _ in points], width)
        lines = _places([y for _, y in points], height)
        for front, column, line in sorted(zip(on_front, columns, lines, strict=True)):
            rows[height - 1 - line][column] = FRONT if front else OTHER
    return ["".join(row) for row in rows]


def _places(values: Sequence[float], n: int) -> list[int]:
    """Return for each value the nearest of `n` equal steps from the lowest to the highest value."""
    low, high = min(values), max(values)
    if low == high:
        return [n // 2] * len(values)
    return [round((value - low) / (high - low) * (n - 1)) for value in values]


SCATTER_LINES = 6
SHOWN_JOBS = 4  # only the number of further ones is shown
GAP = 2  # between names and values
LOWEST = 22  # lines of a terminal; below, the scatter plot is left out


class SearchPanel:
    """Progress of a search, drawn for the current size of the terminal."""

    def __init__(self, progress: Progress, objectives: tuple[Objective, ...], note: str) -> None:
        """Store the progress to draw; `note`: the effect of Ctrl-C, or why the search ends."""
        self.progress = progress
        self.objectives = objectives
        self.note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        progress = self.progress
        width = options.max_width - 4  # inside the frame
        facts = _facts(progress, self.objectives, width)
        spent = f", {progress.gpu_hours:.2f} GPU-hours" if progress.gpu_hours else ""
        parts: list[RenderableType] = [_bar(progress), Text(times(progress) + spent), facts]
        if len(self.objectives) > 1 and len(progress.summary.front) > 1 and console.height >= LOWEST:
            parts.append(_scatter(progress, self.objectives[:2], width))
        parts += _jobs(progress)
        parts += [_line(f"{t.arch_id}  {_why(t)}", "red") for t in progress.failures[:2]]
        yield in_frame(Group(*parts), self.note)


def in_frame(content: RenderableType, note: str) -> Panel:
    return Panel(content, title="nasx search", subtitle=Text(note, style="dim"), border_style="blue")


def _bar(progress: Progress) -> Bar:
    bar = Bar(TextColumn("trainings"), BarColumn(bar_width=None), MofNCompleteColumn(), expand=True)
    bar.add_task("", total=progress.evaluations, completed=progress.evaluated)
    return bar


def _facts(progress: Progress, objectives: tuple[Objective, ...], width: int) -> Table:
    """Return the numbers, two pairs of name and value per line if they fit, else one. Only names are shortened."""
    cells = [
        ("generation", str(progress.generation)),
        ("running", str(progress.running)),
        ("complete", str(progress.complete)),
        ("failed", str(progress.failed)),
        ("infeasible", infeasible(progress)),
        ("from the journal", str(progress.cached)),
        *((f"best {o.label}", best(progress, o)) for o in objectives),
        ("front", str(len(progress.summary.front))),
        ("hypervolume", hypervolume(progress)),
    ]
    cells += [("certain part", part)] if (part := certain(progress)) else []
    cells += [("trained again", str(progress.retrained))] if progress.retrained else []
    names, values = ([[len(cell[i]) for cell in cells[place::2]] for place in range(2)] for i in range(2))
    wanted = sum(max(lengths) for lengths in (*names, *values)) + 3 * GAP
    if wanted <= width:
        columns, shares = 2, [max(lengths) for lengths in names]
    else:
        columns, shares = 1, [width - max(map(max, values)) - GAP]
    facts = Table.grid(padding=(0, GAP, 0, 0), expand=wanted <= width)
    for share in shares:
        facts.add_column(no_wrap=True, max_width=share)
        facts.add_column(no_wrap=True)
    for start in range(0, len(cells), columns):
        row = cells[start : start + columns]
        facts.add_row(*(cell for name, value in row for cell in (Text(name, "dim"), Text(value, "bold"))))
    return facts


def _scatter(progress: Progress, objectives: tuple[Objective, ...], width: int) -> Text:
    """Plot all trained networks by their estimates of the first two objectives."""
    x, y = objectives
    networks = progress.summary.architectures
    points = [(network.metrics[x.name], network.metrics[y.name]) for network in networks]
    left, right = (format_value(x, pick(p[0] for p in points)) for pick in (min, max))
    bottom, top = (format_value(y, pick(p[1] for p in points)) for pick in (min, max))
    margin = max(len(bottom), len(top))
    width = max(20, width - margin - 3)
    on_front = {member.arch_id for member in progress.summary.front}
    drawn = scatter(points, [network.arch_id in on_front for network in networks], width, SCATTER_LINES)
    labels = [top, *[""] * (SCATTER_LINES - 2), bottom]
    lines = [f"{value:>{margin}} |{line}" for value, line in zip(labels, drawn, strict=True)]
    between = width - len(left) - len(right)
    names = f"{x.label} and {y.label}, o: front"
    lines.append(" " * (margin + 2) + f"{left}{names if len(names) < between else '':^{between}}{right}")
    return Text("\n".join(lines), no_wrap=True, overflow="crop")


def _jobs(progress: Progress) -> list[Text]:
    """Return a line per network in training, with the time since its worker began it."""
    begun = [job for job in progress.jobs if job.begun]
    lines = [_line(_job(job)) for job in begun[:SHOWN_JOBS]]
    more = len(begun) - SHOWN_JOBS
    rest = [*([f"and {more} more"] if more > 0 else []), *([waiting] if (waiting := starting(progress)) else [])]
    return [*lines, *([_line(", ".join(rest), "dim")] if rest else [])]


def _job(job: Running) -> str:
    again = f", training {job.replicate + 1}" if job.replicate else ""
    return f"{job.arch_id}  {duration(job.seconds)}{again}  {job.architecture}"


def _why(trial: Trial) -> str:
    """Return the reason of a failed trial."""
    return f"{trial.evaluation.reason}: {clean(last_line(trial.evaluation.detail))}"


def _line(text: str, style: str = "") -> Text:
    """Return a line that is cut at the width of the terminal."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
