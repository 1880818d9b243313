"""Identities, seeds and costs."""

from __future__ import annotations

import math

import pytest

from nasx.errors import ArchitectureError, SettingError
from nasx.trial import OBJECTIVES, Bounds, arch_id, costs, derive_seed, resolve_arch_id


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


def test_seeds_tell_their_parts_apart():
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_maximised_objectives_become_negative_costs():
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


def test_bounds_hold_what_lies_within():
    assert Bounds(max=3).hold(3) and not Bounds(max=3).hold(3.1)
    assert Bounds(min=2, max=3).hold(2) and not Bounds(min=2, max=3).hold(1)


@pytest.mark.parametrize(
    ("bounds", "message"), [({}, "or max must be given"), ({"min": 3, "max": 3}, "must be less than max, got 3 and 3")]
)
def test_bounds_that_hold_nothing_are_refused(bounds, message):
    with pytest.raises(SettingError, match=message):
        Bounds(**bounds)


@pytest.mark.parametrize(("n", "shown"), [(8, r"a7\. Give"), (9, r"a7 and 1 more\. Give")])
def test_at_most_eight_ids_that_are_meant_are_listed(n, shown):
    with pytest.raises(ArchitectureError, match=shown):
        resolve_arch_id("a", [f"a{i}" for i in range(n)])
