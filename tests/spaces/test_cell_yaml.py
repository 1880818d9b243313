"""Cells described in YAML: modules that are built, encodings of one network, error messages."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from nasx.config.components import build
from nasx.errors import ConfigError
from nasx.spaces.cell_yaml import CellSpace

NONE, SKIP, CONV = 0, 1, 2
IDENTITY = {"_target_": "torch.nn.Identity"}
CONVOLUTION = {"_target_": "torch.nn.Conv2d", "in_channels": "CHANNELS", "out_channels": "CHANNELS", "kernel_size": 1}
OPERATIONS = {"none": None, "skip": IDENTITY, "conv": [{"_target_": "torch.nn.ReLU"}, CONVOLUTION]}


class Scale(nn.Module):
    """Operation of a user: one factor per channel."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((channels, 1, 1), 2.0))

    def forward(self, x):
        return self.factor * x


class Halving(nn.Module):
    def forward(self, x):
        return x[:, :, ::2, ::2]


class ChangesInput(nn.Module):
    def forward(self, x):
        x.data.mul_(2)
        return x + 0


def space(**settings) -> CellSpace:
    return CellSpace(**{"operations": OPERATIONS, "channels": 2, "cells": 1, **settings})


def test_a_module_of_the_user_is_built_on_the_edges():
    own = space(
        nodes=2, operations={"skip": IDENTITY, "scale": {"_target_": f"{__name__}.Scale", "channels": "CHANNELS"}}
    )

    network = own.build((1,), input_shape=(1, 8, 8), n_classes=3)

    factors = [p for name, p in network.named_parameters() if name.endswith("factor")]
    assert [len(p) for p in factors] == [2, 4, 8]  # channels of the stages


def test_a_list_of_modules_is_applied_in_order():
    network = space(nodes=2).build((CONV,), input_shape=(1, 8, 8), n_classes=3)

    assert [type(m).__name__ for m in network.stage1[0].operations[0]] == ["ReLU", "Conv2d"]


def test_the_numbering_of_the_inner_nodes_does_not_matter():
    cells = space(nodes=4)
    by_node_1 = cells.parse("|conv~0|+|none~0|none~1|+|none~0|skip~1|none~2|")
    by_node_2 = cells.parse("|none~0|+|conv~0|none~1|+|none~0|none~1|skip~2|")

    assert cells.canonical(by_node_1) == cells.canonical(by_node_2)


def test_edges_that_do_not_reach_the_output_do_not_matter():
    cells = space(nodes=4)

    assert cells.canonical(cells.parse("|conv~0|+|conv~0|conv~1|+|skip~0|none~1|none~2|")) == cells.canonical(
        cells.parse("|none~0|+|none~0|none~1|+|skip~0|none~1|none~2|")
    )


def test_without_a_null_operation_mirrored_cells_are_one_network():
    diamond = space(nodes=4, edges=((0, 1), (0, 2), (1, 3), (2, 3)), operations={"skip": IDENTITY, "conv": CONVOLUTION})

    assert diamond.canonical((0, 1, 1, 0)) == diamond.canonical((1, 0, 0, 1)) == (0, 1, 1, 0)
    assert len({diamond.canonical(g) for g in itertools.product((0, 1), repeat=4)}) == 10  # 16 with 6 mirrored pairs


def test_an_edge_to_a_dead_end_is_not_built():
    cells = space(nodes=3, edges=((0, 1), (0, 2)), operations={"skip": IDENTITY, "conv": CONVOLUTION})

    assert cells.canonical((1, 1)) == cells.canonical((0, 1)) == (0, 1)
    network = cells.build((1, 1), input_shape=(1, 8, 8), n_classes=2)
    assert [edge[:2] for edge in network.stage1[0].edges] == [(0, 2)]


def test_edges_are_sorted_in_the_order_of_the_string_form():
    cells = space(nodes=3, edges=((1, 2), (0, 1)))

    assert cells.gene_names == ("edge 0→1", "edge 1→2")
    assert cells.describe((CONV, SKIP)) == "|conv~0|+|skip~1|"


def with_operation(node) -> dict:
    return {"operations": {"none": None, "x": node}}


BAD = {
    "a word for a module": (with_operation("torch.nn.ReLU"), r"space\.operations\.x must be a module"),
    "no module": (with_operation({"_target_": "torch.nn.Foo"}), r"operations\.x.*has no Foo"),
    "no package": (with_operation({"_target_": "nowhere.Foo"}), r"operations\.x.*no module 'nowhere'"),
    "no torch module": (with_operation({"_target_": "pathlib.PurePath"}), "must be a torch module, got pathlib"),
    "an unknown argument": (
        with_operation({**IDENTITY, "_target_": "torch.nn.ReLU", "inplaced": True}),
        r"space\.operations\.x cannot be built: unknown key operations\.x\.inplaced\. Did you mean .*inplace\?$",
    ),
    "in place": (
        with_operation({"_target_": "torch.nn.ReLU", "inplace": True}),
        r"space\.operations\.x works in place \(ReLU\)",
    ),
    "another shape": (
        with_operation({"_target_": f"{__name__}.Halving"}),
        r"must keep the shape of its input, \(2, 2, 7, 7\), got \(2, 2, 4, 4\)",
    ),
    "a changed input": (
        with_operation({"_target_": f"{__name__}.ChangesInput"}),
        "must not change its input, which other edges use too",
    ),
    "wrong channels": (
        with_operation({**CONVOLUTION, "in_channels": 5}),
        r"operations\.x fails for 2 channels of 7 x 7 pixels",
    ),
    "groups that do not divide": (
        with_operation({**CONVOLUTION, "groups": 3}),
        r"operations\.x cannot be built: in_channels must be divisible by groups",
    ),
    "one operation": ({"operations": {"skip": IDENTITY}}, "must be at least two to choose from, got 1"),
    "two that carry nothing": ({"operations": {"a": None, "b": None}}, "must have at most one that is null, got 2"),
    "a name with special characters": ({"operations": {"a|b": IDENTITY, "none": None}}, "must be named by letters"),
    "one node": ({"nodes": 1}, r"space\.nodes must be at least 2 and at most 8, got 1"),
    "an edge backwards": ({"edges": [[2, 1]]}, r"space\.edges must lead from a node to a later one"),
    "an edge twice": ({"edges": [[0, 1], [0, 1]]}, r"space\.edges must all be different, got \[\[0, 1\], \[0, 1\]\]"),
    "an edge of three": ({"edges": [[0, 1, 2]]}, r"space\.edges must be a list"),
    "no edge": ({"edges": []}, r"space\.edges must be .*length at least 1, got \[\]"),
    "no cells": ({"cells": 0}, r"space\.cells must be at least 1, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_setting_is_reported_with_its_key(case):
    changes, message = BAD[case]
    node = {"_target_": "nasx.spaces.cell_yaml.CellSpace", "operations": OPERATIONS, "channels": 2, **changes}

    with pytest.raises(ConfigError, match=message) as caught:
        build(node, "space")
    assert "\n" not in str(caught.value)


def test_checking_the_operations_leaves_the_global_generator_unchanged():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    space()
    assert torch.rand(1) == expected
