"""NAS-Bench-201 as a search space: string form, canonical form, parameters."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasx.errors import ArchitectureError, SettingError
from nasx.networks.cell import Cell
from nasx.networks.costs import count_macs, count_parameters
from nasx.networks.edge import Edge
from nasx.spaces import nb201
from nasx.spaces.nb201 import ALLELES, EDGES, NASBench201

SPACE = NASBench201(channels=4, cells=1)
PUBLISHED = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"

genotypes = st.tuples(*[st.integers(0, 4)] * 6)
connected = genotypes.filter(SPACE.is_connected)


@given(genotypes)
def test_the_string_form_round_trips(genotype):
    assert SPACE.parse(SPACE.describe(genotype)) == genotype


def test_the_published_architecture_has_802_426_parameters():
    space = NASBench201(channels=16, cells=5)
    genotype = space.parse(PUBLISHED)

    network = space.build(genotype, input_shape=(3, 32, 32), n_classes=10)

    assert count_parameters(network) == 802_426
    assert space.parameters(genotype, n_classes=10) == 802_426


@settings(max_examples=25, deadline=None)
@given(connected)
def test_parameters_are_counted_without_building(genotype):
    network = SPACE.build(genotype, input_shape=(1, 8, 8), n_classes=7)

    assert SPACE.parameters(genotype, input_channels=1, n_classes=7) == count_parameters(network)


@settings(max_examples=25, deadline=None)
@given(connected, st.integers(5, 13))
def test_every_connected_genotype_builds_a_network_of_the_right_output_shape(genotype, side):
    network = SPACE.build(genotype, input_shape=(3, side, side), n_classes=6)

    assert [name for name, _ in network.named_children()] == ["stem", "stage1", "stage2", "stage3", "head"]
    assert network(torch.zeros(2, 3, side, side)).shape == (2, 6)


def test_macs_of_a_network_are_those_of_its_convolutions_and_its_head():
    every_skip = SPACE.parse("|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|")

    network = SPACE.build(every_skip, input_shape=(1, 8, 8), n_classes=10)

    stem = 8 * 8 * 9 * 1 * 4
    reductions = 4 * 4 * (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8) + 2 * 2 * (9 * 8 * 16 + 9 * 16 * 16 + 8 * 16)
    assert count_macs(network, (1, 8, 8)) == stem + reductions + 16 * 10


def test_the_15_625_encodings_are_5_043_networks():
    assert len(np.unique(nb201._representatives())) - 1 == 5043  # without the disconnected


def find_representatives() -> np.ndarray:
    """For each of the 15,625 encodings, in the order of ALLELES, the place of that which stands for the same cell.

    It is the one of the fewest operations; of several, the first.
    """
    encodings = list(itertools.product(ALLELES, repeat=len(EDGES)))
    by_size = sorted(range(len(encodings)), key=lambda place: len(nb201.cell_edges(encodings[place])))  # stable
    forms = [form.text if form else "" for form in map(nb201.cell_form, encodings)]
    found: dict[str, int] = {}
    for place in by_size:
        found.setdefault(forms[place], place)
    return np.array([found[form] for form in forms], dtype=np.uint16)


def test_the_stored_representatives_are_those_that_normal_forms_give():
    # if normal forms change: np.save("nasx/spaces/nb201_representatives.npy", find_representatives())
    np.testing.assert_array_equal(nb201._representatives().ravel(), find_representatives())


@given(genotypes)
def test_the_canonical_form_is_its_own_and_has_nothing_dead(genotype):
    canonical = SPACE.canonical(genotype)

    assert SPACE.canonical(canonical) == canonical
    assert SPACE.is_connected(canonical) == SPACE.is_connected(genotype)
    live = {(e.source, e.target) for e in reachable(SPACE.edges(canonical))}
    assert live == {(e.source, e.target) for e in SPACE.edges(canonical)}


def reachable(edges: list[Edge]) -> list[Edge]:
    """Return the edges on a path from node 0 to node 3, found independently of the normal form."""
    fed, useful = {0}, {3}
    for _ in range(3):
        fed |= {e.target for e in edges if e.source in fed}
        useful |= {e.source for e in edges if e.target in useful}
    return [e for e in edges if e.source in fed and e.target in useful]


def test_a_cell_without_a_path_is_disconnected():
    genotype = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|")

    assert not SPACE.is_connected(genotype)
    with pytest.raises(ArchitectureError, match=r"is disconnected: no path leads from its input to its output\.$"):
        SPACE.build(genotype, input_shape=(1, 8, 8), n_classes=2)


SAME_NETWORK = {
    "the order of a sum": (
        "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|avg_pool_3x3~1|none~2|",
        "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
    ),
    "a skip is the identity": (
        "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|none~0|none~1|skip_connect~2|",
        "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|",
    ),
    "an edge to a dead end": (
        "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    ),
    "an operation without input": (
        "|none~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|",
        "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    ),
    "pooling of a sum is a sum of poolings": (
        "|skip_connect~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|",
        "|nor_conv_3x3~0|+|none~0|none~1|+|avg_pool_3x3~0|avg_pool_3x3~1|none~2|",
    ),
}


@pytest.mark.parametrize(("one", "other"), SAME_NETWORK.values(), ids=SAME_NETWORK)
def test_encodings_of_one_network_have_one_canonical_form(one, other):
    assert SPACE.canonical(SPACE.parse(one)) == SPACE.canonical(SPACE.parse(other))


def test_one_convolution_used_twice_is_not_two_convolutions():
    shared = SPACE.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|skip_connect~2|")
    separate = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|skip_connect~2|")

    assert SPACE.canonical(shared) != SPACE.canonical(separate)


# Proof by weights: cells computed in float64 with the weights of one copied to the other


def live_cell(genotype, weights: dict[Edge, nn.Module] | None = None) -> tuple[Cell, dict[Edge, nn.Module]]:
    """Return the cell of an encoding, not in canonical form, and its convolutions by edge."""
    cell = Cell(reachable(SPACE.edges(genotype)), channels=2).double().train()
    modules = dict(zip(cell.edges, cell.operations, strict=True))
    convolutions = {edge: m for edge, m in modules.items() if edge.operation.startswith("nor_conv")}
    return cell, convolutions


def outputs_agree(one: Cell, other: Cell) -> bool:
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return torch.allclose(one(x), other(x), atol=1e-9)


def copy_weights(sources: list[nn.Module], targets: list[nn.Module]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())


def encodings_by_network() -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for genotype in itertools.product(range(len(ALLELES)), repeat=len(EDGES)):
        if SPACE.is_connected(genotype):
            found.setdefault(SPACE.canonical(genotype), []).append(genotype)
    return found


def test_encodings_with_one_id_compute_the_same_with_the_same_weights():
    rng = random.Random(0)
    groups = [g for g in encodings_by_network().values() if len(g) > 1]

    for group in rng.sample(groups, 150):
        one, other = rng.sample(group, 2)
        cell, convolutions = live_cell(one)
        twin, twins = live_cell(other)
        order, twin_order = (nb201.cell_form(SPACE._operations(g)).convolutions for g in (one, other))
        copy_weights([convolutions[e] for e in order], [twins[e] for e in twin_order])
        assert outputs_agree(cell, twin), (one, other)


def test_networks_with_different_ids_compute_different_things_whichever_weights_are_copied():
    rng = random.Random(0)
    by_operations: dict[tuple[str, ...], list[tuple[int, ...]]] = {}
    for canonical in encodings_by_network():
        kinds = tuple(sorted(e.operation for e in nb201.cell_form(SPACE._operations(canonical)).convolutions))
        by_operations.setdefault(kinds, []).append(canonical)
    pools = [pool for kinds, pool in by_operations.items() if len(pool) > 1 and len(kinds) <= 4]

    for _ in range(100):
        one, other = rng.sample(rng.choice(pools), 2)
        cell, convolutions = live_cell(one)
        rival, rivals = live_cell(other)
        for order in itertools.permutations(rivals.items()):
            if all(e.operation == f.operation for e, (f, _) in zip(convolutions, order, strict=True)):
                copy_weights(list(convolutions.values()), [module for _, module in order])
                assert not outputs_agree(cell, rival), (one, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "3 nodes joined by"),
        ("|none~0|+|none~0|none~1|", "got 2"),
        (PUBLISHED.replace("3x3", "3x4", 1), "unknown operation 'nor_conv_3x4'. Did you mean"),
        (PUBLISHED.replace("~2", "~1"), "node 3 must be written"),
    ],
)  # fmt: skip
def test_a_malformed_string_is_reported(text, message):
    with pytest.raises(ArchitectureError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize("setting", ["channels", "cells"])
def test_sizes_below_one_are_rejected(setting):
    with pytest.raises(SettingError, match=f"{setting} must be at least 1, got 0"):
        NASBench201(**{setting: 0})


def test_the_same_seed_builds_the_same_weights_whatever_the_encoding():
    dead_edge = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    weights = []
    for genotype in (dead_edge, SPACE.canonical(dead_edge)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights.append(SPACE.build(genotype, input_shape=(1, 8, 8), n_classes=3).state_dict())

    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values(), strict=True))
