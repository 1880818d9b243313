"""Identities, seeds, costs and bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nasx.errors import ArchitectureError, SettingError
from nasx.trial import (
    OBJECTIVES,
    Bounds,
    Candidate,
    Evaluation,
    Reason,
    Score,
    Trial,
    TrialStatus,
    arch_id,
    costs,
    derive_seed,
    resolve_arch_id,
)


def test_an_arch_id_depends_on_space_settings_and_genotype():
    ids = {
        arch_id("nb201", {"channels": 16}, (1, 2)),
        arch_id("nb201", {"channels": 8}, (1, 2)),
        arch_id("other", {"channels": 16}, (1, 2)),
        arch_id("nb201", {"channels": 16}, (2, 1)),
    }

    assert len(ids) == 4
    assert all(len(i) == 10 for i in ids)


def test_an_arch_id_does_not_depend_on_the_order_of_settings():
    assert arch_id("s", {"a": 1, "b": 2}, (0,)) == arch_id("s", {"b": 2, "a": 1}, (0,))


def test_seeds_distinguish_their_parts():
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_maximized_objectives_become_negative_costs():
    metrics = {"error": 0.1, "introspectability": 0.4, "parameters": 5}

    assert costs(metrics, [OBJECTIVES["introspectability"], OBJECTIVES["error"]]) == (-0.4, 0.1)


def test_the_reference_of_error_is_chance():
    assert OBJECTIVES["error"].reference(10) == pytest.approx(0.9)
    assert OBJECTIVES["introspectability"].reference(10) == 0
    assert OBJECTIVES["parameters"].reference(10) is None


def test_objectives_have_their_ranges():
    assert {name: (o.low, o.high) for name, o in OBJECTIVES.items() if math.isfinite(o.high)} == {
        "error": (0, 1),
        "macro_error": (0, 1),
        "introspectability": (0, 2),  # a mean of cosine distances
    }
    assert {o.name for o in OBJECTIVES.values() if o.is_exact} == {"parameters", "macs"}


def test_bounds_contain_their_ends():
    assert Bounds(max=3).contains(3) and not Bounds(max=3).contains(3.1)
    assert Bounds(min=2, max=3).contains(2) and not Bounds(min=2, max=3).contains(1)


@pytest.mark.parametrize(
    ("bounds", "message"), [({}, "or max is required"), ({"min": 3, "max": 3}, "must be less than max, got 3 and 3")]
)
def test_empty_or_missing_bounds_are_refused(bounds, message):
    with pytest.raises(SettingError, match=message):
        Bounds(**bounds)


@pytest.mark.parametrize(("n", "shown"), [(8, r"a7\. Use"), (9, r"a7 and 1 more\. Use")])
def test_at_most_eight_ids_that_are_meant_are_listed(n, shown):
    with pytest.raises(ArchitectureError, match=shown):
        resolve_arch_id("a", [f"a{i}" for i in range(n)])


def test_trials_and_scores_have_a_repr_of_one_line():
    score = Score("shap", 0.41237, {"stem": 0.4}, np.zeros((10, 10)), 100, 0.5)
    complete = Evaluation(TrialStatus.COMPLETE, metrics={"error": 0.1, "introspectability": 0.41237, "macs": 9})
    failed = Evaluation.failed(Reason.TIMEOUT, "line\nline")
    candidate = Candidate(0, (1, 0), 0, "random")

    assert repr(score) == "<nasx score shap: 0.412 from 100 images>"
    assert (
        repr(Trial("3fa0c11d22", 1, (1, 0), "|a|b|", 5, complete, candidate))
        == "<nasx trial 3fa0c11d22, replicate 1: complete, error 0.100, introspectability 0.412>"
    )
    assert (
        repr(Trial("3fa0c11d22", 0, (1, 0), "|a|b|", 5, failed, candidate))
        == "<nasx trial 3fa0c11d22, replicate 0: timeout>"
    )
