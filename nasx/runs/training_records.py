"""Records of trainings outside the journal: final trainings, test-set evaluations and fine-tuning, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nasx.errors import RunError
from nasx.files import write_atomically
from nasx.runs.directory import arch_dir

FINAL_RECORD = "final.json"
TOUCHES = "test_touches.json"


@dataclass(frozen=True, eq=False)
class Training:
    """One final training of a network."""

    number: int  # 0, 1, 2, ...: which of the seeds
    seed: int
    seconds: float  # of the session that finished it
    history: tuple[Mapping[str, float], ...]  # one record an epoch; "validation" is of the calibration images
    # error, macro_error, ece, calibrated_ece, introspectability, ...; null: no such value; None: not tested yet
    test: Mapping[str, float | None] | None = None


@dataclass(frozen=True, eq=False)
class FinalRecord:
    """The final trainings of one network, with all that it takes to use their weights without the run."""

    arch_id: str
    architecture: str  # string form
    genotype: tuple[int, ...]  # canonical
    course: Mapping[str, Any]  # how it is trained: one directory holds trainings of one course alone
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]  # (channels, height, width) of an image
    mean: tuple[float, ...]  # (channels,) of the training images, scaled to [0, 1]
    std: tuple[float, ...]
    images: Mapping[str, int]  # how many there were: train, calibration, test
    parameters: int
    macs: int
    validation_error: float  # in the search: the estimate from all of its trainings
    versions: Mapping[str, str]
    trainings: tuple[Training, ...] = ()
    validation_error_std: float | None = None  # uncertainty of that estimate; None: not known
    search_trainings: int = 1  # of this network, which it rests on

    def training(self, number: int) -> Training | None:
        """The finished training of that number."""
        return next((t for t in self.trainings if t.number == number), None)

    def keeping(self, training: Training) -> FinalRecord:
        """This record with a training added, or put in place of the one with its number."""
        others = [t for t in self.trainings if t.number != training.number]
        return replace(self, trainings=tuple(sorted((*others, training), key=lambda t: t.number)))


def write_record(record: FinalRecord, directory: Path) -> None:
    """Write `final.json`, the whole file or none."""
    write_atomically(directory / FINAL_RECORD, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_record(directory: Path) -> FinalRecord | None:
    """What `write_record` wrote; None where there is nothing. Raises RunError where the file is damaged."""
    file = directory / FINAL_RECORD
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_bytes())
        lists = ("genotype", "class_names", "shape", "mean", "std")
        tuples = {name: tuple(values[name]) for name in lists}
        trainings = tuple(Training(**{**t, "history": tuple(t["history"])}) for t in values["trainings"])
        return FinalRecord(**{**values, **tuples, "trainings": trainings})
    except (ValueError, TypeError, KeyError) as exc:
        raise RunError(f"{file} is damaged ({type(exc).__name__}: {exc}). Remove its directory to train anew.") from exc


@dataclass(frozen=True)
class Touch:
    """One look at the test images."""

    time: str  # ISO 8601, UTC
    arch_id: str  # the network that was tested
    course: str  # hash of how it was trained
    trainings: tuple[int, ...]  # numbers of its trainings


def read_touches(run_dir: Path) -> list[Touch]:
    """Every look at the test images by networks of a run, oldest first. Raises RunError where the file is damaged."""
    file = run_dir / TOUCHES
    if not file.is_file():
        return []
    try:
        return [Touch(**{**each, "trainings": tuple(each["trainings"])}) for each in json.loads(file.read_bytes())]
    except (ValueError, TypeError, KeyError) as exc:
        raise RunError(
            f"{file} is damaged ({type(exc).__name__}: {exc}). It counts how often the run was tested."
        ) from exc


def note_touch(run_dir: Path, arch_id: str, course: str, trainings: Sequence[int]) -> list[Touch]:
    """Record a look at the test images, before it is taken; returns the looks that came before it.

    Looking again for what has been looked at for (after an interruption) is the same look.
    """
    touches = read_touches(run_dir)
    key = (arch_id, course, tuple(trainings))
    if any((t.arch_id, t.course, t.trainings) == key for t in touches):
        return [t for t in touches if (t.arch_id, t.course, t.trainings) != key]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    all_of_them = [*touches, Touch(now, *key)]
    write_atomically(run_dir / TOUCHES, (json.dumps([asdict(t) for t in all_of_them], indent=1) + "\n").encode())
    return touches


FINETUNED_RECORD = "finetuned.json"
FINETUNED_WEIGHTS = "finetuned.safetensors"  # beside the record: after fine-tuning with the regularizer


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A network trained on with the regularizer, and its twin, trained as long without."""

    arch_id: str
    replicate: int  # whose weights it began from
    regularizer: float  # weight of the classes' similarity in the loss
    epochs: int
    learning_rate: float  # the highest
    before: Mapping[str, float]  # error, introspectability, introspectability_<scorer>: as the trial recorded them
    after: Mapping[str, float]  # the same metrics, with the regularizer
    twin: Mapping[str, float]  # the same metrics, without it
    seconds: float  # of both trainings and their scores


def finetuned_weights_path(run_dir: Path, arch_id: str) -> Path:
    """Where the fine-tuned weights of a network lie."""
    return arch_dir(run_dir, arch_id) / FINETUNED_WEIGHTS


def write_finetuned(record: Finetuned, run_dir: Path) -> None:
    """Write the record: last, once the weights are there."""
    write_atomically(
        arch_dir(run_dir, record.arch_id) / FINETUNED_RECORD, (json.dumps(asdict(record), indent=1) + "\n").encode()
    )


def read_finetuned(run_dir: Path, arch_id: str) -> Finetuned | None:
    """The record of a network; None where it was not fine-tuned. Raises RunError where the file is damaged."""
    file = arch_dir(run_dir, arch_id) / FINETUNED_RECORD
    if not file.is_file():
        return None
    try:
        return Finetuned(**json.loads(file.read_bytes()))
    except (ValueError, TypeError) as exc:
        raise RunError(f"{file} is damaged ({type(exc).__name__}: {exc}). Remove it to fine-tune anew.") from exc
