"""Small stand-ins for timm 1.0, torchvision 0.29 and transformers 5, with the parts of their interfaces that nasx uses.

The real libraries are large, and torchvision does not fit every build of torch.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests.factories.networks import with_seeded_weights


class Block(nn.Module):
    """Residual block whose ReLU works in place and is used twice, as in torchvision."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(c_in, c_out, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.relu(self.bn1(self.conv1(x))))
        y += self.downsample(x)
        return self.relu(y)


class ResNet(nn.Module):
    """Residual network with stages conv1, layer1, layer2, layer3 and a classifier fc."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(4, 6))
        self.layer2 = nn.Sequential(Block(6, 8))
        self.layer3 = nn.Sequential(Block(8, 8))
        self.fc = nn.Linear(8, n_classes)
        with_seeded_weights(self)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(self.relu(self.conv1(x)))))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.forward_features(x).mean((2, 3)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Vision transformer for images of 32 x 32 pixels: a class token and 16 others, mixed by linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 8, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.mixer = nn.Linear(17, 17)
        self.mlp = nn.Linear(8, 64)
        self.out = nn.Linear(64, 8)
        self.head = nn.Linear(8, 10)
        with_seeded_weights(self)

    def tokens(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        both = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), patches], 1)
        return self.out(self.mlp(self.mixer(both.transpose(1, 2)).transpose(1, 2)))  # type: ignore[no-any-return]

    def forward_intermediates(
        self, x: Tensor, *, indices: int, norm: bool, output_fmt: str, intermediates_only: bool
    ) -> list[Tensor]:
        assert (indices, norm, output_fmt, intermediates_only) == (1, True, "NCHW", True)
        return [self.tokens(x)[:, 1:].transpose(1, 2).reshape(len(x), 8, 4, 4)]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.tokens(x)[:, 0])  # type: ignore[no-any-return]


class Functional(nn.Module):
    """Network whose activations and poolings are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)
        with_seeded_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x), inplace=True), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2) + 0.5
        return self.fc(F.relu(self.conv3(x)).mean((2, 3)))  # type: ignore[no-any-return]


def stand_in_timm() -> ModuleType:
    """Return a module with timm's list_models and create_model."""
    timm = ModuleType("timm")
    kinds = {"resnet_mini": ResNet, "vit_mini": Tokens}

    def create_model(
        name: str, pretrained: bool = False, pretrained_cfg_overlay: dict[str, Any] | None = None
    ) -> nn.Module:
        model: Any = kinds[name.partition(".")[0]]()
        model.pretrained_cfg = {
            "hf_hub_id": f"timm/{name}",
            "input_size": (3, 32, 32),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.2, 0.2),
            "interpolation": "bicubic",
            "classifier": "fc",
            "license": "apache-2.0",
            "tag": "a1_in1k",
        }
        if pretrained:
            model.load_state_dict((pretrained_cfg_overlay or {})["state_dict"])  # without it, timm would download
        return model  # type: ignore[no-any-return]

    timm.list_models = lambda: list(kinds)  # type: ignore[attr-defined]
    timm.create_model = create_model  # type: ignore[attr-defined]
    return timm


class Weights(Enum):
    """Weights of a network of torchvision."""

    IMAGENET1K_V1 = "https://example.org/models/resnet_mini-0123abcd.pth"
    DEFAULT = IMAGENET1K_V1

    @property
    def url(self) -> str:
        return str(self.value)

    @property
    def meta(self) -> dict[str, Any]:
        return {"categories": ["a", "b"]}

    def transforms(self) -> SimpleNamespace:
        bilinear = SimpleNamespace(value="bilinear")
        return SimpleNamespace(crop_size=[32], mean=[0.5, 0.4, 0.3], std=[0.2, 0.2, 0.2], interpolation=bilinear)


def stand_in_torchvision() -> ModuleType:
    """Return a module with the functions of torchvision.models for names of networks."""
    torchvision, models = ModuleType("torchvision"), ModuleType("torchvision.models")

    def get_model(name: str, weights: Weights | None = None) -> nn.Module:
        model = ResNet()
        if weights is not None:
            model.load_state_dict(torch.hub.load_state_dict_from_url(weights.url, progress=False))
        return model

    models.list_models = lambda module: ["resnet_mini"]  # type: ignore[attr-defined]
    models.get_model_weights = lambda name: Weights  # type: ignore[attr-defined]
    models.get_model = get_model  # type: ignore[attr-defined]
    torchvision.models = models  # type: ignore[attr-defined]
    return torchvision


class MiniBackbone(nn.Module):
    """Backbone of transformers: returns the feature maps of its stages."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.network = ResNet()
        del self.network.fc

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(feature_maps=(self.network.forward_features(x),))

    @classmethod
    def from_pretrained(cls, place: str | None, *, config: Any, output_loading_info: bool, **how: Any) -> Any:
        assert output_loading_info and how["local_files_only"] and not how["trust_remote_code"]
        if place is None:
            state = how["state_dict"]
        else:
            assert how["use_safetensors"]
            state = load_file(Path(place) / "model.safetensors")
        model = cls(config)
        missing = model.load_state_dict(state, strict=False).missing_keys
        return model, {"missing_keys": set(missing)}


def stand_in_transformers() -> ModuleType:
    """Return a module with AutoConfig and AutoBackbone of transformers."""
    transformers = ModuleType("transformers")

    def read_config(directory: str, *, local_files_only: bool, trust_remote_code: bool) -> SimpleNamespace:
        content = json.loads((Path(directory) / "config.json").read_text())
        if "auto_map" in content and not trust_remote_code:
            raise ValueError(f"The repository {directory} contains custom code which must be executed")
        return SimpleNamespace(**content)

    def from_config(config: Any, trust_remote_code: bool = True) -> nn.Module:
        if config.model_type != "mini":
            raise ValueError(f"Unrecognized configuration class {config.model_type} for AutoBackbone.")
        return MiniBackbone(config)

    transformers.AutoConfig = SimpleNamespace(from_pretrained=read_config)  # type: ignore[attr-defined]
    transformers.AutoBackbone = SimpleNamespace(from_config=from_config)  # type: ignore[attr-defined]
    logging = SimpleNamespace(set_verbosity_error=lambda: None, disable_progress_bar=lambda: None)
    transformers.utils = SimpleNamespace(logging=logging)  # type: ignore[attr-defined]
    return transformers
