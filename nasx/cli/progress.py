"""Progress of a search on stderr: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live

from nasx.cli.panel import (
    SearchPanel,
    best,
    certain,
    duration,
    hypervolume,
    in_frame,
    infeasible,
    starting,
    times,
    trainings,
)
from nasx.execution.budget import Progress
from nasx.execution.loop import SearchLoop
from nasx.trial import Objective

LINE_EVERY = 10.0  # seconds between plain lines
SILENCE = 60.0  # seconds without news after which a line says that the search is alive
REDRAW_EVERY = 0.25  # seconds between drawings of the panel


class Display(Protocol):
    """Shows the progress of a search; `watch` is called whenever something may have changed."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def watch(self, loop: SearchLoop) -> None: ...


def display(console: Console) -> Display:
    """Return a live panel if `console` is a terminal, and plain lines if it is a file or a pipe."""
    return LivePanel(console) if console.is_terminal else PlainLines(console)


class PlainLines:
    """Prints a line when the search has something new, at most one in `LINE_EVERY` seconds, and one at the end.

    If trainings take long, a line now and then says what runs.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.printed_at = time.monotonic()  # a search shorter than `LINE_EVERY` has only its last line
        self.spoke_at = self.printed_at
        self.loop: SearchLoop | None = None
        self.printed = 0  # trainings at the last line
        self.told_start = False
        self.looked_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self.loop is not None:
            self._print(self.loop)

    def watch(self, loop: SearchLoop) -> None:
        self.loop = loop
        now = time.monotonic()
        if not self.told_start and now - self.looked_at >= REDRAW_EVERY:
            self.looked_at = now
            if told := starting(loop.progress()):
                self.told_start = True
                self._say(told)
        if now - self.printed_at >= LINE_EVERY:
            self._print(loop)

    def _print(self, loop: SearchLoop) -> None:
        self.printed_at = time.monotonic()
        progress = loop.progress()
        if progress.evaluated > self.printed:
            self.printed = progress.evaluated
            self._say(line(progress, loop.objectives))
        elif progress.running and time.monotonic() - self.spoke_at >= SILENCE:
            self._say(waiting(progress))

    def _say(self, text: str) -> None:
        self.spoke_at = time.monotonic()
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)


class LivePanel:
    """A panel that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        before = in_frame("reading the data, starting the workers ...", "Ctrl-C ends")
        self.live = Live(before, console=console, auto_refresh=False, transient=True)
        self.drawn_at = 0.0

    def __enter__(self) -> Self:
        self.live.start(refresh=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.live.stop()

    def watch(self, loop: SearchLoop) -> None:
        if time.monotonic() - self.drawn_at >= REDRAW_EVERY:
            self.live.update(SearchPanel(loop.progress(), loop.objectives, note(loop)), refresh=True)
            self.drawn_at = time.monotonic()


def note(loop: SearchLoop) -> str:
    """Return the effect of Ctrl-C, or why the search ends."""
    if loop.stopping:
        return f"{loop.stopping}: finishing what runs; Ctrl-C again to end now"
    return loop.enough or "Ctrl-C ends after this trial"


def waiting(progress: Progress) -> str:
    """Return what runs, for when no training has ended for a while."""
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
    of_it = f" ({of_it} certain)" if (of_it := certain(progress)) else ""
    parts += [f"hypervolume {hypervolume(progress)}{of_it}", f"front of {len(progress.summary.front)}"]
    parts += [f"{progress.gpu_hours:.2f} GPU-hours"] if progress.gpu_hours else []
    return ", ".join([*parts, times(progress)])
