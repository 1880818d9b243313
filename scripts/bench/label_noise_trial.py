"""One trial of the benchmark `label_noise`: plant errors, train, rank, correct, train again, test."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.corrected import apply
from nasx.data.corrections import COLUMNS, Action, parse_corrections
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.mnist import FashionMNIST
from nasx.data.splits import cut, split_indices
from nasx.diagnostics.cross_validation import predict
from nasx.diagnostics.debug import suspects_of
from nasx.diagnostics.label_errors import corrupt_labels
from nasx.diagnostics.suspects import Suspects
from nasx.escaping import to_csv
from nasx.spaces.nb201 import NASBench201
from nasx.training.fit import fit
from nasx.training.recipe import Recipe
from nasx.trial import derive_seed

CELL: Final = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"
# T-shirt, pullover, dress, coat, shirt; sandal, sneaker, boot
SIMILAR: Final = ((0, 2, 3, 4, 6), (5, 7, 9))
VALIDATION: Final = 0.2  # share of the images
AUGMENTATION: Final = Augmentation(crop_padding=0.125, horizontal_flip=True, cutout=0.0)
CPU: Final = torch.device("cpu")
SPACE: Final = NASBench201(channels=8, cells=1)


@dataclass(frozen=True)
class Job:
    """One setting: planted errors, or none."""

    kind: str  # "uniform", "similar" or "clean"
    share: float  # of the labels that are changed
    seed: int  # of the images, the errors and the trainings
    images: int = 15_000  # training and validation
    test_images: int = 10_000
    epochs: int = 12
    batch: int = 64  # images

    @property
    def key(self) -> str:
        return " ".join(map(str, asdict(self).values()))


def plant(
    labels: NDArray[np.int64], n_classes: int, *, kind: str, share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (labels, is_planted), (n,) each, after changing a share of the labels.

    Args:
        labels: (n,) correct labels.
        n_classes: number of classes.
        kind: "uniform": to any other class; "similar": to another class of its group in SIMILAR.
        share: of the labels to change.
        seed: of the choice.
    """
    if kind == "uniform":
        return corrupt_labels(labels, n_classes, share=share, seed=seed)
    generator = np.random.default_rng(seed)
    groups = {c: group for group in SIMILAR for c in group}
    eligible = np.flatnonzero(np.isin(labels, list(groups)))
    chosen = generator.permutation(eligible)[: round(share * len(labels))]
    new, is_planted = labels.copy(), np.zeros(len(labels), dtype=bool)
    for i in chosen:
        new[i] = generator.choice([c for c in groups[int(labels[i])] if c != labels[i]])
    is_planted[chosen] = True
    return new, is_planted


@dataclass(frozen=True, eq=False)
class NoisyDataset:
    """Fashion-MNIST, some of its images with changed labels."""

    images: LabeledImages
    name: str = "fashion_mnist"
    augmentation: Augmentation = AUGMENTATION

    def train(self) -> LabeledImages:
        return self.images

    def test(self) -> LabeledImages:
        raise NotImplementedError("the benchmark tests on clean labels")


def measure(job: Job, data_root: Path) -> dict[str, Any]:
    """Return the figures of one job."""
    torch.set_num_threads(1)
    return clean_error(job, data_root) if job.kind == "clean" else noisy_record(job, data_root)


def clean_error(job: Job, data_root: Path) -> dict[str, float]:
    """Return the test error after training on clean labels."""
    dataset = NoisyDataset(_images(job, data_root))
    data = _cut(job, dataset.images)
    return {"error": _test_error(_train(job, data, dataset), data, job, data_root)}


def noisy_record(job: Job, data_root: Path) -> dict[str, Any]:
    """Return precision of the rankings and test errors for one setting of planted errors."""
    clean = _images(job, data_root)
    seed = derive_seed(job.seed, "planted")
    labels, is_planted = plant(clean.labels, clean.n_classes, kind=job.kind, share=job.share, seed=seed)
    dataset = NoisyDataset(replace(clean, labels=labels))
    data = _cut(job, dataset.images)
    network = _train(job, data, dataset)
    suspects = suspects_of(network, data, seed=job.seed)
    positions = np.concatenate([data.train.positions, data.validation.positions])
    acted = suspects.likely_errors()
    errors = {"noisy": _test_error(network, data, job, data_root)}
    for name, action in (("dropped", Action.DROP), ("relabeled", Action.RELABEL)):
        corrected = _corrected(job, dataset, corrections_of(suspects, action))
        errors[name] = _test_error(_train(job, corrected, dataset), corrected, job, data_root)
    return {
        "planted": int(is_planted.sum()),
        "estimated": len(acted),
        "acted_precision": float(is_planted[positions[acted]].mean()) if len(acted) else 0.0,
        "relabeled_correctly": float((suspects.suggested[acted] == clean.labels[positions[acted]]).mean()),
        "judgement": str(suspects.judgement),
        "validation_error": float((predict(network, data.validation, data).argmax(1) != data.validation.labels).mean()),
        "rankings": rankings(suspects, is_planted[positions]),
        "errors": errors,
    }


