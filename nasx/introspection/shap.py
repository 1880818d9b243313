"""Introspectability by SHAP, the default scorer: class distances of expected gradients inside a network.

Samplers such as `draw_paths` choose the images to explain, the background images, and the paths between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from nasx.config.settings import checked
from nasx.data.batches import Pixels, split_batches, take
from nasx.errors import SettingError, TrialFailure, did_you_mean
from nasx.introspection.base import BatchedScorer, make_score
from nasx.introspection.class_similarity import pair_weights, read_similarity
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.similarity import class_means, cosine_distances, gram, mean_distances
from nasx.trial import Reason, Score


class Paths(NamedTuple):
    """Start of the path and position on it, for each sample and draw."""

    background: Tensor  # (n_samples, n_draws) int64, indices into the background
    position: Tensor  # (n_samples, n_draws) float32 in [0, 1): 0 at the background image, 1 at the sample


def draw_paths(n_samples: int, n_draws: int, n_background: int, *, generator: Generator) -> Paths:
    """Return stratified random paths.

    The positions of a sample's draws are ascending, one uniform in each of n_draws equal intervals. Its background
    images come in rounds of random order, so that each is used equally often and at all positions. Each single draw is
    uniform, so the estimate is unbiased, with less variance than independent draws.

    Args:
        n_samples: number of samples.
        n_draws: draws per sample.
        n_background: number of background images.
        generator: source of the draws.
    """
    rounds = -(-n_draws // n_background)
    order = torch.rand(n_samples, rounds, n_background, generator=generator).argsort(dim=2)
    jitter = torch.rand(n_samples, n_draws, generator=generator)
    return Paths(order.flatten(1)[:, :n_draws], (torch.arange(n_draws) + jitter) / n_draws)


def midpoint_paths(n_samples: int, n_draws: int) -> Paths:
    """Return paths from one starting point with positions in the middle of n_draws equal intervals: the midpoint rule.

    Rectifiers make logits piecewise linear, so rules of higher order are no better (measured for Gauss-Legendre).
    """
    positions = (torch.arange(n_draws) + 0.5) / n_draws
    return Paths(torch.zeros(n_samples, n_draws, dtype=torch.int64), positions.expand(n_samples, -1))


def stratified_sample(labels: Tensor, n_per_class: int, *, generator: Generator) -> Tensor:
    """Return the indices of up to n_per_class random samples of each class in `labels`, (n,).

    Classes alternate, so that the first k indices contain each class about k / n_classes times.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    rank = _rank_in_class(labels[shuffled])
    chosen = shuffled[rank < n_per_class]
    rank = rank[rank < n_per_class]
    return chosen[torch.argsort(rank * (int(labels.max()) + 1 if len(labels) else 1) + labels[chosen])]


