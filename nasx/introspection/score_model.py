"""Score any trained torch classifier: `nasx.score`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field
from torch import Tensor, nn

from nasx.config.settings import AtLeastOne, check_argument
from nasx.errors import DataError, SettingError, did_you_mean
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.layers import evaluation_mode
from nasx.introspection.probes import find_probes
from nasx.introspection.shap import Probe, ShapScorer
from nasx.introspection.similarity import bin_targets
from nasx.protocols import Scorer
from nasx.trial import Score

Data = Iterable[tuple[Tensor, Tensor]] | tuple[ArrayLike, ArrayLike]  # batches, e.g. a DataLoader; or all at once
# by recorded name, without the "_weighted" that class similarities add
SCORERS: Final[Mapping[str, Callable[..., ShapScorer | ActivationScorer]]] = {
    "shap": ShapScorer,
    "shap_predicted": partial(ShapScorer, explain="predicted"),
    "activations": ActivationScorer,
    "activations_predicted": partial(ActivationScorer, group_by="predicted"),
    "activations_balanced": partial(ActivationScorer, layer_balanced=True),
    "activations_predicted_balanced": partial(ActivationScorer, group_by="predicted", layer_balanced=True),
}
BAR_WIDTH: Final = 24  # characters


@dataclass(frozen=True, eq=False, repr=False)
class ModelScore(Score):
    """Score of a model with the names of its classes; `print` and notebooks show it as text."""

    class_names: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[str, str, float]]:
        """Return (class, class, distance) of all pairs with a distance, closest first."""
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
        for label, (first, second, distance) in (("closest ", pairs[0]), ("farthest", pairs[-1])):
            lines.append(f"{label} {first} and {second}: {distance:.3f}")
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
    """Score any trained classifier; the model is left unchanged.

    Args:
        model: maps images to logits, (n, n_classes), or to an object with them as `.logits` or a tuple with them first.
        data: batches of images, (n, ...), normalized as for the model, and labels, (n,), e.g. a DataLoader in random
            order; or one pair of arrays.
        scorer: name in `SCORERS`, or an object as in `nasx.protocols.Scorer`.
        layers: modules to observe: for shap, cuts of the model (see `nasx.introspection.probes`); for activations, all
            convolutions and activations inside them. None: the default of the scorer.
        bins: for a regression, one number per image: its targets are put into this many classes of about equal size.
        class_names: name of each class. None: numbers.
        seed: of the choice of images and of the draws.
        max_images: maximum number of images, held in memory.

    Raises:
        TrialFailure: if the model has no score.
        DataError: if data and model do not fit.
        SettingError: if an argument is out of range.
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
            # a user's scorer may need an nn.Sequential and raise an error itself
            found = chosen.score(model, images, labels, n_classes=n_classes, seed=seed)  # type: ignore[arg-type]
    return ModelScore(**vars(found), class_names=names)


def find_scorer(scorer: str | Scorer, layers: Sequence[str] | None = None, similarity: Path | None = None) -> Scorer:
    """Return a scorer by name.

    Args:
        scorer: name in `SCORERS`, or a scorer, which is returned as it is.
        layers: modules to observe. None: the default of the scorer.
        similarity: CSV of class similarities, the weights of the class pairs. None: all weights are 1.

    Raises:
        SettingError: if the name is unknown, or layers are given with a scorer.
        DataError: if the CSV cannot be read.
    """
    if not isinstance(scorer, str):
        if layers is not None:
            raise SettingError(
                "layers", "can be set only for a scorer given by name: pass it to the scorer's constructor"
            )
        return scorer
    if scorer not in SCORERS:
        raise SettingError("scorer", f"must be a known scorer, got {scorer!r}. {did_you_mean(scorer, SCORERS)}")
    setting = "probes" if scorer.startswith("shap") else "layers"
    return SCORERS[scorer](**{setting: None if layers is None else tuple(layers), "similarity": similarity})


def collect_images(data: Data, at_most: int) -> tuple[Tensor, Tensor]:
    """Return the first `at_most` images and labels as tensors. Raises DataError if there are none."""
    check_argument("max_images", at_most, AtLeastOne)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    # a pair of arrays is one batch; a list of two pairs is two batches
    is_pair = isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(part, "shape") for part in data)
    batches: Any = [data] if is_pair else data
    for batch in batches:
        some_images, some_labels = _batch(batch)
        images.append(some_images)
        labels.append(some_labels)
        if sum(map(len, images)) >= at_most:
            break
    if not sum(map(len, images)):
        raise DataError("no images: the data have no batch")
    return torch.cat(images)[:at_most], torch.cat(labels)[:at_most]


def to_model_device(model: nn.Module, values: Tensor) -> Tensor:
    """Return images or labels on the model's device; all except integer labels have the type of its parameters."""
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
    """Make `model` return a tensor of logits in the block, if its output contains one.

    With `columns`, for a regression, the one number per image is repeated in this many columns: the "logit" of each
    class is the predicted number itself, so the explanation is of the prediction.
    """

    def unwrap(module: nn.Module, arguments: Any, output: Any) -> Any:
        logits = getattr(output, "logits", output)
        if isinstance(logits, tuple | list) and logits:
            logits = logits[0]
        if columns is None or not isinstance(logits, Tensor):
            return logits
        if logits.numel() != len(logits):
            raise DataError(f"a regression must return one number per image, got {_describe(logits)}")
        return logits.reshape(-1, 1).expand(-1, columns)

    handle = model.register_forward_hook(unwrap)
    try:
        yield
    finally:
        handle.remove()


def count_classes(model: nn.Module, image: Tensor, labels: Tensor) -> int:
    """Return the number of logits of the model. Raises DataError if it has none, or a label is out of range."""
    try:
        with evaluation_mode(model), torch.no_grad():
            logits = model(image)
    except (RuntimeError, ValueError, TypeError) as exc:
        shape = tuple(image.shape[1:])
        raise DataError(f"the model fails for images of shape {shape}: {' '.join(str(exc).split())}") from exc
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise DataError(f"the model must return logits (n, n_classes), got {_describe(logits)}")
    n_classes = logits.shape[1]
    low, high = int(labels.min()), int(labels.max())
    if labels.is_floating_point() or not 0 <= low <= high < n_classes:
        hint = "; for a regression set the number of `bins` of its targets" if labels.is_floating_point() else ""
        raise DataError(f"labels must be from 0 to {n_classes - 1} for {n_classes} logits, got {low} to {high}{hint}")
    return n_classes


def name_classes(class_names: Sequence[str] | None, n_classes: int) -> tuple[str, ...]:
    """Return the names of the classes, by default numbers. Raises DataError if there are too many or too few."""
    names = tuple(map(str, range(n_classes) if class_names is None else class_names))
    if len(names) != n_classes:
        raise DataError(f"expected {n_classes} class names, one per logit, got {len(names)}")
    return names


def _binned(targets: Tensor, bins: int, scorer: Scorer) -> Tensor:
    check_argument("bins", bins, Annotated[int, Field(ge=2)])
    if "predicted" in scorer.name:
        raise SettingError("scorer", f"must group by the true target for a regression, got {scorer.name}")
    return torch.from_numpy(bin_targets(targets.cpu().numpy(), bins))


def _describe(output: object) -> str:
    return f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
