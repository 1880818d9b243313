"""Noisy search benchmark: measures worked out by hand, the noise, the table for nasx's own commands."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from nasx.trial import arch_id
from scripts.bench.noisy_problem import SPACE, Figures, NoisyProblem, Setting, mean_errors, synthetic
from scripts.bench.noisy_search import summary
from scripts.bench.noisy_table import measure_front, to_costs, to_metrics, write_table
from scripts.bench.noisy_tools import Trainer, single_results

LEFT, RIGHT, CENTER, WORST = (0, 0, 0, 1, 0, 0), (0, 0, 0, 2, 0, 0), (0, 0, 0, 3, 0, 0), (0, 0, 0, 4, 0, 0)
TRUTH = {LEFT: (1.0, 12.0), RIGHT: (3.0, 10.0), CENTER: (2.0, 11.0), WORST: (3.0, 12.0)}  # scaled: 0 1, 1 0, .5 .5, 1 1


@pytest.fixture
def problem() -> NoisyProblem:
    return NoisyProblem(Setting("made up"), TRUTH, (0.1, 0.5))


def test_the_true_front_shown_exactly_has_all_of_the_hypervolume_and_no_regret(problem) -> None:
    found = problem.figures([(network, TRUTH[network]) for network in (LEFT, CENTER, RIGHT)])
    assert found == Figures(hypervolume=pytest.approx(1), optimism=0, regret=pytest.approx(0), shown=3, optimal=3)


def test_optimism_is_the_hypervolume_shown_less_the_true_one(problem) -> None:
    found = problem.figures([(WORST, (2.0, 11.0)), (WORST, (1.0, 12.0))])
    whole = 1.1 * 0.1 + 0.6 * 0.5 + 0.1 * 0.5  # of the staircase through (0, 1), (.5, .5), (1, 0) to (1.1, 1.1)
    shown = 1.1 * 0.1 + 0.6 * 0.5
    assert found.hypervolume == pytest.approx(0.1 * 0.1 / whole)
    assert found.optimism == pytest.approx((shown - 0.1 * 0.1) / whole)
    assert (found.shown, found.optimal) == (1, 0)


def test_a_user_picks_by_the_costs_shown_and_pays_the_true_ones(problem) -> None:
    found = problem.figures([(WORST, (1.0, 10.0)), (CENTER, (2.0, 11.0))])
    regrets = []
    for w in np.arange(0.05, 0.96, 0.05):
        best = min(1.05 * w, 1.05 * (1 - w), 0.5 * max(w, 1 - w) + 0.05 * 0.5)  # RIGHT, LEFT, CENTER
        regrets.append(max(w, 1 - w) + 0.05 - best)  # WORST
    assert found.regret == pytest.approx(np.mean(regrets))


def test_a_training_has_the_same_result_for_all_encodings_and_its_noise_has_the_given_size(problem) -> None:
    encoding = (1, 0, 0, 1, 0, 0)  # its first operation ends at a node without a path to the output
    assert SPACE.canonical(encoding) == LEFT
    assert problem.train(encoding, 3, 7) == problem.train(LEFT, 3, 7) != problem.train(LEFT, 3, 8)
    results = np.array([problem.train(LEFT, replicate, 7) for replicate in range(2000)])
    assert results.mean(axis=0) == pytest.approx(TRUTH[LEFT], abs=0.05)
    assert results.std(axis=0) == pytest.approx([0.1, 0.5], rel=0.05)
    assert problem.train((0,) * 6, 0, 7) is None


def test_a_peer_that_repeats_a_network_gets_its_next_replicate(problem) -> None:
    train = Trainer(problem, seed=7)
    found = [train(network) for network in (LEFT, RIGHT, (1, 0, 0, 1, 0, 0))]
    assert found == [problem.train(LEFT, 0, 7), problem.train(RIGHT, 0, 7), problem.train(LEFT, 1, 7)]


def test_single_results_are_shown_if_no_other_dominates_them(problem) -> None:
    trainings = [(LEFT, 0, (1.0, 2.0)), (RIGHT, 0, (2.0, 2.0)), (LEFT, 1, (0.5, 3.0))]
    assert single_results(problem, trainings) == [(LEFT, (1.0, 2.0)), (LEFT, (0.5, 3.0))]


def test_the_true_error_is_the_mean_over_connected_encodings(tmp_path) -> None:
    rows = {LEFT: 90.0, (1, 0, 0, 1, 0, 0): 92.0, RIGHT: 80.0, (0,) * 6: 10.0}
    lines = [f"{accuracy},{SPACE.describe(genotype)}" for genotype, accuracy in rows.items()]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["CIFAR10TestAccuracy200Epochs,ArchitectureString", *lines]))
    assert mean_errors(path, "CIFAR-10") == pytest.approx({LEFT: 0.09, RIGHT: 0.2})


def test_the_synthetic_cost_rises_as_the_error_falls() -> None:
    networks = sorted(
        {SPACE.canonical((a, b, c, d, 1, 3)) for a in range(5) for b in range(5) for c in (1, 2, 3) for d in (1, 2)}
    )
    error = np.random.default_rng(0).permutation(np.linspace(0.05, 0.2, len(networks)))
    second = synthetic(networks, error, seed=0)
    assert second.mean() == pytest.approx(0)
    assert np.corrcoef(error, second)[0, 1] == pytest.approx(-0.6, abs=0.15)


def test_worst_seeds_have_the_smallest_hypervolume_and_the_largest_regret() -> None:
    rows = summary([Figures(0.9, 0.1, 0.02, 8, 4), Figures(0.7, 0.3, 0.04, 10, 1)])
    assert rows["hypervolume"] == pytest.approx({"mean": 0.8, "std": 0.1 * 2**0.5, "worst": 0.7})
    assert rows["regret"]["worst"] == 0.04
    assert rows["shown"]["mean"] == 9


def test_the_table_has_every_training_within_the_ranges_and_fronts_read_from_it_are_measured(problem, tmp_path) -> None:
    write_table(problem, tmp_path / "noisy.csv", replicates=3, search_seed=7)
    with (tmp_path / "noisy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(TRUTH)
    for row in rows:
        error, introspectability = float(row["error"]), float(row["introspectability"])
        assert 0 <= error <= 1 and 0 <= introspectability <= 2
        costs = problem.train(SPACE.parse(row["architecture"]), int(row["replicate"]), 7)
        assert to_costs(problem, error, introspectability) == pytest.approx(costs, abs=1e-6)

    entry = dict(zip(("error", "introspectability"), to_metrics(problem, TRUTH[CENTER]), strict=True))
    front = {"front": [{"arch_id": arch_id("nb201", SPACE.settings, CENTER), **entry}]}
    (tmp_path / "front.json").write_text(json.dumps(front))
    measured, expected = measure_front(problem, tmp_path / "front.json"), problem.figures([(CENTER, TRUTH[CENTER])])
    assert measured.hypervolume == expected.hypervolume and measured.regret == expected.regret
    assert measured.optimism == pytest.approx(0)
