"""Calibrated confidence: the probability that a prediction is correct, computed by an exportable network.

`fit_confidence` fits it to held-out images; `WithConfidence` is the network that returns it in addition to its
probabilities, with plain tensor operations that can be exported. Logistic regression combines two sources:

- softmax: the log-odds of the prediction after temperature scaling (Guo et al., "On Calibration of Modern Neural
  Networks", ICML 2017);
- activations: after each stage, the cosine of the channel means of the image and of the predicted class (the paper
  uses all activations; channel means keep an exported model small).

Few held-out images are classified incorrectly. Therefore the coefficients have a normal prior around softmax only;
without any error, the confidence is nearly that of softmax.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax
from torch import Tensor, nn

from nasx.data.batches import Pixels, split_batches
from nasx.errors import ArchitectureError, DataError
from nasx.introspection.layers import evaluation_mode

BATCH = 512  # images per forward pass
MAX_NUMBERS = 2**24  # in a batch of images: fewer large ones are passed at a time
LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))  # bounds of the log temperature
PRIOR_DEVIATION = 0.5  # of log temperature and of the coefficients, whose features have unit deviation
MIN_DEVIATION = 1e-3  # smaller variation of cosines may be rounding errors


@dataclass(frozen=True, eq=False)
class Confidence:
    """Parameters of the map from a network's logits and stages to the probability of a correct prediction."""

    temperature: float  # by which logits are divided before softmax
    # stage -> (n_classes, channels), unit vectors; zero: a class without images
    centroids: Mapping[str, NDArray[np.float32]]
    softmax_weight: float  # of the log-odds of the predicted class
    stage_weights: Mapping[str, float]  # stage -> weight of the cosine to the centroid of the predicted class
    bias: float

    def as_dict(self) -> dict[str, Any]:
        """Return lists and numbers, for JSON."""
        centroids = {stage: matrix.tolist() for stage, matrix in self.centroids.items()}
        return {**vars(self), "centroids": centroids, "stage_weights": dict(self.stage_weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Confidence:
        """Return the confidence of a dict made by `as_dict`."""
        centroids = {stage: np.array(matrix, dtype=np.float32) for stage, matrix in values["centroids"].items()}
        return cls(**{**values, "centroids": centroids})


class WithConfidence(nn.Module):
    """Network that also returns its confidence: images (n, ...) to (probabilities (n, n_classes), confidence (n,)).

    Probabilities are softmax after temperature scaling; confidence is the probability of a correct prediction.
    """

    def __init__(self, network: nn.Sequential, confidence: Confidence) -> None:
        super().__init__()
        self.network = network
        self.stages = tuple(confidence.centroids)
        # buffers: they move with the module to a device and into an exported file
        self.register_buffer("temperature", torch.tensor(confidence.temperature))
        self.register_buffer("softmax_weight", torch.tensor(confidence.softmax_weight))
        self.register_buffer("bias", torch.tensor(confidence.bias))
        for stage in self.stages:
            self.register_buffer(f"centroids_{stage}", torch.from_numpy(confidence.centroids[stage].copy()))
            self.register_buffer(f"weight_{stage}", torch.tensor(confidence.stage_weights[stage]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, confidence = self.judge(images)
        return torch.softmax(logits / cast(Tensor, self.temperature), dim=1), confidence

    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the network, (n, n_classes), before temperature scaling, and the confidence, (n,)."""
        outputs = dict(_stages(self.network, images))
        plain = outputs.popitem()[1]
        logits = plain / cast(Tensor, self.temperature)
        predicted = logits.argmax(dim=1)
        odds = cast(Tensor, self.softmax_weight) * log_odds(logits) + cast(Tensor, self.bias)
        for stage in self.stages:
            centroid = getattr(self, f"centroids_{stage}")[predicted]
            odds = odds + getattr(self, f"weight_{stage}") * cosine(_channels(outputs[stage]), centroid)
        return plain, torch.sigmoid(odds)


def batch_size(shape: Sequence[int]) -> int:
    """Return the number of images, of a shape (channels, height, width), in a pass without gradients.

    >>> batch_size((3, 32, 32)), batch_size((3, 224, 224))
    (512, 111)
    """
    return max(1, min(BATCH, MAX_NUMBERS // prod(shape)))


def fit_confidence(network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int) -> Confidence:
    """Fit the confidence of a trained network to held-out images; the network is not changed.

    Each image is compared to centroids of the other images.

    Args:
        network: stages, the last of which returns logits, as by `nasx.protocols.SearchSpace.build`.
        images: (n, channels, height, width), normalized as in training, on the device of the network.
        labels: (n,) their classes.
        n_classes: number of classes.

    Raises:
        ArchitectureError: the network has fewer than two stages.
        DataError: there are no images.
    """
    if not isinstance(network, nn.Sequential) or len(network) < 2:
        raise ArchitectureError("a confidence needs a torch.nn.Sequential of at least two stages, including the head")
    if len(images) == 0:
        raise DataError("no images to fit a confidence to")
    features, logits = channel_means(network, images)
    true = labels.cpu().numpy()
    temperature = fit_temperature(logits.double().numpy(), true)
    predicted = logits.argmax(dim=1)
    is_own = (predicted == labels.cpu())[:, None]
    sums = {name: _class_sums(rows, labels.cpu(), n_classes) for name, rows in features.items()}
    cosines = [cosine(rows, sums[name][predicted] - rows * is_own) for name, rows in features.items()]
    columns = torch.stack([log_odds(logits / temperature), *cosines], dim=1).double().numpy()
    coefficients, bias = fit_odds(columns, predicted.numpy() == true)
    return Confidence(
        temperature=temperature,
        centroids={name: nn.functional.normalize(each, dim=1).numpy() for name, each in sums.items()},
        softmax_weight=float(coefficients[0]),
        stage_weights=dict(zip(features, coefficients[1:].tolist(), strict=True)),
        bias=bias,
    )


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the most likely temperature of softmax for `logits`, (n, n_classes), and `labels`, (n,).

    A prior around 1 keeps the confidence of a network without errors finite.

    >>> logits, labels = np.tile([4.0, 0.0], (4000, 1)), np.arange(4000) % 4 // 3  # softmax .98, 3 of 4 are correct
    >>> round(float(expit(4 / fit_temperature(logits, labels))), 2)
    0.75
    """
    rows = np.arange(len(labels))

    def cost(log_temperature: float) -> float:
        likelihood = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].sum()
        return float(0.5 * (log_temperature / PRIOR_DEVIATION) ** 2 - likelihood)

    return float(np.exp(minimize_scalar(cost, bounds=LOG_TEMPERATURES, method="bounded").x))


def fit_odds(columns: NDArray[np.float64], is_correct: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Return (coefficients (n_columns,), bias) of the log-odds of a correct prediction, by logistic regression.

    The coefficients have a normal prior with deviation `PRIOR_DEVIATION`, per standard deviation of the column.

    Args:
        columns: (n, n_columns); the first one are log-odds with a prior mean of 1, the others have 0.
        is_correct: (n,) whether each prediction is correct.
    """
    center, scale = columns.mean(axis=0), columns.std(axis=0)
    center[0], scale[0] = 0.0, 1.0  # log-odds keep their unit and origin
    scale = np.maximum(scale, MIN_DEVIATION)
    design = np.column_stack([(columns - center) / scale, np.ones(len(columns))])
    prior = np.eye(design.shape[1])[0]
    sign = np.where(is_correct, 1.0, -1.0)

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin, shift = sign * (design @ parameters), (parameters - prior) / PRIOR_DEVIATION**2
        value = np.logaddexp(0, -margin).sum() + 0.5 * shift @ (parameters - prior)
        return float(value), shift - design.T @ (sign * expit(-margin))

    *coefficients, bias = minimize(cost, prior, jac=True, method="L-BFGS-B").x
    return np.array(coefficients) / scale, float(bias - (np.array(coefficients) / scale) @ center)


def log_odds(logits: Tensor) -> Tensor:
    """Return ln p / (1 - p) of the most likely class, (n,), from `logits`, (n, n_classes); precise for p near 1.

    >>> log_odds(torch.tensor([[3.0, 1.0]]))
    tensor([2.])
    """
    top = logits.amax(dim=1)
    is_top = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
    return top - logits.masked_fill(is_top, torch.finfo(logits.dtype).min).logsumexp(dim=1)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Return the cosine between rows of two matrices, (n, channels) each: (n,). It is 0 for rows of zeros."""
    lengths: Tensor = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(dim=1) / lengths.clamp(min=torch.finfo(first.dtype).tiny)


def _stages(network: nn.Sequential, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield name and output of each stage; the last output are the logits."""
    output = images
    for name, stage in network.named_children():
        output = stage(output)
        yield name, output


def _channels(output: Tensor) -> Tensor:
    """Return means over space: (n, channels, ...) to (n, channels)."""
    return output.flatten(2).mean(dim=2) if output.dim() > 2 else output


def channel_means(network: nn.Sequential, images: Tensor | Pixels) -> tuple[dict[str, Tensor], Tensor]:
    """Return channel means after each stage but the last, stage -> (n, channels), and logits; on the CPU."""
    parts: dict[str, list[Tensor]] = {}
    with evaluation_mode(network), torch.no_grad():
        for batch in split_batches(images, batch_size(images.shape[1:])):
            for name, output in _stages(network, batch):
                parts.setdefault(name, []).append(_channels(output).float().cpu())
    features = {name: torch.cat(rows) for name, rows in parts.items()}
    logits = features.popitem()[1]
    return features, logits


def _class_sums(rows: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Return the sums of rows, (n, channels), by class: (n_classes, channels)."""
    return torch.zeros(n_classes, rows.shape[1]).index_add_(0, labels, rows)
