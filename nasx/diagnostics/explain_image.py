"""Explain one image: prediction, confidence, and the pixels and places that speak for it.

`shap_images` is the only use of the shap package in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.data.batches import Pixels, as_tensor, normalise
from nasx.data.dataset import SearchData
from nasx.diagnostics.confidence import WithConfidence, channel_means, fit_confidence
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.shap import draw_paths, expected_gradients, stage_probes

if TYPE_CHECKING:
    pass


class _Logits(nn.Module):
    """The logits of chosen classes: shap explains every output of a model, and we want one or two of a hundred."""

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
    """SHAP values of chosen classes' logits for one image, (n_chosen, channels, height, width).

    They are estimated by expected gradients.

    `image` (channels, height, width) and `background` (n, channels, height, width) are normalised as in training;
    `draws` background images and positions between them and the image are drawn. The values of a class sum to its logit
    less its mean logit over the background, up to sampling error.
    """
    import shap  # here: it takes seconds to load

    explainer = shap.GradientExplainer(_Logits(network, classes), background)
    with _numpy_generator_restored():
        values = explainer.shap_values(image[None], nsamples=draws, rseed=seed)
    # a single output comes without an axis of its own
    columns = np.asarray(values, dtype=np.float64).reshape(*image.shape, len(classes))
    return np.moveaxis(columns, -1, 0)


@contextmanager
def _numpy_generator_restored() -> Iterator[None]:
    """shap seeds numpy's global generator; whoever else draws from it shall not notice."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


BACKGROUND = 100  # training images that stand for "no evidence"
DRAWS = 200  # gradients of the image and of each layer
INPUT = "input"


@dataclass(frozen=True, eq=False)
class OneImage:
    """One image as the network sees it."""

    name: str  # for people
    image: NDArray[np.uint8]  # (channels, height, width)
    label: int | None  # its true class; None: not known
    probabilities: NDArray[np.float64]  # (n_classes,) after temperature scaling
    confidence: float  # calibrated chance that the answer is right
    # "input" and probe layers -> SHAP values of the answer's logit, (h, w), summed over channels
    maps: Mapping[str, NDArray[np.float64]]
    distances: Mapping[str, NDArray[np.float64]]  # stage -> (n_classes,) cosine distance to each class's centroid
    class_names: tuple[str, ...]

    @property
    def answer(self) -> int:
        """The class that it is taken for."""
        return int(self.probabilities.argmax())


def explain_image(
    network: nn.Sequential,
    data: SearchData,
    image: NDArray[np.uint8],
    *,
    name: str,
    label: int | None = None,
    seed: int = 0,
) -> OneImage:
    """What `network` makes of one `image`, (channels, height, width).

    Confidence is calibrated, and centroids are taken, on the validation images of `data`; the background are training
    images. The network is left unchanged.
    """
    device = next(network.parameters()).device
    normalised = partial(Pixels, mean=data.mean, std=data.std, device=device)
    pixels = normalise(as_tensor(image[None]).to(device), data.mean, data.std)
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:BACKGROUND]
    background = normalised(data.train.take(np.sort(chosen)))[:]
    held_out = normalised(data.validation)
    fitted = fit_confidence(network, held_out, held_out.labels, n_classes=data.n_classes)
    with evaluation_mode(network):
        with torch.no_grad():
            probabilities, confidence = WithConfidence(network, fitted).to(device)(pixels)
        answer = int(probabilities.argmax())
        at_input = shap_images(network, pixels[0], background, [answer], draws=DRAWS, seed=seed)[0].sum(axis=0)
        maps = {INPUT: at_input, **_layer_maps(network, pixels, background, answer, seed)}
    features = channel_means(network, pixels)[0]
    distances = {stage: 1 - _cosines(features[stage][0].numpy(), each) for stage, each in fitted.centroids.items()}
    return OneImage(
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
    network: nn.Sequential, pixels: Tensor, background: Tensor, answer: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """SHAP values of the answer at each probe layer that has places, summed over channels."""
    paths = draw_paths(1, DRAWS, len(background), generator=torch.Generator().manual_seed(seed))
    targets = torch.tensor([answer], device=pixels.device)
    maps = {}
    for probe in stage_probes(network):
        with torch.no_grad():
            output, references = probe.body(pixels), probe.body(background)
        if output.dim() == 4:
            values = expected_gradients(probe.tail, output, references, targets, paths, batch_size=DRAWS)
            maps[probe.name] = values[0].sum(dim=0).double().cpu().numpy()
    return maps


def _cosines(vector: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of a vector to each of the unit `centroids`, (n_classes,); 0 where either is zero."""
    length = float(np.linalg.norm(vector))
    cosines: NDArray[np.float64] = (centroids @ vector).astype(np.float64) / (length or 1.0)
    return cosines
