"""The live panel of a search: figures, a small front, jobs that run, failures; it fits 80 columns and 24 lines."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from nasx.cli.progress_words import best, certain, duration, hypervolume, infeasible, starting, times
from nasx.cli.scatter import scatter
from nasx.execution.failures import last_line
from nasx.execution.limits import Progress, Running
from nasx.reports.wording import clean, format_value
from nasx.trial import Objective, Trial

SCATTER_LINES = 6
SHOWN_JOBS = 4  # further ones are counted
GAP = 2  # between names and values
LOWEST = 22  # lines of a terminal below which there is no scatter


class SearchPanel:
    """The progress of a search, drawn for the width and height that the terminal has at that moment."""

    def __init__(self, progress: Progress, objectives: tuple[Objective, ...], note: str) -> None:
        """Store what to draw; `note`: the effect of Ctrl-C, or why the search ends."""
        self.progress = progress
        self.objectives = objectives
        self.note = note

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        progress = self.progress
        width = options.max_width - 4  # within the frame
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
    """Figures, two pairs of name and value a line if they fit, else one. Names are cut if they must, values never."""
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
    cells += [("of it certain", of_it)] if (of_it := certain(progress)) else []
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
    """All trained networks by their estimates of the first two objectives."""
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
    """A line for each network that is trained, with the time since its worker began."""
    begun = [job for job in progress.jobs if job.begun]
    lines = [_line(_job(job)) for job in begun[:SHOWN_JOBS]]
    more = len(begun) - SHOWN_JOBS
    rest = [*([f"and {more} more"] if more > 0 else []), *([told] if (told := starting(progress)) else [])]
    return [*lines, *([_line(", ".join(rest), "dim")] if rest else [])]


def _job(job: Running) -> str:
    again = f", training {job.replicate + 1}" if job.replicate else ""
    return f"{job.arch_id}  {duration(job.seconds)}{again}  {job.architecture}"


def _why(trial: Trial) -> str:
    """Why a trial has failed."""
    return f"{trial.evaluation.reason}: {clean(last_line(trial.evaluation.detail))}"


def _line(text: str, style: str = "") -> Text:
    """A line that is cut at the width of the terminal."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
