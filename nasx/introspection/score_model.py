"""Score any trained torch classifier: `nasx.score`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from nasx.errors import DataError, SettingError, did_you_mean
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.probes import find_probes
from nasx.introspection.shap import Probe, ShapScorer
from nasx.introspection.similarity import bin_targets
from nasx.protocols import Scorer
from nasx.trial import Score

Data = Iterable[tuple[Tensor, Tensor]] | tuple[ArrayLike, ArrayLike]  # batches, e.g. a DataLoader; or all at once
# by the names under which scores are recorded; class similarities add "_weighted"
SCORERS: Final[Mapping[str, Callable[..., ShapScorer | ActivationScorer]]] = {
    "shap": ShapScorer,
    "shap_predicted": partial(ShapScorer, explain="predicted"),
    "activations": ActivationScorer,
    "activations_predicted": partial(ActivationScorer, group_by="predicted"),
    "activations_balanced": partial(ActivationScorer, layer_balanced=True),
    "activations_predicted_balanced": partial(ActivationScorer, group_by="predicted", layer_balanced=True),
}
BAR_WIDTH: Final = 24  # characters of the longest bar


@dataclass(frozen=True, eq=False, repr=False)
class ModelScore(Score):
    """The score of a model, with the names of its classes; shown in words by `print` and in notebooks."""

    class_names: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, str, float]]:
        """(class, class, distance) of all pairs that have one, the closest first."""
        names, indices = self.class_names, combinations(range(len(self.distances)), 2)
        known = [(names[a], names[b], float(self.distances[a, b])) for a, b in indices]
        return sorted((pair for pair in known if np.isfinite(pair[2])), key=lambda pair: pair[2])

    def __repr__(self) -> str:
        pairs = self.pairs()
        sure = "" if self.completeness_error is None else f", completeness error {100 * self.completeness_error:.0f} %"
        lines = [
            f"introspectability {self.value:.3f} by {self.scorer} "
            f"({self.n_samples:,} images, {len(pairs):,} pair{'s' * (len(pairs) != 1)} of classes{sure})"
        ]
        width, highest = max(map(len, self.profile), default=0), max(self.profile.values(), default=0) or 1
        lines += [f"  {n:<{width}}  {v:.3f}  {'█' * round(BAR_WIDTH * v / highest)}" for n, v in self.profile.items()]
        for told, (first, second, distance) in (("closest ", pairs[0]), ("farthest", pairs[-1])):
            lines.append(f"{told} {first} and {second}: {distance:.3f}")
        return "\n".join(lines)


def score(
    model: nn.Module,
    data: Data,
    *,
    scorer: str | Scorer = "shap",
    layers: Sequence[str] | None = None,
    bins: int | None = None,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    max_images: int = 2000,
) -> ModelScore:
    """How introspectable any trained classifier is.

    `model` maps images to logits, (n, n_classes), or to something that has them as `.logits` or first; it is left as it
    was. `data`: batches of images, (n, ...), normalised as the model expects them, and labels, (n,), e.g. a DataLoader
    in random order; or one pair of arrays. The first `max_images` are held in memory.

    `scorer`: a name out of `SCORERS`, or an object as in `nasx.protocols.Scorer`. `layers`: modules of the model to
    look at; None: they are found. For shap, cuts of the model (see `nasx.introspection.probes`); for activations, all
    convolutions and activations inside these modules. `bins`: the model is a regression, one number an image: its
    targets are put into so many classes of about equal size.

    Raises TrialFailure where the model has no score, DataError and SettingError where arguments do not fit it.
    """
    chosen = find_scorer(scorer, layers)
    images, labels = collect_images(data, max_images)
    if bins is not None:
        labels = _binned(labels, bins, chosen)
    images, labels = to_model_device(model, images), to_model_device(model, labels)
    with unwrap_logits(model, columns=bins):
        n_classes = count_classes(model, images[:1], labels)
        names = name_classes(class_names, n_classes)
        if isinstance(chosen, ShapScorer):
            probes: Sequence[Probe] = find_probes(model, images, chosen.probes)
            found = chosen.score_at(probes, model, images, labels, n_classes=n_classes, seed=seed)
        else:
            # a user's own scorer may ask for more than a module; it says so itself
            found = chosen.score(model, images, labels, n_classes=n_classes, seed=seed)  # type: ignore[arg-type]
    return ModelScore(**vars(found), class_names=names)


def find_scorer(scorer: str | Scorer, layers: Sequence[str] | None = None, similarity: Path | None = None) -> Scorer:
    """The scorer of a name, looking at `layers`, with the pairs of classes weighed by a CSV of their `similarity`.

    An object stays what it is. Raises SettingError, and DataError on a CSV that is none.
    """
    if not isinstance(scorer, str):
        if layers is not None:
            raise SettingError("layers", "belongs to a scorer given by name: set it where this one is made")
        return scorer
    if scorer not in SCORERS:
        raise SettingError("scorer", f"is not {scorer!r}. {did_you_mean(scorer, SCORERS)}")
    place = "probes" if scorer.startswith("shap") else "layers"
    return SCORERS[scorer](**{place: None if layers is None else tuple(layers), "similarity": similarity})


def collect_images(data: Data, at_most: int) -> tuple[Tensor, Tensor]:
    """The first images and labels of the data, as tensors. Raises DataError where there are none."""
    if at_most < 1:
        raise SettingError("max_images", f"must be at least 1, got {at_most}")
    images: list[Tensor] = []
    labels: list[Tensor] = []
    # a pair of arrays is one batch; a list of two batches is none
    is_pair = isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(part, "shape") for part in data)
    batches: Any = [data] if is_pair else data
    for batch in batches:
        some_images, some_labels = _batch(batch)
        images.append(some_images)
        labels.append(some_labels)
        if sum(map(len, images)) >= at_most:
            break
    if not sum(map(len, images)):
        raise DataError("no images: the data gave no batch")
    return torch.cat(images)[:at_most], torch.cat(labels)[:at_most]


def to_model_device(model: nn.Module, values: Tensor) -> Tensor:
    """Images or labels on the model's device; numbers that are not whole in the type of its parameters."""
    parameter = next(model.parameters(), torch.zeros(0))
    is_label = values.dim() == 1 and not values.is_floating_point()
    return values.to(parameter.device, torch.int64 if is_label else parameter.dtype)


