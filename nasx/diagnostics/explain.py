"""Explain a trained network on the validation images: confusion of classes and evidence for predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.backbones.features import on_features
from nasx.data.batches import Pixels, as_tensor, split_batches
from nasx.data.dataset import LabeledImages, SearchData
from nasx.diagnostics.class_pairs import ClassMap, activity_by_block, class_map, confusion_matrix
from nasx.diagnostics.confidence import channel_means
from nasx.diagnostics.edge_shares import edge_shares
from nasx.diagnostics.explain_image import draws_for, shap_images
from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.errors import TrialFailure
from nasx.introspection.activations import class_order, class_sums
from nasx.introspection.layers import evaluation_mode, live_layers
from nasx.introspection.shap import Probe, ShapScorer, completeness_error, stage_probes
from nasx.networks.backbone import backbone_of
from nasx.networks.edge import Edge
from nasx.trial import Score

BATCH = 1024  # images per forward pass
BACKGROUND = 100  # training images that represent "no evidence"
EXTREME_SAMPLES = 4  # incorrect samples shown, and as many uncertain ones
ACTIVITY_BATCH = 256  # images per forward pass that records activations
PROBING_IMAGES = 16  # to distinguish live and dead layers
MAP_IMAGES = 1000  # validation images in the maps of classes
EDGE_SHARE_IMAGES = 40  # validation images for the shares of edges
MAX_CLASSES = 20  # classes whose samples are shown: those with the most errors


def explain(
    network: nn.Sequential,
    data: SearchData,
    *,
    scorer: ShapScorer,
    score_seed: int = 0,
    recorded: Score | None = None,
    samples_per_class: int = 2,
    draws: int = 200,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> Explanation:
    """Explain a network on the validation images; the network is not changed.

    With a frozen backbone, only the SHAP values of images pass through the whole network; all else uses its features.

    Args:
        network: trained.
        data: images on which it was trained and validated.
        scorer: of the score and the distances by layer.
        score_seed: of the scorer.
        recorded: score by `scorer` with `score_seed`, from the journal; None: compute it. Distances by layer are
            always computed, from the same images and draws.
        samples_per_class: correctly classified images shown of each class.
        draws: gradients per image and class; fewer through a backbone, see `draws_for`.
        seed: of the choice of images.
        report: receives the progress in words.
    """
    device = next(network.parameters()).device
    generator = np.random.default_rng(seed)
    part, read = on_features(network, data)
    normalized = partial(Pixels, mean=read.mean, std=read.std, device=device)
    pixels = normalized(read.validation)
    chosen = np.sort(generator.permutation(len(data.train))[:BACKGROUND])
    background = normalized(read.train.take(chosen))[:]
    with evaluation_mode(part):
        logits, base = _logits(part, pixels), _logits(part, background).mean(dim=0)
    probabilities: NDArray[np.float64] = torch.softmax(logits, dim=1).cpu().numpy()
    picked = pick_samples(probabilities, data.validation.labels, samples_per_class, generator)
    samples = _explained_samples(network, data, chosen, picked, probabilities, draws=draws, seed=seed, report=report)
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(data.validation.labels, predicted, data.n_classes)
    labels = pixels.labels
    if report:
        report("Distances between classes")
    score = recorded or scorer.score(part, pixels, labels, n_classes=data.n_classes, seed=score_seed)
    layers = layer_distances(scorer, part, pixels, labels, n_classes=data.n_classes, seed=score_seed)
    return Explanation(
        class_names=data.train.class_names,
        confusion=confusion,
        score=score,
        layer_distances=layers,
        samples=samples,
        maps=_class_maps(part, read.validation, pixels, generator),
        activity=activity_by_block(mean_activity(part, pixels, labels, data.n_classes)),
        edge_shares=_edge_shares(part, pixels, background, generator),
        has_backbone=backbone_of(network) is not None,
        draws=draws_for(network, draws),
        completeness=_completeness(samples, (logits - base).cpu()),
    )


def _class_maps(
    network: nn.Sequential, images: LabeledImages, pixels: Pixels, generator: np.random.Generator
) -> tuple[ClassMap, ...]:
    """Return the map of the classes after each stage, from a sample of the images."""
    chosen = np.sort(generator.permutation(len(pixels))[:MAP_IMAGES])
    vectors = channel_means(network, pixels[as_tensor(chosen).to(pixels.device)])[0]
    return tuple(class_map(n, v.numpy(), images.labels[chosen], images.n_classes) for n, v in vectors.items())


def _edge_shares(
    network: nn.Sequential, pixels: Pixels, background: Tensor, generator: np.random.Generator
) -> dict[Edge, float]:
    """Return the share of each edge, from a sample of images and random references."""
    chosen = np.sort(generator.permutation(len(pixels))[:EDGE_SHARE_IMAGES])
    references = generator.integers(len(background), size=len(chosen))
    device = background.device
    return edge_shares(network, pixels[as_tensor(chosen).to(device)], background[as_tensor(references).to(device)])


def mean_activity(
    network: nn.Module, pixels: Tensor | Pixels, labels: Tensor, n_classes: int
) -> dict[str, NDArray[np.float64]]:
    """Return the mean activation of live layers by class: layer -> (n_classes,); 0 for classes without images.

    Args:
        network: trained.
        pixels: (n, channels, height, width), normalized as in training.
        labels: (n,) their classes.
        n_classes: number of classes.
    """
    layers = live_layers(network, pixels[:PROBING_IMAGES])
    order = torch.split(class_order(labels), ACTIVITY_BATCH)
    sums = class_sums(network, ((pixels[i], labels[i]) for i in order), n_classes=n_classes, layers=layers)
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    return {name: (sums[name].flatten(1).mean(dim=1) / counts).cpu().numpy() for name in layers}


def layer_distances(
    scorer: ShapScorer, network: nn.Sequential, pixels: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Return the distances between classes at each probe layer: layer -> (n_classes, n_classes).

    All distances of a layer are NaN if no pair of classes has one.

    Args:
        scorer: of the distances.
        network: trained.
        pixels: (n, channels, height, width), normalized as in training.
        labels: (n,) their classes.
        n_classes: number of classes.
        seed: of the scorer.
    """

    def distances(probe: Probe) -> NDArray[np.float64]:
        try:
            return scorer.score_at([probe], network, pixels, labels, n_classes=n_classes, seed=seed).distances
        except TrialFailure:  # no class has a direction at this layer
            return np.full((n_classes, n_classes), np.nan)

    return {probe.name: distances(probe) for probe in stage_probes(network, scorer.probes)}