def split_sample(labels: Tensor, *, n_per_class: int, n_background: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Return the indices of the images to explain and of the background, both stratified.

    They are disjoint if there are enough images. Otherwise the background is filled up with explained images, because a
    smaller background would estimate another value.

    Args:
        labels: class of each image, (n,).
        n_per_class: maximum number of explained images per class.
        n_background: number of background images.
        generator: source of the draws.
    """
    explained = stratified_sample(labels, n_per_class, generator=generator)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[explained] = False
    others = rest.nonzero().flatten()
    background = others[stratified_sample(labels[others], n_background, generator=generator)][:n_background]
    missing = n_background - len(background)
    return explained, torch.cat([background, explained[:missing]])


def _rank_in_class(labels: Tensor) -> Tensor:
    """Return the number of equal labels before each label: [3, 5, 3, 3] -> [0, 0, 1, 2]."""
    order = torch.argsort(labels, stable=True)
    ordered = labels[order]
    starts = torch.searchsorted(ordered, ordered)  # start of the run of each label
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(labels)) - starts
    return ranks


CPU_BATCH: Final = 128  # gradients: the activations fit into the cache
GPU_BATCH: Final = 512  # gradients: four times fewer kernel launches
SAMPLES_AT_ONCE: Final = 1024  # samples whose activations at a layer are in memory


@dataclass(frozen=True, eq=False)
class Probe:
    """Layer after which a network is cut in two."""

    name: str
    body: Callable[[Tensor], Tensor]  # images (n, ...) to the layer's output (n, channels, ...)
    tail: Callable[[Tensor], Tensor]  # the layer's output to logits (n, n_classes)
    channel_dim: int = 1  # of the layer's output


class ShapScorer(BatchedScorer):
    """Scorer: mean cosine distance between the class means of channel-wise SHAP values, averaged over the probes."""

    @checked
    def __init__(
        self,
        *,
        # for the same number of gradients, few draws of many samples are closest to the score of all images
        # (correlation over 24 trained networks 0.98, against 0.96 for half the samples with twice the draws)
        samples_per_class: Annotated[int, Field(ge=1)] = 20,
        draws: Annotated[int, Field(ge=1)] = 8,
        background: Annotated[int, Field(ge=1)] = 32,
        batch_size: Annotated[int, Field(ge=1)] | None = None,
        explain: Literal["true", "predicted"] = "true",
        path: Literal["random", "quadrature"] = "random",
        probes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None,
        similarity: Path | None = None,
    ) -> None:
        """Store the settings and read the class similarities.

        Args:
            samples_per_class: explained images per class.
            draws: gradients per sample and probe; more lower the completeness error.
            background: number of background images, the reference of the explanation.
            batch_size: gradients computed at a time, which limits the memory. None: 128, on a GPU 512.
            explain: logit that is explained, and class of a sample: "true" or "predicted".
            path: "random" paths from background images (expected gradients), or "quadrature": `draws` fixed points on
                the path from the mean activation of the background (integrated gradients). Quadrature has a ten times
                lower completeness error for the same number of gradients. But it is another quantity, and on the digits
                it separates architectures less well from seeds (24 networks x 4: ICC 0.47 against 0.69).
            probes: stages after which the network is cut. None: all except the last before the head, because there the
                vectors of classes are nearly orthogonal in any network; that one if it is the only stage.
            similarity: CSV of class similarities, the weights of the class pairs. None: all weights are 1.
        """
        self.samples_per_class = samples_per_class
        self.draws = draws
        self.background = background
        self.batch_size = batch_size
        self.explain = explain
        self.path = path
        self.probes = probes
        self.similarity = read_similarity(similarity) if similarity is not None else None

    @property
    def name(self) -> str:
        predicted = ["predicted"] if self.explain == "predicted" else []
        quadrature = ["quadrature"] if self.path == "quadrature" else []
        weighted = ["weighted"] if self.similarity is not None else []
        return "_".join(["shap", *predicted, *quadrature, *weighted])

    def score(
        self, network: nn.Sequential, images: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
    ) -> Score:
        """Return the score; see `nasx.protocols.Scorer`. The seed determines images and draws."""
        probes = stage_probes(network, self.probes)
        return self.score_at(probes, network, images, labels, n_classes=n_classes, seed=seed)

    def check_network(self, network: nn.Sequential, images: Tensor) -> None:
        """Raise SettingError if a network cannot be cut at the probes."""
        stage_probes(network, self.probes)

    def score_at(
        self,
        probes: Sequence[Probe],
        network: nn.Module,
        images: Tensor | Pixels,
        labels: Tensor,
        *,
        n_classes: int,
        seed: int,
    ) -> Score:
        """Return the score of any trained network, cut at `probes`.

        Args:
            probes: cuts of the network.
            network: trained network.
            images: images, (n, ...), on the network's device.
            labels: class of each image, (n,) int64.
            n_classes: number of classes.
            seed: of the choice of images and of the draws.

        Raises:
            TrialFailure: with NO_SCORE, if a SHAP value is not finite or no pair of classes has a distance.
        """
        started = time.perf_counter()
        weights = pair_weights(self.similarity, n_classes)
        generator = torch.Generator().manual_seed(seed)
        explained, background = split_sample(
            labels.cpu(), n_per_class=self.samples_per_class, n_background=self.background, generator=generator
        )
        if self.path == "random":
            paths = draw_paths(len(explained), self.draws, len(background), generator=generator)
        else:
            paths = midpoint_paths(len(explained), self.draws)
        samples, references = take(images, explained), images[background.to(images.device)]
        with evaluation_mode(network), torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                logits = torch.cat([network(batch) for batch in split_batches(samples, self._part_of(SAMPLES_AT_ONCE))])
            targets = labels[explained.to(labels.device)] if self.explain == "true" else logits.argmax(dim=1)
            found = {p.name: self._values(p, samples, references, targets, paths) for p in probes}
        values = {name: at_probe for name, (at_probe, _) in found.items()}
        gaps = torch.stack([(logits - base).gather(1, targets[:, None])[:, 0] for _, base in found.values()])
        if not all(bool(v.isfinite().all()) for v in values.values()):
            raise TrialFailure(Reason.NO_SCORE, f"{self.name}: SHAP values are not finite")
        groups = targets.cpu().numpy()
        by_layer = {
            name: cosine_distances(gram(class_means(v.double().cpu().numpy(), groups, n_classes)))
            for name, v in values.items()
        }
        return make_score(
            self.name,
            mean_distances(list(by_layer.values())),
            by_layer,
            weights=weights,
            n_samples=len(samples),
            started=started,
            completeness_error=completeness_error(list(values.values()), gaps),
        )

    def _values(
        self, probe: Probe, samples: Tensor | Pixels, references: Tensor, targets: Tensor, paths: Paths
    ) -> tuple[Tensor, Tensor]:
        """Return SHAP values per channel at a probe, (n, channels), and the logits of the background, (n_classes,)."""
        with torch.no_grad():
            background = probe.body(references)
            if self.path == "quadrature":
                background = background.mean(dim=0, keepdim=True)
            base = probe.tail(background).mean(dim=0)
        default = CPU_BATCH if samples.device.type == "cpu" else GPU_BATCH
        values, start = [], 0
        for batch in split_batches(samples, self._part_of(SAMPLES_AT_ONCE)):
            rows, start = slice(start, start + len(batch)), start + len(batch)
            with torch.no_grad():
                activations = probe.body(batch)
            values.append(
                expected_gradients(
                    probe.tail,
                    activations,
                    background,
                    targets[rows],
                    Paths(*(draws[rows] for draws in paths)),
                    batch_size=self._part_of(self.batch_size or default),
                    reduce=lambda of_draws: channel_sums(of_draws, probe.channel_dim),
                )
            )
        return torch.cat(values), base


def stage_probes(network: nn.Sequential, names: Sequence[str] | None = None) -> list[Probe]:
    """Return the probes after named children of `network`; by default after all but the last stage and the head.

    Raises SettingError if a name is not that of a child, or is that of the last child, which has no tail.
    """
    stages = [name for name, _ in network.named_children()]
    chosen = (stages[:-2] or stages[:-1]) if names is None else list(names)
    for name in chosen:
        if name not in stages[:-1]:
            hint = did_you_mean(name, stages[:-1])
            raise SettingError("probes", f"must be stages before the last, got {name!r}. {hint}")
    if not chosen:
        problem = f"need a network of named stages, at least one before the head, got {', '.join(stages) or 'none'}"
        raise SettingError("probes", problem)
    cuts = [(name, stages.index(name) + 1) for name in chosen]
    return [Probe(name, network[:cut], network[cut:]) for name, cut in cuts]


def expected_gradients(
    tail: Callable[[Tensor], Tensor],
    activations: Tensor,
    background: Tensor,
    targets: Tensor,
    paths: Paths,
    *,
    batch_size: int,
    reduce: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> Tensor:
    """Return the SHAP values of activations, (n, ...).

    Parameters that require no gradient are left without one.

    Args:
        tail: maps activations to logits, (n, n_classes).
        activations: activations of the samples, (n, ...).
        background: activations of the background, (n_background, ...).
        targets: logit that is explained for each sample, (n,).
        paths: background image and position of each draw, (n, n_draws).
        batch_size: maximum number of gradients in memory.
        reduce: reduces the values of single draws, (batch_size, ...), to save memory, e.g. `channel_sums`.
    """
    n_samples, n_draws = paths.background.shape
    indices, positions = (draws.flatten().to(activations.device) for draws in paths)
    kept = []
    for rows in torch.split(torch.arange(n_samples * n_draws, device=activations.device), batch_size):
        sample = rows // n_draws
        start = background[indices[rows]]
        difference = activations[sample] - start
        t = positions[rows].to(difference.dtype).view(-1, *[1] * (difference.dim() - 1))
        with torch.enable_grad():
            point = torch.addcmul(start, difference, t).requires_grad_()
            logits = tail(point).gather(1, targets[sample, None])
            (gradient,) = torch.autograd.grad(logits.sum(), point)
        kept.append(reduce(difference * gradient))
    values = torch.cat(kept)
    return values.view(n_samples, n_draws, *values.shape[1:]).mean(dim=1)


def channel_sums(values: Tensor, channel_dim: int = 1) -> Tensor:
    """Return the sums over all dimensions except samples and channels: (n, channels, ...) -> (n, channels)."""
    return values.movedim(channel_dim, 1).flatten(2).sum(dim=2) if values.dim() > 2 else values


def completeness_error(values: Sequence[Tensor], gaps: Tensor) -> float:
    """Return mean |sum of values - gap| / mean |gap|: 0 if SHAP values sum to the logit gaps of all samples.

    `values` are those of each layer, (n, ...). `gaps` is (n,), or (n_layers, n) if each layer has its own. The error is
    infinite if all gaps are zero, but not the sums.
    """
    error = (torch.stack([v.flatten(1).sum(dim=1) for v in values]) - gaps).abs().mean()
    return float(error / gaps.abs().mean()) if error else 0.0
