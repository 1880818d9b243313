"""The time of a training is that of its steps, extrapolated; with a clock that only the fakes advance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nasx.config.compose import compose
from nasx.errors import ResourceError
from nasx.experiment import Experiment
from nasx.introspection.shap import ShapScorer
from nasx.planning import stopwatch, timing
from nasx.planning.feature_time import StandIns
from nasx.planning.stopwatch import Work, _lighter, measure
from nasx.training.recipe import Recipe
from tests.factories.heads import SETTINGS, tiny_backbone

BEFORE, PER_IMAGE, SCORE = 0.5, 0.01, 2.0  # seconds
GENOTYPE = (3, 1, 0, 1, 0, 3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock that stands still but for the fakes of `fit` and `take_scores`."""
    clock = SimpleNamespace(now=0.0, images=[], networks=[])

    def fit(network: Any, data: Any, recipe: Recipe, *, report: Any, **how: Any) -> None:
        clock.now += BEFORE
        clock.networks.append(network)
        for _ in range(recipe.epochs):
            clock.now += PER_IMAGE * len(data.train)
            clock.images.append(len(data.train))
            report({})

    def take_scores(*arguments: Any) -> None:
        clock.now += SCORE

    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=lambda: clock.now, time=lambda: 0.0))
    monkeypatch.setattr(stopwatch, "fit", fit)
    monkeypatch.setattr(stopwatch, "take_scores", take_scores)
    return clock


def work_of(n_train: int, n_images: int, epochs: int) -> Work:
    experiment = Experiment.from_config(compose("lines", [f"dataset.train_images={n_images * 5 // 4}"]))
    spec = replace(experiment.spec, recipe=Recipe(epochs=epochs, batch_size=16), also_scored=())
    return Work(spec, experiment.data, n_train, n_train // 4, GENOTYPE)


@pytest.mark.parametrize(("n_train", "n_images", "epochs"), [(160, 160, 2), (160, 160, 50), (16_000, 160, 5)])
def test_a_training_takes_its_overhead_and_the_time_of_all_images_in_all_epochs(
    elsewhere: Any, clock: SimpleNamespace, n_train: int, n_images: int, epochs: int
) -> None:
    found = measure(work_of(n_train, n_images, epochs))

    assert found.train == pytest.approx(BEFORE + PER_IMAGE * n_train * epochs, abs=BEFORE)
    assert found.score == SCORE


def test_a_long_training_is_timed_by_few_images(elsewhere: Any, clock: SimpleNamespace) -> None:
    measure(work_of(160_000, 1_600, 200))

    assert sum(clock.images) < 2_000


@pytest.mark.parametrize(("n_stages", "names"), [(0, []), (1, ["stage2"])])
def test_the_stages_of_a_backbone_that_are_trained_are_timed_too(
    elsewhere: Path, clock: SimpleNamespace, n_stages: int, names: list[str]
) -> None:
    with tiny_backbone(elsewhere / "cache"):
        own = ["dataset.train_images=60", "space.cuts=[stage2]", f"training.unfreeze={n_stages}"]
        experiment = Experiment.from_config(compose("lines", [*SETTINGS, *own]))
        data = replace(experiment.data, features=StandIns(experiment.space))  # type: ignore[arg-type]
        measure(Work(experiment.spec, data, 40, 10, (0,) * len(experiment.space.gene_sizes)))

    trained = {name for name, _ in clock.networks[0].backbone.stages.named_children()}
    assert trained == set(names)


def test_scores_of_many_classes_are_timed_by_fewer_samples() -> None:
    images = SimpleNamespace(labels=np.arange(100))

    lighter, factor = _lighter(ShapScorer(), images)  # type: ignore[arg-type]

    assert isinstance(lighter, ShapScorer)
    assert (lighter.samples_per_class, factor) == (2, 10.0)
    assert _lighter(ShapScorer(), SimpleNamespace(labels=np.arange(10)))[1] == 1.0  # type: ignore[arg-type]


def test_a_process_that_fails_is_an_error_with_its_reason() -> None:
    with pytest.raises(ResourceError, match=r"could not be measured: .*UnpicklingError"):
        timing._run(b"no pickle", processes=1)


def test_a_real_training_is_timed_in_processes_of_their_own(elsewhere: Any) -> None:
    experiment = Experiment.from_config(compose("lines", ["execution=serial", "dataset.train_images=80"]))

    found = timing.time_training(experiment)

    assert found.train > 0
    assert found.score > 0
    assert found.start > 0
