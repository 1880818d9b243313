"""Scores of any torch classifier, found by nasx or not."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nasx.errors import DataError
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.attributions import ShapScorer
from nasx.introspection.layers import at_rest
from nasx.introspection.probing import find_probes
from nasx.trial import Score


def score(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    scorer: ShapScorer | ActivationScorer | None = None,
    seed: int = 0,
    max_images: int = 2000,
) -> Score:
    """How introspectable any trained classifier is.

    `model` maps images to logits, (n, n_classes); it is left as it was. `data` gives batches of images, (n, ...),
    normalised as the model expects them, and labels, (n,), e.g. a DataLoader in random order; the first `max_images`
    are held in memory. `scorer`: by default `ShapScorer()`; its `probes` name modules of the model, e.g. ("layer1",
    "layer2"), and are found where they are None (see `nasx.introspection.probing`).
    Raises TrialFailure where the model has no score, DataError and SettingError where arguments do not fit it.
    """
    scorer = scorer or ShapScorer()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images, labels = (t.to(device) for t in collect(data, max_images))
    with at_rest(model), torch.no_grad():
        logits = model(images[:1])
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise DataError(f"the model must give logits (n, n_classes), got {_form(logits)}")
    n_classes = logits.shape[1]
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        span = f"{int(labels.min())} to {int(labels.max())}"
        raise DataError(f"labels must be from 0 to {n_classes - 1} for {n_classes} logits, got {span}")
    if isinstance(scorer, ShapScorer):
        probes = find_probes(model, images, scorer.probes)
        return scorer.score_at(probes, model, images, labels, n_classes=n_classes, seed=seed)
    return scorer.score(model, images, labels, n_classes=n_classes, seed=seed)


def collect(data: Iterable[tuple[Tensor, Tensor]], at_most: int) -> tuple[Tensor, Tensor]:
    """The first images and labels of the batches. Raises DataError where there are none."""
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for some_images, some_labels in data:
        images.append(some_images)
        labels.append(some_labels)
        if sum(map(len, images)) >= at_most:
            break
    if not images:
        raise DataError("no images to score the model on: the data gave no batch")
    return torch.cat(images)[:at_most], torch.cat(labels)[:at_most].long()


def _form(output: object) -> str:
    return f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
