"""`nasx compare`: compare several runs, grouped by config, with the variation over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nasx.cli.pareto import Format
from nasx.config.plain import drop
from nasx.errors import NasxError, RunError, SettingError
from nasx.runs.directory import default_runs_dir, find_run
from nasx.runs.stored_run import open_run
from nasx.terminal import Console, answers

DATA = "data"  # key of the digest of a run's data, by which runs on different data are in different groups


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run directories, two or more.")],
    format: Annotated[  # noqa: A002 - the name of the option
        Format, typer.Option(help="A table for people; csv has a line per run, json the fronts too.")
    ] = Format.TABLE,
    plot: Annotated[Path | None, typer.Option(help="Draw the comparison into this .png, .svg or .pdf file.")] = None,
) -> int:
    """Compare the fronts and hypervolumes of several runs. Runs that differ only in the seed form a group.

    A damaged run is reported, and left out: the exit status is then 2.
    """
    if len(runs) < 2:
        raise SettingError("RUN RUN...", f"must be two or more run directories, got {len(runs)}.")
    if plot is not None:
        from nasx.reports.figures import style  # matplotlib takes half a second to load

        style.check_format(plot)
    from nasx.reports import comparison_tables as tables  # scipy takes time to load
    from nasx.reports.comparison import RunToCompare, group_labels
    from nasx.reports.comparison import compare as compare_runs

    places = [find_run(run, default_runs_dir()) for run in runs]
    if len({place.resolve() for place in places}) < len(places):
        raise SettingError("RUN RUN...", "contains a run twice.")
    opened, log = [], Console(stderr=True)
    for place in places:
        try:
            with open_run(place) as run:
                opened.append((place, {**run.config, DATA: run.data_digest}, run.info, run.journal.trials()))
        except NasxError as exc:
            log.say(f"{place}  damaged: {exc}")
    if len(opened) < 2:
        raise RunError(f"{len(opened)} of {len(places)} runs can be read: a comparison needs two.")
    knows_data = all(config[DATA] for _, config, _, _ in opened)
    labels = group_labels([config if knows_data else drop(config, DATA) for _, config, _, _ in opened])
    found = []
    for (place, _, info, trials), label in zip(opened, labels, strict=True):
        found.append(
            RunToCompare(
                name=str(place),
                label=label,
                seed=info.seed,
                objectives=info.objectives,
                n_classes=info.n_classes,
                trials=trials,
                alleles=info.alleles,
            )
        )
    comparison = compare_runs(found)
    if format is Format.TABLE:
        answers().print(tables.comparison_table(comparison))
    else:
        write = tables.comparison_csv if format is Format.CSV else tables.comparison_json
        print(write(comparison), end="")
    if plot is not None:
        from nasx.reports.figures import style
        from nasx.reports.figures.comparison import comparison_figure

        style.save(comparison_figure(comparison), plot)
        log.say(f"Drawn: {plot}")
    return 0 if len(opened) == len(places) else 2
