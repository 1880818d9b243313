"""`nasx score`, as it is called on a model of the user's own."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from nasx.cli.main import main

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, channels=1, n_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 3, padding=1)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(8, n_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(torch.relu(self.conv1(x))))
        return self.fc(x.mean(dim=(2, 3)))

def net():
    torch.manual_seed(0)
    return Net()

def colours():
    return Net(3, 2)

def nothing():
    return None

def broken():
    raise ValueError("no such thing")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory with a module of models, in which the command is called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_models", raising=False)
    (tmp_path / "my_models.py").write_text(MODELS)
    torch.set_num_threads(1)
    return tmp_path


def call(capsys, *arguments):
    status = main(["score", *arguments])
    return (status, *capsys.readouterr())


def state():
    import my_models

    return my_models.net().state_dict()


def test_a_score_is_shown_in_words(here, capsys):
    status, out, err = call(capsys, "my_models:net", "--data", "digits", "--samples", "60")

    assert status == 0
    assert out.splitlines()[0].startswith("introspectability 0.")
    assert "by shap (60 images, 45 pairs of classes" in out
    assert "Traceback" not in err


def test_scores_are_written_as_json_and_drawn(here, capsys):
    status, out, err = call(
        capsys, "my_models:net", "--data", "digits", "--samples", "60", "--layers", "conv1,layer1", "--format", "json",
        "--scorer", "shap", "--scorer", "activations_balanced", "--out", "pictures",
    )  # fmt: skip

    assert status == 0
    shap, balanced = json.loads(out)
    assert [shap["scorer"], balanced["scorer"]] == ["shap", "activations_balanced"]
    assert list(shap["profile"]) == ["conv1", "layer1"]
    assert np.shape(balanced["distances"]) == (10, 10)
    assert balanced["class_names"][3] == "3"
    for name in ("distances_shap.png", "distances_activations_balanced.png", "profile.png"):
        assert name in err
        assert (here / "pictures" / name).stat().st_size > 1000


@pytest.mark.parametrize("form", ["safetensors", "torch", "checkpoint"])
def test_weights_make_the_score(here, capsys, form):
    weights = {name: 2 * tensor for name, tensor in state().items()}
    file = here / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file(weights, file)
    else:
        torch.save({"epoch": 3, "state_dict": weights} if form == "checkpoint" else weights, file)

    arguments = ("my_models:net", "--data", "digits", "--samples", "60", "--format", "json")
    loaded, bare = (json.loads(call(capsys, *arguments, *more)[1])[0] for more in (("--weights", str(file)), ()))

    assert loaded["value"] != bare["value"]


def test_a_class_folder_is_data(here, capsys):
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        (here / "mine" / name).mkdir(parents=True)
        for i in range(6):
            pixels = (level + rng.integers(0, 50, (16, 16, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(here / "mine" / name / f"{i}.png")

    status, out, _ = call(
        capsys, "my_models:colours", "dataset.image_size=16", f"dataset.cache={here}/cache", "--data", "mine",
        "--scorer", "activations", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25",
    )  # fmt: skip

    assert status == 0
    assert "(12 images, 1 pair of classes)" in out
    assert "closest  dark and light" in out


def write_mistakes(here):
    weights = state()
    torch.save({**weights, "conv2.weight": torch.zeros(1)}, here / "extra.pt")
    torch.save({**weights, "fc.weight": torch.zeros(3, 8)}, here / "shape.pt")
    torch.save({n: t for n, t in weights.items() if not n.startswith("fc")}, here / "less.pt")
    (here / "s.csv").write_text(",a,b\na,1,0.5\nb,0.5,1\n")


MISTAKES = [
    (["my_models"], r"a model must be given as module:factory, e.g. my_models:resnet; got 'my_models'"),
    (["no_models:net"], "there is no module 'no_models': install it, or run nasx in its directory"),
    (["my_models:nets"], "my_models has no 'nets'. Did you mean net?"),
    (["my_models:nothing"], "my_models:nothing must return a torch.nn.Module, got a NoneType"),
    (["my_models:broken"], "my_models:broken failed when called without arguments: ValueError: no such thing"),
    (["my_models:net", "--weights", "gone.pt"], "gone.pt does not exist"),
    (["my_models:net", "--weights", "extra.pt"], "the model has no 'conv2.weight'. Did you mean conv1.weight?"),
    (["my_models:net", "--weights", "shape.pt"], "shape.pt: fc.weight is (3, 8) in the file, (10, 8) in the model"),
    (["my_models:net", "--weights", "less.pt"], "less.pt: parameter 'fc.weight' (and 1 more) of the model is missing"),
    (["my_models:colours"], "the model fails for images of shape (1, 8, 8)"),
    (["my_models:net", "--scorer", "sharp"], "scorer must be a known scorer, got 'sharp'. Did you mean shap?"),
    (["my_models:net", "--layers", "layer3"], "probes must be modules that run once and return a feature map"),
    (["my_models:net", "--samples", "1"], "--samples must be at least 2, got 1"),
    (["my_models:net", "--mean", "0.5"], "--mean and --std must be given together"),
    (["my_models:net", "--mean", "0.5,0.5", "--std", "1"], "--mean must be 1 number, got '0.5,0.5'"),
    (["my_models:net", "--mean", "0.5", "--std", "0"], "--std must be 1 number above 0, got '0'"),
    (["my_models:net", "--mean", "half", "--std", "1"], "--mean must be 1 number, got 'half'"),
    (["my_models:net", "--similarity", "s.csv"], "s.csv has 2 classes, the dataset has 10"),
]  # fmt: skip


def test_every_mistake_is_one_line(here, capsys):
    write_mistakes(here)
    for arguments, message in MISTAKES:
        few = [] if "--samples" in arguments else ["--samples", "40"]
        status, _, err = call(capsys, *arguments, "--data", "digits", *few)
        assert status == 2, arguments
        assert message in err, arguments
        assert len(err.strip().splitlines()) == 1, err
