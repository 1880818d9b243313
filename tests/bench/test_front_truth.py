"""Retrained fronts: verdicts worked out by hand, and a peer with the same scores as nasx."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime

import pytest
import torch

pytest.importorskip("optuna", reason="the extra bench is not installed")

from optuna.trial import TrialState, create_trial

from nasx.data.augmentation import Augmentation
from nasx.evaluation.train_and_score import EvaluationSpec, take_scores
from nasx.introspection.shap import ShapScorer
from nasx.spaces.nb201 import NASBench201
from nasx.training.recipe import Recipe
from scripts.bench import front_truth, tpe_script
from scripts.bench.front_judgement import Point, confirmed, costs, judge, nearest_to_front, normalized_share
from scripts.bench.front_tools import Found, Truth
from scripts.bench.front_truth import (
    NASX,
    QUICK,
    RELEASED,
    TPE,
    Plan,
    comparisons,
    measure_all,
    order,
    summary_table,
    turn_table,
)
from scripts.bench.optuna_script import save_task
from scripts.bench.tpe_script import Limits, ShapObjective, in_time
from tests.bench.test_optuna_script import TASK, some_data

SMALL = {"samples_per_class": 2, "draws": 2, "background": 4}


def truth(*points: Point) -> dict[str, Point]:
    return {point.arch_id: point for point in points}


def test_promised_values_count_as_promised_and_true_values_as_true() -> None:
    known = truth(Point("a", 0.5, 0.25), Point("b", 0.6, 0.1))
    found = judge({"tool": [Point("a", 0.4, 0.5)]}, known, {"tool": known})["tool"]
    assert (found.recommended, found.nondominated) == (1, 1.0)
    assert found.promised == pytest.approx(0.5 * 0.5)
    assert found.true == pytest.approx(0.4 * 0.25)
    assert found.optimism == pytest.approx(1.5)


def test_a_network_can_be_dominated_by_another_tools_network_or_by_the_reference_set() -> None:
    shown = {"one": [Point("a", 0.1, 0.5), Point("b", 0.2, 0.6)], "other": [Point("c", 0.3, 0.3)]}
    known = truth(Point("a", 0.3, 0.4), Point("b", 0.3, 0.6), Point("c", 0.2, 0.2), Point("d", 0.1, 0.3))
    found = judge(shown, known, {"one": ["a", "b"], "other": ["c"]})
    assert found["one"].nondominated == found["one"].nondominated_own == 0.5  # b dominates a
    assert found["other"].nondominated == 0.0  # the reference network d dominates c
    assert found["other"].nondominated_own == 1.0  # d was trained by another tool


def test_the_confirmed_share_of_a_front_depends_on_the_agreement_of_further_trainings() -> None:
    agreed = [[[0.1, -0.5]] * 3, [[0.2, -0.4]] * 3]
    assert confirmed(agreed, judges=1) == 1.0
    # the one very bad training changes the front of the judging training, or else that of the others
    opposed = [[[0.1, -0.5], [0.1, -0.5], [0.4, -0.2]], [[0.2, -0.4]] * 3]
    assert confirmed(opposed, judges=1) == 0.0


def test_a_network_shown_under_two_encodings_is_one_network() -> None:
    known = truth(Point("a", 0.5, 0.2))
    found = judge({"tool": [Point("a", 0.4, 0.3), Point("a", 0.5, 0.4)]}, known, {"tool": known})["tool"]
    assert found.recommended == 1
    assert found.promised == pytest.approx(0.5 * 0.3 + 0.4 * 0.1)


def test_a_tool_that_recommends_nothing_has_no_hypervolume() -> None:
    found = judge({"tool": []}, truth(Point("a", 0.5, 0.2)), {"tool": ["a"]})["tool"]
    assert (found.recommended, found.promised, found.true) == (0, 0.0, 0.0)
    assert math.isnan(found.optimism) and math.isnan(found.nondominated)


def test_the_share_of_one_end_of_the_front_is_its_normalized_hypervolume() -> None:
    front = costs([Point("a", 0.1, 0.2), Point("b", 0.3, 0.6)])
    whole = 1.1 * 0.1 + 0.1 * 1.0  # steps (0, 1) and (1, 0) below the corner (1.1, 1.1)
    assert normalized_share(front[:1], front) == pytest.approx(1.1 * 0.1 / whole)
    assert math.isnan(normalized_share(front[:1], front[:1]))


def test_the_reference_set_is_ranked_by_means_and_leaves_out_recommended_networks() -> None:
    observed = [Point("lucky", 0.0, 0.9), Point("lucky", 0.8, 0.1)]
    observed += [Point("a", 0.1, 0.3), Point("b", 0.2, 0.7), Point("c", 0.3, 0.6), Point("d", 0.5, 0.1)]
    assert nearest_to_front(observed, {"b"}, 2) == ["a", "c"]
    assert nearest_to_front(observed, {"b"}, 9) == ["a", "c", "lucky", "d"]


def test_nasx_runs_before_the_peer_that_gets_its_time() -> None:
    for turn in range(3):
        names = order(turn, Plan())
        assert sorted(names) == sorted([NASX, RELEASED, TPE])
        assert names.index(NASX) < names.index(TPE)


def test_the_peers_score_is_the_one_that_nasx_records() -> None:
    data, scorer = some_data(), ShapScorer(**SMALL)
    space = NASBench201(channels=2, cells=1)
    network = space.build((3, 1, 0, 0, 1, 3), input_shape=data.shape, n_classes=3).eval()
    spec = EvaluationSpec(space=space, recipe=Recipe(), augmentation=Augmentation(), scorer=scorer, score_seed=7)
    (ours,) = take_scores(network, data.validation, data, spec, torch.device("cpu"))
    assert ShapObjective(TASK, data, Limits(0.0, 7, SMALL)).score(network) == ours.value


def test_a_training_that_ends_after_the_deadline_does_not_count() -> None:
    trials = [create_trial(state=TrialState.COMPLETE, values=[0.1, 0.2]) for _ in range(2)]
    for trial, ended in zip(trials, (99.0, 101.0), strict=True):
        trial.datetime_complete = datetime.fromtimestamp(ended)
    assert in_time([*trials, create_trial(state=TrialState.PRUNED)], 100.0) == trials[:1]


def test_the_peer_searches_until_the_deadline(tmp_path, monkeypatch) -> None:
    class InThisProcess:
        exitcode = 0

        def __init__(self, target, args):
            self.start, self.join = (lambda: target(*args)), (lambda: None)

    monkeypatch.setattr(tpe_script.multiprocessing, "get_context", lambda _: type("", (), {"Process": InThisProcess}))
    save_task(tmp_path / "task.npz", TASK, some_data())
    deadline = time.time() + 3
    found = tpe_script.search(tmp_path / "task.npz", Limits(deadline, 0, SMALL))
    assert time.time() >= deadline
    assert found["trainings"] and all(len(each["genotype"]) == 6 for each in found["trainings"])


def test_turns_are_saved_as_they_finish_and_not_measured_again(tmp_path, monkeypatch) -> None:
    searched, retrained = [], []

    def search(plan, checkouts, turn, trainings):
        searched.append((turn, trainings))
        points = (Point("a", 0.1, 0.3), Point("b", 0.2, 0.4))
        found = Found(1.0, trainings, points, points[:1], {"a": (0, 1), "b": (1, 0)})
        return {NASX: found, TPE: found}

    def train_again(genotypes, overrides, turn, fresh_seeds):
        retrained.append(sorted(genotypes))
        return {name: Truth(genotype, ((0.2, 0.3), (0.4, 0.1)), 0) for name, genotype in genotypes.items()}

    monkeypatch.setattr(front_truth, "search", search)
    monkeypatch.setattr(front_truth, "train_again", train_again)
    file = tmp_path / "turns.json"
    measure_all(QUICK, range(1), [8, 16], file)
    assert retrained == [["a", "b"], []]  # known from the same turn
    records = measure_all(QUICK, range(2), [8], file)
    assert searched == [(0, 8), (0, 16), (1, 8)]
    assert [record["turn"] for record in records] == [0, 1]
    written = json.loads(file.read_text())
    assert len(written["turns"]) == 3
    assert written["summary"]["8"][NASX]["true"] == [pytest.approx(0.6 * 0.2), 0.0]
    assert turn_table("8 trainings", records).row_count == 4
    assert summary_table("8 trainings", records).row_count == 10
    assert list(comparisons(records)) == [
        "true hypervolume: nasx is ahead of TPE in 0 of 2 turns, by +0.000 ± 0.000 (standard error) on average"
    ]
    with pytest.raises(SystemExit, match=r"was measured with"):
        measure_all(Plan(), range(1), [8], file)
