"""Explain one image: prediction, confidence, and evidence in pixels and feature maps.

`shap_images` is the only use of the shap package in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.backbones.features import on_features
from nasx.data.batches import Pixels, as_tensor, normalize
from nasx.data.dataset import SearchData
from nasx.diagnostics.confidence import WithConfidence, channel_means, fit_confidence
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.shap import draw_paths, expected_gradients, stage_probes
from nasx.networks.backbone import backbone_of

BACKGROUND = 100  # training images that represent "no evidence"
DRAWS = 200  # gradients of the image and of each layer
# Gradients of an image through a backbone, of which one takes 10 ms. On stratified paths they sum to the logit
# nearly as exactly as 200 of shap's random draws: completeness errors 0.12 and 0.09 to 0.19 for EfficientNet-Lite0
BACKBONE_DRAWS = 50
BACKBONE_BATCH = 16  # gradients through a backbone at a time
INPUT = "input"


class _Logits(nn.Module):
    """Logits of chosen classes, because shap explains every output of a model."""

    def __init__(self, network: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.classes = list(classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits[:, self.classes]


def shap_images(
    network: nn.Module, image: Tensor, background: Tensor, classes: Sequence[int], *, draws: int, seed: int
) -> NDArray[np.float64]:
    """Return SHAP values of the logits of chosen classes for one image, (n_chosen, channels, height, width).

    They are estimated by expected gradients. The values of a class sum to its logit minus its mean logit over the
    background, up to sampling errors. Through a backbone, at most `BACKBONE_DRAWS` are drawn, on stratified paths.

    Args:
        network: trained.
        image: (channels, height, width), normalized as in training.
        background: (n, channels, height, width) reference images.
        classes: n_chosen classes.
        draws: number of draws of a background image and a position between it and the image.
        seed: of the draws.
    """
    if backbone_of(network) is not None:
        return _stratified(network, image, background, classes, draws=draws_for(network, draws), seed=seed)
    import shap  # shap takes seconds to load

    explainer = shap.GradientExplainer(_Logits(network, classes), background)
    with _numpy_generator_restored():
        values = explainer.shap_values(image[None], nsamples=draws, rseed=seed)
    # shap omits the axis of a single output
    columns = np.asarray(values, dtype=np.float64).reshape(*image.shape, len(classes))
    return np.moveaxis(columns, -1, 0)


def draws_for(network: nn.Module, draws: int) -> int:
    """Return the number of gradients of each image and class: fewer through a backbone, where one is expensive."""
    return draws if backbone_of(network) is None else min(draws, BACKBONE_DRAWS)


def _stratified(
    network: nn.Module, image: Tensor, background: Tensor, classes: Sequence[int], *, draws: int, seed: int
) -> NDArray[np.float64]:
    """Return SHAP values as `shap_images`, for all classes from the same passes through the network."""
    paths = draw_paths(1, draws, len(background), generator=torch.Generator().manual_seed(seed))
    indices, positions = (each[0].to(image.device) for each in paths)
    sums = torch.zeros(len(classes), *image.shape, dtype=torch.float64, device=image.device)
    for rows in torch.split(torch.arange(draws, device=image.device), BACKBONE_BATCH):
        start = background[indices[rows]]
        difference = image - start
        with torch.enable_grad():
            point = torch.addcmul(start, difference, positions[rows].view(-1, 1, 1, 1))
            point = point.contiguous(memory_format=torch.channels_last).requires_grad_()
            logits = network(point)[:, list(classes)].sum(dim=0)
            for number, logit in enumerate(logits, start=1):
                (gradient,) = torch.autograd.grad(logit, point, retain_graph=number < len(classes))
                sums[number - 1] += (difference * gradient).sum(dim=0)
    values: NDArray[np.float64] = (sums / draws).cpu().numpy()
    return values


@contextmanager
def _numpy_generator_restored() -> Iterator[None]:
    """Restore numpy's global generator after the block, because shap seeds it."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@dataclass(frozen=True, eq=False)
class ImageExplanation:
    """Explanation of a network's prediction for one image."""

    name: str  # for messages
    image: NDArray[np.uint8]  # (channels, height, width)
    label: int | None  # true class; None: unknown
    probabilities: NDArray[np.float64]  # (n_classes,) after temperature scaling
    confidence: float  # calibrated probability that the prediction is correct
    # "input" and probe layers -> SHAP values of the predicted class's logit, (height, width), summed over channels
    maps: Mapping[str, NDArray[np.float64]]
    distances: Mapping[str, NDArray[np.float64]]  # stage -> (n_classes,) cosine distances to the class centroids
    class_names: tuple[str, ...]

    @property
    def predicted(self) -> int:
        """Return the predicted class."""
        return int(self.probabilities.argmax())


def explain_image(
    network: nn.Sequential,
    data: SearchData,
    image: NDArray[np.uint8],
    *,
    name: str,
    label: int | None = None,
    seed: int = 0,
) -> ImageExplanation:
    """Explain the prediction of a network for one image; the network is not changed.

    Calibration and centroids are computed from the validation images, the background consists of training images.

    Args:
        network: trained.
        data: images on which it was trained and validated.
        image: (channels, height, width).
        name: of the image, for messages.
        label: true class; None: unknown.
        seed: of the background images and the draws.
    """
    device = next(network.parameters()).device
    normalized = partial(Pixels, mean=data.mean, std=data.std, device=device)
    pixels = normalize(as_tensor(image[None]).to(device), data.mean, data.std)
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:BACKGROUND]
    background = normalized(data.train.take(np.sort(chosen)))[:]
    part, read = on_features(network, data)
    held_out = Pixels(read.validation, mean=read.mean, std=read.std, device=device)
    fitted = fit_confidence(part, held_out, held_out.labels, n_classes=data.n_classes)
    with evaluation_mode(network):
        with torch.no_grad():
            probabilities, confidence = WithConfidence(network, fitted).to(device)(pixels)
        predicted = int(probabilities.argmax())
        at_input = shap_images(network, pixels[0], background, [predicted], draws=DRAWS, seed=seed)[0].sum(axis=0)
        maps = {INPUT: at_input, **_layer_maps(network, pixels, background, predicted, seed)}
    features = channel_means(network, pixels)[0]
    distances = {stage: 1 - _cosines(features[stage][0].numpy(), each) for stage, each in fitted.centroids.items()}
    return ImageExplanation(
        name=name,
        image=image,
        label=label,
        probabilities=probabilities[0].double().cpu().numpy(),
        confidence=float(confidence[0]),
        maps=maps,
        distances=distances,
        class_names=data.train.class_names,
    )


def _layer_maps(
    network: nn.Sequential, pixels: Tensor, background: Tensor, predicted: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return SHAP values of the predicted class at each convolutional probe layer, summed over channels."""
    paths = draw_paths(1, DRAWS, len(background), generator=torch.Generator().manual_seed(seed))
    targets = torch.tensor([predicted], device=pixels.device)
    maps = {}
    for probe in stage_probes(network):
        with torch.no_grad():
            output, references = probe.body(pixels), probe.body(background)
        if output.dim() == 4:
            values = expected_gradients(probe.tail, output, references, targets, paths, batch_size=DRAWS)
            maps[probe.name] = values[0].sum(dim=0).double().cpu().numpy()
    return maps


def _cosines(vector: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of a vector to each of the unit `centroids`, (n_classes,); 0 if either is zero."""
    length = float(np.linalg.norm(vector))
    cosines: NDArray[np.float64] = (centroids @ vector).astype(np.float64) / (length or 1.0)
    return cosines
