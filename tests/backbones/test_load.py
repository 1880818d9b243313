"""Backbones by name: of timm, torchvision, transformers and of a function, with weights that are on this machine."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nasx.backbones.load import load_backbone, load_untrained
from nasx.backbones.pretrained import IMAGENET_MEAN, Preprocessing
from nasx.errors import ConfigError, DataError, NasxError, ResourceError, SettingError
from tests.factories import model_libraries as libraries
from tests.factories.networks import seeded, with_seeded_weights

IMAGES = seeded(0, 2, 3, 32, 32)


@pytest.fixture(autouse=True)
def installed(monkeypatch, tmp_path):
    """Let stand-ins of the libraries be installed, with empty caches, and no network."""
    for name in ("timm", "torchvision", "transformers"):
        monkeypatch.setitem(sys.modules, name, getattr(libraries, f"stand_in_{name}")())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs 'datasets'")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def download(*_, **__):
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)


def trained(seed: int = 5, n_classes: int = 10) -> libraries.ResNet:
    network = libraries.ResNet(n_classes)
    return with_seeded_weights(network, seed)  # type: ignore[return-value]


def in_hub(tmp_path: Path, repository: str, files: dict[str, bytes]) -> None:
    """Write files into the cache of Hugging Face, as a download does."""
    folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    for name, content in files.items():
        file = folder / "snapshots/abc" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def saved(network: torch.nn.Module, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), file)
    return file


def test_timm_weights_come_from_the_cache_with_their_preprocessing_license_and_data(tmp_path):
    network = trained()
    content = saved(network, tmp_path / "x.bin").read_bytes()
    in_hub(tmp_path, "timm/resnet_mini", {"pytorch_model.bin": content})

    found = load_backbone("timm:resnet_mini")

    torch.testing.assert_close(found.stages(IMAGES), network.forward_features(IMAGES))
    assert found.preprocessing == Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bicubic")
    assert (found.license, found.data, found.source) == ("apache-2.0", "ImageNet-1k", "timm, timm/resnet_mini")


def test_torchvision_weights_come_from_the_cache_of_torch(tmp_path):
    network = trained()
    saved(network, tmp_path / "torch/hub/checkpoints/resnet_mini-0123abcd.pth")

    found = load_backbone("torchvision:resnet_mini")

    torch.testing.assert_close(found.stages(IMAGES), network.forward_features(IMAGES))
    assert found.preprocessing == Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bilinear")
    assert (found.data, found.license) == ("ImageNet-1k", "unknown")


@pytest.mark.parametrize("name", ["timm:resnet_mini", "torchvision:resnet_mini"])
@pytest.mark.parametrize("n_classes", [10, 3])
def test_a_file_of_weights_replaces_those_of_the_library_whatever_its_classes(tmp_path, name, n_classes):
    network = trained(n_classes=n_classes)

    found = load_backbone(name, saved(network, tmp_path / "own.pt"))

    torch.testing.assert_close(found.stages(IMAGES), network.forward_features(IMAGES))
    assert (found.source, found.license, found.data) == ("the file own.pt", "unknown", "unknown")


def test_a_file_of_weights_that_is_replaced_is_read_again(tmp_path):
    file = saved(trained(1), tmp_path / "own.pt")
    before = load_backbone("timm:resnet_mini", file)
    assert load_backbone("timm:resnet_mini", file) is before

    saved(trained(2), tmp_path / "new.pt").replace(file)

    assert load_backbone("timm:resnet_mini", file).digest != before.digest


def test_the_digest_depends_on_the_weights_and_not_on_their_file(tmp_path):
    files = [saved(trained(seed), tmp_path / f"{number}.pt") for number, seed in enumerate((1, 1, 2))]

    a, b, c = (load_backbone("timm:resnet_mini", file).digest for file in files)

    assert a == b != c


def test_a_vision_transformer_of_timm_is_one_stage_for_one_size(tmp_path):
    network = with_seeded_weights(libraries.Tokens(), 3)
    file = saved(network, tmp_path / "vit.pt")

    found = load_backbone("timm:vit_mini", file)

    assert found.stage_names == ("blocks",)
    assert found.stages(IMAGES).shape == (2, 8, 4, 4)
    with pytest.raises(SettingError, match=r"dataset\.image_size must be 32: timm:vit_mini reads no images of another"):
        found.stages(seeded(0, 1, 3, 64, 64))


def mini(directory: Path, **changes: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "mini", **changes}))
    model = libraries.MiniBackbone(None)
    with_seeded_weights(model, 4)
    save_file(model.state_dict(), directory / "model.safetensors")
    return directory


def test_transformers_reads_a_directory_with_its_preprocessing(tmp_path):
    directory = mini(tmp_path / "mini")
    processor = {"size": {"shortest_edge": 48}, "do_center_crop": False, "resample": 3, "image_mean": [0.1] * 3}
    (directory / "preprocessor_config.json").write_text(json.dumps({**processor, "image_std": [0.2] * 3}))

    found = load_backbone(f"transformers:{directory}")

    model = libraries.MiniBackbone(None)
    torch.testing.assert_close(found.stages(IMAGES), with_seeded_weights(model, 4).network.forward_features(IMAGES))
    assert found.preprocessing == Preprocessing(48, (0.1, 0.1, 0.1), (0.2, 0.2, 0.2), "bicubic")
    assert found.stage_names == ("network_relu", "network_layer1", "network_layer2", "network_layer3")


@pytest.mark.parametrize(
    ("processor", "mean", "std"),
    [
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        ({"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [25.5] * 3}, (0.2,) * 3, (0.1,) * 3),
        (None, IMAGENET_MEAN, (0.229, 0.224, 0.225)),
    ],
    ids=["not normalized", "of numbers from 0 to 255", "none"],
)
def test_the_normalization_of_transformers_is_that_of_numbers_from_0_to_1(tmp_path, processor, mean, std):
    directory = mini(tmp_path / "mini")
    if processor is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps({"size": 32, **processor}))

    found = load_backbone(f"transformers:{directory}").preprocessing

    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)


def test_transformers_reads_a_name_whose_files_are_in_the_cache(tmp_path):
    directory = mini(tmp_path / "mini")
    in_hub(tmp_path, "somebody/mini", {file.name: file.read_bytes() for file in directory.iterdir()})

    assert load_backbone("transformers:somebody/mini").digest == load_backbone(f"transformers:{directory}").digest


def test_transformers_reads_a_file_of_weights_instead(tmp_path):
    directory, model = mini(tmp_path / "mini"), libraries.MiniBackbone(None)
    with_seeded_weights(model, 9)

    found = load_backbone(f"transformers:{directory}", saved(model, tmp_path / "own.pt"))

    torch.testing.assert_close(found.stages(IMAGES), model.network.forward_features(IMAGES))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Return a function that writes a module `own_nets` in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> None:
        (tmp_path / "own_nets.py").write_text(f"from tests.factories.model_libraries import *\n{text}")

    yield write
    sys.modules.pop("own_nets", None)


def test_a_function_builds_a_backbone_with_a_preprocessing_of_its_own(own, tmp_path):
    own("def mine(): return ResNet()\nmine.preprocessing = {'mean': (0.1, 0.2, 0.3), 'size': 64}")
    network = trained()

    found = load_backbone("own_nets:mine", saved(network, tmp_path / "own.pt"))

    torch.testing.assert_close(found.stages(IMAGES), network.forward_features(IMAGES))
    assert found.preprocessing == Preprocessing(size=64, mean=(0.1, 0.2, 0.3))


def test_a_function_may_load_its_weights_itself_and_its_network_stays_as_it_was(own):
    own("network = ResNet()\ndef mine(): return network")

    load_backbone("own_nets:mine")

    assert sys.modules["own_nets"].network.conv1.weight.requires_grad


def test_networks_of_monai_are_backbones(monkeypatch):
    nets = pytest.importorskip("monai.networks.nets", reason="monai, of the dev extra, is not installed")
    settings = {"spatial_dims": 2, "in_channels": 3, "init_features": 8, "growth_rate": 4, "block_config": (2, 2, 2)}
    monkeypatch.setattr(nets, "mini_dense", lambda: nets.DenseNet(out_channels=3, **settings), raising=False)
    monkeypatch.setattr(
        nets, "mini_res", lambda: nets.ResNet("basic", [1] * 4, [8] * 4, 2, 3, num_classes=3), raising=False
    )
    monkeypatch.setattr(
        nets,
        "mini_efficient",
        lambda: nets.EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3),
        raising=False,
    )

    found = {name: load_backbone(f"monai.networks.nets:mini_{name}") for name in ("dense", "res", "efficient")}

    assert found["res"].stage_names[-3:] == ("layer2", "layer3", "layer4")
    assert found["dense"].stage_names[1:3] == ("features_denseblock1", "features_denseblock2")
    assert found["efficient"].stage_names[:-1] == ("blocks_0", "blocks_1", "blocks_2", "blocks_4")


class Canary:
    """Creates a file if it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("place", ["hub", "torch", "own"])
