"""Check that the config of a run is that of its journal, and that its data, if they are at hand, are those it read."""

from __future__ import annotations

from pathlib import Path

from nasx.errors import ConfigError, NasxError, RunError
from nasx.experiment import Experiment
from nasx.runs.check import Defect
from nasx.runs.directory import CONFIG
from nasx.runs.stored_run import ReadOptions


def check_identity(run_dir: Path, *, trust_code: bool = False) -> tuple[list[Defect], str]:
    """Return the problems of a run's config and data, and why its data could not be compared; "": they were.

    Args:
        run_dir: directory of the run.
        trust_code: import any class that the run names.
    """
    options = ReadOptions(other_data=True, trust_code=trust_code, notify=lambda line: None)
    try:
        experiment = Experiment.of_run(run_dir, options)
    except RunError as error:
        return [Defect(CONFIG, str(error).removesuffix("."))], ""
    except ConfigError as error:  # code of unknown origin
        return [], str(error)
    if "pixels" not in experiment.recorded and "table" not in experiment.recorded:
        return [], "its journal, of an older nasx, does not describe them."
    try:
        _ = experiment.evaluate
    except NasxError as error:  # moved, or on another machine
        return [], str(error)
    difference = experiment.data_difference
    return ([Defect("data", f"are not those of the run: {difference}")] if difference else []), ""
