"""`nasx report`: a run as one HTML page that can be sent to a colleague, or served while the search runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nasx.cli.choosing import choose_run


def report(
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; the newest run where none is given.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page's file; report.html in the run directory.")] = None,
) -> None:
    """Write a run as one HTML page: its front, its networks, how it got on, what recurs on the front."""
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    with log.status("Writing the report ..."):
        from nasx.cli.gathering import gather  # here: Hydra, jinja2 and Pillow take time to import
        from nasx.cli.main import COMMANDS
        from nasx.files import write_atomically
        from nasx.reports.run_data import run_data
        from nasx.reports.run_page import run_page

        page = run_page(run_data(gather(run, list(COMMANDS))))
        path = out or run / "report.html"
        write_atomically(path, page.encode())
    log.print(Text(f"Written: {path}"), soft_wrap=True)
