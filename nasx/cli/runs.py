"""`nasx runs`: list runs, show the trials of one, check one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nasx.cli.options import TrustOption
from nasx.data.corrections import in_words as corrections_in_words
from nasx.errors import NasxError, RunError
from nasx.escaping import printable
from nasx.reports.summary import summarize_run
from nasx.reports.tables import trials_table
from nasx.reports.text import describe_warm_start, format_volume
from nasx.runs.check import check_run
from nasx.runs.directory import default_runs_dir, find_run, list_runs
from nasx.runs.rows import RunInfo
from nasx.runs.stored_run import open_run
from nasx.terminal import Console, answers
from nasx.trial import Trial, TrialStatus

NOTE = (
    "certain: hypervolume that the true values of the front reach with probability 95 %; "
    "-: unknown, and the hypervolume is of observed means, which is too high on average"
)

INCIDENTS = {  # events of a journal that `runs show` prints -> their text
    "retry": "tried again",
    "worker_replaced": "worker replaced",
    "executor_restart": "Ray Tune restarted",
}
SHOWN_INCIDENTS = 10  # without --details

app = typer.Typer(help="List runs, show one, check one.")


@app.callback(invoke_without_command=True)
def list_all(
    context: typer.Context,
    runs_dir: Annotated[Path | None, typer.Option(help="Their directory; by default NASX_RUNS or ./runs.")] = None,
) -> None:
    """List the runs, the newest last: trials, size of the front, hypervolume, and its certain part."""
    if context.invoked_subcommand is not None:
        return
    home = runs_dir or default_runs_dir()
    runs = list_runs(home)
    if not runs:
        raise RunError(f"no runs in {home} yet. Start one with `nasx search`, or name another --runs-dir.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("run", "trials", "complete", "front", "hypervolume", "certain"):
        table.add_column(header, justify="left" if header == "run" else "right", no_wrap=True, overflow="fold")
    damaged = []
    for run in runs:
        try:
            table.add_row(*map(Text, _row(run)))
        except (NasxError, OSError) as exc:  # one damaged run must not hide the others
            damaged.append(f"{run}  damaged: {exc}")
    if table.row_count:
        answers().print(table)
        answers().print(Text(NOTE))
    for line in damaged:
        answers().say(line)


def _row(run: Path) -> tuple[str, ...]:
    with open_run(run) as stored:
        summary = summarize_run(stored.journal.trials(), stored.info)
    counts = (sum(summary.statuses.values()), summary.statuses.get(TrialStatus.COMPLETE, 0), len(summary.front))
    certain = summary.certain_hypervolume
    volumes = (format_volume(summary.hypervolume), "-" if certain is None else format_volume(certain))
    return (str(run), *(f"{n:,}" for n in counts), *volumes)


@app.command()
def show(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="By default the newest run.")] = None,
    status: Annotated[TrialStatus | None, typer.Option(help="Show only these trials.")] = None,
    details: Annotated[bool, typer.Option("--details", help="Print every traceback in full.")] = False,
) -> None:
    """Show every trial of a run in order, why some are not complete, and other incidents."""
    run = find_run(run_dir, default_runs_dir())
    with open_run(run) as stored:
        trials = [trial for trial in stored.journal.trials() if status is None or trial.status is status]
        objectives = stored.info.objectives
        facts = {
            "corrections": corrections_in_words(record.facts) if (record := stored.data.get("corrections")) else "",
            "warm start": describe_warm_start(stored.found or {}),
        }
        incidents = [event for event in stored.journal.events() if event.kind in INCIDENTS]
    Console(stderr=True).say(str(run))
    answers().print(trials_table(trials, objectives))
    for name, fact in facts.items():
        if fact:
            answers().say(f"{name}: {fact}")
    for trial in trials:
        is_shown = details or not trial.evaluation.latency_device  # the same in most trials
        if is_shown and (detail := trial.evaluation.detail.strip()):
            print(f"{trial.arch_id}: {detail if details else detail.splitlines()[-1]}")
    if status is None and incidents:
        shown = incidents if details else incidents[-SHOWN_INCIDENTS:]
        hidden = f", the last {len(shown)} of them (--details: all)" if len(shown) < len(incidents) else ""
        print(f"\nretries, replaced workers and restarts: {len(incidents)}{hidden}")
        for event in shown:
            print(printable(f"{event.time[:19]} {INCIDENTS[event.kind]}, {' '.join(event.message.split())}"))


@app.command()
def check(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="By default the newest run.")] = None,
    trust_code: TrustOption = False,
) -> int:
    """Check journal, lineage, values, weights, records, config and data of a run. Exit status 2 if something is wrong.

    Prints what was verified on stderr, and what could not be.
    """
    run, log = find_run(run_dir, default_runs_dir()), Console(stderr=True)
    found = check_run(run, front=_front, trust_code=trust_code)
    if not found.defects:
        with log.status("Reading the data ..."):
            from nasx.workflows.check_identity import check_identity  # torch takes seconds to load

            found.defects, reason = check_identity(run, trust_code=trust_code)
        (found.left_out if reason else found.verified).append(f"data: {reason}" if reason else "data")
    for defect in found.defects:
        print(printable(f"{defect.location}: {defect.message}"))
    log.say(f"Verified: {', '.join(found.verified)}.")
    for part in found.left_out:
        log.say(f"Not verified: {part}")
    count = len(found.defects)
    log.say(f"{run}: {count} problem{'s' * (count > 1)}" if count else f"{run}: OK")
    return 2 if count else 0


def _front(trials: Sequence[Trial], info: RunInfo) -> list[str]:
    return [member.arch_id for member in summarize_run(trials, info).front]
