"""`nasx export`: files with the outputs of the network, usable without nasx, and their model card."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.errors import ResourceError, RunError
from nasx.experiment import Experiment
from nasx.export import formats
from nasx.export.deployed import Deployed, Description
from nasx.export.export import model_card
from nasx.export.formats import check_outputs
from nasx.export.predict import find_model, load_model

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnxscript", "onnxruntime"))), reason="the extra onnx is not installed"
)
FORMATS = [pytest.param("onnx", marks=needs_onnx), "torch", "safetensors"]
FORBID_NASX = "import sys\nsys.modules['nasx'] = None\n"


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


@pytest.mark.parametrize("name", FORMATS)
def test_the_five_lines_of_the_card_work_without_nasx(exported, images, name):
    code = re.search(r"```python\n(.*?)```", (exported(name) / "README.md").read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 5
    Image.fromarray(images[0, 0]).save(exported(name) / "image.png")

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORBID_NASX + code],
        cwd=exported(name), capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    if name != "safetensors":
        answer = load_model(exported(name), trust=True).run(images[:1])
        label, probability, confidence = done.stdout.split()
        assert label == load_model(exported(name), trust=True).description.class_names[answer[0][0].argmax()]
        assert float(probability) == pytest.approx(answer[0].max(), abs=1e-4)
        assert float(confidence) == pytest.approx(answer[1][0], abs=1e-4)


def test_the_card_contains_data_recipe_figures_and_limits(source):
    card = model_card(source, "onnx", "model.onnx")

    for heading in ("## Use", "## Data", "## Figures", "## Recipe", "## Limits"):
        assert heading in card
    assert "Weights of the search, trained briefly on 240 images; use `nasx train` for a final training." in card
    assert "test error | unknown: these weights were not tested" in card
    assert "The confidence was calibrated on 60 images that were not used for training." in card


def test_class_names_cannot_break_the_card(source):
    hostile = ("a|b", "<script>", "x\n# y", "'); import os #")
    described = Description(**{**vars(source.description), "class_names": hostile})

    card = model_card(type(source)(**{**vars(source), "description": described}), "onnx", "model.onnx")

    assert "<script>" not in card.replace("'<script>'", "")  # only in the code, as a string
    assert "\n# y" not in card
    compile(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], "card", "exec")


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