def rankings(suspects: Suspects, is_planted: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Return precision among the first n and AUROC of each ranking; cleanlab's if it is installed."""
    rows = np.arange(len(suspects))
    values = {
        "nasx": -suspects.confidence,
        "loss": -suspects.probabilities[rows, suspects.labels],  # the same order as the cross entropy
        "distance": suspects.distance,
    }
    try:
        from cleanlab.rank import get_label_quality_scores  # the peer, not a dependency of nasx
    except ImportError:
        pass
    else:
        for method in ("self_confidence", "normalized_margin"):
            quality = get_label_quality_scores(suspects.labels, suspects.probabilities, method=method)
            values["cleanlab" if method == "self_confidence" else f"cleanlab, {method}"] = -quality
        adjusted = get_label_quality_scores(
            suspects.labels, suspects.probabilities, method="normalized_margin", adjust_pred_probs=True
        )
        values["cleanlab, adjusted margin"] = -adjusted
    return {name: _judge(value, is_planted) for name, value in values.items()}


def _judge(values: NDArray[np.float64], is_planted: NDArray[np.bool_]) -> dict[str, float]:
    first = np.argsort(-values, kind="stable")[: is_planted.sum()]
    return {"precision": float(is_planted[first].mean()), "auroc": float(roc_auc_score(is_planted, values))}


def corrections_of(suspects: Suspects, action: Action) -> bytes:
    """Return a file of corrections that drops the likely errors, or relabels them to the class that is suggested."""
    names, suggested = suspects.class_names, suspects.suggested
    rows = [
        (suspects.name(i), action, names[suggested[i]] if action is Action.RELABEL else "", "")
        for i in suspects.likely_errors().tolist()
    ]
    return to_csv([COLUMNS, *rows]).encode()


def _corrected(job: Job, dataset: NoisyDataset, content: bytes) -> SearchData:
    """Return the data after corrections, with the same images in each part as before."""
    applied = apply(parse_corrections(content, "corrections.csv"), dataset, dataset.images)
    return cut(applied.relabeled, *(applied.kept(part) for part in _parts(job, dataset.images)))


def _images(job: Job, data_root: Path) -> LabeledImages:
    images = FashionMNIST(root=str(data_root)).train()
    return replace(images.take(_draw(len(images), job.images, job.seed)), indices=None)


def _draw(n: int, chosen: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(derive_seed(seed, "images")).permutation(n)[:chosen]


def _parts(job: Job, images: LabeledImages) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    seed = derive_seed(job.seed, "split")
    return split_indices(images, validation_fraction=VALIDATION, train_images=None, validation_images=None, seed=seed)


def _cut(job: Job, images: LabeledImages) -> SearchData:
    return cut(images, *_parts(job, images))


def _train(job: Job, data: SearchData, dataset: NoisyDataset) -> nn.Sequential:
    torch.manual_seed(derive_seed(job.seed, "weights"))
    network: nn.Sequential = SPACE.build(SPACE.parse(CELL), input_shape=data.shape, n_classes=data.n_classes)
    # the last epoch, since the best one would be chosen by noisy labels
    recipe = Recipe(epochs=job.epochs, batch_size=job.batch, keep="last", precision="float32")
    fit(network, data, recipe, augmentation=dataset.augmentation, seed=derive_seed(job.seed, "fit"), device=CPU)
    return network


def _test_error(network: nn.Module, data: SearchData, job: Job, data_root: Path) -> float:
    """Return the error on clean test images; `data`: images on which the network was trained."""
    test = FashionMNIST(root=str(data_root)).test()
    images = test.take(np.arange(min(job.test_images, len(test))))
    return float((predict(network, images, data).argmax(axis=1) != images.labels).mean())