def test_no_file_of_weights_is_unpickled(tmp_path, place):
    canary = tmp_path / "canary"
    evil = pickle.dumps({"conv1.weight": Canary(canary)})
    file = tmp_path / "torch/hub/checkpoints/resnet_mini-0123abcd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(evil)
    in_hub(tmp_path, "timm/resnet_mini", {"pytorch_model.bin": evil})
    name = "torchvision:resnet_mini" if place == "torch" else "timm:resnet_mini"

    with pytest.raises(DataError, match=r"contains Python objects|Weights only load failed"):
        load_backbone(name, file if place == "own" else None)

    assert not canary.exists()


def test_code_of_a_directory_of_transformers_is_not_run(tmp_path):
    directory = mini(tmp_path / "mini", auto_map={"AutoBackbone": "evil.Backbone"})
    (directory / "evil.py").write_text("raise SystemExit")

    with pytest.raises(DataError, match=r"cannot be loaded: ValueError: The repository .* contains custom code"):
        load_backbone(f"transformers:{directory}")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("efficientnet_lite", SettingError, r"^space\.backbone must be a known network, .* mean efficientnet_lite0\?$"),
        ("resnet18", SettingError, r"Known: efficientnet_lite0, timm:NAME, torchvision:NAME, .*, module:factory\.$"),
        ("timm:resnet_mni", SettingError, r"timm has no network 'resnet_mni'\. Did you mean resnet_mini\?$"),
        ("torchvision:resnet_mni", SettingError, r"torchvision has no network 'resnet_mni'\. Did you mean"),
        ("timm:resnet_mini", ResourceError, r'"import timm; timm\.create_model\(\'resnet_mini\', pretrained=True\)"'),
        ("torchvision:resnet_mini", ResourceError, r"not on this machine, .* or name a file: space\.weights=FILE"),
        ("transformers:some/body", ResourceError, r"snapshot_download\('some/body', allow_patterns="),
        ("transformers:.", ResourceError, r"it must be a directory with config\.json and model\.safetensors"),
        ("nowhere:mine", ConfigError, r"there is no module 'nowhere': install it, or run nasx in its directory"),
        ("own_nets:other", ConfigError, r"own_nets has no 'other'\. "),
        ("own_nets:broken", ConfigError, r"failed when called without arguments: OSError: no such weights"),
        ("own_nets:text", ConfigError, r"own_nets:text must return a torch\.nn\.Module, got a str"),
        ("own_nets:tokens", SettingError, r"cannot cut own_nets:tokens into stages"),
        ("own_nets:scaled", SettingError, r"attribute preprocessing is a mapping with any of .*, got own_nets:scaled$"),
        ("own_nets:scaled2", SettingError, r"^space\.backbone has an invalid preprocessing: mean"),
        ("a b:c", ConfigError, r"a model must be given as module:factory"),
    ],
)  # fmt: skip
def test_a_backbone_that_cannot_be_loaded_is_explained_in_one_line(own, name, kind, message):
    own(
        "def mine(): return ResNet()\n"
        "def broken(): raise OSError('no such\\nweights')\n"
        "def text(): return 'x'\n"
        "def tokens(): return Tokens()\ntokens.preprocessing = {'size': 32}\n"
        "def scaled(): return ResNet()\nscaled.preprocessing = {'average': 3}\n"
        "def scaled2(): return ResNet()\nscaled2.preprocessing = {'mean': 'x'}\n"
    )

    with pytest.raises(kind, match=message) as caught:
        load_backbone(name)

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", ["timm:x", "torchvision:x", "transformers:x"])
def test_a_missing_library_is_explained_with_its_command(name, monkeypatch):
    library = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(
        ResourceError, match=rf"^space\.backbone={name} needs the package {library}: pip install {library}"
    ):
        load_backbone(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state | {"layer9.0.weight": torch.zeros(1)}, r"the model has no 'layer9\.0\.weight'"),
        (lambda state: state | {"conv1.weight": torch.zeros(1)}, r"conv1\.weight is \(1,\) in the file, \(4, 3, 3"),
        (lambda state: {k: v for k, v in state.items() if k != "conv1.bias"}, r"parameter 'conv1\.bias' of the model"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["timm:resnet_mini", "torchvision:resnet_mini", "own_nets:mine"])
