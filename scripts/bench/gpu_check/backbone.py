"""Checks of heads on a pretrained backbone: its features, trainings on them, the whole network.

EfficientNet-Lite0 if its packages are installed, with drawn weights if only the one with its code is; else a network of
a few convolutions.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nasx.backbones import efficientnet_lite, load
from nasx.backbones.features import BackboneFeatures, on_features
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels
from nasx.data.dataset import LabeledImages, SearchData
from nasx.errors import ResourceError
from nasx.evaluation.device import measure_latency
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.shap import ShapScorer
from nasx.networks.backbone import unfreeze
from nasx.spaces.backbone import BackboneSpace
from nasx.training.fit import FitResult, fit
from nasx.training.recipe import Recipe
from scripts.bench.gpu_check.candidates import are_equal, streamed
from scripts.bench.gpu_check.checking import DEVICE, IS_CUDA, check

NAME = "gpu_check"
SIDE = 96 if IS_CUDA else 64  # pixels of an image
IMAGES = 512 if IS_CUDA else 48
AUGMENTATION = Augmentation(crop_padding=0.1, horizontal_flip=True, cutout=0)
RECIPE = Recipe(epochs=3, batch_size=16, learning_rate=0.05, views=2, keep="last", precision="float32")
ROUNDING = 2.0**-9  # of features in float16 that were computed in another order, relative to the largest number


def _plain() -> Pretrained:
    """Return a backbone of a few convolutions, some of them depthwise."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for number, width in enumerate((16, 24, 40, 80), start=1):
        spread = nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False)
        depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False)
        stages[f"stage{number}"] = nn.Sequential(spread, nn.BatchNorm2d(width), nn.ReLU6(), depthwise, nn.ReLU6())
        channels = width
    made = nn.Sequential(stages).eval().requires_grad_(False)
    return Pretrained(
        NAME, made, Preprocessing(), source="a few convolutions with drawn weights", license="none", data="none"
    )


def _load(weights: Path | None = None) -> Pretrained:
    """Return the best backbone that is installed."""
    torch.manual_seed(0)
    for trained in (True, False):
        try:
            found = efficientnet_lite.load(trained=trained)
        except ResourceError:
            continue
        return found if trained else _with_statistics(found)
    return _plain()


def _with_statistics(found: Pretrained) -> Pretrained:
    """Set the statistics of batch norm: with drawn weights, the maps would vanish from stage to stage."""
    for module in found.stages.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics are those of the next batch
    with torch.no_grad():
        found.stages.train()(torch.randn(32, 3, SIDE, SIDE))
    found.stages.eval()
    return found


load.NAMES[NAME] = _load


@cache
def _space() -> BackboneSpace:
    stages = load.load_backbone(NAME).stage_names
    return BackboneSpace(backbone=NAME, cuts=(stages[-4], stages[-3]))


