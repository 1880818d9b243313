"""The code of a model card, run as a user runs it, has the results of `nasx predict` on pictures of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nasx.cli.main import main
from nasx.data.decoding import decode
from nasx.diagnostics.confidence import fit_confidence
from nasx.errors import DataError
from nasx.export.deployed import Description, read_description
from nasx.export.export import export
from nasx.export.load import load_model
from nasx.export.predict import read_for
from nasx.export.source import Source
from nasx.spaces.nb201 import NASBench201
from tests.factories.pictures import KINDS, write_pictures

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnxscript", "onnxruntime"))), reason="the extra onnx is not installed"
)
FILES = {"onnx": "model.onnx", "torch": "model.pt2", "safetensors": "model.safetensors"}
FORMATS = [pytest.param("onnx", marks=needs_onnx), "torch", "safetensors"]
FORBID_NASX = "import sys\nsys.modules['nasx'] = None\n"
NAMES = ("a cat", "dog's", "x\\y", "ship")
N = 250


@pytest.fixture(scope="module")
def color_source() -> Source:
    """A network for 20 x 12 pixels in color, whose answers depend strongly on the input."""
    torch.manual_seed(0)
    shape = (3, 12, 20)
    space = {"_target_": "nasx.spaces.nb201.NASBench201", "channels": 4, "cells": 1}
    genotype = (3, 2, 1, 4, 3, 2)
    network = NASBench201(channels=4, cells=1).build(genotype, input_shape=shape, n_classes=len(NAMES)).eval()
    head = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        images, labels = torch.randn(64, *shape), torch.arange(64) % len(NAMES)
        head.bias -= network(images).mean(dim=0)
        head.weight *= 20
        head.bias *= 20
    confidence = fit_confidence(network, images, labels, n_classes=len(NAMES))
    mean, std = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)
    about = Description("0123456789", "|x|", NAMES, shape, "holiday photos", "0.1.0", value_range=(0.0, 4095.0))
    about = replace(about, interpolation="bilinear")
    rebuild = {
        "space": space,
        "genotype": list(genotype),
        "mean": mean,
        "std": std,
        "confidence": confidence.as_dict(),
    }
    return Source(network, confidence, mean, std, replace(about, rebuild=rebuild), "Made up.", {}, {}, 64)


@pytest.fixture(scope="module")
def deployed(color_source, tmp_path_factory) -> Path:
    """Directory with the network in all formats."""
    directory = tmp_path_factory.mktemp("deployed")
    for name in ("safetensors", "torch", *(["onnx"] if find_spec("onnxscript") else [])):
        export(color_source, name, directory)
    return directory


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, N)
    return folder


def code_of(card: str, file: str) -> str:
    """Return the code block of a card that loads a file."""
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if f'"{file}"' in block)
    return code


def run_code(directory: Path, file: str, pictures: list[Path]) -> list[tuple[str, str, float, float]]:
    """Run the card's code in a new process, without nasx if it needs none."""
    prefix = "" if file.endswith(".safetensors") else FORBID_NASX
    code = prefix + code_of((directory / "README.md").read_text(), file)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, pictures)],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [(path, name, float(probability), float(confidence)) for path, name, probability, confidence in rows]


