"""`nasx search`: start a search, or resume one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from nasx.cli.options import TrustOption, read_options
from nasx.errors import ConfigError
from nasx.execution.imports import gc_paused
from nasx.execution.interrupt import advise
from nasx.terminal import Console, answers


def search(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. algorithm.evaluations=200.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("--config", "-c", help="Path of a config, or a name, e.g. photos: see `nasx config list`."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run directory; by default a new one below runs/, with --resume the newest.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted run, or extend a finished one.")
    ] = False,
    warm_start: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Begin with the front of this run; its networks are trained again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the config and the data, print the plan, and stop.")
    ] = False,
    trust_code: TrustOption = False,
) -> int:
    """Search for networks that are accurate and introspectable.

    Prints the front on stdout, progress on stderr. Ctrl-C once finishes the running trials, twice ends at once.
    `nasx search --resume` resumes either to a bit-identical front.
    """
    if resume == (config is not None):
        raise ConfigError("name a config with --config, e.g. `nasx search --config digits`, or use --resume.")
    if resume and warm_start is not None:
        raise ConfigError("--warm-start begins a new search: leave out --resume.")
    advise("No trial has begun: start it again.")
    with gc_paused():  # they take a second to load
        from nasx.cli.progress import SearchDisplay, SearchFeatureDisplay
        from nasx.config.compose import compose_unchecked, provenance
        from nasx.reports.tables import front_table
        from nasx.runs.directory import default_runs_dir, find_run, resume_line
        from nasx.workflows import search as searching

    console = Console(stderr=True)
    begin_with = None if warm_start is None else find_run(warm_start, default_runs_dir())  # before anything slow
    if config is not None:
        composed = compose_unchecked(config, overrides or [])  # checked by `prepare`
        if dry_run:
            _print_plan(composed, console, begin_with)
            return 0
        composed["provenance"] = provenance(config, overrides or [])

    def notify(line: str) -> None:
        console.say(line)

    with SearchDisplay(console) as shown:
        features = SearchFeatureDisplay(shown).show
        if config is not None:
            loop = searching.start(
                composed,
                run_dir=run_dir,
                warm_start=begin_with,
                watch=shown.watch,
                notify=notify,
                watch_features=features,
            )
        else:
            run = find_run(run_dir, default_runs_dir())
            words = overrides or []
            loop = searching.resume(
                run, words, trust_code=trust_code, watch=shown.watch, notify=notify, watch_features=features
            )
    answers().print(front_table(loop.summary()))
    console.say(f"Run directory: {loop.run_dir}")
    if loop.incidents:
        notify(f"Incidents: {loop.incidents}. `nasx runs show {loop.run_dir}` lists them.")
    if loop.stopping != searching.INTERRUPTED:
        is_own = config is not None
        weight = (
            composed["finetune_front"]
            if is_own
            else searching.finetuning_weight(loop.run_dir, overrides or [], trust_code=trust_code)
        )
        _finetune(loop.run_dir, weight, console, trust_code=trust_code or is_own)
    ended = loop.stopping or loop.enough
    if ended is None:
        return 0
    console.say(f"Stopped: {ended}.")
    if loop.stopping != searching.INTERRUPTED:
        return 0
    notify(resume_line(loop.run_dir))
    return 130


def _print_plan(config: Mapping[str, Any], console: Console, warm_start: Path | None) -> None:
    """Print what a search would do on stdout; what it measures and derives for that, on stderr."""
    from nasx.config.auto import derived_settings
    from nasx.config.plain import as_plain
    from nasx.experiment import prepare
    from nasx.planning.describe import describe
    from nasx.planning.notices import notices
    from nasx.planning.plan import describe_time, plan, unbalanced_suggestion  # torch takes seconds to load
    from nasx.workflows.warm_start import with_warm_start

    with console.status("reading the data, timing a training ..."):
        if is_derived := bool(derived_settings(config)):
            lines: list[str] = []
            config, _ = plan(as_plain(config), lines.append)
        if warm_start is not None:
            config = with_warm_start(as_plain(config), warm_start, console.say)
        experiment = prepare(config, compute_features=False)
        text = describe(experiment)
        if not is_derived:
            lines = [f"time: {describe_time(experiment)}"]
            if suggestion := unbalanced_suggestion(experiment):
                lines.insert(0, suggestion)
    Console().print("\n".join([text, *notices(experiment), *lines]), soft_wrap=True)


def _finetune(run_dir: Path, weight: float | None, console: Console, *, trust_code: bool) -> None:
    """Fine-tune the front if a weight is given, and print the result."""
    if weight is None:
        return
    from nasx.cli.pareto import print_finetuned
    from nasx.workflows.finetuning import finetune_front

    def report(line: str) -> None:
        console.say(line)

    finetune_front(run_dir, weight, report, read_options(console, trust_code=trust_code))
    print_finetuned(run_dir)