@cache
def _images() -> SearchData:
    """Return images of four classes, which differ in their colors."""
    generator = np.random.default_rng(0)

    def part(n: int) -> LabeledImages:
        labels = np.arange(n) % 4
        colors = generator.integers(0, 128, (4, 3, 1, 1))
        pixels = generator.integers(0, 128, (n, 3, SIDE, SIDE)) + colors[labels]
        return LabeledImages(pixels.astype(np.uint8), labels, ("a", "b", "c", "d"))

    preprocessing = _space().preprocessing
    mean, std = (np.array(each, np.float32) for each in (preprocessing.mean, preprocessing.std))
    folder = Path(tempfile.mkdtemp())
    return SearchData(part(IMAGES), part(IMAGES // 2), mean, std, features=_features(folder, DEVICE))


def _features(folder: Path, device: torch.device) -> BackboneFeatures:
    return BackboneFeatures(_space(), folder, NAME, device.type, notify=lambda line: None)


def _network(n_trained: int = 0) -> nn.Sequential:
    """Return an untrained network with a projection, two cells, and a hidden layer with dropout."""
    torch.manual_seed(0)
    genes = (1, 1, 3, 3, 1, 2, 1, 3, 2, 0, 2, 1)
    network = _space().build(genes, input_shape=_images().shape, n_classes=4)
    unfreeze(network, n_trained)
    return network


def _trained(data: SearchData, n_trained: int = 0, **changed: object) -> tuple[nn.Sequential, FitResult]:
    network, recipe = _network(n_trained), replace(RECIPE, unfreeze=n_trained, **changed)  # type: ignore[arg-type]
    graphs = True if IS_CUDA else None
    fitted = fit(network, data, recipe, augmentation=AUGMENTATION, seed=0, device=DEVICE, cuda_graphs=graphs)
    assert fitted.graphed == IS_CUDA, fitted.graph_failure
    return network, fitted


@check
def backbone() -> str:
    pretrained = load.load_backbone(NAME)
    return f"{pretrained.name}, weights: {pretrained.source}, {SIDE} pixels"


@check
def features_equal_those_of_a_cpu() -> str:
    """Relative to the largest number of a map, they differ by the rounding to float16 at most."""
    data = _images()
    some, cut = data.train.take(np.arange(32)), _space().cuts[1]
    here, there = (
        _features(Path(tempfile.mkdtemp()), device).at(cut, some, views=2, augmentation=AUGMENTATION)
        for device in (torch.device("cpu"), DEVICE)
    )
    one, other = (np.asarray(f.images[f.rows.ravel()], dtype=np.float32) for f in (here, there))
    scale = np.abs(one).max(axis=(1, 2, 3), keepdims=True)
    gap = float((np.abs(one - other) / scale).max())
    assert gap <= ROUNDING, gap
    return f"largest difference {gap:.1e} of the largest number"


@check
def trained_part_equals_the_whole_network() -> str:
    data = _images()
    network, fitted = _trained(data)
    part, read = on_features(network, data)
    with torch.no_grad(), evaluation_mode(network):
        maps = Pixels(read.validation, mean=read.mean, std=read.std, device=DEVICE)[:32]
        pixels = Pixels(data.validation, mean=data.mean, std=data.std, device=DEVICE)[:32]
        gap = float((part(maps).softmax(1) - network(pixels).softmax(1)).abs().max())
    assert gap < 5e-3, gap
    return f"probabilities differ by {gap:.1e}; error {fitted.validation_error:.3f}, {fitted.seconds:.2f} s"


@check
def features_in_gpu_memory_and_streamed_from_disk_train_the_same_network() -> str:
    data, others = _images(), replace(_images())
    there, first = _trained(data)
    with streamed():
        here, second = _trained(others)
        read = on_features(here, others)[1]
        assert Pixels(read.train, mean=read.mean, std=read.std, device=DEVICE).is_streamed == IS_CUDA
    assert first.history == second.history
    assert are_equal(there, here)
    return f"{first.seconds:.2f} s from the GPU, {second.seconds:.2f} s streamed"


@check
def last_stage_is_trained_with_cuda_graphs() -> str:
    before = _network().backbone.state_dict()
    network, fitted = _trained(_images(), 1, epochs=1)
    last = list(network.backbone.stages.named_children())[-1][0]
    changed = {
        name.split(".")[1]
        for name, tensor in network.backbone.state_dict().items()
        if not torch.equal(tensor.cpu(), before[name])
    }
    assert changed == {last}, changed
    return f"{last}: {fitted.seconds:.2f} s, CUDA graphs: {fitted.graphed}"


@check
def dropout_is_repeated() -> None:
    one, other = (_trained(_images())[0] for _ in range(2))
    assert are_equal(one, other)


@check
def scores_on_features() -> str:
    network, _ = _trained(_images())
    part, read = on_features(network, _images())
    pixels = Pixels(read.validation, mean=read.mean, std=read.std, device=DEVICE)
    score = ShapScorer().score(part, pixels, pixels.labels, n_classes=4, seed=0)
    return f"{score.value:.3f} in {score.seconds:.2f} s"


@check
def latency() -> str:
    return f"{measure_latency(_network().to(DEVICE), _images().shape, DEVICE):.2f} ms"