def _batch(batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise DataError(f"each batch must be a pair (images, labels), got {_describe(batch)}")
    images, labels = (torch.as_tensor(part) for part in batch)
    if len(images) != labels.numel():
        raise DataError(f"a batch has {len(images)} images, but labels of shape {tuple(labels.shape)}")
    return images, labels.reshape(-1)


@contextmanager
def unwrap_logits(model: nn.Module, columns: int | None = None) -> Iterator[None]:
    """While active, `model` gives a tensor of logits where its output only holds one.

    With `columns`, for a regression: its one number an image, repeated in so many columns. The "logit" of each class
    is then the number itself, so that what is explained is what is predicted.
    """

    def unwrap(module: nn.Module, arguments: Any, output: Any) -> Any:
        logits = getattr(output, "logits", output)
        if isinstance(logits, tuple | list) and logits:
            logits = logits[0]
        if columns is None or not isinstance(logits, Tensor):
            return logits
        if logits.numel() != len(logits):
            raise DataError(f"a regression gives one number an image, got {_describe(logits)}")
        return logits.reshape(-1, 1).expand(-1, columns)

    handle = model.register_forward_hook(unwrap)
    try:
        yield
    finally:
        handle.remove()


def count_classes(model: nn.Module, image: Tensor, labels: Tensor) -> int:
    """How many logits the model gives. Raises DataError where it gives none, or labels are none of its classes."""
    try:
        with evaluation_mode(model), torch.no_grad():
            logits = model(image)
    except (RuntimeError, ValueError, TypeError) as exc:
        shape = tuple(image.shape[1:])
        raise DataError(f"the model does not take images of shape {shape}: {' '.join(str(exc).split())}") from exc
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise DataError(f"the model must give logits (n, n_classes), got {_describe(logits)}")
    n_classes = logits.shape[1]
    low, high = int(labels.min()), int(labels.max())
    if labels.is_floating_point() or not 0 <= low <= high < n_classes:
        hint = "; for a regression say into how many `bins` its targets go" if labels.is_floating_point() else ""
        raise DataError(f"labels must be from 0 to {n_classes - 1} for {n_classes} logits, got {low} to {high}{hint}")
    return n_classes


def name_classes(class_names: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    """The names given, or numbers. Raises DataError where there are too many or too few."""
    names = tuple(map(str, range(n_classes) if class_names is None else class_names))
    if len(names) != n_classes:
        raise DataError(f"{len(names)} class names for a model of {n_classes} logits")
    return names


def _binned(targets: Tensor, bins: int, scorer: Scorer) -> Tensor:
    if bins < 2:
        raise SettingError("bins", f"must be at least 2, got {bins}")
    if "predicted" in scorer.name:
        raise SettingError("scorer", f"must group by the true target for a regression, got {scorer.name}")
    return torch.from_numpy(bin_targets(targets.cpu().numpy(), bins))


def _describe(output: object) -> str:
    return f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
