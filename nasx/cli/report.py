"""`nasx report`: the report of a run as one HTML page that can be sent to others, or served while the search runs."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nasx.cli.options import TrustOption, choose_run, read_options
from nasx.errors import SettingError
from nasx.execution.interrupt import Interrupted, settle
from nasx.runs.directory import ARCHS, DATABASE, Place
from nasx.runs.stored_run import ReadOptions
from nasx.terminal import Console


def report(
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the page; by default report.html in the run directory.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page on this machine, updated while the search runs.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of --serve; 0 for a free one.")] = 8421,
    trust_code: TrustOption = False,
) -> None:
    """Write the report of a run as one HTML page: front, networks, progress of the search, motifs of the front."""
    if serve and out is not None:
        raise SettingError("--out", "cannot be given with --serve: a served page is no file.")
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    options = read_options(log, trust_code=trust_code)
    if serve:
        _serve(run, port, log, options)
        return
    with log.status("Writing the report ..."):
        from nasx.files import write_atomically
        from nasx.places import check_output
        from nasx.reports.html.run_page import run_page

        path, place = out or run / "report.html", Place.of(run)
        check_output(path)
        page = run_page(_data(run, options)).encode()
        place.check()
        write_atomically(path, page, parents=out is not None)
    log.say(f"Written: {path}")


def _data(run: Path, options: ReadOptions) -> dict[str, Any]:
    from nasx.cli.main import COMMANDS
    from nasx.reports.html.load import load_report_input  # Hydra, jinja2 and Pillow take time to load
    from nasx.reports.html.run_data import run_data

    return run_data(load_report_input(run, list(COMMANDS), options))


def _serve(run: Path, port: int, log: Console, options: ReadOptions) -> None:
    """Serve until Ctrl-C."""
    from nasx.reports.html.run_page import run_page
    from nasx.reports.html.server import Report, Server

    def page() -> str:
        return run_page(_data(run, options), live=True)

    def data() -> str:
        return json.dumps(_data(run, options), allow_nan=False, separators=(",", ":"))

    with Server(Report(page, data, partial(_version, run)), port) as server:
        log.say(f"Serving {run} at {server.address} for this machine only. Ctrl-C ends it.")
        try:
            server.serve_forever()
        except (KeyboardInterrupt, Interrupted) as ended:
            if isinstance(ended, Interrupted):
                if ended.signum != signal.SIGINT:
                    raise
                settle()
            log.print("Ended.")


def _version(run: Path) -> list[tuple[str, int, int]]:
    """Changes whenever the journal does, or a picture is made: names, times and sizes of the files."""
    files = [run / DATABASE, run / f"{DATABASE}-wal", *sorted((run / ARCHS).glob("*/*/*.png"))]
    return [(str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.is_file()]
