"""The search on screen: a live panel on a terminal, plain lines elsewhere. Drawn from `Progress`, on stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from nasx.execution.limits import Progress
from nasx.execution.loop import SearchLoop
from nasx.reports.wording import format_value
from nasx.trial import Direction, Objective

LINE_EVERY = 10.0  # seconds between plain lines
REDRAW_EVERY = 0.25  # seconds between drawings of the panel


class Display(Protocol):
    """Shows how a search gets on; `watch` is called whenever something may have changed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def watch(self, loop: SearchLoop) -> None: ...


def display(console: Console) -> Display:
    """A live panel where `console` is a terminal, plain lines where it is a file or a pipe."""
    return LivePanel(console) if console.is_terminal else PlainLines(console)


class PlainLines:
    """A line when the search has something new, at most one in `LINE_EVERY` seconds, and one at the end."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.printed_at = time.monotonic()  # a search shorter than `LINE_EVERY` has its last line alone
        self.loop: SearchLoop | None = None
        self.printed = 0  # trials that the last line told of

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self.loop is not None:
            self._print(self.loop)

    def watch(self, loop: SearchLoop) -> None:
        self.loop = loop
        if time.monotonic() - self.printed_at >= LINE_EVERY:
            self._print(loop)

    def _print(self, loop: SearchLoop) -> None:
        self.printed_at = time.monotonic()
        progress = loop.progress()
        if progress.evaluated > self.printed:
            self.printed = progress.evaluated
            self.console.print(line(progress, loop.objectives), soft_wrap=True, highlight=False, markup=False)


class LivePanel:
    """A panel that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.drawn_at = 0.0

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.live.stop()

    def watch(self, loop: SearchLoop) -> None:
        if time.monotonic() - self.drawn_at >= REDRAW_EVERY:
            self.live.update(panel(loop.progress(), loop.objectives, loop.stopping, loop.enough), refresh=True)
            self.drawn_at = time.monotonic()


def best(progress: Progress, objective: Objective) -> str:
    """The best value of an objective on the front, with its unit; a dash before there is one."""
    values = [trial.metrics[objective.name] for trial in progress.front]
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


def line(progress: Progress, objectives: tuple[Objective, ...]) -> str:
    """Where a search stands, as one plain line."""
    parts = [f"{progress.evaluated}/{progress.evaluations} trials"]
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts += [f"{infeasible(progress)} infeasible"] if progress.infeasible else []
    parts += [f"{progress.cached} from the journal"] if progress.cached else []
    parts += [f"{progress.replicated} replicates"] if progress.replicated else []
    parts += [f"best {o.label} {best(progress, o)}" for o in objectives]
    parts += [f"hypervolume {progress.hypervolume:.4f}", f"front of {len(progress.front)}"]
    parts += [f"{progress.gpu_hours:.2f} GPU-hours"] if progress.gpu_hours else []
    parts += [f"{duration(progress.elapsed)} gone, {to_go(progress)} to go"]
    return ", ".join(parts)


def infeasible(progress: Progress) -> str:
    """How many are infeasible, and how many of them were stopped early: 5 (3 cut)."""
    return f"{progress.infeasible}" + (f" ({progress.dominated} cut)" if progress.dominated else "")


def to_go(progress: Progress) -> str:
    """The forecast: trials and time; a dash before there is one."""
    if progress.forecast is None:
        return "-"
    return f"{progress.forecast.trials} trials, {duration(progress.forecast.seconds)}"


def panel(
    progress: Progress, objectives: tuple[Objective, ...], stopping: str | None, enough: str | None = None
) -> Panel:
    """Where a search stands, as a panel fit for 80 columns."""
    bar = Bar(TextColumn("trials"), BarColumn(bar_width=None), MofNCompleteColumn(), expand=True)
    bar.add_task("", total=progress.evaluations, completed=progress.evaluated)
    facts = Table.grid(padding=(0, 2), expand=True)
    for _ in range(4):
        facts.add_column(no_wrap=True)
    cells = [
        ("generation", str(progress.generation)),
        ("running", str(progress.running)),
        ("complete", str(progress.complete)),
        ("failed", str(progress.failed)),
        ("infeasible", infeasible(progress)),
        ("from the journal", str(progress.cached)),
        ("replicates", str(progress.replicated)),
        *((f"best {o.label}", best(progress, o)) for o in objectives),
        ("front", str(len(progress.front))),
        ("hypervolume", f"{progress.hypervolume:.4f}"),
        ("elapsed", duration(progress.elapsed)),
        ("to go", to_go(progress)),
        *((("GPU-hours", f"{progress.gpu_hours:.2f}"),) if progress.gpu_hours else ()),
    ]
    for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
        facts.add_row(f"[dim]{left[0]}", f"[bold]{left[1]}", f"[dim]{right[0]}", f"[bold]{right[1]}")
    note = enough or "Ctrl-C ends after this trial"
    if stopping:
        note = f"{stopping}: finishing what runs; Ctrl-C again to end now"
    return Panel(Group(bar, facts), title="nasx search", subtitle=f"[dim]{note}", border_style="blue")
