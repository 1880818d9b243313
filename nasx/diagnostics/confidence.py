"""A confidence to rely on outside the laboratory: the chance that a network's answer is right, computed by the network.

`fit_confidence` learns it from held-out images; `WithConfidence` is the network that gives it beside its probabilities,
made of plain tensor operations so that it can be exported. Two sources are put together by logistic regression:

- softmax: the log-odds of the answer after temperature scaling (Guo et al., "On Calibration of Modern Neural Networks",
  ICML 2017);
- activations: after each stage, how near the image lies to the mean image of the class that it is taken for, as the
  cosine of their channel means (the paper takes all activations; channels keep an exported model small).

Few held-out images are classified wrongly, so the regression starts from softmax alone and leaves it only as far as the
images say: a normal prior on its coefficients. Without a single error, confidence stays that of softmax, nearly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

BATCH = 512  # images a forward pass
LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))  # within which the temperature is sought
PRIOR_DEVIATION = 0.5  # of log temperature and of the coefficients, whose features have unit deviation
MIN_DEVIATION = 1e-3  # cosines that vary by less than this say nothing that rounding would not


@dataclass(frozen=True, eq=False)
class Confidence:
    """From a network's logits and stages to the chance that its answer is right. Plain numbers, fit to be saved."""

    temperature: float  # by which logits are divided before softmax
    centroids: Mapping[str, NDArray[np.float32]]  # stage -> (n_classes, channels), unit vectors; zero: a class unseen
    softmax_weight: float  # of the answer's log-odds
    stage_weights: Mapping[str, float]  # stage -> weight of the cosine to the answer's centroid
    bias: float

    def as_dict(self) -> dict[str, Any]:
        """As lists and numbers, for JSON."""
        centroids = {stage: matrix.tolist() for stage, matrix in self.centroids.items()}
        return {**vars(self), "centroids": centroids, "stage_weights": dict(self.stage_weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Confidence:
        """The inverse of `as_dict`."""
        centroids = {stage: np.array(matrix, dtype=np.float32) for stage, matrix in values["centroids"].items()}
        return cls(**{**values, "centroids": centroids})


class WithConfidence(nn.Module):
    """A network that also says how sure it is: images (n, ...) to (probabilities (n, n_classes), confidence (n,)).

    Probabilities are softmax after temperature scaling; confidence is the chance that the largest of them is right.
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
        outputs = dict(_stages(self.network, images))
        logits = outputs.popitem()[1] / cast(Tensor, self.temperature)
        answer = logits.argmax(dim=1)
        odds = cast(Tensor, self.softmax_weight) * log_odds(logits) + cast(Tensor, self.bias)
        for stage in self.stages:
            centroid = getattr(self, f"centroids_{stage}")[answer]
            odds = odds + getattr(self, f"weight_{stage}") * cosine(_channels(outputs[stage]), centroid)
        return torch.softmax(logits, dim=1), torch.sigmoid(odds)


def fit_confidence(network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int) -> Confidence:
    """Fit the confidence of a trained network to images that it was not trained on; the network is left unchanged.

    `network` consists of stages, the last of which gives the logits, as `nasx.protocols.SearchSpace.build` makes it.
    `images` (n, ...) are normalised as in training, on the network's device, `labels` (n,). No image is compared with a
    centroid that it belongs to itself. Raises ArchitectureError on a network of fewer than two stages, DataError
    without images.
    """
    if not isinstance(network, nn.Sequential) or len(network) < 2:
        raise ArchitectureError("a confidence is fitted to a torch.nn.Sequential of at least two stages, head included")
    if len(images) == 0:
        raise DataError("no images to fit a confidence to")
    features, logits = channel_means(network, images)
    given = labels.cpu().numpy()
    temperature = fit_temperature(logits.double().numpy(), given)
    answer = logits.argmax(dim=1)
    is_own = (answer == labels.cpu())[:, None]
    sums = {name: _class_sums(rows, labels.cpu(), n_classes) for name, rows in features.items()}
    closeness = [cosine(rows, sums[name][answer] - rows * is_own) for name, rows in features.items()]
    columns = torch.stack([log_odds(logits / temperature), *closeness], dim=1).double().numpy()
    coefficients, bias = fit_odds(columns, answer.numpy() == given)
    return Confidence(
        temperature=temperature,
        centroids={name: nn.functional.normalize(each, dim=1).numpy() for name, each in sums.items()},
        softmax_weight=float(coefficients[0]),
        stage_weights=dict(zip(features, coefficients[1:].tolist(), strict=True)),
        bias=bias,
    )


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature at which softmax gives the `labels`, (n,), of `logits`, (n, n_classes), the highest likelihood.

    With a prior around 1, without which a network that makes no error were infinitely sure.

    >>> logits, labels = np.tile([4.0, 0.0], (4000, 1)), np.arange(4000) % 4 // 3  # softmax says 98 %, 3 in 4 are right
    >>> round(float(expit(4 / fit_temperature(logits, labels))), 2)
    0.75
    """
    rows = np.arange(len(labels))

    def cost(log_temperature: float) -> float:
        likelihood = log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].sum()
        return float(0.5 * (log_temperature / PRIOR_DEVIATION) ** 2 - likelihood)

    return float(np.exp(minimize_scalar(cost, bounds=LOG_TEMPERATURES, method="bounded").x))


def fit_odds(columns: NDArray[np.float64], is_right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """(coefficients (n_columns,), bias) of the log-odds that an answer is right: logistic regression with a prior.

    The first of the `columns`, (n, n_columns), are log-odds already: its coefficient is expected to be 1, all others 0,
    each per standard deviation of its column, give or take `PRIOR_DEVIATION`.
    """
    center, scale = columns.mean(axis=0), columns.std(axis=0)
    center[0], scale[0] = 0.0, 1.0  # log-odds are in their unit, and 0 means even chances
    scale = np.maximum(scale, MIN_DEVIATION)
    design = np.column_stack([(columns - center) / scale, np.ones(len(columns))])
    prior = np.eye(design.shape[1])[0]
    sign = np.where(is_right, 1.0, -1.0)

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin, shift = sign * (design @ parameters), (parameters - prior) / PRIOR_DEVIATION**2
        value = np.logaddexp(0, -margin).sum() + 0.5 * shift @ (parameters - prior)
        return float(value), shift - design.T @ (sign * expit(-margin))

    *coefficients, bias = minimize(cost, prior, jac=True, method="L-BFGS-B").x
    return np.array(coefficients) / scale, float(bias - (np.array(coefficients) / scale) @ center)


def log_odds(logits: Tensor) -> Tensor:
    """ln p / (1 - p) of the likeliest class by softmax, (n,), from `logits`, (n, n_classes): precise where p is near 1.

    >>> log_odds(torch.tensor([[3.0, 1.0]]))
    tensor([2.])
    """
    top = logits.amax(dim=1)
    is_top = nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).bool()
    return top - logits.masked_fill(is_top, torch.finfo(logits.dtype).min).logsumexp(dim=1)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine between the rows of two matrices, (n, channels) each: (n,). Zero where a row is zero."""
    lengths: Tensor = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(dim=1) / lengths.clamp(min=torch.finfo(first.dtype).tiny)


def _stages(network: nn.Sequential, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each stage's output by its name; the last are the logits."""
    output = images
    for name, stage in network.named_children():
        output = stage(output)
        yield name, output


def _channels(output: Tensor) -> Tensor:
    """(n, channels, ...) averaged over space: (n, channels)."""
    return output.flatten(2).mean(dim=2) if output.dim() > 2 else output


def channel_means(network: nn.Sequential, images: Tensor | Pixels) -> tuple[dict[str, Tensor], Tensor]:
    """Channel means of `images` after each stage but the last, stage -> (n, channels), and the logits; on the CPU."""
    parts: dict[str, list[Tensor]] = {}
    with evaluation_mode(network), torch.no_grad():
        for batch in split_batches(images, BATCH):
            for name, output in _stages(network, batch):
                parts.setdefault(name, []).append(_channels(output).float().cpu())
    features = {name: torch.cat(rows) for name, rows in parts.items()}
    logits = features.popitem()[1]
    return features, logits


def _class_sums(rows: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Sums of the `rows`, (n, channels), of each class: (n_classes, channels)."""
    return torch.zeros(n_classes, rows.shape[1]).index_add_(0, labels, rows)
