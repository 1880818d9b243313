"""`nasx search`: run a search, or go on with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nasx.cli.options import answers
from nasx.errors import ConfigError
from nasx.execution.imports import uncollected
from nasx.runs.directory import CONFIG


def search(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. algorithm.evaluations=200.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="Path of a config, or a name: `nasx config list`.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run directory; a new one below runs/, or with --resume the newest.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted, or extend it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done, and stop.")
    ] = False,
) -> int:
    """Search for networks that are accurate and introspectable.

    The front goes to stdout, progress to stderr. Ctrl-C once finishes the running trials, twice ends at once;
    either way `nasx search --resume` goes on later as if nothing had happened.
    """
    if resume == (config is not None):
        raise ConfigError("name a config with --config, e.g. `nasx search --config digits`, or give --resume.")
    with uncollected():  # here: they take a second to import
        from nasx import experiment
        from nasx.cli.progress import SearchDisplay
        from nasx.config.compose import compose, load_resolved, provenance
        from nasx.reports.tables import front_table
        from nasx.runs.directory import default_runs_dir, find_run
        from nasx.workflows import search as searching

    console = Console(stderr=True)
    if config is not None:
        composed = compose(config, overrides or [])
        if dry_run:
            Console().print(experiment.describe(experiment.prepare(composed)), soft_wrap=True, highlight=False)
            return 0
        composed["provenance"] = provenance(config, overrides or [])

    def notify(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    with SearchDisplay(console) as shown:
        if config is not None:
            loop = searching.start(composed, run_dir=run_dir, watch=shown.watch, notify=notify)
        else:
            run = find_run(run_dir, default_runs_dir())
            loop = searching.resume(run, overrides or [], watch=shown.watch, notify=notify)
    answers().print(front_table(loop.summary()))
    console.print(f"Run directory: {loop.run_dir}", soft_wrap=True, highlight=False, markup=False)
    if loop.incidents:
        notify(f"Incidents: {loop.incidents}. `nasx runs show {loop.run_dir}` lists them.")
    if loop.stopping != searching.INTERRUPTED:
        settings = composed if config is not None else load_resolved(loop.run_dir / CONFIG, overrides or [])
        _finetune(loop.run_dir, settings["finetune_front"], console)
    ended = loop.stopping or loop.enough
    if ended is None:
        return 0
    console.print(f"Stopped: {ended}.", soft_wrap=True, highlight=False, markup=False)
    if loop.stopping != searching.INTERRUPTED:
        return 0
    console.print(
        f"Go on with: nasx search --resume --run-dir {loop.run_dir}", soft_wrap=True, highlight=False, markup=False
    )
    return 130


def _finetune(run_dir: Path, weight: float | None, console: Console) -> None:
    """Train the front on if a weight is given, and show the result."""
    if weight is None:
        return
    from nasx.cli.pareto import print_finetuned
    from nasx.workflows.finetuning import finetune_front

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    finetune_front(run_dir, weight, tell)
    print_finetuned(run_dir)
