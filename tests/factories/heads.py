"""A tiny backbone with drawn weights, and a run of a real search on top of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

from nasx.backbones import load
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.config.compose import compose
from nasx.workflows import search as searching
from tests.factories.networks import conv_block, with_seeded_weights
from tests.factories.runs import OVERRIDES

NAME = "tiny"
SETTINGS = [
    *("space=backbone", f"space.backbone={NAME}", "space.cuts=[stage1,stage2]", "space.projections=[0,4]"),
    *(
        "space.hidden=4",
        "training=backbone",
        "training.views=2",
        "training.learning_rate=0.1",
        "execution=serial",
        "seed=3",
    ),
]


def load_tiny(weights: Path | None = None) -> Pretrained:
    """Return a backbone of three stages: `stem`, `stage1`, `stage2`, with 4, 6 and 8 channels."""
    stages = OrderedDict(stem=conv_block(3, 4, stride=2), stage1=conv_block(4, 6), stage2=conv_block(6, 8))
    drawn = with_seeded_weights(nn.Sequential(stages))
    return Pretrained(
        name=NAME,
        stages=drawn.requires_grad_(False),
        preprocessing=Preprocessing(size=16),
        source="numbers drawn from a seed",
        license="Apache-2.0",
        data="nothing",
    )


@contextmanager
def tiny_backbone(cache: Path) -> Iterator[None]:
    """Let `space.backbone=tiny` be known in the block, with its features in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(load.NAMES, NAME, load_tiny)
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


def search_on_backbone(run_dir: Path) -> Path:
    """Search six heads on the tiny backbone into `run_dir`, and return it."""
    own = [word for word in OVERRIDES if not word.startswith(("space.", "execution."))]
    words = [*own, *SETTINGS, "training.epochs=8", "algorithm.evaluations=6"]
    searching.start(compose("lines", [*words, f"runs_dir={run_dir.parent}"]), run_dir=run_dir)
    return run_dir
