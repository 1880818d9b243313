"""`nasx pareto`: the front of a run as a table, data or picture, next to the paper's front."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from nasx.errors import NasxError
from nasx.escaping import printable
from nasx.reports import paper as papers
from nasx.reports import tables
from nasx.reports.summary import FrontSummary, summarize, summarize_run
from nasx.reports.training_tables import finetuned_table
from nasx.runs.directory import CONFIG, default_runs_dir, find_run
from nasx.runs.stored_run import StoredRun, open_run
from nasx.runs.training_records import read_finetuned
from nasx.terminal import Console, answers


def print_finetuned(run_dir: Path) -> None:
    """Print the fine-tuned networks of a run's front on stdout, if there are any."""
    with open_run(run_dir) as run:
        trials, info = run.journal.trials(), run.info
    summary = summarize_run(trials, info)
    records = [record for member in summary.front if (record := read_finetuned(run_dir, member.arch_id))]
    if records:
        answers().print(finetuned_table(records, summary))


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def pareto(
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    format: Annotated[  # noqa: A002 - the name of the option
        Format, typer.Option(help="A table for people; csv and json have every metric under its own name.")
    ] = Format.TABLE,
    plot: Annotated[Path | None, typer.Option(help="Draw the front into this .png, .svg or .pdf file.")] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Use the paper's score, and compare with its front on this dataset.")
    ] = False,
) -> None:
    """Show the Pareto front of a run: networks that no other one beats in all objectives, by their estimates."""
    if plot is not None:
        from nasx.reports.figures import style  # matplotlib takes half a second to load

        style.check_format(plot)
    run = find_run(run_dir, default_runs_dir())
    if run_dir is None:
        Console(stderr=True).say(f"The newest run: {run}")
    with open_run(run) as stored:
        trials, info = stored.journal.trials(), stored.info
        theirs = papers.paper_front(_dataset(stored)) if paper else None
    if theirs is None:
        summary = summarize_run(trials, info)
    else:
        trials = papers.with_paper_score(trials, theirs)
        summary = summarize(trials, papers.OBJECTIVE_NAMES, n_classes=info.n_classes, alleles=info.alleles)
    _print(summary, format)
    if format is Format.TABLE:
        print_finetuned(run)
    if theirs is not None:
        sentence = papers.comparison_sentence(summary, theirs, n_classes=info.n_classes)
        Console(stderr=format is not Format.TABLE).print(Text(sentence))
    if plot is not None:
        from nasx.reports.figures import front, style

        style.save(front.front_figure(summary, title=f"Pareto front of {info.name}", paper=theirs), plot)
        Console(stderr=True).say(f"Drawn: {plot}")


def _print(summary: FrontSummary, format: Format) -> None:  # noqa: A002
    if format is Format.TABLE:
        answers().print(tables.front_table(summary))
    else:
        print(tables.front_csv(summary) if format is Format.CSV else tables.front_json(summary), end="")


def _dataset(run: StoredRun) -> str:
    """Return the name of a run's published dataset. Raises NasxError if the run has none."""
    from nasx.config.components import dataset_name, published_name
    from nasx.config.trust import check_targets

    check_targets({"dataset": run.config.get("dataset")}, str(run.run_dir / CONFIG))
    if not (name := dataset_name(run.config)):
        raise NasxError(f"{run.run_dir} looks its results up in a table: the paper has no front to compare them with.")
    if not (published := published_name(run.config)):
        raise NasxError(f"the paper has no front for {printable(name)}: these are images of your own.")
    return published
