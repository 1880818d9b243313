"""Options and choices shared by commands: run, network, dataset, device, threads, console."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from nasx.cli.progress import FeatureDisplay, TrainingDisplay
from nasx.errors import DataError, RunError
from nasx.escaping import printable
from nasx.reports.summary import read_summary
from nasx.runs.directory import default_runs_dir, find_run
from nasx.runs.stored_run import ReadOptions, open_run
from nasx.runs.weights import choose_training
from nasx.terminal import Console
from nasx.trial import Trial, resolve_arch_id

if TYPE_CHECKING:
    from nasx.protocols import Dataset
    from nasx.workflows.network_pages import WrittenPage


PlacesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Other places of the run's data, e.g. dataset.root=DIR."),
]
OtherDataOption = Annotated[
    bool, typer.Option("--other-data", help="Accept other data than those of the search; the result says so.")
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Import any class that the run names, not only those of nasx and of installed packages; call the function "
        "of its backbone.",
    ),
]


NoTrainOption = Annotated[
    bool, typer.Option("--no-train", help="Do not train a network again if its weights are not kept.")
]


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


DeviceOption = Annotated[Device, typer.Option("--device", help="Device to compute on; auto: the GPU if there is one.")]
# Below this a second thread costs more than it gains: on two busy cores the digits took 83 s of CPU time, with one 15
SMALL_MACS = 5e6


def choose_run(run_dir: Path | None, log: Console) -> Path:
    """Return the given run directory; if None the newest one, and print its name on `log`."""
    run = find_run(run_dir, default_runs_dir())
    if run_dir is None:
        log.say(f"The newest run: {run}")
    return run


def read_options(
    log: Console,
    overrides: Sequence[str] | None = None,
    *,
    other_data: bool = False,
    trust_code: bool = False,
    train: bool = True,
    status: Status | None = None,
) -> ReadOptions:
    """Return how a run is read, with notices printed on `log`, each once.

    Args:
        log: stderr.
        overrides: other places of the data.
        other_data: accept other data than those of the search.
        trust_code: import any class that the run names.
        train: train a network again if its weights are not kept.
        status: of the command, in which the progress of such a training is shown.
    """
    said: set[str] = set()

    def notify(line: str) -> None:
        if line not in said:
            said.add(line)
            log.say(line)

    watch, features = TrainingDisplay(log, status).show, FeatureDisplay(log, status).show
    return ReadOptions(tuple(overrides or ()), other_data, trust_code, notify, train, watch, features)


def find_trial(run: Path, prefix: str) -> Trial:
    """Return the training of the network whose id begins with `prefix`, see `choose_training`."""
    with open_run(run) as stored:
        trials = stored.journal.trials()
    arch_id = resolve_arch_id(prefix, [t.arch_id for t in trials])
    return choose_training(run, [t for t in trials if t.arch_id == arch_id])


def front_trials(run: Path) -> list[Trial]:
    """Return the networks on the front of a run, best first objective first, each as `find_trial` returns it.

    Raises RunError if there is none.
    """
    front = read_summary(run).front
    if not front:
        raise RunError(f"{run} has no network on its front. `nasx runs show` lists its trials and why they failed.")
    return [find_trial(run, member.arch_id) for member in front]


def choose_dataset(name: str, overrides: Sequence[str]) -> Dataset:
    """Return the dataset of that name, or of a directory of class folders, with `dataset.key=value` overrides.

    It is a `CorrectedDataset` if `dataset.corrections` is set.
    """
    from nasx.config.compose import compose_choice  # Hydra takes 0.3 s to load
    from nasx.data.corrected import build_corrected  # numpy takes time to load

    if Path(name).is_dir():
        overrides, name = [f"dataset.root={Path(name).resolve()}", *overrides], "folder"
    elif Path(name).name != name:
        problem = "is not a directory" if Path(name).exists() else "does not exist"
        raise DataError(f"{printable(name)} {problem}: name a directory of class folders, or a dataset as in digits.")
    return build_corrected(compose_choice("dataset", name, overrides))


def spare_threads(trial: Trial) -> None:
    """Use one thread for a small network."""
    import torch  # it takes seconds to load

    if trial.metrics.get("macs", 0) < SMALL_MACS:
        torch.set_num_threads(1)


def print_page(written: WrittenPage, log: Console) -> None:
    """Print a page about a network, and on `log` the files in which it was written."""
    from nasx.reports.page import as_terminal  # jinja2 takes time to load

    Console().print(as_terminal(written.page))
    files = ", ".join(file.name for file in written.files)
    log.say(f"Written to {written.directory}: {files}")
