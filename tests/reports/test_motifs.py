import pytest

from nasx.reports.html import motifs as module
from nasx.reports.html.motifs import motifs

FRONT = ("a", "b")
TRAITS = {"a": ["p", "q", "r"], "b": ["p", "q"], "c": ["p"], "d": ["r"]}


def test_motifs_are_counted_on_the_front_and_elsewhere():
    found = {m.traits: (m.on_front, m.elsewhere) for rows in motifs(TRAITS, FRONT).values() for m in rows}

    assert found == {("p",): (2, 1), ("q",): (2, 0), ("p", "q"): (2, 0)}


def test_the_motif_most_specific_to_the_front_comes_first():
    assert motifs(TRAITS, FRONT)[1][0].traits == ("q",)


def test_a_front_of_one_network_has_no_motif():
    assert motifs(TRAITS, ["a"]) == {}


def test_an_empty_run_has_no_motifs():
    assert motifs({}, []) == {}


@pytest.mark.parametrize("length, sizes", [(15, {1, 2, 3}), (16, {1, 2})])
def test_networks_with_many_traits_have_no_motifs_of_three(length, sizes):
    traits = {name: [f"t{i:02}" for i in range(length)] for name in FRONT}

    assert set(motifs(traits, FRONT)) == sizes


def test_the_number_of_motifs_is_limited():
    traits = {name: [f"t{i:02}" for i in range(40)] for name in FRONT}

    assert len(motifs(traits, FRONT)[1]) == module.SHOWN
