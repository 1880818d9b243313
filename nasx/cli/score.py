"""`nasx score`: introspectability of any trained torch classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from nasx.cli.options import Device, DeviceOption, Format, choose_dataset
from nasx.errors import ConfigError, NasxError, SettingError, TrialFailure
from nasx.escaping import to_json
from nasx.protocols import ChecksClasses
from nasx.terminal import Console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from nasx.data.dataset import LabeledImages
    from nasx.introspection.score_model import ModelScore
    from nasx.protocols import Dataset


class Part(StrEnum):
    TEST = "test"
    TRAIN = "train"
    ALL = "all"


def score(
    model: Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="A function that returns the torch module.")],
    data: Annotated[str, typer.Option(help="A dataset's name, or a directory of class folders.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. dataset.image_size=224.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights: .safetensors, or a state_dict by torch.save.")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="shap, activations, ...; can be repeated.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Modules to score at, e.g. layer1,layer2; by default found.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Images used at most.")] = 2000,
    part: Annotated[
        Part | None,
        typer.Option(help="Images to use; by default the test images, or all of a directory that is not split."),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Mean per channel, pixels from 0 to 1, as in training; by default of the training images."),
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation per channel, as --mean.")] = None,
    similarity: Annotated[Path | None, typer.Option(help="CSV of class similarities that weigh the pairs.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images and of the draws.")] = 0,
    output: Annotated[Format, typer.Option("--format", help="A table for people, json for programs.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="Directory for figures of distances and layers.")] = None,
    device: DeviceOption = Device.AUTO,
) -> None:
    """Score any trained classifier: how far apart its classes are inside, layer by layer."""
    if (mean is None) != (std is None):
        raise SettingError("--mean", "and --std must be given together")
    log = Console(stderr=True)
    with log.status("Reading the data ...") as status:  # torch takes seconds to load
        from nasx.evaluation.train_and_score import resolve_device
        from nasx.introspection.load_model import load_model
        from nasx.introspection.score_model import find_scorer
        from nasx.introspection.score_model import score as score_model

        modules = None if layers is None else [name.strip() for name in layers.split(",")]
        scorers = [find_scorer(name, modules, similarity) for name in scorer or ["shap"]]
        place = resolve_device(device, "--device")
        network = load_model(model, weights).to(place)
        chosen, pixels, labels = _read(
            choose_dataset(data, overrides or []), part or _default_part(Path(data)), (mean, std), samples, seed
        )
        for each in scorers:
            if isinstance(each, ChecksClasses):
                each.check_classes(chosen.class_names)
        found = []
        for each in scorers:
            status.update(Text(f"Scoring {len(labels):,} images by {each.name} ..."))
            try:
                found.append(
                    score_model(
                        network,
                        (pixels, labels),
                        scorer=each,
                        class_names=chosen.class_names,
                        seed=seed,
                        max_images=samples,
                    )
                )
            except TrialFailure as failure:
                raise NasxError(f"{model} has no score: {failure.detail}") from failure
    console = Console()
    if output is Format.JSON:
        print(to_json([as_json(s) for s in found]))
    else:
        console.print(Text("\n\n".join(map(repr, found))), soft_wrap=True)
    if out is not None:
        files = _draw(found, out)
        log.say(f"Written to {out}: {', '.join(f.name for f in files)}")


def as_json(score: ModelScore) -> dict[str, Any]:
    """Return a score as plain values; an undefined distance is null."""
    rows = [[None if math.isnan(d) else d for d in row] for row in score.distances.tolist()]
    return {**vars(score), "profile": dict(score.profile), "distances": rows}


def numbers(text: str, option: str, n_channels: int) -> NDArray[np.float32]:
    """Parse "0.48,0.46,0.41" as one number per channel, (n_channels,). Raises SettingError."""
    import numpy as np

    try:
        values = np.array([float(word) for word in text.split(",")], dtype=np.float32)
    except ValueError:
        values = np.empty(0, dtype=np.float32)
    if len(values) != n_channels or not np.isfinite(values).all() or (option == "--std" and (values <= 0).any()):
        positive = " above 0" if option == "--std" else ""
        raise SettingError(option, f"must be {n_channels} number{'s' * (n_channels > 1)}{positive}, got {text!r}")
    return values


def _default_part(data: Path) -> Part:
    is_unsplit = data.is_dir() and not (data / "train").is_dir()
    return Part.ALL if is_unsplit else Part.TEST


def _read(
    dataset: Dataset, part: Part, normalization: Sequence[str | None], samples: int, seed: int
) -> tuple[LabeledImages, Tensor, Tensor]:
    """Return the chosen images, their normalized pixels as a tensor, and their labels."""
    import numpy as np

    from nasx.data.batches import as_tensor, normalize
    from nasx.data.files import concatenate
    from nasx.data.splits import mean_and_std

    if samples < 2:
        raise ConfigError(f"--samples must be at least 2, got {samples}.")
    mean, std = normalization
    parts = {name: read() for name, read in ((Part.TRAIN, dataset.train), (Part.TEST, dataset.test))
             if part in (name, Part.ALL) or (name is Part.TRAIN and mean is None)}  # fmt: skip
    images = concatenate(list(parts.values())) if part is Part.ALL else parts[part]
    if mean is None or std is None:
        center, spread = mean_and_std(parts[Part.TRAIN].images)
    else:
        n_channels = images.shape[0]
        center, spread = numbers(mean, "--mean", n_channels), numbers(std, "--std", n_channels)
    chosen = images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:samples]))
    return chosen, normalize(as_tensor(chosen.images), center, spread), as_tensor(chosen.labels)


def _draw(found: Sequence[ModelScore], out: Path) -> list[Path]:
    """Draw a heat map of class distances per scorer, and the profiles over layers in one figure."""
    from nasx.reports.figures.classes import distances_figure, profile_figure
    from nasx.reports.figures.style import save

    figures = {out / f"distances_{s.scorer}.png": distances_figure(s.distances, s.class_names) for s in found}
    figures[out / "profile.png"] = profile_figure({s.scorer: s.profile for s in found})
    for file, figure in figures.items():
        save(figure, file)
    return list(figures)
