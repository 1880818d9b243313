"""The console that answers go to."""

from __future__ import annotations

import os

from rich.console import Console

UNLIMITED = 100_000  # columns


def answers() -> Console:
    """Return a console for stdout: as wide as the terminal, of unlimited width if there is none.

    A program that reads a table must find every number in full; COLUMNS sets another width.
    """
    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNLIMITED
    return console
