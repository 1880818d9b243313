"""Synthetic trials that resemble a real run: a trade-off over dozens of cells, a few failures. And an explanation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.trial import Candidate, Evaluation, Reason, Score, Trial, TrialStatus, arch_id

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def string_form(genotype):
    ops = [OPERATIONS[a] for a in genotype]
    return f"|{ops[0]}~0|+|{ops[1]}~0|{ops[2]}~1|+|{ops[3]}~0|{ops[4]}~1|{ops[5]}~2|"


def make_trial(number=0, *, genotype=None, evaluation=None, replicate=0, **metrics):
    """Return a complete trial with these metrics, or a trial with the given evaluation."""
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
    """Return symmetric cosine distances with two close pairs."""
    upper = np.triu(np.clip(rng.normal(mean, 0.13, (n_classes, n_classes)), 0.02, 1.6), 1)
    distances = upper + upper.T
    for a, b in ((3, 8), (4, 9)):
        if max(a, b) < n_classes:
            distances[a, b] = distances[b, a] = mean * 0.35
    return distances


def make_run(n=64, seed=0, n_classes=10):
    """Return `n` trials with a trade-off between error and introspectability."""
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


def make_noisy_run(n=20, seed=0, again=(3, 2, 1, 1)):
    """Return the trials of `n` networks, the best of which, by error, are trained `again` times more.

    Error and introspectability depend on the convolutions of a network and on little else; a training adds noise of
    0.01 and 0.03. Parameters are exact. The re-trainings are the last candidates.
    """
    rng = np.random.default_rng(seed)
    genotypes = [tuple(int(code // 5**i) % 5 for i in range(6)) for code in rng.permutation(5**6)[:n]]
    true = []
    for genotype in genotypes:
        convs = sum(a in (2, 3) for a in genotype)
        true.append((0.20 - 0.025 * convs + rng.normal(0, 0.003), 0.9 - 0.06 * convs + rng.normal(0, 0.01), convs))

    def train(place, candidate):
        error, shap, convs = true[place]
        metrics = {
            "error": error + rng.normal(0, 0.01),
            "introspectability": shap + rng.normal(0, 0.03),
            "parameters": 2_000 + 3_500 * convs,
        }
        trial = make_trial(candidate.number, genotype=candidate.genotype, replicate=candidate.replicate, **metrics)
        finished = f"2025-01-01T00:{candidate.number // 60:02}:{candidate.number % 60:02}Z"
        return replace(trial, candidate=candidate, finished=finished)

    trials = [train(i, Candidate(i, genotype, i // 8, "random")) for i, genotype in enumerate(genotypes)]
    best = sorted(range(n), key=lambda i: true[i][0])
    for place, times in zip(best, again, strict=False):
        for replicate in range(1, times + 1):
            number, generation = len(trials), len(trials) // 8
            asked = Candidate(number, genotypes[place], generation, "retraining", (place,), replicate=replicate)
            trials.append(train(place, asked))
    return trials


def make_score(distances, layers, scorer="shap"):
    n = len(distances)
    value = float(distances[np.triu_indices(n, 1)].mean())
    profile = {name: float(d[np.triu_indices(n, 1)].mean()) for name, d in layers.items()}
    return Score(scorer, value, profile, distances, n_samples=30, seconds=0.1)


def symmetric(n, **pairs):
    """Return a matrix of distances, given as pair_01=0.5, ...; zero elsewhere."""
    matrix = np.zeros((n, n))
    for name, value in pairs.items():
        a, b = (int(digit) for digit in name.removeprefix("pair_"))
        matrix[a, b] = matrix[b, a] = value
    return matrix


def make_explanation(class_names=("cat", "dog", "ship"), confusion=None):
    """Return an explanation of three classes: the first two close and confused, the third separated at the stem."""
    layers = {
        "stem": symmetric(3, pair_01=0.1, pair_02=0.7, pair_12=0.2),
        "stage1": symmetric(3, pair_01=0.3, pair_02=0.9, pair_12=1.0),
    }
    distances = (layers["stem"] + layers["stage1"]) / 2
    rng = np.random.default_rng(0)

    def sample(kind, index, label, predicted, *classes):
        values = {c: rng.normal(size=(8, 8)) for c in classes}
        image = rng.integers(0, 256, (1, 8, 8), dtype=np.uint8)
        return ExplainedSample(kind, index, image, label, predicted, 0.75, values)

    return Explanation(
        class_names=tuple(class_names),
        confusion=np.array([[8, 2, 0], [1, 9, 0], [0, 0, 10]] if confusion is None else confusion),
        score=make_score(distances, layers),
        layer_distances=layers,
        samples=(
            *(sample(SampleKind.CORRECT, c, c, c, c) for c in range(3)),
            sample(SampleKind.INCORRECT, 3, 0, 1, 1, 0),
            sample(SampleKind.UNCERTAIN, 4, 2, 2, 2, 0),
        ),
    )
