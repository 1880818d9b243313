"""Explaining one trained network on the validation images: what it confuses, and what its decisions rest on."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nasx.data.batches import Pixels, as_tensor, split_batches
from nasx.data.dataset import LabelledImages, SearchData
from nasx.diagnostics.class_pairs import activity_by_block, class_map, confusion_matrix
from nasx.diagnostics.confidence import channel_means
from nasx.diagnostics.edge_shares import edge_shares
from nasx.diagnostics.explain_image import shap_images
from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.errors import TrialFailure
from nasx.introspection.activations import class_order, class_sums
from nasx.introspection.layers import evaluation_mode, live_layers
from nasx.introspection.shap import Probe, ShapScorer, stage_probes
from nasx.trial import Score

BATCH = 1024  # images a forward pass
BACKGROUND = 100  # training images that stand for "no evidence"
RIVALRIES = 4  # wrong samples shown, and as many unsure ones
ACTIVITY_BATCH = 256  # images a forward pass whose activations are looked at
PROBING_IMAGES = 16  # with which live layers are told from dead ones
MAPPED = 1000  # validation images by which the classes are mapped
CARRIED = 40  # validation images by which the share of each operation is measured
MAX_CLASSES = 20  # classes whose samples are shown; where there are more, those with the most errors


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
) -> Explanation:
    """What `network` does on the validation images of `data`.

    `recorded` is the score that `scorer` took with `score_seed` when the network was trained; None: it is taken now.
    Its distances layer by layer are taken anew, from the same images and draws. `samples_per_class` images that are
    classified rightly are shown of each class; `draws`: gradients an image and class. The network is left unchanged.
    """
    device = next(network.parameters()).device
    generator = np.random.default_rng(seed)
    normalised = partial(Pixels, mean=data.mean, std=data.std, device=device)
    pixels = normalised(data.validation)
    chosen = np.sort(generator.permutation(len(data.train))[:BACKGROUND])
    background = normalised(data.train.take(chosen))[:]
    with evaluation_mode(network):
        probabilities = _probabilities(network, pixels)
        picked = pick_samples(probabilities, data.validation.labels, samples_per_class, generator)
        samples = tuple(
            _explained(network, kind, i, pixels[i], background, probabilities[i], data.validation, draws, seed)
            for kind, i in picked
        )
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(data.validation.labels, predicted, data.n_classes)
    labels = pixels.labels
    score = recorded or scorer.score(network, pixels, labels, n_classes=data.n_classes, seed=score_seed)
    layers = layer_distances(scorer, network, pixels, labels, n_classes=data.n_classes, seed=score_seed)
    shown = np.sort(generator.permutation(len(pixels))[:MAPPED])
    vectors = channel_means(network, pixels[as_tensor(shown).to(device)])[0]
    maps = tuple(class_map(n, v.numpy(), data.validation.labels[shown], data.n_classes) for n, v in vectors.items())
    carried = np.sort(generator.permutation(len(pixels))[:CARRIED])
    references = background[as_tensor(generator.integers(len(background), size=len(carried))).to(device)]
    shares = edge_shares(network, pixels[as_tensor(carried).to(device)], references)
    return Explanation(
        class_names=data.train.class_names,
        confusion=confusion,
        score=score,
        layer_distances=layers,
        samples=samples,
        maps=maps,
        activity=activity_by_block(mean_activity(network, pixels, labels, data.n_classes)),
        edge_shares=shares,
    )


def mean_activity(
    network: nn.Module, pixels: Tensor | Pixels, labels: Tensor, n_classes: int
) -> dict[str, NDArray[np.float64]]:
    """Live layer -> mean activation over the images of each class, (n_classes,); 0 for a class without images."""
    layers = live_layers(network, pixels[:PROBING_IMAGES])
    order = torch.split(class_order(labels), ACTIVITY_BATCH)
    sums = class_sums(network, ((pixels[i], labels[i]) for i in order), n_classes=n_classes, layers=layers)
    counts = torch.bincount(labels, minlength=n_classes).clamp(min=1)
    return {name: (sums[name].flatten(1).mean(dim=1) / counts).cpu().numpy() for name in layers}


def layer_distances(
    scorer: ShapScorer, network: nn.Sequential, pixels: Tensor | Pixels, labels: Tensor, *, n_classes: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Probe layer -> distances between classes there, (n_classes, n_classes); all NaN where no pair has one."""

    def distances(probe: Probe) -> NDArray[np.float64]:
        try:
            return scorer.score_at([probe], network, pixels, labels, n_classes=n_classes, seed=seed).distances
        except TrialFailure:  # at this layer no class has a direction
            return np.full((n_classes, n_classes), np.nan)

    return {probe.name: distances(probe) for probe in stage_probes(network, scorer.probes)}


def pick_samples(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], per_class: int, generator: np.random.Generator
) -> list[tuple[SampleKind, int]]:
    """Which images to show, as (kind, index): right ones drawn from each class, confident errors, doubtful successes.

    `probabilities` (n, n_classes), `labels` (n,). An image is shown twice only
    where its class has no other.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    is_right = predicted == labels
    errors = np.bincount(labels[~is_right], minlength=probabilities.shape[1])
    shown = np.sort(np.argsort(-errors, kind="stable")[:MAX_CLASSES])
    by_confidence = np.argsort(confidence, kind="stable")
    wrong = [i for i in by_confidence[::-1] if not is_right[i]][:RIVALRIES]
    unsure = [i for i in by_confidence if is_right[i]][:RIVALRIES]
    right: list[int] = []
    for c in shown:
        of_class = np.flatnonzero(is_right & (labels == c))
        others = np.setdiff1d(of_class, unsure)
        right.extend(generator.permutation(others if len(others) else of_class)[:per_class])
    groups = ((SampleKind.RIGHT, right), (SampleKind.WRONG, wrong), (SampleKind.UNSURE, unsure))
    return [(kind, int(i)) for kind, indices in groups for i in indices]


def _explained(
    network: nn.Module,
    kind: SampleKind,
    index: int,
    pixels: Tensor,
    background: Tensor,
    probabilities: NDArray[np.float64],
    images: LabelledImages,
    draws: int,
    seed: int,
) -> ExplainedSample:
    """One sample with the SHAP images of its predicted class and of its rival: the true class, or the runner-up."""
    label, (runner_up, predicted) = int(images.labels[index]), np.argsort(probabilities)[-2:].tolist()
    rival = {SampleKind.RIGHT: [], SampleKind.WRONG: [label], SampleKind.UNSURE: [runner_up]}[kind]
    classes = [predicted, *rival]
    values = shap_images(network, pixels, background, classes, draws=draws, seed=seed)
    return ExplainedSample(
        kind=kind,
        index=index,
        image=images.images[index],
        label=label,
        predicted=predicted,
        confidence=float(probabilities[predicted]),
        attributions=dict(zip(classes, values.sum(axis=1), strict=True)),
    )


def _probabilities(network: nn.Module, pixels: Pixels) -> NDArray[np.float64]:
    """Softmax over the logits, (n, n_classes)."""
    with torch.no_grad():
        logits = torch.cat([network(batch) for batch in split_batches(pixels, BATCH)])
    probabilities: NDArray[np.float64] = torch.softmax(logits.double(), dim=1).cpu().numpy()
    return probabilities
