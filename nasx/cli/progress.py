"""Progress on stderr: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.status import Status
from rich.table import Table
from rich.text import Text

from nasx.cli.panel import (
    SearchPanel,
    best,
    certain,
    hypervolume,
    in_frame,
    infeasible,
    starting,
    times,
    trainings,
)
from nasx.escaping import printable
from nasx.execution.budget import Progress
from nasx.reports.text import duration
from nasx.trial import Objective

if TYPE_CHECKING:
    from nasx.execution.loop import SearchLoop

LINE_EVERY = 10.0  # seconds between plain lines
SILENCE = 60.0  # seconds without a line, after which one shows that the search is running
STARTING = "reading the data, starting the workers ..."
REDRAW_EVERY = 0.25  # seconds between updates of the panel


class Display:
    """Base of displays: a live panel on a terminal, plain lines if `console` is a file or a pipe."""

    def __init__(self, console: Console, panel: RenderableType, *, animated: bool = False) -> None:
        """Store the first panel; `animated`: redraw it several times a second, even if `draw` is not called."""
        self.console = console
        self.live: Live | None = None  # on a terminal only
        if console.is_terminal:
            self.live = Live(panel, console=console, auto_refresh=animated, refresh_per_second=10, transient=True)
        self.drawn_at = 0.0
        self.due_at = time.monotonic()  # a search shorter than `LINE_EVERY` prints only its last line

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self.live is not None:
            self.live.stop()

    def draw(self, panel: Callable[[], RenderableType]) -> None:
        """Replace the panel, at most once in `REDRAW_EVERY` seconds; without a terminal do nothing."""
        if self.live is not None and time.monotonic() - self.drawn_at >= REDRAW_EVERY:
            self.live.update(panel(), refresh=True)
            self.drawn_at = time.monotonic()

    def is_line_due(self, *, last: bool = False) -> bool:
        """Return whether to print a line now: `LINE_EVERY` seconds after the last one, or if it is the last."""
        is_due = self.live is None and (last or time.monotonic() - self.due_at >= LINE_EVERY)
        if is_due:
            self.due_at = time.monotonic()
        return is_due

    def say(self, text: str) -> None:
        """Print a plain line."""
        self.console.print(Text(printable(text)), soft_wrap=True)


class SearchDisplay(Display):
    """Progress of a search. `watch` is called whenever something may have changed.

    Plain lines: one if there is progress, at most one per `LINE_EVERY` seconds, and one at the end. If trainings take
    long, one per `SILENCE` seconds reports what is running.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console, in_frame(STARTING, "Ctrl-C ends"))
        self.spoke_at = self.looked_at = time.monotonic()
        self.loop: SearchLoop | None = None
        self.printed = 0  # trainings at the last line
        self.reported_start = False

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, exc, tb)
        if self.loop is not None and self.is_line_due(last=True):
            self._report(self.loop)

    def watch(self, loop: SearchLoop) -> None:
        """Show the progress, if an update is due."""
        self.loop = loop
        self.draw(lambda: SearchPanel(loop.progress(), loop.objectives, note(loop)))
        if self.live is None and not self.reported_start and time.monotonic() - self.looked_at >= REDRAW_EVERY:
            self.looked_at = time.monotonic()
            if text := starting(loop.progress()):
                self.reported_start = True
                self.say(text)
        if self.is_line_due():
            self._report(loop)

    def say(self, text: str) -> None:
        self.spoke_at = time.monotonic()
        super().say(text)

    def _report(self, loop: SearchLoop) -> None:
        progress = loop.progress()
        if progress.evaluated > self.printed:
            self.printed = progress.evaluated
            self.say(line(progress, loop.objectives))
        elif progress.running and time.monotonic() - self.spoke_at >= SILENCE:
            self.say(waiting(progress))


class StepDisplay:
    """Progress of a long step within a command: a bar in its status on a terminal, plain lines without one."""

    title: ClassVar[str]
    unit: ClassVar[str]  # of what is counted, e.g. "epoch"

    def __init__(self, console: Console, status: Status | None = None) -> None:
        """`status`: spinner of the command, whose text is replaced until the step ends."""
        self.console = console
        self.status = status
        self.text: RenderableType = ""  # of the status before the step
        self.started = self.due_at = time.monotonic()

    def show(self, finished: int, total: int) -> None:
        """Show the number of finished parts, at first 0, and the time that the others take."""
        now = time.monotonic()
        if finished == 0:
            self.started = self.due_at = now
            self.text = "" if self.status is None else self.status.status
        left = (now - self.started) / finished * (total - finished) if finished else None
        text = f"{self.unit} {finished:,} of {total:,}, ETA {duration(left)}"
        if self.draw(None if finished == total else _bar(self.title, finished, total, text)):
            return
        if now - self.due_at >= LINE_EVERY and finished < total:
            self.due_at = now
            self.console.print(Text(f"{self.title}: {text}"), soft_wrap=True)

    def draw(self, bar: RenderableType | None) -> bool:
        """Show a bar in the status, None: its former text again; return False if there is no status on a terminal."""
        if self.status is None or not self.console.is_terminal:
            return False
        self.status.update(self.text if bar is None else bar)
        return True


class TrainingDisplay(StepDisplay):
    """Progress of a training."""

    title, unit = "Training", "epoch"


class FeatureDisplay(StepDisplay):
    """Progress of the features that a backbone computes."""

    title, unit = "Features of the backbone", "image"


class SearchFeatureDisplay(FeatureDisplay):
    """The same in the panel of a search."""

    def __init__(self, display: SearchDisplay) -> None:
        super().__init__(display.console)
        self.display = display

    def draw(self, bar: RenderableType | None) -> bool:
        self.display.draw(lambda: in_frame(STARTING if bar is None else bar, "Ctrl-C ends"))
        return self.display.live is not None


def show_step(status: Status, step: str) -> None:
    """Show in the status of a command what it does, e.g. "SHAP values: image 2 of 20"."""
    status.update(Text(f"{step} ..."))


def _bar(title: str, finished: int, total: int, text: str) -> Table:
    """Return a progress bar in one line."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(title), ProgressBar(total=total, completed=finished, width=30), Text(text))
    return grid


def note(loop: SearchLoop) -> str:
    """Return the effect of Ctrl-C, or why the search ends."""
    if loop.stopping:
        return f"{loop.stopping}: finishing the running trials; Ctrl-C again to end now"
    return loop.enough or "Ctrl-C ends after this trial"


def waiting(progress: Progress) -> str:
    """Return a line about running trials, for times in which none ends."""
    longest = duration(max(job.seconds for job in progress.jobs))
    elapsed = duration(progress.elapsed)
    return f"{trainings(progress)}, {progress.running} running, the longest for {longest}, elapsed {elapsed}"


def line(progress: Progress, objectives: tuple[Objective, ...]) -> str:
    """Return the progress of a search as one plain line."""
    parts = [trainings(progress)]
    parts += [f"{progress.failed} failed"] if progress.failed else []
    parts += [f"{infeasible(progress)} infeasible"] if progress.infeasible else []
    parts += [f"{progress.cached} from the journal"] if progress.cached else []
    parts += [f"{progress.retrained} trained again"] if progress.retrained else []
    parts += [f"best {o.label} {best(progress, o)}" for o in objectives]
    part = f" ({value} certain)" if (value := certain(progress)) else ""
    parts += [f"hypervolume {hypervolume(progress)}{part}", f"front of {len(progress.summary.front)}"]
    parts += [f"{progress.gpu_hours:.2f} GPU-hours"] if progress.gpu_hours else []
    return ", ".join([*parts, times(progress)])