def squash(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGBA").convert("RGB").resize((20, 12)))


@pytest.mark.parametrize("name", FORMATS)
def test_the_code_of_the_card_classifies_as_predict_does(deployed, pictures, capsys, name):
    assert main(["predict", str(deployed / FILES[name]), str(pictures), "--trust", "--format=json"]) == 0
    expected = json.loads(capsys.readouterr().out)

    found = run_code(deployed, FILES[name], [Path(row["file"]) for row in expected])

    assert len(found) == len(expected) == N
    for (path, label, probability, confidence), row in zip(found, expected, strict=True):
        assert (path, label) == (row["file"], row["class"])
        assert probability == pytest.approx(row["probability"], abs=1e-4)
        assert confidence == pytest.approx(row["confidence"], abs=1e-4)


def test_the_pictures_would_show_another_preprocessing(deployed, pictures, capsys):
    """Squashed pictures without EXIF, transparency and value range have other classes: the test above can fail."""
    main(["predict", str(deployed / "model.safetensors"), str(pictures), "--format=json"])
    expected = [row["class"] for row in json.loads(capsys.readouterr().out)]
    model = load_model(deployed / "model.safetensors")

    squashed = [squash(file) for file in sorted(pictures.iterdir())]
    found = model.run(np.stack(squashed).transpose(0, 3, 1, 2).copy())[0].argmax(axis=1)

    assert sum(NAMES[i] != name for i, name in zip(found, expected, strict=True)) > N / 10
    assert len(set(expected)) == len(NAMES)


def test_the_pictures_are_of_every_kind(pictures):
    modes = set()
    for file in pictures.iterdir():
        with Image.open(file) as image:
            modes.add(image.mode)

    assert {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"} <= modes
    assert len(list(pictures.iterdir())) >= 2 * len(KINDS)


def test_the_shipped_preprocessing_is_the_code_that_reads_training_images(deployed):
    import nasx.data.decoding

    header, _, code = (deployed / "preprocess.py").read_text().partition("\n")

    assert header.startswith("# Preprocessing of the model in this directory, from nasx ")
    assert code == Path(nasx.data.decoding.__file__).read_text()


def test_the_card_predict_and_the_description_use_the_interpolation_of_the_training_images(deployed, pictures):
    about = load_model(deployed / "model.safetensors").description
    picture = sorted(pictures.iterdir())[0]

    assert 'interpolation="bilinear"' in code_of((deployed / "README.md").read_text(), "model.pt2")
    assert "by bilinear interpolation" in (deployed / "README.md").read_text()
    expected = decode(picture, size=(12, 20), channels=3, value_range=(0, 4095), interpolation="bilinear")
    assert np.array_equal(read_for(picture, about), expected)


def test_a_description_without_an_interpolation_is_of_a_model_that_resizes_by_bicubic(color_source):
    older = json.loads(color_source.description.to_json())
    del older["interpolation"]

    assert read_description(json.dumps({**older, "version": 2}), "model").interpolation == "bicubic"
    with pytest.raises(DataError, match=r"description is invalid .*interpolation"):
        read_description(json.dumps({**older, "interpolation": "nearest"}), "model")


def test_a_picture_that_does_not_fit_the_range_of_the_training_images_is_refused(deployed, tmp_path, capsys):
    Image.fromarray(np.full((30, 30), 40_000, dtype=np.uint16)).save(tmp_path / "sixteen.png")

    assert main(["predict", str(deployed / "model.safetensors"), str(tmp_path / "sixteen.png"), "--format=json"]) == 2

    (row,) = json.loads(capsys.readouterr().out)
    assert "most values are above 4095, the highest of the training images; here up to 40000" in row["problem"]


def test_a_dark_16_bit_picture_is_not_guessed_if_the_range_is_unknown(color_source, tmp_path, capsys):
    plain = replace(color_source, description=replace(color_source.description, value_range=None))
    export(plain, "safetensors", tmp_path / "model")
    Image.fromarray(np.full((30, 30), 4095, dtype=np.uint16)).save(tmp_path / "twelve.png")
    Image.fromarray(np.full((30, 30), 60_000, dtype=np.uint16)).save(tmp_path / "sixteen.png")

    images = [str(tmp_path / "twelve.png"), str(tmp_path / "sixteen.png")]
    assert main(["predict", str(tmp_path / "model"), *images, "--format=json"]) == 2

    twelve, sixteen = json.loads(capsys.readouterr().out)
    assert "16-bit values of at most 4095" in twelve["problem"]
    assert sixteen["class"] in NAMES
