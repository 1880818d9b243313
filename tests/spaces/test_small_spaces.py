"""Spaces of small networks: of one or two stages before the head; and scorers that do not fit a space."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import nasx
from nasx.config.compose import compose
from nasx.errors import ConfigError
from nasx.experiment import prepare
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer, stage_probes
from nasx.runs.stored_run import open_run
from nasx.trial import TrialStatus
from nasx.workflows import search as searching
from tests.factories.runs import OVERRIDES


class Plain:
    """A user's space: as many stages as asked for, and a head; its gene is the width."""

    name = "plain"
    gene_sizes = (3,)
    gene_names = ("width",)

    def __init__(self, *, stages: int) -> None:
        self.stages = stages

    @property
    def settings(self):
        return {"stages": self.stages}

    def allele_names(self, gene):
        return ("2", "4", "8")

    def canonical(self, genotype):
        return genotype

    def is_connected(self, genotype):
        return True

    def describe(self, genotype):
        return self.allele_names(0)[genotype[0]]

    def parse(self, text):
        return (self.allele_names(0).index(text),)

    def build(self, genotype, *, input_shape, n_classes):
        channels, height, width = input_shape
        filters = 2 << genotype[0]
        stages = OrderedDict()
        for number in range(self.stages):
            conv = nn.Conv2d(filters if number else channels, filters, 3, padding=1)
            stages[f"stage{number + 1}"] = nn.Sequential(conv, nn.ReLU())
        inputs = filters if self.stages else channels * height * width
        pool = [nn.AdaptiveAvgPool2d(1)] if self.stages else []
        stages["head"] = nn.Sequential(*pool, nn.Flatten(), nn.Linear(inputs, n_classes))
        return nn.Sequential(stages)


def config_of(tmp_path, *overrides, stages=None):
    config = compose("lines", [*OVERRIDES, "execution=serial", f"runs_dir={tmp_path}", *overrides])
    return config if stages is None else {**config, "space": {"_target_": f"{__name__}.Plain", "stages": stages}}


@pytest.mark.parametrize(
    ("stages", "expected"),
    [(1, ["stage1"]), (2, ["stage1"]), (3, ["stage1", "stage2"]), (4, ["stage1", "stage2", "stage3"])],
)
def test_a_network_is_cut_after_all_stages_but_the_last_unless_it_has_only_one(stages, expected):
    network = Plain(stages=stages).build((0,), input_shape=(1, 8, 8), n_classes=4)

    assert [probe.name for probe in stage_probes(network)] == expected


@pytest.mark.parametrize("scorer", [ShapScorer(samples_per_class=3, draws=2, background=4), ActivationScorer()])
@pytest.mark.parametrize("stages", [1, 2])
def test_scorers_work_on_networks_of_one_and_two_stages(scorer, stages):
    network = Plain(stages=stages).build((1,), input_shape=(1, 8, 8), n_classes=4).eval()
    images = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    score = scorer.score(network, images, torch.arange(24) % 4, n_classes=4, seed=0)

    assert 0 <= score.value <= 2


@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (["space=chain", "space.max_depth=1", "space.widths=[4,6]"], None),
        (["space=chain", "space.max_depth=2", "space.widths=[4]"], None),
        ([], 1),
        ([], 2),
    ],
)
def test_a_space_of_small_networks_is_searched(words, stages, tmp_path):
    config = config_of(tmp_path, *words, "algorithm.evaluations=2", stages=stages)

    searching.start(config, run_dir=tmp_path / "run")

    with open_run(tmp_path / "run") as run:
        outcomes = [trial.status for trial in run.journal.trials()]
    assert outcomes
    assert TrialStatus.FAILED not in outcomes


def test_a_network_of_one_stage_is_explained(tmp_path):
    words = ["training.epochs=8", "algorithm.evaluations=3"]
    searching.start(config_of(tmp_path, *words, stages=1), run_dir=tmp_path / "run")
    run = nasx.load_run(tmp_path / "run", trust_code=True)

    network = run.front()[0]

    assert "Which classes it separates" in repr(network.explain(samples=1))


@pytest.mark.parametrize(
    ("words", "stages", "message"),
    [
        ([], 0, r"^scorer does not fit the networks of the space plain: probes need .* before the head, got head$"),
        (["scorer.probes=[stage5]"], 2, r"^scorer does not fit .* plain: probes must be stages .*, got 'stage5'"),
        (["also_scored.activations.layers=[x]"], 1, r"^also_scored\.activations does not fit .*: layers must be modul"),
    ],
)
def test_a_scorer_that_fits_no_network_is_refused_before_the_first_training(words, stages, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        prepare(config_of(tmp_path, *words, stages=stages))


def test_activations_need_a_convolution_or_an_activation(tmp_path):
    config = config_of(tmp_path, stages=0)

    with pytest.raises(ConfigError, match=r"^scorer does not fit .*: layers must have a convolution or activation"):
        prepare({**config, "scorer": config["also_scored"]["activations"]})


def test_a_stage_that_only_some_networks_have_is_accepted(tmp_path):
    prepare(config_of(tmp_path, "space=chain", "space.max_depth=3", "space.widths=[4]", "scorer.probes=[layer2]"))
