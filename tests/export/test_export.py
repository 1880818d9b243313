"""`nasx export`: files with the outputs of the network, usable without nasx, and their model card."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import nasx
from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.errors import ConfigError, DataError, ResourceError, RunError
from nasx.experiment import Experiment
from nasx.export import formats
from nasx.export.card import model_card
from nasx.export.deployed import Deployed, Description
from nasx.export.export import export
from nasx.export.formats import check_outputs
from nasx.export.load import find_model, load_model

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnxscript", "onnxruntime"))), reason="the extra onnx is not installed"
)
FORMATS = [pytest.param("onnx", marks=needs_onnx), "torch", "safetensors"]


@pytest.fixture
def images(searched) -> np.ndarray:
    return Experiment.of_run(searched).data.validation.images[:20]


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_has_the_outputs_of_the_network(exported, source, searched, images, name):
    data = Experiment.of_run(searched).data
    pixels = (torch.from_numpy(images) / 255 - data.mean.item()) / data.std.item()
    with torch.no_grad():
        logits = source.network(pixels)

    probabilities, confidence = load_model(exported(name), trust=True).run(images)

    assert (probabilities.argmax(1) == logits.argmax(1).numpy()).all()
    assert probabilities == pytest.approx((logits / source.confidence.temperature).softmax(1).numpy(), abs=1e-4)
    assert ((confidence >= 0) & (confidence <= 1)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_describes_its_classes_and_images(exported, name):
    description = load_model(exported(name), trust=True).description

    assert description.class_names == ("none", "horizontal", "vertical", "diagonal")
    assert description.shape == (1, 12, 12)
    assert json.loads((exported(name) / "model.json").read_text())["arch_id"] == description.arch_id


def test_the_card_contains_data_recipe_figures_and_limits(source):
    card = model_card(source, ["onnx"])

    assert card.startswith("# lines: 4 classes\n")
    headings = ("Use", "Input and output", "Data", "Figures", "Class by class", "Known confusions", "Recipe", "Limits")
    assert re.findall("^## (.*)$", card, re.MULTILINE) == list(headings)
    assert "Weights of the search, trained briefly on 240 images; use `nasx train` for a final training." in card
    assert "test error | unknown: these weights were not tested" in card
    assert "calibrated on 60 images that\n  were not used for training" in card


def test_class_names_cannot_break_the_card(source):
    hostile = ("a|b", "<script>", "x\n# y", "'); import os #")
    described = Description(**{**vars(source.description), "class_names": hostile, "dataset": "# <b>"})

    report = replace(source.report, class_names=hostile)
    card = model_card(replace(source, description=described, report=report), ["onnx", "torch"])

    assert card.startswith("# \\# \\<b\\>: 4 classes\n")
    assert "<script>" not in card.replace("'<script>'", "").replace("\\<script\\>", "")  # in the code only, as a string
    assert "\n# y" not in card
    codes = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        compile(code, "card", "exec")


@pytest.mark.parametrize("name", ["safetensors"])
def test_the_final_training_is_exported_if_there_is_one(run_dir, tmp_path, capsys, name):
    trial = front_trials(run_dir)[0]
    call = [f"--run-dir={run_dir}", f"--arch-id={trial.arch_id}"]
    assert main(["export", *call, f"--format={name}", f"--out={tmp_path / 'before'}"]) == 0
    assert "Weights of the search" in capsys.readouterr().err
    assert main(["train", *call, "training.epochs=1", "training.batch_size=16"]) == 0

    assert main(["export", *call, f"--format={name}", f"--out={tmp_path / 'after'}"]) == 0

    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "after" / "model.safetensors")
    assert "Final training on 285 images, with the first of 1 seed; not selected by its test error." in err
    card = (tmp_path / "after" / "README.md").read_text()
    assert "of 100 images" in card
    assert "test-set evaluations by networks of this search | 1 |" in card


def test_a_file_with_other_outputs_than_the_network_is_rejected(source, tmp_path):
    model = Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval()

    def wrong(images):
        probabilities, confidence = formats.run_module(model)(images)
        return probabilities + 0.001, confidence

    with pytest.raises(
        RunError, match=r"and the network have different outputs: for 1 images they differ by 0\.001, more"
    ):
        check_outputs(model, wrong, source.description, tmp_path / "model.onnx")


def test_a_missing_package_is_reported_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)

    with pytest.raises(
        ResourceError, match=r"ONNX needs the package onnxscript: pip install onnx onnxscript onnxruntime"
    ):
        formats.require_onnx("onnxscript")


def test_the_model_of_a_directory_is_found(exported):
    assert find_model(exported("safetensors")).name == "model.safetensors"


@pytest.fixture
def both(source, tmp_path) -> Path:
    """Directory with the network in two formats."""
    for name in ("safetensors", "torch"):
        export(source, name, tmp_path / "both")
    return tmp_path / "both"


def test_the_card_covers_every_format_in_the_directory(both):
    card = (both / "README.md").read_text()

    assert "in `model.pt2`, `model.safetensors`, written by nasx" in card
    assert card.count("```python") == 2


def test_the_model_of_a_directory_is_one_that_can_be_opened(both, capsys):
    assert find_model(both).name == find_model(both, trust=True).name == "model.safetensors"

    (both / "model.safetensors").unlink()
    assert find_model(both, trust=True).name == "model.pt2"
    with pytest.raises(DataError, match=r"contains no model that can be opened: model\.pt2 is .*: use --trust"):
        find_model(both)


def test_without_the_packages_of_onnx_another_format_is_taken_or_the_command_that_installs_them_named(
    both, monkeypatch
):
    (both / "model.onnx").touch()
    assert find_model(both).name == ("model.onnx" if find_spec("onnxruntime") else "model.safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert find_model(both).name == "model.safetensors"

    (both / "model.safetensors").unlink()
    with pytest.raises(
        DataError, match=r"model\.onnx needs the package onnxruntime: pip install onnx .*; model\.pt2 is"
    ):
        find_model(both)


def test_a_directory_has_files_of_one_network_only(source, both, capsys):
    weights = {name: value + 0.01 for name, value in source.network.state_dict().items() if value.is_floating_point()}
    other = copy.deepcopy(source.network)
    other.load_state_dict(weights, strict=False)
    before = {file.name: file.read_bytes() for file in both.iterdir()}

    with pytest.raises(RunError, match=r"contains model\.pt2 of other weights .* choose another directory with --out"):
        export(replace(source, network=other), "safetensors", both)

    assert before == {file.name: file.read_bytes() for file in both.iterdir()}
    (both / "model.pt2").unlink()
    export(replace(source, network=other), "safetensors", both)  # replaces the only file


def test_figures_of_the_card_are_those_of_the_validation_images(source, searched):
    data = Experiment.of_run(searched).data.validation
    card = model_card(source, ["torch"])

    assert source.report.n_images == len(data) == 60
    wrong = source.report.n_errors
    assert f"({wrong} of 60 validation images); macro error" in card
    for c, name in enumerate(data.class_names):
        right, n = source.report.confusion[c, c], source.report.support[c]
        assert re.search(rf"^\| {name} \| {n}[ †]* \| [\d.]+ % \({right} of {n}\)", card, re.MULTILINE)
    if wrong:
        true, predicted, times = source.report.confusions()[0]
        names = data.class_names
        assert (
            f"- {times} of {source.report.support[true]} images of {names[true]} predicted as {names[predicted]}."
            in card
        )


def test_a_network_exports_itself_and_the_file_predicts_in_python(searched, tmp_path, images):
    network = nasx.load_run(searched).front()[0]

    file = network.export(format="safetensors", out=tmp_path / "here")
    model = nasx.load_model(file)

    assert file == model.path == tmp_path / "here/model.safetensors"
    assert (model.arch_id, model.dataset, model.shape) == (network.arch_id, "lines", (1, 12, 12))
    expected, found = network.predict(images), model.predict(images)
    assert found.classes == expected.classes
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    with pytest.raises(ConfigError, match=r"format must be one of onnx, torch, safetensors, got 'keras'"):
        network.export(format="keras")


def test_an_export_of_a_space_that_no_weights_file_may_name_is_refused(source, tmp_path):
    rebuild = {**source.description.rebuild, "space": {"_target_": "my_spaces.Space"}}

    with pytest.raises(
        DataError, match=r"needs the space my_spaces\.Space, but a weights file may only name spaces of"
    ):
        export(replace(source, description=replace(source.description, rebuild=rebuild)), "safetensors", tmp_path)

    assert not list(tmp_path.iterdir())
