"""Commands on networks with a frozen backbone: they work on its features, and agree with the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.data.batches import Pixels
from nasx.diagnostics.debug import debug
from nasx.diagnostics.explain import explain
from nasx.diagnostics.explain_image import BACKBONE_DRAWS, draws_for, shap_images
from nasx.experiment import Experiment
from nasx.introspection.layers import evaluation_mode
from nasx.networks.backbone import Backbone
from nasx.runs.stored_run import open_run
from nasx.workflows.trained_network import trained_network


@pytest.fixture
def experiment(heads_run):
    return Experiment.of_run(heads_run)


@pytest.fixture
def network(heads_run, experiment):
    return trained_network(heads_run, front_trials(heads_run)[0], experiment).network


@pytest.fixture
def images_seen(monkeypatch):
    """Numbers of images in the passes through stages of a backbone."""
    seen = []
    forward = Backbone.forward

    def count(self, x):
        if len(self.stages):
            seen.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(Backbone, "forward", count)
    return seen


def test_debugging_passes_no_image_through_the_backbone_and_finds_the_same(network, experiment, images_seen):
    found = debug(network, experiment.data, distances={})
    assert images_seen == []

    without = Pixels(experiment.data.validation, mean=experiment.data.mean, std=experiment.data.std)
    with torch.no_grad(), evaluation_mode(network):
        whole = torch.softmax(network(without[:]), dim=1).numpy()
    n_train = len(experiment.data.train)
    np.testing.assert_allclose(found.suspects.probabilities[n_train:], whole, atol=2e-3)
    assert found.suspects.train is experiment.data.train  # pictures, not feature maps


def test_an_explanation_passes_only_the_shown_images_through_the_backbone(network, experiment, images_seen):
    lines = []
    found = explain(network, experiment.data, scorer=experiment.scorer, samples_per_class=1, report=lines.append)

    assert found.draws == BACKBONE_DRAWS
    per_sample = -(-BACKBONE_DRAWS // 16)
    assert len(images_seen) == per_sample * len(found.samples)  # both classes of an image in one pass
    assert 0 < found.completeness < 0.5
    assert lines[1].startswith(f"SHAP values: image 2 of {len(found.samples)}, ETA ")
    assert next(iter(found.layer_distances)) == "backbone"


def test_shap_values_through_a_backbone_sum_to_the_difference_of_the_logits(network, experiment):
    pixels = Pixels(experiment.data.validation, mean=experiment.data.mean, std=experiment.data.std)
    background = pixels[:20]
    with evaluation_mode(network), torch.no_grad():
        gaps = network(pixels[20:21])[0] - network(background).mean(dim=0)
    values = shap_images(network, pixels[20], background, [1, 0], draws=BACKBONE_DRAWS, seed=0)

    assert values.shape == (2, *experiment.data.shape)
    sums = values.sum(axis=(1, 2, 3))
    assert abs(sums - gaps[[1, 0]].numpy()).max() < 0.35 * abs(gaps).max()
    again = shap_images(network, pixels[20], background, [0], draws=BACKBONE_DRAWS, seed=0)
    np.testing.assert_allclose(again[0], values[1], rtol=1e-5, atol=1e-7)


def test_without_a_backbone_all_draws_are_made():
    assert draws_for(torch.nn.Sequential(torch.nn.Flatten()), 200) == 200


@pytest.mark.parametrize("cells", [0, 1])
def test_only_a_network_with_cells_has_a_picture_of_them(heads_run, tmp_path, capsys, cells):
    with open_run(heads_run) as run:
        found = [
            trial for trial in run.journal.trials() if f"cells={cells}" in trial.architecture and trial.is_complete
        ]
    trial = found[0]
    command = f"explain --run-dir {heads_run} --arch-id {trial.arch_id} --samples 1 --out {tmp_path / 'out'}"
    assert main(command.split()) == 0
    assert (tmp_path / "out/cell.png").exists() == bool(cells)
    page = (tmp_path / "out/explanation.md").read_text()
    assert "they miss it by" in page
    assert ("on top of the backbone, as cell1" in page) == bool(cells)
    assert "tiny up to stage" in page
    assert "numbers drawn from a seed; license Apache-2.0" in page


def test_folds_planted_errors_and_a_repair_are_trained_on_the_features(heads_run, tmp_path, images_seen, capsys):
    trial = front_trials(heads_run)[0]
    command = f"debug --run-dir {heads_run} --arch-id {trial.arch_id} --folds 2 --plant --out {tmp_path / 'out'}"
    repair = ["--repair", "none", "vertical", "--seeds", "1"]
    assert main([*command.split(), "--review", *repair]) == 0
    assert (tmp_path / "out/review.html").exists()
    assert images_seen == []
