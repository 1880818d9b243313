"""Synthetic trials that look like a real run: dozens of cells, a trade-off, a few failures."""

from __future__ import annotations

import numpy as np
import pytest

from nasx.trial import Candidate, Evaluation, Reason, Score, Trial, TrialStatus, arch_id

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def string_form(genotype):
    ops = [OPERATIONS[a] for a in genotype]
    return f"|{ops[0]}~0|+|{ops[1]}~0|{ops[2]}~1|+|{ops[3]}~0|{ops[4]}~1|{ops[5]}~2|"


def make_trial(number=0, *, genotype=None, evaluation=None, replicate=0, **metrics):
    """A complete trial with these metrics, or one with the evaluation given."""
    genotype = genotype or tuple((number // 5**i) % 5 for i in range(6))
    return Trial(
        arch_id=arch_id("nb201", {}, genotype),
        replicate=replicate,
        genotype=genotype,
        architecture=string_form(genotype),
        seed=number,
        evaluation=evaluation or Evaluation(TrialStatus.COMPLETE, metrics=metrics),
        candidate=Candidate(number, genotype, number // 16, "random"),
        finished="2025-01-01T00:00:00Z",
    )


def make_distances(rng, n_classes, mean):
    """Symmetric cosine distances with two close pairs."""
    upper = np.triu(np.clip(rng.normal(mean, 0.13, (n_classes, n_classes)), 0.02, 1.6), 1)
    distances = upper + upper.T
    for a, b in ((3, 8), (4, 9)):
        if max(a, b) < n_classes:
            distances[a, b] = distances[b, a] = mean * 0.35
    return distances


def make_run(n=64, seed=0, n_classes=10):
    """A run of `n` trials with a trade-off between error and introspectability."""
    rng = np.random.default_rng(seed)
    genotypes = rng.permutation(5**6)[:n]
    trials = []
    for number, code in enumerate(genotypes):
        genotype = tuple(int(code // 5**i) % 5 for i in range(6))
        if number % 21 == 20:
            evaluation = Evaluation.failed(Reason.DIVERGED, "the loss became NaN in epoch 2")
        elif number % 17 == 16:
            evaluation = Evaluation.infeasible(Reason.CHANCE_LEVEL, "error 0.9")
        else:
            convs = sum(a in (2, 3) for a in genotype)
            error = 0.012 + 0.25 * np.exp(-0.9 * convs) * rng.lognormal(0, 0.5) + abs(rng.normal(0, 0.008))
            shap = 0.93 - 0.06 * convs + rng.normal(0, 0.05)
            activations = 0.30 - 0.03 * convs + rng.normal(0, 0.03)
            layers = ("stem", "stage1", "stage2")
            scores = tuple(
                Score(
                    scorer=name,
                    value=value,
                    profile={layer: value + 0.1 * (i - 1) for i, layer in enumerate(layers)},
                    distances=make_distances(rng, n_classes, value),
                    n_samples=100,
                    seconds=0.4,
                    completeness_error=0.013 if name == "shap" else None,
                )
                for name, value in (("shap", shap), ("activations", activations))
            )
            metrics = {
                "error": float(np.clip(round(error * 360) / 360, 0, 0.9)),
                "introspectability": float(shap),
                "introspectability_activations": float(activations),
                "parameters": 2_000 + 3_500 * convs,
                "macs": 120_000.0 + 180_000 * convs,
            }
            evaluation = Evaluation(TrialStatus.COMPLETE, metrics=metrics, scores=scores)
        trials.append(make_trial(number, genotype=genotype, evaluation=evaluation))
    return trials


@pytest.fixture(scope="session")
def run():
    return make_run()


@pytest.fixture(scope="session")
def trial():
    return make_trial


@pytest.fixture(scope="session")
def distances():
    return make_distances(np.random.default_rng(0), 10, 0.7)
