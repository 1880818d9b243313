"""Time one training and scoring of a network, in a process of its own: `python -m nasx.planning.stopwatch FILE`.

Long trainings are timed by some of their steps, and extrapolated.
"""

from __future__ import annotations

import copy
import json
import pickle
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import nn

from nasx.backbones.features import on_features
from nasx.data.dataset import LabeledImages, SearchData
from nasx.evaluation.train_and_score import EvaluationSpec, initial_network, resolve_device, take_scores
from nasx.introspection.shap import ShapScorer
from nasx.protocols import Scorer
from nasx.training.fit import NO_AUGMENTATION, fit
from nasx.trial import Genotype

SHORT: Final = 4.0  # seconds: a training that is expected to be shorter is timed as a whole
MOST_ROUNDS: Final = 4  # of a very short training
TIMED: Final = 1.5  # seconds of an epoch, of which two are timed, of a longer training
QUICK, SEVERAL = 0.3, 8  # seconds of a step, and number of them: quick ones are timed together
SLOW: Final = 1.5  # seconds of a step: one is enough
EXPLAINED: Final = 200  # explained images up to which SHAP values are timed as a whole
SCORED: Final = 1024  # validation images up to which they are all scored


@dataclass(frozen=True)
class Work:
    """A training to time."""

    spec: EvaluationSpec
    data: SearchData  # some of the images
    n_train: int  # training images of the whole training
    n_validation: int  # validation images of the whole training
    genotype: Genotype


@dataclass(frozen=True)
class Seconds:
    """Time that one worker needs for a network."""

    train: float
    score: float


def measure(work: Work) -> Seconds:
    """Return the time of a training and its scoring."""
    torch.set_num_threads(work.spec.threads)
    network = initial_network(work.spec, work.data, work.genotype, seed=0)
    batch_size = work.spec.recipe.batch_size
    _fit(work, network, batch_size, epochs=1)  # the first step allocates memory and loads kernels
    first = _fit(work, network, batch_size, epochs=2)[1]
    if first < QUICK:  # the epoch takes longer than its step
        first = _fit(work, network, SEVERAL * batch_size, epochs=2)[1] / SEVERAL
    steps = -(-work.n_train // batch_size)
    expected = first * steps * work.spec.recipe.epochs
    train = _long(work, network, first) if expected > SHORT else _whole(work, network, expected)
    return Seconds(train, _score(work, network))


def _whole(work: Work, network: nn.Sequential, expected: float) -> float:
    """Return the mean time of a short training; repeated if it is very short, because other programs disturb it."""
    n, epochs = len(work.data.train), work.spec.recipe.epochs
    rounds = max(1, min(MOST_ROUNDS, int(SHORT / expected))) if expected else 1
    found = [_fit(work, network, n, epochs=epochs) for _ in range(rounds)]
    return sum(overhead + epochs * epoch * work.n_train / n for overhead, epoch in found) / rounds


def _long(work: Work, network: nn.Sequential, step: float) -> float:
    """Return the time of a long training from that of two short epochs; `step`: seconds of a step."""
    recipe = work.spec.recipe
    n = min(len(work.data.train), max(1, int(TIMED / step)) * recipe.batch_size)
    overhead, epoch = (0.0, step) if step > SLOW else _fit(work, network, n, epochs=2)
    return overhead + recipe.epochs * epoch * work.n_train / min(n, work.n_train)


def _fit(work: Work, network: nn.Sequential, n_train: int, *, epochs: int) -> tuple[float, float]:
    """Train on some images, and validate on their share; return the time before and after the epochs, and per epoch."""
    n = min(n_train, len(work.data.train))
    n_validation = max(2, round(n * work.n_validation / work.n_train))
    some = replace(work.data, train=_first(work.data.train, n), validation=_first(work.data.validation, n_validation))
    augmentation = work.spec.augmentation
    part, data = on_features(network, some, views=work.spec.recipe.views, augmentation=augmentation)
    ends: list[float] = []
    start = time.perf_counter()
    fit(
        part,
        data,
        replace(work.spec.recipe, epochs=epochs, learning_rate=min(work.spec.recipe.learning_rate, 1e-3)),
        augmentation=augmentation if data is some else NO_AUGMENTATION,  # the views are augmented
        seed=0,
        device=resolve_device(work.spec.device),
        gpu_share=work.spec.gpu_share,
        report=lambda record: ends.append(time.perf_counter()),
    )
    seconds = time.perf_counter() - start
    per_epoch = (ends[-1] - ends[0]) / (epochs - 1) if epochs > 1 else seconds
    return max(0.0, seconds - epochs * per_epoch), per_epoch


def _first(images: LabeledImages, n: int) -> LabeledImages:
    return images.take(np.arange(min(n, len(images))))


def _score(work: Work, network: nn.Sequential) -> float:
    """Return the time of all scorers."""
    spec = work.spec
    part, data = on_features(network, replace(work.data, validation=_first(work.data.validation, SCORED)))
    images = data.validation
    seconds = 0.0
    for scorer in (spec.scorer, *spec.also_scored):
        lighter, factor = _lighter(scorer, images)
        scale = 1.0 if isinstance(scorer, ShapScorer) else work.n_validation / len(images)
        alone = replace(spec, scorer=lighter, also_scored=())
        start = time.perf_counter()
        take_scores(part, images, data, alone, resolve_device(spec.device))
        seconds += (time.perf_counter() - start) * factor * scale
    return seconds


def _lighter(scorer: Scorer, images: LabeledImages) -> tuple[Scorer, float]:
    """Return a scorer with fewer samples and draws if it has many, and how many times less it computes."""
    if not isinstance(scorer, ShapScorer):
        return scorer, 1.0
    found = len(np.unique(images.labels))
    per_class = max(1, min(scorer.samples_per_class, EXPLAINED // found))
    if per_class == scorer.samples_per_class:
        return scorer, 1.0
    lighter = copy.copy(scorer)
    lighter.samples_per_class = per_class
    return lighter, scorer.samples_per_class / per_class


def main(file: str) -> None:
    """Print the time of the work in a file as JSON, after the time at which this process was ready."""
    ready = time.time()
    work: Work = pickle.loads(Path(file).read_bytes())
    print(json.dumps({"ready": ready, **asdict(measure(work))}))


if __name__ == "__main__":
    main(sys.argv[1])
