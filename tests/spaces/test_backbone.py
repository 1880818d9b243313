"""The space on a backbone: one form for equal networks, words, and what may be wrong with its settings."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nasx.config.compose import compose
from nasx.errors import ArchitectureError, NasxError, SettingError
from nasx.experiment import prepare
from nasx.networks.backbone import backbone_of, frozen_cuts, trained_part, unfreeze
from nasx.spaces.backbone import BackboneSpace
from nasx.trial import arch_id
from tests.factories.backbones import tiny_backbone

SPACE = BackboneSpace(cuts=("stage1", "stage2"), projections=(0, 4), hidden=6)
GENES = st.tuples(*(st.integers(0, size - 1) for size in SPACE.gene_sizes))
CONV = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
IDENTITY = "|skip_connect~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
REST = "pooling=gem head=linear dropout=0"


def parse(text: str) -> tuple[int, ...]:
    return SPACE.parse(text)


def identity(text: str) -> str:
    return arch_id(SPACE.name, SPACE.settings, SPACE.canonical(parse(text)))


# --- equal networks


def test_there_are_no_cells_without_a_projection():
    with_cells = parse(f"cut=stage1 projection=0 cells=2 {CONV} {REST}")
    assert SPACE.describe(with_cells) == f"cut=stage1 projection=0 cells=0 {REST}"
    assert SPACE.edges(with_cells) == []


def test_a_cell_that_returns_its_input_is_none():
    with_cells = parse(f"cut=stage1 projection=4 cells=2 {IDENTITY} {REST}")
    assert SPACE.describe(with_cells) == f"cut=stage1 projection=4 cells=0 {REST}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"projection=0 cells=0 {REST}", f"projection=0 cells=1 {CONV} {REST}"),
        (f"projection=0 cells=1 {IDENTITY} {REST}", f"projection=0 cells=2 {CONV} {REST}"),
        (f"projection=4 cells=0 {REST}", f"projection=4 cells=1 {IDENTITY} {REST}"),
        (
            f"projection=4 cells=1 {CONV} {REST}",
            "projection=4 cells=1 |none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2| " + REST,
        ),
    ],
)
def test_equal_networks_have_one_id(one, other):
    assert identity(f"cut=stage1 {one}") == identity(f"cut=stage1 {other}")


@pytest.mark.parametrize(
    "other",
    [
        f"cut=stage2 projection=4 cells=1 {CONV} {REST}",
        f"cut=stage1 projection=4 cells=2 {CONV} {REST}",
        f"cut=stage1 projection=4 cells=0 {REST}",
        f"cut=stage1 projection=0 cells=0 {REST}",
        f"cut=stage1 projection=4 cells=1 {CONV} pooling=max head=linear dropout=0",
        f"cut=stage1 projection=4 cells=1 {CONV} pooling=gem head=cosine dropout=0",
        f"cut=stage1 projection=4 cells=1 {CONV} pooling=gem head=linear dropout=0.5",
    ],
)
def test_different_networks_have_different_ids(other):
    assert identity(other) != identity(f"cut=stage1 projection=4 cells=1 {CONV} {REST}")


def test_networks_of_one_canonical_form_have_the_same_modules():
    found: dict[tuple[int, ...], str] = {}

    @settings(max_examples=25, deadline=None)
    @given(GENES.filter(SPACE.is_connected))
    def check(genotype):
        network = trained_part(SPACE.build(genotype, input_shape=(3, 16, 16), n_classes=3))
        assert found.setdefault(SPACE.canonical(genotype), str(network)) == str(network)
        assert ("cell1" in dict(network.named_children())) == bool(SPACE.edges(genotype))

    check()


def test_a_disconnected_cell_counts_only_if_there_are_cells():
    nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert not SPACE.is_connected(parse(f"cut=stage1 projection=4 cells=1 {nothing} {REST}"))
    assert SPACE.is_connected(parse(f"cut=stage1 projection=0 cells=1 {nothing} {REST}"))


# --- words


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"must be written as 'cut=stage1 projection=0 .*', got ''\."),
        (f"cut=stage1 projection=0 {REST}", r"must be written as"),
        (f"cut=stage1 cut=stage1 projection=0 cells=0 {REST}", r"must be written as"),
        (f"cut=stage9 projection=0 cells=0 {REST}", r"cut must be one of stage1, stage2, got 'stage9'\."),
        (f"cut=stage1 projection=5 cells=0 {REST}", r"projection must be one of 0, 4, got '5'\."),
        (f"cut=stage1 projection=4 cells=3 {CONV} {REST}", r"cells must be one of 0, 1, 2, got '3'\."),
        (f"cut=stage1 projection=4 cells=1 {REST}", r"cells=1 needs a cell as \|"),
        (f"cut=stage1 projection=4 cells=0 {CONV} {REST}", r"cells=0 needs no cell as"),
        (f"cut=stage1 projection=4 cells=1 |what~0| {REST}", r"expected 3 nodes joined by '\+', got 1 in"),
        ("cut=stage1 projection=0 cells=0 pooling=sum head=linear dropout=0", r"pooling must be one of average, max"),
        ("cut=stage1 projection=0 cells=0 pooling=max head=tree dropout=0", r"head must be one of linear, cosine"),
    ],
)
def test_wrong_words_are_reported_with_the_choices(text, problem):
    with pytest.raises(ArchitectureError, match=problem):
        parse(text)


# --- networks


def test_a_network_can_be_cut_into_its_frozen_and_its_trained_part():
    network = SPACE.build(parse(f"cut=stage2 projection=4 cells=1 {CONV} {REST}"), input_shape=(3, 16, 16), n_classes=3)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network.eval()
    maps = network.backbone(images)
    assert torch.equal(trained_part(network)(maps), network(images))
    unfreeze(network, 2)
    assert backbone_of(network).cut == "stem"
    assert torch.equal(trained_part(network)(network.backbone.stages.stem(images)), network(images))


def test_a_backbone_stays_in_evaluation_mode():
    network = SPACE.build(parse(f"cut=stage1 projection=0 cells=0 {REST}"), input_shape=(3, 16, 16), n_classes=3)
    network.train()
    assert network.head.training
    assert not any(module.training for module in network.backbone.modules())


def test_frozen_cuts_are_those_in_front_of_the_trained_stages():
    assert frozen_cuts(("a", "b", "c"), ("b", "c"), 1) == ("a", "b")
    assert frozen_cuts(("a", "b", "c"), ("b", "c"), 2) == ("a",)


def test_spaces_can_be_pickled_before_and_after_loading():
    again = pickle.loads(pickle.dumps(BackboneSpace(cuts=("stage1",))))
    assert again.pretrained().digest == SPACE.pretrained().digest
    assert pickle.loads(pickle.dumps(again)).settings == again.settings


def test_loading_a_backbone_draws_no_random_numbers():
    from nasx.backbones import load

    torch.manual_seed(0)
    expected = torch.rand(3)
    for clear in (getattr(each, "cache_clear", None) for each in vars(load).values()):
        if clear:
            clear()
    torch.manual_seed(0)
    SPACE.pretrained()
    assert torch.equal(torch.rand(3), expected)


def test_names_of_genes_and_choices_need_no_torch():
    code = (
        "import sys, nasx; from nasx.spaces.backbone import BackboneSpace; space = BackboneSpace(); "
        "[space.allele_names(gene) for gene in range(len(space.gene_names))]; "
        "assert space.describe(space.canonical((0,) * 12)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --- what may be wrong with the settings


TINY = ["space=backbone", "dataset.train_images=40", "algorithm=random", "algorithm.evaluations=4"]
MISTAKES = {
    "space.cuts=[stage1,stge2]": r"space\.cuts must be stages of efficientnet_lite0, got 'stge2'\. "
    r"Did you mean stage2\?",
    "space.backbone=efficientnet_lte0": r"space\.backbone must be .*'efficientnet_lte0'",
    "space.weights=absent.pt": r"absent\.pt",
    "space.cuts=[stage3]": r"space\.cuts must leave feature maps of at least 2 x 2 pixels: after stage3, pictures of "
    r"12 x 12 are 1 x 1; use larger pictures \(dataset\.image_size=32\) or cut earlier: space\.cuts=\[stage2\]",
    "space.cuts=[stage5]": r"pictures of 12 x 12 are too small for stage5; .*\(dataset\.image_size=32\)",
    "space.cuts=[conv_head]": r"pictures of 12 x 12 are too small for conv_head; .*\(dataset\.image_size=64\)",
    "training.unfreeze=3": r"training\.unfreeze must be at most 1 for the stages stem, stage1, got 3",
    "training.views=0": r"training\.views must be",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_settings_is_one_line_before_any_training(mistake, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cuts = [] if "cuts" in mistake else ["space.cuts=[stage1]"]
    with pytest.raises(NasxError, match=MISTAKES[mistake]) as caught:
        prepare(compose("lines", [*TINY, *cuts, mistake]))
    assert "\n" not in str(caught.value)


class EvenSides(nn.Module):
    """Refuses some images by an error of its own."""

    def forward(self, x):
        assert x.shape[2] % 16 == 0, "sides must be multiples\nof 16"
        return x


@pytest.mark.parametrize("first", [nn.Conv2d(3, 4, 16, 2), EvenSides()], ids=["too large a kernel", "an assertion"])
def test_a_stage_that_refuses_the_images_is_one_line_with_the_size_to_set(first, monkeypatch):
    backbone = replace(tiny_backbone(), stages=nn.Sequential(OrderedDict(blocks=first)))
    space = BackboneSpace(cuts=("blocks",))
    monkeypatch.setattr(space, "pretrained", lambda: backbone)
    with pytest.raises(SettingError, match=r"pictures of 12 x 12 are too small for blocks; .*image_size=32\)$"):
        space.build((0,) * 12, input_shape=(3, 12, 12), n_classes=2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("cuts", ()),
        ("cuts", ("stage1", "stage1")),
        ("projections", ()),
        ("projections", (-1,)),
        ("poolings", ("sum",)),
        ("heads", ("tree",)),
        ("dropouts", (1.0,)),
        ("hidden", 0),
        ("max_cells", -1),
    ],
)
def test_values_that_are_no_choices_are_refused(setting, value):
    with pytest.raises(SettingError, match=rf"^{setting}\b"):
        BackboneSpace(**{setting: value})


def test_unfreezing_needs_a_backbone():
    config = compose("lines", ["dataset.train_images=40", "training.unfreeze=1"])
    with pytest.raises(SettingError, match=r"training\.unfreeze needs a space with a backbone, got 1; set it to 0"):
        prepare(config)


def test_as_many_stages_of_gray_as_of_color_images_can_be_trained():
    for channels in (1, 3):
        genotype = parse(f"cut=stage2 projection=0 cells=0 {REST}")
        network = SPACE.build(genotype, input_shape=(channels, 16, 16), n_classes=3)
        unfreeze(network, 2)
        assert backbone_of(network).cut == "stem"
        with pytest.raises(SettingError, match=r"must be at most 2"):
            unfreeze(network, 3)
