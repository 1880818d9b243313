"""Weights of a run's networks: those that its search kept, and those of trainings that were repeated afterwards.

A search keeps `weights_<replicate>.safetensors` of its front only. A command that needs another network repeats its
training from the seed and keeps the result as `retrained_<replicate>.safetensors`. A search neither reads nor deletes
that file, and nothing else in the run is changed, so that a command may write it while the search is running. Its
header says how far the repeated training agrees with the journal.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from nasx.errors import RunError
from nasx.files import MAX_WEIGHTS, parse_record, read_bounded, read_metadata
from nasx.runs.directory import ARCHS, arch_dir, arch_dirs, file_in, weights_file
from nasx.runs.rows import Event
from nasx.trial import Trial

RETRAINED: Final = re.compile(r"retrained_(\d{1,7})\.safetensors")
RECORD: Final = "retrained"  # key of the record in the header of the file
RETRY: Final = "retry"  # kind of the event of a further attempt at a trial


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """Training of a trial that was repeated from its seed, in comparison to the journal."""

    arch_id: str
    replicate: int
    seed: int
    error: float  # validation error, in [0, 1]
    recorded_error: float  # of the trial, in the journal
    is_same: bool  # all losses and errors of all epochs equal those of the journal
    device: Annotated[str, Field(max_length=200)]  # name of the processor or GPU
    torch_version: Annotated[str, Field(max_length=200)]

    @property
    def note(self) -> str:
        """How the network came about, and whether it is that of the search, in words."""
        start = "trained again from its seed, as the search kept no weights of it"
        if self.is_same:
            return f"{start}: the same validation error, {_percent(self.error)}, and the same losses in every epoch"
        why = f"another machine, device or version of torch rounds differently (here: {self.device}, torch "
        why += f"{self.torch_version})"
        if self.error == self.recorded_error:
            return f"{start}: the same validation error, {_percent(self.error)}, but NOT the same losses; {why}"
        return (
            f"{start}: NOT the same network, its validation error is {_percent(self.error)}, that of the search was "
            f"{_percent(self.recorded_error)}; {why}"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


_RETRAINED: Final = TypeAdapter(Retrained)


def retrained_file(run_dir: Path, arch_id: str, replicate: int) -> Path:
    """Return the path of the weights of a repeated training. The file exists only if there was one.

    Args:
        run_dir: directory of the run.
        arch_id: of the network.
        replicate: number of its training.
    """
    arch_dir(run_dir, arch_id)
    return file_in(run_dir, ARCHS, arch_id, f"retrained_{replicate}.safetensors")


def retrained_files(run_dir: Path) -> dict[Path, int]:
    """Return the weights of all repeated trainings of a run, each with the number of the training. Skip links."""
    found = {}
    for directory in arch_dirs(run_dir):
        for file in sorted(directory.iterdir()):
            if (match := RETRAINED.fullmatch(file.name)) and stat.S_ISREG(file.lstat().st_mode):
                found[file] = int(match[1])
    return found


def as_metadata(record: Retrained) -> dict[str, str]:
    """Return a record as metadata for the header of its weights."""
    return {RECORD: json.dumps(asdict(record))}


def read_retrained(file: Path) -> Retrained:
    """Read the record in the header of the weights of a repeated training. Raises RunError if it is damaged."""
    try:
        return parse_record(read_metadata(read_bounded(file, MAX_WEIGHTS))[RECORD], _RETRAINED)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise RunError(f"{file} is not the file of a repeated training. Remove it to train again.") from exc


def choose_training(run_dir: Path, trainings: Sequence[Trial]) -> Trial:
    """Return the training of a network that commands look at.

    It is the first one whose weights the search kept, else the first one that was repeated, else the first complete
    one, else the first.

    Args:
        run_dir: directory of the run.
        trainings: all trainings of one network, by replicate.
    """
    complete = [trial for trial in trainings if trial.is_complete]
    for place in (weights_file, retrained_file):
        for trial in complete:
            if place(run_dir, trial.arch_id, trial.replicate).is_file():
                return trial
    return complete[0] if complete else trainings[0]


def retry_message(arch_id: str, parts: int, why: str) -> str:
    """Return the message of the event of a further attempt at a trial.

    Args:
        arch_id: of the network.
        parts: into which its batches will be split.
        why: the last attempt failed.
    """
    return f"trial {arch_id}{f', in {parts} parts a batch' if parts > 1 else ''}: {why}"


def parts_of(trial: Trial, events: Sequence[Event]) -> int:
    """Return into how many parts the batches of a trial were split, for lack of memory.

    >>> from nasx.trial import Candidate, Evaluation, TrialStatus
    >>> one = Trial("ab", 0, (), "", 0, Evaluation(TrialStatus.COMPLETE), Candidate(0, (), 0, ""), retries=1)
    >>> parts_of(one, [Event("", "retry", retry_message("ab", 2, "out of memory"))]), parts_of(one, [])
    (2, 1)
    """
    own = [
        event.message
        for event in events
        if event.kind == RETRY
        and event.message.startswith(f"trial {trial.arch_id}")
        and event.replicate in (None, trial.replicate)  # None: recorded by an older version
    ]
    if not trial.retries or not own:  # attempts of an earlier session do not count: a resumed search begins again
        return 1
    found = re.match(r"trial \w+, in (\d{1,7}) parts a batch", own[-1])
    return int(found[1]) if found else 1
