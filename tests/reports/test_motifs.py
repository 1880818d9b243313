import pytest

from nasx.reports.html import motifs as module
from nasx.reports.html.motifs import motifs

FRONT = ("a", "b")
TRAITS = {"a": ["p", "q", "r"], "b": ["p", "q"], "c": ["p"], "d": ["r"]}


def test_motifs_are_counted_on_the_front_and_elsewhere():
    found = {m.traits: (m.on_front, m.elsewhere) for rows in motifs(TRAITS, FRONT).values() for m in rows}

    assert found == {("p",): (2, 1), ("q",): (2, 0), ("p", "q"): (2, 0)}


def test_the_motif_that_sets_the_front_apart_comes_first():
    assert motifs(TRAITS, FRONT)[1][0].traits == ("q",)


def test_a_front_of_one_network_has_no_motif():
    assert motifs(TRAITS, ["a"]) == {}


def test_nothing_is_told_of_an_empty_run():
    assert motifs({}, []) == {}


@pytest.mark.parametrize("length, sizes", [(15, {1, 2, 3}), (16, {1, 2})])
def test_networks_of_many_traits_are_spared_the_largest_motifs(length, sizes):
    traits = {name: [f"t{i:02}" for i in range(length)] for name in FRONT}

    assert set(motifs(traits, FRONT)) == sizes


def test_no_more_are_shown_than_can_be_read():
    traits = {name: [f"t{i:02}" for i in range(40)] for name in FRONT}

    assert len(motifs(traits, FRONT)[1]) == module.SHOWN
