from dataclasses import replace

from nasx.reports.html import phylogeny as module
from nasx.reports.html.phylogeny import phylogeny
from nasx.reports.summary import summarize
from nasx.runs.rows import Lineage
from nasx.trial import Candidate
from tests.factories.report_inputs import with_lineage
from tests.factories.trials import make_noisy_run, make_trial

PAIR = ("error", "introspectability")


def born(number, generation, parents=(), *, error=0.5, introspectability=0.5):
    trial = make_trial(number, error=error, introspectability=introspectability)
    return replace(trial, candidate=Candidate(number, trial.genotype, generation, "mutation", tuple(parents)))


def tree(trials, front, lineage=None):
    lineage = lineage or [Lineage(t.candidate, t.arch_id, False) for t in trials]
    summary = summarize(trials, PAIR, n_classes=10)
    members = {a.arch_id: a for a in summary.architectures}
    return phylogeny(trials, lineage, replace(summary, front=tuple(members[trials[i].arch_id] for i in front)))


def test_only_the_ancestors_of_the_front_are_included():
    trials = [born(0, 0), born(1, 0), born(2, 1, [0]), born(3, 2, [2]), born(4, 2, [1])]
    found = tree(trials, [3])

    ids = [t.arch_id for t in trials]
    assert set(found.generations) == {ids[0], ids[2], ids[3]}
    assert set(found.links) == {(ids[0], ids[2]), (ids[2], ids[3])}
    assert found.generations[ids[3]] == 2


def test_a_leader_is_not_dominated_by_networks_proposed_by_then():
    trials = [
        born(0, 0, error=0.5),
        born(1, 0, error=0.6),  # dominated in its own generation
        born(2, 1, [0], error=0.4),  # better than all so far; dominated later
        born(3, 2, [2], error=0.1),
    ]
    found = tree(trials, [3])

    assert found.leaders == {trials[i].arch_id for i in (0, 2, 3)}
    assert found.share_of_ancestors == 1.0
    assert found.share_of_all == 0.75


def test_children_of_a_repeat_are_children_of_the_repeated_network():
    trials = [born(0, 0), born(3, 2, [1])]
    repeat = Lineage(Candidate(1, trials[0].genotype, 1, "mutation", (0,)), trials[0].arch_id, True)
    lineage = [Lineage(trials[0].candidate, trials[0].arch_id, False), repeat]
    lineage.append(Lineage(trials[1].candidate, trials[1].arch_id, False))

    assert tree(trials, [1], lineage).links == ((trials[0].arch_id, trials[1].arch_id),)


def test_a_training_of_a_known_network_is_neither_its_child_nor_a_network():
    trials = make_noisy_run(n=12, again=(2, 1))
    again = Candidate(20, trials[0].genotype, 2, "mutation", (trials[-1].candidate.number,))
    child = replace(make_trial(20, genotype=(4,) * 6, error=0.01, introspectability=0.95), candidate=again)
    lineage = [Lineage(t.candidate, t.arch_id, False) for t in [*trials, child]]
    found = phylogeny([*trials, child], lineage, summarize([*trials, child], PAIR, n_classes=10))

    # a child of a re-training is a child of the re-trained network
    assert found.links == ((trials[-1].arch_id, child.arch_id),)
    assert set(found.generations) == {t.arch_id for t in (trials[-1], child)}


def test_a_front_drawn_at_random_has_no_ancestors():
    found = tree([born(0, 0)], [0])

    assert found.share_of_ancestors is None
    assert found.links == ()


def test_without_any_network_there_is_an_empty_tree():
    found = phylogeny([], [], summarize([], PAIR, n_classes=10))

    assert found.generations == {}
    assert found.share_of_all is None


def test_distant_ancestors_beyond_the_limit_are_only_counted(monkeypatch):
    monkeypatch.setattr(module, "SHOWN", 3)
    chain = [born(0, 0)] + [born(i, i, [i - 1]) for i in range(1, 6)]
    found = tree(chain, [5])

    assert set(found.generations) == {t.arch_id for t in chain[3:]}
    assert found.left_out == 3


def test_coordinates_within_a_generation_are_distinct():
    from tests.factories.trials import make_run

    trials = with_lineage(make_run(64))
    found = tree(trials, [63, 61, 60])

    places = [(found.generations[a], found.heights[a]) for a in found.generations]
    assert len(set(places)) == len(places)
    assert all(0 < height < 1 for _, height in places)