def pick_samples(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], per_class: int, generator: np.random.Generator
) -> list[tuple[SampleKind, int]]:
    """Return the images to show as (kind, index): random correct ones by class, confident errors, uncertain ones.

    An image occurs twice only if its class has no other.

    Args:
        probabilities: (n, n_classes) predicted.
        labels: (n,) true classes.
        per_class: correctly classified images of each class.
        generator: source of the draws.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    is_correct = predicted == labels
    errors = np.bincount(labels[~is_correct], minlength=probabilities.shape[1])
    shown = np.sort(np.argsort(-errors, kind="stable")[:MAX_CLASSES])
    by_confidence = np.argsort(confidence, kind="stable")
    incorrect = [i for i in by_confidence[::-1] if not is_correct[i]][:EXTREME_SAMPLES]
    uncertain = [i for i in by_confidence if is_correct[i]][:EXTREME_SAMPLES]
    correct: list[int] = []
    for c in shown:
        of_class = np.flatnonzero(is_correct & (labels == c))
        others = np.setdiff1d(of_class, uncertain)
        correct.extend(generator.permutation(others if len(others) else of_class)[:per_class])
    groups = ((SampleKind.CORRECT, correct), (SampleKind.INCORRECT, incorrect), (SampleKind.UNCERTAIN, uncertain))
    return [(kind, int(i)) for kind, indices in groups for i in indices]


def _explained_samples(
    network: nn.Module,
    data: SearchData,
    references: NDArray[np.int64],
    picked: Sequence[tuple[SampleKind, int]],
    probabilities: NDArray[np.float64],
    *,
    draws: int,
    seed: int,
    report: Callable[[str], None] | None,
) -> tuple[ExplainedSample, ...]:
    """Return samples with the SHAP values of their predicted classes and rivals.

    Args:
        network: trained.
        data: images on which it was trained and validated.
        references: indices of the training images that are the background.
        picked: kind and index of each sample.
        probabilities: of the validation images.
        draws: gradients per image and class; fewer through a backbone.
        seed: of the draws.
        report: receives the progress in words.
    """
    normalized = partial(Pixels, mean=data.mean, std=data.std, device=next(network.parameters()).device)
    background, pixels = normalized(data.train.take(references))[:], normalized(data.validation)
    started, samples = time.monotonic(), []
    with evaluation_mode(network):
        for number, (kind, i) in enumerate(picked):
            if report:
                left = (time.monotonic() - started) * (len(picked) / number - 1) if number else None
                eta = "" if left is None else f", ETA {left:.0f} s"
                report(f"SHAP values: image {number + 1} of {len(picked)}{eta}")
            label = int(data.validation.labels[i])
            classes = _explained_classes(kind, label, probabilities[i])
            values = shap_images(network, pixels[i], background, classes, draws=draws, seed=seed)
            samples.append(
                ExplainedSample(
                    kind=kind,
                    index=i,
                    image=data.validation.images[i],
                    label=label,
                    predicted=classes[0],
                    confidence=float(probabilities[i, classes[0]]),
                    attributions=dict(zip(classes, values.sum(axis=1), strict=True)),
                )
            )
    return tuple(samples)


def _explained_classes(kind: SampleKind, label: int, probabilities: NDArray[np.float64]) -> list[int]:
    """Return the predicted class, and its rival if the sample has one: the true class, or the runner-up."""
    runner_up, predicted = np.argsort(probabilities)[-2:].tolist()
    rival = {SampleKind.CORRECT: [], SampleKind.INCORRECT: [label], SampleKind.UNCERTAIN: [runner_up]}[kind]
    return [predicted, *rival]


def _completeness(samples: Sequence[ExplainedSample], gaps: Tensor) -> float:
    """Return the completeness error of the samples' SHAP values; `gaps`: logits minus those of the background."""
    sums = [values.sum() for sample in samples for values in sample.attributions.values()]
    expected = [float(gaps[sample.index, c]) for sample in samples for c in sample.attributions]
    return completeness_error([torch.tensor(sums, dtype=torch.float64)[:, None]], torch.tensor(expected).double())


def _logits(network: nn.Module, pixels: Tensor | Pixels) -> Tensor:
    """Return the logits of images, (n, n_classes) float64."""
    with torch.no_grad():
        return torch.cat([network(batch) for batch in split_batches(pixels, BATCH)]).double()
