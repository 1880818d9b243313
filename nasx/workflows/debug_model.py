"""Debug any trained classifier on any images, in Python: `nasx.debug`.

Does for a model what `nasx debug` does for a network of a run: calibration, suspect training labels, confused classes.
Labels are corrupted on purpose only if the user passes a training function. Repair needs a run, as it changes the loss;
in an own training loop use `nasx.introspection.regularizer.BatchSimilarity`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.config.settings import OpenShare, check_argument
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.centroids import Centroids, Comparison, centroids_of_batches, compare_batches
from nasx.diagnostics.debug import Diagnosis, diagnose
from nasx.diagnostics.label_errors import PlantedErrors, corrupt_labels, evaluate_planted
from nasx.errors import DataError
from nasx.introspection.score_model import (
    Data,
    ModelScore,
    collect_images,
    count_classes,
    name_classes,
    to_model_device,
    unwrap_logits,
)
from nasx.introspection.score_model import score as score_model
from nasx.reports.debugging_page import debugging_facts, debugging_sections, write_debugging
from nasx.reports.page import Page, as_terminal
from nasx.terminal import Console

BATCH: Final = 256  # images per forward pass
PROBING_IMAGES: Final = 16  # images that find out which layers are live
WIDTH: Final = 80  # characters per line of the printed page
Retrain = Callable[[Tensor, Tensor], nn.Module]  # training images and labels to a newly trained model


@dataclass(frozen=True, eq=False, repr=False)
class DebugResult:
    """Result of debugging a model; printed as a page of text."""

    debugging: Diagnosis  # the plain data behind the page
    scores: tuple[ModelScore, ...]
    planted: PlantedErrors | None  # None: no `retrain` was given
    page: Page

    @property
    def suspects(self) -> NDArray[np.int64]:
        """Indices of the training images in the order of the data, the most suspect label first."""
        return self.debugging.suspects.ranking()

    def write(self, directory: Path | str) -> list[Path]:
        """Write the page with its figures, and suspects.csv with all training images ranked; return the files."""
        return write_debugging(self.page, self.debugging, Path(directory))

    def __repr__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=WIDTH, color_system=None).print(as_terminal(self.page))
        return text.getvalue().rstrip()


def debug(
    model: nn.Module,
    train: Data,
    validation: Data,
    *,
    class_names: Sequence[str] | None = None,
    scorers: Sequence[str] = ("activations",),
    retrain: Retrain | None = None,
    share: float = 0.2,
    seed: int = 0,
    max_images: int = 10_000,
) -> DebugResult:
    """Debug any trained classifier: calibration, suspect training labels, confused classes.

    Args:
        model: maps images to logits, as in `nasx.score`; it is not changed.
        train: training images (n, channels, height, width) and labels, as batches or as a pair of arrays, in their
            own order, not shuffled: suspects are numbered by it.
        validation: images and labels of the same form.
        class_names: of all classes; by default their numbers.
        scorers: names of the scorers whose class distances are compared with confusions.
        retrain: trains the architecture on given images and labels and returns the model. If given, a `share` of the
            training labels is corrupted, and the result reports how many are found.
        share: of the training labels that are corrupted, in (0, 1).
        seed: of the corruption, and of the folds in which confidences are calibrated.
        max_images: of training and of validation that are used, the first ones; they are held in memory.

    Raises DataError, SettingError and ArchitectureError if arguments do not fit the model.
    """
    check_argument("share", share, OpenShare)
    images, labels = _images(model, train, max_images)
    held_out, held_out_labels = _images(model, validation, max_images)
    with unwrap_logits(model):
        n_classes = count_classes(model, images[:1], labels)
        count_classes(model, held_out[:1], held_out_labels)
        names = name_classes(class_names, n_classes)
        scores = tuple(
            score_model(
                model, (held_out, held_out_labels), scorer=scorer, class_names=names, seed=seed, max_images=max_images
            )
            for scorer in scorers
        )
        centroids, trained_on = _look_at(model, images, labels, n_classes)
        judgement = compare_batches(model, _batches(held_out, held_out_labels), centroids)
    debugging = diagnose(
        centroids,
        trained_on,
        judgement,
        train=LabeledImages(as_pictures(images), labels.cpu().numpy(), names),
        validation_labels=held_out_labels.cpu().numpy(),
        distances={found.scorer: found.distances for found in scores},
        seed=seed,
    )
    planted = None
    if retrain is not None:
        planted = _plant(retrain, (images, labels), (held_out, held_out_labels), n_classes, share, seed)
    facts = debugging_facts(debugging, {found.scorer: found.value for found in scores})
    sections = debugging_sections(debugging, planted=planted)
    return DebugResult(debugging, scores, planted, Page(f"{type(model).__name__}: debugging", facts, sections))


def as_pictures(images: Tensor) -> NDArray[np.uint8]:
    """Images of any range, (n, channels, height, width), as 0 to 255: stretched, channel by channel, to be looked at.

    >>> as_pictures(torch.tensor([[[[-1.0, 0.0, 1.0]]]])).tolist()
    [[[[0, 127, 255]]]]
    """
    low, high = (edge(images, dim=(0, 2, 3), keepdim=True) for edge in (torch.amin, torch.amax))
    pictures: NDArray[np.uint8] = (255 * (images - low) / (high - low).clamp(min=1e-12)).byte().cpu().numpy()
    return pictures


def _images(model: nn.Module, data: Data, max_images: int) -> tuple[Tensor, Tensor]:
    images, labels = collect_images(data, max_images)
    if images.dim() != 4:
        raise DataError(f"images must be (n, channels, height, width), got {tuple(images.shape)}")
    return to_model_device(model, images), to_model_device(model, labels)


def _batches(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True))


def _look_at(model: nn.Module, images: Tensor, labels: Tensor, n_classes: int) -> tuple[Centroids, Comparison]:
    """Return the centroids of the training images, and the judgement of these images by the model."""
    order = torch.argsort(labels, stable=True)
    by_class = ((images[part], labels[part]) for part in torch.split(order, BATCH))
    centroids = centroids_of_batches(model, by_class, probing=images[:PROBING_IMAGES], n_classes=n_classes)
    return centroids, compare_batches(model, _batches(images, labels), centroids)


def _plant(
    retrain: Retrain,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    n_classes: int,
    share: float,
    seed: int,
) -> PlantedErrors:
    """Train a model by the user's function on partly corrupted labels, and measure how many are found."""
    images, sound = train
    labels, is_corrupt = corrupt_labels(sound.cpu().numpy(), n_classes, share=share, seed=seed)
    corrupted = torch.from_numpy(labels).to(sound.device)
    model = retrain(images, corrupted)
    with unwrap_logits(model):
        centroids, judgement = _look_at(model, images, corrupted, n_classes)
        answers = compare_batches(model, _batches(*validation), centroids).logits.argmax(axis=1)
    error = float((answers != validation[1].cpu().numpy()).mean())
    return evaluate_planted(centroids, judgement, labels, is_corrupt, error)
