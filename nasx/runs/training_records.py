"""Records of trainings outside the journal, as JSON: final trainings, test-set evaluations and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field, TypeAdapter

from nasx.files import read_record, write_record
from nasx.runs.columns import TOLERANCE
from nasx.runs.directory import ARCHS, arch_dir, file_in, make_directory

FINAL_RECORD = "final.json"
TEST_SET_EVALUATIONS = "test_touches.json"
FINETUNED_RECORD = "finetuned.json"
FINETUNED_WEIGHTS = "finetuned.safetensors"  # after fine-tuning with the regularizer
SCORED_IMAGES = "scored_images"  # test metric: images of which the introspectability was measured, if not of all
Number = int | float  # read as written: the number of an epoch stays an integer
_TESTED = ("error", "ece", "calibrated_ece", "introspectability")  # of each tested network; other metrics may follow
_SHARES = ("error", "macro_error", "ece", "calibrated_ece")  # range from 0 to 1
_PARTS = ("train", "calibration")  # the test images are counted by the first test-set evaluation
_SECTIONS = ("space", "dataset", "training")


def _check_test(test: Mapping[str, Number | None]) -> Mapping[str, Number | None]:
    _check_keys(test, _TESTED)
    for name in _SHARES:
        if (value := test.get(name)) is not None and not -TOLERANCE <= value <= 1 + TOLERANCE:
            raise ValueError(f"{name} is {value}, expected a number from 0 to 1")
    return test


def _check_images(images: Mapping[str, int]) -> Mapping[str, int]:
    _check_keys(images, _PARTS)
    if min(images.values()) < 0:
        raise ValueError("a number of images is negative")
    return images


def _check_course(course: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_keys(course, _SECTIONS)
    if not all(isinstance(course[name], Mapping) for name in _SECTIONS):
        raise ValueError("expected the settings of the space, the dataset and the training")
    return course


def _check_confusion(confusion: Sequence[tuple[int, int, int]], n_classes: int, n_images: int) -> None:
    if any(not (0 <= a < n_classes and 0 <= b < n_classes and n > 0) for a, b, n in confusion):
        raise ValueError("confusion: expected classes of the dataset and numbers of images")
    if sum(n for _, _, n in confusion) != n_images:
        raise ValueError(f"confusion: its images do not add up to the {n_images:,} test images")


def _check_keys(record: Mapping[str, Any], names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in record]:
        raise ValueError(f"{missing[0]} is missing")


@dataclass(frozen=True, eq=False)
class Training:
    """Final training of a network with one seed."""

    number: int  # index of the seed: 0, 1, 2, ...
    seed: int
    seconds: float  # duration of the session that finished it
    history: tuple[Mapping[str, Number], ...]  # one entry per epoch; "validation" refers to the calibration images
    # error, macro_error, ece, calibrated_ece, introspectability, ...; a null value: undefined; None: not tested yet
    test: Annotated[Mapping[str, Number | None], AfterValidator(_check_test)] | None = None
    # (true class, predicted class, test images) of all pairs that occur; None: not tested, or by an older version
    confusion: tuple[tuple[int, int, int], ...] | None = None


@dataclass(frozen=True, eq=False)
class FinalRecord:
    """Final trainings of one network, with everything needed to use their weights without the run."""

    arch_id: str
    architecture: str  # string form
    genotype: tuple[int, ...]  # canonical
    # training settings, the same for all trainings of a directory
    course: Annotated[Mapping[str, Any], AfterValidator(_check_course)]
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]  # (channels, height, width) of an image
    mean: tuple[float, ...]  # (channels,) of the training images, scaled to [0, 1]
    std: tuple[float, ...]  # (channels,)
    images: Annotated[
        Mapping[str, int], AfterValidator(_check_images)
    ]  # number of images by part: train, calibration, test
    parameters: int
    macs: int
    validation_error: float  # estimate from all trainings of the network in the search
    versions: Mapping[str, str]  # of nasx, torch, python
    trainings: tuple[Training, ...] = ()
    validation_error_std: float | None = None  # uncertainty of that estimate; None: unknown
    search_trainings: int = 1  # number of trainings of the network in the search
    # part of the test images -> digest and facts (`nasx.data.digest`); empty: not tested, or by an older version
    test_content: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "test" not in self.images and any(training.test for training in self.trainings):
            raise ValueError("images: test is missing, but there are test errors")
        for training in self.trainings:
            if training.confusion is not None:
                _check_confusion(training.confusion, len(self.class_names), self.images.get("test", 0))

    def training(self, number: int) -> Training | None:
        """Return the finished training with the given number, if there is one."""
        return next((t for t in self.trainings if t.number == number), None)

    def with_training(self, training: Training) -> FinalRecord:
        """Return a copy with `training` added; it replaces the training of the same number."""
        others = [t for t in self.trainings if t.number != training.number]
        return replace(self, trainings=tuple(sorted((*others, training), key=lambda t: t.number)))


@dataclass(frozen=True)
class TestSetEvaluation:
    """One evaluation of a network on the test images."""

    time: str  # ISO 8601, UTC
    arch_id: str
    course: str  # hash of the training settings
    trainings: tuple[int, ...]  # numbers of the trainings evaluated
    content: str = ""  # digest of the test images; "": unknown, recorded by an older version


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """Network fine-tuned with the regularizer, and its control, fine-tuned for as many epochs without."""

    arch_id: str
    replicate: int  # training with the initial weights
    # weight of the class similarity in the loss; files keep the former spelling of the key
    regularizer: Annotated[
        float, Field(validation_alias=AliasChoices("regulariser", "regularizer"), serialization_alias="regulariser")
    ]
    epochs: int
    learning_rate: float  # maximum
    before: Mapping[str, float]  # error, introspectability, introspectability_<scorer>, as recorded for the trial
    after: Mapping[str, float]  # the same metrics, with the regularizer
    control: Annotated[Mapping[str, float], Field(alias="twin")]  # the same metrics, without the regularizer
    seconds: float  # duration of both trainings and their scoring


_FINAL = TypeAdapter(FinalRecord)
_TEST_SET_EVALUATIONS = TypeAdapter(tuple[TestSetEvaluation, ...])
_FINETUNED = TypeAdapter(Finetuned)


def write_final_record(record: FinalRecord, directory: Path) -> None:
    """Write `final.json` atomically."""
    write_record(directory / FINAL_RECORD, record, _FINAL, parents=False, checksum=True)


def read_final_record(directory: Path) -> FinalRecord | None:
    """Read `final.json`; None if there is none. Raises RunError if the file is damaged."""
    return read_record(directory / FINAL_RECORD, _FINAL, remedy="Remove its directory to train again.")


def read_test_set_evaluations(run_dir: Path) -> list[TestSetEvaluation]:
    """Read all test-set evaluations of a run, oldest first. Raises RunError if the file is damaged."""
    remedy = "It counts how often networks of the run were tested: restore it from a copy."
    recorded = read_record(run_dir / TEST_SET_EVALUATIONS, _TEST_SET_EVALUATIONS, remedy=remedy)
    return list(recorded or ())


def record_test_set_evaluation(
    run_dir: Path, arch_id: str, course: str, trainings: Sequence[int], content: str = ""
) -> list[TestSetEvaluation]:
    """Record a test-set evaluation before it starts. Repeating an interrupted one does not count again.

    Args:
        run_dir: Directory of the run.
        arch_id: Network to be tested.
        course: Hash of its training settings.
        trainings: Numbers of the trainings to be tested.
        content: Digest of the test images.

    Returns:
        All other test-set evaluations recorded before.
    """
    recorded = read_test_set_evaluations(run_dir)
    key = (arch_id, course, tuple(trainings))
    others = [e for e in recorded if (e.arch_id, e.course, e.trainings) != key]
    if len(others) == len(recorded):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entries = (*recorded, TestSetEvaluation(now, *key, content))
        write_record(run_dir / TEST_SET_EVALUATIONS, entries, _TEST_SET_EVALUATIONS, parents=False, checksum=True)
    return others


def finetuned_weights_path(run_dir: Path, arch_id: str) -> Path:
    """Return the path of the fine-tuned weights of a network."""
    return file_in(arch_dir(run_dir, arch_id), FINETUNED_WEIGHTS)


def write_finetuned(record: Finetuned, run_dir: Path) -> None:
    """Write `finetuned.json` atomically. Write the weights first: the record marks them as complete."""
    directory = make_directory(run_dir, ARCHS, record.arch_id)
    write_record(directory / FINETUNED_RECORD, record, _FINETUNED, parents=False, checksum=True)


def read_finetuned(run_dir: Path, arch_id: str) -> Finetuned | None:
    """Read the fine-tuning of a network; None if it was not fine-tuned. Raises RunError if the file is damaged."""
    file = arch_dir(run_dir, arch_id) / FINETUNED_RECORD
    return read_record(file, _FINETUNED, remedy="Remove it to fine-tune again.")
