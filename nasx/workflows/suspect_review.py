"""Out-of-sample probabilities of a run's training images, and the page on which suspects are reviewed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nasx.data.image_files import interpolation_of, read_image
from nasx.diagnostics.cross_validation import MAX_FOLDS, MIN_FOLDS, cross_validate
from nasx.diagnostics.suspects import Suspects
from nasx.errors import DataError, RunError, SettingError, TrialFailure
from nasx.experiment import CORRECTIONS_KEY, Experiment
from nasx.files import write_atomically
from nasx.protocols import HasFiles
from nasx.reports.review_page import Picture, review_page
from nasx.reports.text import duration
from nasx.runs.directory import CONFIG
from nasx.trial import Trial

FOLDS: Final = 4  # by default, if they are worth their time
AFFORDABLE: Final = 60.0  # seconds of all folds together
REVIEW: Final = "review.html"

Report = Callable[[str], None]


def check_folds(folds: int | None) -> None:
    """Raise SettingError if a number of folds is not 0, None, or in the range."""
    if folds not in (None, 0) and not MIN_FOLDS <= folds <= MAX_FOLDS:
        raise SettingError("--folds", f"must be 0 or from {MIN_FOLDS} to {MAX_FOLDS}, got {folds}.")


def choose_folds(suspects: Suspects, seconds: float) -> int:
    """Return the number of folds to train by default: 4 if they take less than a minute and are needed, else 0.

    Measured on Fashion-MNIST: as long as a network has not learned its training labels by heart, its own probabilities
    rank errors better than those of networks that were trained on three quarters of the images (among the first n
    suspects 77 to 90 % are errors, against 74 to 88 %).

    Args:
        suspects: ranked by the network's own probabilities.
        seconds: that its training took in the search.
    """
    return FOLDS if suspects.learned_by_heart and FOLDS * seconds <= AFFORDABLE else 0


def out_of_sample(
    experiment: Experiment, trial: Trial, folds: int, device: torch.device, report: Report | None = None
) -> NDArray[np.float64]:
    """Return the softmax of the training images by networks that were trained on the other folds.

    Args:
        experiment: of the run.
        trial: training of the network in the search: its architecture is trained with the recipe of the run.
        folds: number of trainings.
        device: of the trainings.
        report: receives the progress in words.

    Raises:
        RunError: if a training diverges.
    """
    started, epochs = time.monotonic(), experiment.recipe.epochs
    expected = folds * trial.evaluation.train_seconds * (1 - 1 / folds)
    if report:
        report(f"Training {folds} networks, each without a part of the images, about {duration(expected)}")

    def progress(fold: int, epoch: Mapping[str, float]) -> None:
        done = fold * epochs + int(epoch["epoch"])
        left = (time.monotonic() - started) * (folds * epochs / done - 1)
        if report:
            report(f"Network {fold + 1} of {folds}, epoch {int(epoch['epoch'])} of {epochs}, {duration(left)} left")

    def build(seed: int) -> nn.Sequential:
        return experiment.untrained(trial.genotype, seed)

    try:
        return cross_validate(
            build,
            experiment.data,
            experiment.recipe,
            augmentation=experiment.dataset.augmentation,
            folds=folds,
            seed=trial.seed,
            device=device,
            report=progress,
        )
    except TrialFailure as failure:
        raise RunError(f"a training of --folds failed ({failure.detail}): use --folds 0.") from failure


def write_review(
    suspects: Suspects, experiment: Experiment, trial: Trial, run_dir: Path, directory: Path, *, limit: int
) -> Path:
    """Write the page on which the first suspects are reviewed, and return its path.

    Args:
        suspects: all images, ranked.
        experiment: of the run.
        trial: training of the network.
        run_dir: directory of the run.
        directory: of the page, exists.
        limit: number of images on the page.
    """
    corrections = experiment.corrections
    earlier = () if corrections is None else corrections.decisions
    page = review_page(
        suspects,
        title=f"{run_dir.name}, network {trial.arch_id}: review of labels",
        key=f"{run_dir.absolute()} {trial.arch_id}",
        command=search_again(experiment.config.provenance, run_dir),
        limit=limit,
        reviewed=experiment.reviewed,
        earlier=[(row.image, str(row.action), row.label) for row in earlier],
        picture=_picture(suspects, experiment),
    )
    write_atomically(directory / REVIEW, page.encode())
    return directory / REVIEW


def search_again(provenance: Mapping[str, Any], run_dir: Path) -> str:
    """Return the command that starts the search of a run again, with the corrections and from its front.

    >>> search_again({"config": "folder", "overrides": ["dataset.root=my photos"]}, Path("runs/a"))
    "nasx search --config folder 'dataset.root=my photos' dataset.corrections=corrections.csv --warm-start runs/a"

    Args:
        provenance: of the run's config; without it, the run's resolved config is named.
        run_dir: directory of the run.
    """
    config, written = provenance.get("config"), provenance.get("overrides")
    if not isinstance(config, str) or not isinstance(written, list):  # started from Python
        config, written = str(run_dir / CONFIG), []
    kept = [word for word in map(str, written) if word.lstrip("+").partition("=")[0] != CORRECTIONS_KEY]
    words = ["nasx", "search", "--config", config, *kept, f"{CORRECTIONS_KEY}=corrections.csv"]
    return shlex.join([*words, "--warm-start", str(run_dir)])


def _picture(suspects: Suspects, experiment: Experiment) -> Picture | None:
    """Return a function that reads images from their files, larger than the dataset has them; None: no files."""
    dataset = experiment.dataset
    if not isinstance(dataset, HasFiles) or not suspects.train.files:
        return None
    channels, height, width = suspects.train.shape

    def read(index: int, side: int) -> NDArray[np.uint8]:
        path = dataset.path(suspects.name(index))
        try:
            found = read_image(
                path,
                size=(side, side) if height == width else (height, width),
                channels=channels,
                value_range=getattr(dataset, "value_range", None),
                interpolation=interpolation_of(getattr(dataset, "interpolation", None)),
            )
        except (DataError, OSError):  # moved since it was read: show it as the network sees it
            return suspects.image(index)
        return found

    return read
