"""Choice of the knee, and sentences about the default, on synthetic qualities."""

from __future__ import annotations

import numpy as np

from scripts.bench.score_quality import (
    DEFAULT,
    PAPER,
    Quality,
    Scored,
    gradients,
    judge,
    knee,
    swept,
    variants,
    verdicts,
)
from scripts.bench.score_quality_picture import draw
from scripts.measures import Interval


def quality(name: str, icc: float = 0.8, seconds: float = 1.0, error: float | None = 0.2) -> Quality:
    interval = Interval(icc, icc - 0.1, icc + 0.1)
    return Quality(name, interval, icc, interval, error, seconds, 0.05)


def test_the_knee_is_the_cheapest_that_is_as_good_as_the_best():
    found = knee([quality("a", 0.5, 0.1), quality("b", 0.79, 1), quality("c", 0.8, 4), quality("d", 0.795, 2)])

    assert found.name == "b"


def test_settings_are_chosen_on_one_half_and_reported_on_the_other():
    noise = np.random.default_rng(0).normal(size=(10, 3))
    good = np.arange(10)[:, None] + 0.01 * noise
    values = np.where(np.arange(10)[:, None] % 2 == 0, good, noise)  # only even positions distinguish architectures

    found = judge("a", values, [Scored(0.5, 0.1, 2.0)] * 30, [20.0] * 30)

    assert found.chosen_on > 0.99
    assert found.reported_on.estimate < 0.7
    assert (found.completeness_error, found.seconds, found.share_of_training) == (0.1, 2.0, 0.1)


def test_the_conclusions_are_sentences():
    qualities = {
        q.name: q for q in (quality(DEFAULT), quality(PAPER, 0.3, error=None), quality("draws=64", error=0.015))
    }

    text = "\n".join(verdicts(qualities, Interval(0.5, 0.3, 0.7)))

    assert "ICC of the default objective 0.80 (0.70 to 0.90): reaches 0.7." in text
    assert "activation score 0.30 (0.20 to 0.40): the 90 % intervals do not overlap" in text
    assert "20.0% of the logit gap; 2% is reached by draws=64." in text
    assert "5.0% of the training time" in text


def test_every_variant_of_a_sweep_is_measured():
    assert {name for names in swept().values() for name in names} <= variants(sweeps=True).keys()
    assert variants(sweeps=False).keys() <= variants(sweeps=True).keys()


def test_the_curves_are_drawn(tmp_path):
    measured = {name: quality(name, seconds=i + 1, error=0.5 / (i + 1)) for i, name in enumerate(variants(sweeps=True))}

    draw("digits", measured, swept(), gradients(), tmp_path / "curves.png")

    assert (tmp_path / "curves.png").stat().st_size > 10_000
