"""SHAP images: which pixels speak for and against a class. The one place where shap is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


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
