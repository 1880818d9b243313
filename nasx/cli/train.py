"""`nasx train`: train networks of a run in full, with several seeds, and evaluate each once on the test set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nasx.cli.options import (
    Device,
    Format,
    OtherDataOption,
    TrustOption,
    choose_run,
    find_trial,
    front_trials,
    read_options,
    spare_threads,
)
from nasx.cli.progress import Display, show_step
from nasx.errors import SettingError
from nasx.execution.interrupt import Interrupted, interruptible, settle
from nasx.reports.summary import read_summary
from nasx.terminal import Console, answers
from nasx.trial import Trial

if TYPE_CHECKING:
    from nasx.runs.training_records import FinalRecord, TestSetEvaluation

AGAIN = "the same command resumes it"


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[training=NAME] [KEY=VALUE]...",
            help="Recipe (default: final; backbone for networks on a backbone) and settings, e.g. training.epochs=100, "
            "training.unfreeze=1 (also train the last stage of the backbone), dataset.root=DIR.",
        ),
    ] = None,
    arch_id: Annotated[
        str | None, typer.Option("--arch-id", help="The network: its id, or the first digits of it.")
    ] = None,
    front: Annotated[bool, typer.Option("--front", help="Every network of the front.")] = False,
    run_dir: Annotated[Path | None, typer.Option(help="Run directory; by default the newest run.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network, each with its own seed.")] = 1,
    width: Annotated[int, typer.Option(min=1, help="Multiplies the number of filters of the search, e.g. by 4.")] = 1,
    calibration: Annotated[
        float, typer.Option(help="Share of the images that calibrates the confidence instead of being trained on.")
    ] = 0.05,
    out: Annotated[Path | None, typer.Option(help="Directory of the result; by default next to the weights.")] = None,
    format: Annotated[Format, typer.Option(help="A table for people, json for programs.")] = Format.TABLE,  # noqa: A002
    device: Annotated[
        Device | None, typer.Option(help="Device to train on; by default execution.device of the run, else auto.")
    ] = None,
    other_data: OtherDataOption = False,
    trust_code: TrustOption = False,
) -> int:
    """Train chosen networks in full, on training and validation images, then evaluate each once on the test set.

    Finished trainings are not repeated; an interrupted one resumes from its last epoch.
    """
    if (arch_id is None) == (not front):
        raise SettingError("--arch-id", "must name a network, or use --front for the whole front.")
    log = Console(stderr=True)
    run = choose_run(run_dir, log)
    trials = front_trials(run) if arch_id is None else [find_trial(run, arch_id)]

    status = log.status("Reading the images ...")
    with status:  # torch takes seconds to load
        from nasx.reports.final_test_files import write_classes
        from nasx.reports.training_tables import finals_json, finals_table
        from nasx.workflows.final_training import compute_features, final_dir, plan_final_training
        from nasx.workflows.final_training import test as test_them
        from nasx.workflows.final_training import train as train_finally

        chosen = [] if device is None else [f"execution.device={device}"]
        options = read_options(log, other_data=other_data, trust_code=trust_code, status=status)
        words = [*(overrides or []), *chosen]
        plan = plan_final_training(run, words, width=width, calibration=calibration, options=options)
    summary = read_summary(run)
    found = {network.arch_id: network for network in summary.architectures}
    directories = [_directory(out, trial, front) or final_dir(run, trial.arch_id) for trial in trials]
    done: list[tuple[FinalRecord, Path]] = []
    try:
        with interruptible(), status:
            compute_features(plan, list(zip(trials, directories, strict=True)), seeds=seeds)
        with interruptible(), EpochDisplay(log, plan.experiment.recipe.epochs, seeds) as shown:
            for trial, directory in zip(trials, directories, strict=True):
                spare_threads(trial)
                known = found.get(trial.arch_id)
                record = train_finally(plan, trial, directory, seeds=seeds, found=known, report=shown.report)
                done.append((record, directory))
    except Interrupted as interrupted:
        settle()
        log.print(f"Interrupted: {AGAIN}.", highlight=False)
        return interrupted.status
    with status:
        records, before = test_them(plan, done, run, seeds=seeds, report=partial(show_step, status))
    for record, (_, directory) in zip(records, done, strict=True):
        write_classes(record, directory)
    if format is Format.TABLE:
        answers().print(finals_table(records, [objective.name for objective in summary.objectives]))
    else:
        print(finals_json(records), end="")
    for line in (f"Written to {', '.join(map(str, directories))}", *_warning(before)):
        log.say(line)
    return 0


def _directory(out: Path | None, trial: Trial, front: bool) -> Path | None:
    return out / trial.arch_id if out is not None and front else out


def _warning(before: list[TestSetEvaluation]) -> list[str]:
    """Return a warning if the test images have been used before by this run."""
    if not before:
        return []
    tested = ", ".join(dict.fromkeys(evaluation.arch_id for evaluation in before))
    return [
        f"This run has used the test images {len(before)} time{'s' * (len(before) > 1)} before "
        f"({tested}; last {before[-1].time[:10]}). If networks are chosen by test errors, these are too optimistic."
    ]


class EpochDisplay(Display):
    """Progress of trainings: a bar for each on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, epochs: int, seeds: int) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console)
        super().__init__(console, self.bar, animated=True)
        self.epochs, self.seeds = epochs, seeds
        self.tasks: dict[tuple[str, int], TaskID] = {}

    def report(self, trial: Trial, number: int, epoch: Mapping[str, float]) -> None:
        """Show the record of an epoch."""
        name = f"{trial.arch_id} seed {number + 1}/{self.seeds}"
        text = f"epoch {epoch['epoch']:.0f}/{self.epochs}, error {epoch['validation_error']:.2%} held out"
        key = (trial.arch_id, number)
        if key not in self.tasks:
            self.tasks[key] = self.bar.add_task(name, total=self.epochs, text="", completed=int(epoch["epoch"]) - 1)
        self.bar.update(self.tasks[key], completed=epoch["epoch"], text=text)
        if self.is_line_due(last=epoch["epoch"] == self.epochs):
            self.say(f"{name}: {text}")