def test_weights_that_do_not_fit_are_explained_in_one_line(own, tmp_path, name, change, message):
    own("def mine(): return ResNet()")
    torch.save(change(trained().state_dict()), tmp_path / "own.pt")

    with pytest.raises(DataError, match=message):
        load_backbone(name, tmp_path / "own.pt")


@pytest.mark.parametrize("name", ["timm:resnet_mini", "torchvision:resnet_mini", "efficientnet_lite0"])
def test_weights_that_are_damaged_or_missing_are_explained_in_one_line(tmp_path, name):
    if name == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra backbone is not installed")
    (tmp_path / "own.pt").write_bytes(saved(trained(), tmp_path / "x.pt").read_bytes()[:400])

    with pytest.raises(DataError, match=r"own\.pt (is damaged|contains Python objects)"):
        load_backbone(name, tmp_path / "own.pt")
    with pytest.raises(
        SettingError, match=r"^space\.weights must be a file of weights of .*: .*none\.pt does not exist$"
    ):
        load_backbone(name, tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["timm:resnet_mini", "torchvision:resnet_mini"])
def test_a_model_file_needs_no_weights_of_the_library(tmp_path, name):
    found = load_backbone(name, saved(trained(), tmp_path / "own.pt"))

    again = load_untrained(name)
    again.stages.load_state_dict(found.stages.state_dict())

    assert again.digest == found.digest


@pytest.mark.parametrize("name", ["own_nets:mine", "transformers:mini", "../x"])
def test_a_model_file_names_no_code_and_no_path(own, name):
    own("raise SystemExit")

    with pytest.raises(NasxError, match=r"space\.backbone must be of nasx, timm or torchvision in a model file"):
        load_untrained(name)
