"""A run on a backbone: its weights are part of its data, its code is not trusted, and its networks are exported."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from nasx.backbones import load
from nasx.config.compose import compose
from nasx.data.batches import Pixels
from nasx.diagnostics.confidence import fit_confidence
from nasx.errors import NasxError, RunError
from nasx.evaluation.weights import load_weights, save_weights
from nasx.experiment import Experiment
from nasx.export.deployed import Deployed, Description
from nasx.export.export import export
from nasx.export.load import checked_space, load_model
from nasx.export.source import Source
from nasx.runs.stored_run import ReadOptions
from nasx.workflows.search import start
from tests.factories import model_libraries as libraries
from tests.factories.networks import with_seeded_weights

NAMES = {"code": "own_nets:mine", "library": "timm:resnet_mini"}
OVERRIDES = [
    *("space=backbone", "space.projections=[0,4]", "space.hidden=4", "training=backbone", "training.views=1"),
    *("training.epochs=1", "training.batch_size=12", "training.learning_rate=0.1", "training.unfreeze=1"),
    *("dataset.train_images=60", "dataset.noise=0", "space.cuts=[layer1,layer2]", "execution=serial", "seed=3"),
    *("algorithm=random", "algorithm.evaluations=1", "scorer=activations", "~scorer@also_scored.activations"),
]


def weights_of(seed: int, file: Path) -> Path:
    torch.save(with_seeded_weights(libraries.ResNet(), seed).state_dict(), file)
    return file


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Change to a directory with a function of a backbone, weights, and a stand-in for timm."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "timm", libraries.stand_in_timm())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text("from tests.factories.model_libraries import ResNet as mine\n")
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    weights_of(1, tmp_path / "own.pt")
    return tmp_path


def words_of(kind: str, weights: Path) -> list[str]:
    return [*OVERRIDES, f"space.backbone={NAMES[kind]}", f"space.weights={weights}"]


def searched(kind: str) -> Path:
    run = Path("run")
    start(compose("lines", words_of(kind, Path("own.pt"))), run_dir=run)
    return run


def explained(run: Path, *words: str) -> str:
    """Return the message of reading the data of a run."""
    trusts = "--trust-code" in words
    overrides = tuple(word for word in words if "=" in word)
    try:
        _ = Experiment.of_run(run, ReadOptions(overrides, trust_code=trusts)).data
    except NasxError as error:
        return str(error)
    return ""


def test_a_run_knows_the_weights_of_its_backbone(here):
    run = searched("code")

    assert "space.backbone names the function own_nets:mine, which would be called" in explained(run)
    assert explained(run, "--trust-code") == ""
    shutil.move("own.pt", "moved.pt")
    assert explained(run, "--trust-code", "space.weights=moved.pt") == ""
    assert "the file of space.weights is gone" in explained(run, "--trust-code")
    weights_of(2, here / "own.pt")
    message = explained(run, "--trust-code")
    assert "the file of space.weights has other content" in message
    assert "Name the place of the run's data, as in space.weights=FILE" in message
    # weights that belong to the name: another version of its package
    weights_of(1, here / "own.pt")
    sys.modules["own_nets"].mine.preprocessing = {"size": 64}
    load._load.cache_clear()
    assert "the backbone own_nets:mine with" in explained(run, "--trust-code")
    del sys.modules["own_nets"].mine.preprocessing


def test_stored_weights_are_refused_on_another_backbone(here):
    def experiment(weights: Path) -> Experiment:
        return Experiment.from_config(compose("lines", words_of("library", weights)))

    def network(weights: Path):
        own = experiment(weights)
        return own.untrained((0,) * len(own.space.gene_sizes), seed=0)

    trained = network(here / "own.pt")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    save_weights(trained, here / "head.safetensors")
    other = weights_of(2, here / "other.pt")

    again = network(here / "own.pt")
    load_weights(again, here / "head.safetensors")

    # the last stage was trained, too; the first one is that of the backbone
    expected, found = trained.state_dict(), again.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found if "stages.layer1." in name)
    assert torch.equal(found["backbone.stages.relu.conv1.weight"] + 1, expected["backbone.stages.relu.conv1.weight"])
    with safe_open(here / "head.safetensors", "pt") as stored:
        assert not [name for name in stored.keys() if "backbone.stages.relu" in name]  # noqa: SIM118 - no mapping
    with pytest.raises(RunError, match=r"head\.safetensors were trained on a backbone with other weights\. Restore"):
        load_weights(network(other), here / "head.safetensors")


@pytest.mark.parametrize("format_name", ["onnx", "torch", "safetensors"])
def test_a_network_on_a_backbone_is_exported_with_all_weights(here, monkeypatch, format_name):
    if format_name == "onnx":
        pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    source, images = source_of("library", here), np.arange(2 * 12 * 12).astype(np.uint8).reshape(2, 1, 12, 12)

    files = export(source, format_name, here / "out")
    (here / "own.pt").unlink()
    load._load.cache_clear()
    if format_name != "safetensors":
        monkeypatch.delitem(sys.modules, "timm")

    model = Deployed(source.network, source.confidence, mean=source.mean, std=source.std)
    found, _ = load_model(files[0], trust=True).run(images)
    np.testing.assert_allclose(found, model(torch.from_numpy(images))[0].detach(), atol=1e-5)
    assert b"own.pt" not in files[0].read_bytes()


def test_a_network_on_a_function_is_not_exported_as_weights_that_need_code(here):
    source = source_of("code", here)

    with pytest.raises(NasxError, match=r"needs the backbone own_nets:mine, but a weights file .* as onnx or torch\.$"):
        export(source, "safetensors", here / "out")
    assert export(source, "torch", here / "out")


@pytest.mark.parametrize("backbone", ["own_nets:mine", "transformers:.", 3])
def test_a_model_file_that_names_code_is_refused_before_anything_is_imported(here, backbone):
    (here / "own_nets.py").write_text("raise SystemExit")
    node = {"_target_": "nasx.spaces.backbone.BackboneSpace", "backbone": backbone, "weights": "own.pt"}

    with pytest.raises(NasxError, match=r"m\.safetensors needs the backbone .*, but a weights file may only name"):
        checked_space(node, "m.safetensors")
    assert "weights" not in checked_space({**node, "backbone": "timm:resnet_mini"}, "m.safetensors")


def source_of(kind: str, here: Path) -> Source:
    """Return the source of an export of an untrained network."""
    experiment = Experiment.from_config(compose("lines", words_of(kind, here / "own.pt")))
    genotype = (0,) * len(experiment.space.gene_sizes)
    network, data = experiment.untrained(genotype, seed=0).eval(), experiment.data
    held_out = Pixels(data.validation, mean=data.mean, std=data.std)
    confidence = fit_confidence(network, held_out, held_out.labels, n_classes=data.n_classes)
    mean, std = tuple(data.mean.tolist()), tuple(data.std.tolist())
    node = {**experiment.config.space}
    rebuild = {"space": node, "genotype": list(genotype), "mean": mean, "std": std, "confidence": confidence.as_dict()}
    description = Description("0123456789", "x", data.train.class_names, data.shape, "lines", "0.1.0", rebuild=rebuild)
    return Source(network, confidence, mean, std, description, "", {}, {}, 10)
