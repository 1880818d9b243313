"""Choose between a pretrained backbone and training from scratch, for a config with `space: auto` or `training: auto`.

The chosen files of the groups replace `auto`; settings that the user has set are kept, and decide if only one of the
choices has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nasx.config.auto import DERIVABLE
from nasx.config.components import AUTO, TARGET, load_target
from nasx.config.compose import compose_choice
from nasx.config.plain import Config, get
from nasx.config.settings import declared_parameters
from nasx.data.augmentation import Augmentation
from nasx.data.survey import Survey
from nasx.errors import ConfigError
from nasx.extras import install_command
from nasx.planning.rules import Choice

LARGE: Final = 64  # pixels per side from which a backbone is used: its deepest stages see a 32nd of them
BACKBONE: Final = {"space": "backbone", "training": "backbone"}
SCRATCH: Final = {"space": "nb201", "training": "folder"}
_AUGMENTATION: Final = "dataset.augmentation"
BACKBONE_AUGMENTATION: Final = {"horizontal_flip": True, "cutout": 0.0}  # as in photos.yaml
_PHOTOS: Final = "as for photos, on a backbone"


def choose_space(config: Mapping[str, Any], survey: Survey | None) -> Choice:
    """Return "backbone" or "nb201", and the reason.

    Args:
        config: with `space: auto`.
        survey: of the pictures; None: they are no folder.

    Raises:
        ConfigError: if settings of both are set.
    """
    if (found := _by_settings(config["space"])) is not None:
        return found
    from nasx.backbones.efficientnet_lite import is_installed  # torch takes seconds to load

    side, reason = _side(config, survey)
    if side < LARGE:
        return Choice(SCRATCH["space"], f"from scratch, because {reason}: a backbone needs {LARGE} pixels per side")
    if is_installed():
        return Choice(BACKBONE["space"], f"pretrained features, trained in seconds, because {reason}")
    return Choice(
        SCRATCH["space"],
        f"from scratch, although {reason}; a pretrained backbone would bring pretrained features, pictures at up to "
        f"224 pixels and seconds per training: {install_command('backbone')}",
    )


def _by_settings(node: Mapping[str, Any]) -> Choice | None:
    """Return the choice that has the settings that are set; None: none is set. Raises ConfigError if both have some."""
    own = [key for key, value in node.items() if value != AUTO]
    if not own:
        return None
    known = {name: set(compose_choice("space", name)) for name in (BACKBONE["space"], SCRATCH["space"])}
    deciding = {name: found[0] for name, keys in known.items() if (found := [key for key in own if key in keys])}
    if len(deciding) > 1:
        words = " and ".join(f"space.{key} (of space={name})" for name, key in deciding.items())
        raise ConfigError(f"{words} are settings of different spaces: set only one of them, or choose space=NAME.")
    return next((Choice(name, f"space.{key} is set") for name, key in deciding.items()), None)


def _side(config: Mapping[str, Any], survey: Survey | None) -> tuple[int, str]:
    """Return the short side of the images as they will be read, and the reason of a choice by it."""
    size = get(config, "dataset.image_size")
    if isinstance(size, int):
        return size, f"dataset.image_size is {size}"
    if survey is None:
        return 0, "the size of the pictures is known for folders only"
    return survey.side, f"the median picture is {survey.width} x {survey.height}"


def choose_training(config: Mapping[str, Any]) -> Choice:
    """Return the file of the group training for the space of a config."""
    if has_backbone(config):
        return Choice(BACKBONE["training"], "for networks on a pretrained backbone")
    return Choice(SCRATCH["training"], "from scratch")


def resolved(config: Mapping[str, Any], group: str, name: str) -> Config:
    """Return a group with the settings of one of its files. Settings that are set, or derived later, are kept.

    Args:
        config: with `auto` for the group.
        group: e.g. "space".
        name: of the file, e.g. "backbone".
    """
    own, chosen = config[group], compose_choice(group, name)
    kept = [key for key, value in own.items() if value != AUTO or f"{group}.{key}" in DERIVABLE]
    return {**chosen, **{key: own[key] for key in kept if key in chosen and key != TARGET}}


def choose_augmentation(config: Mapping[str, Any]) -> dict[str, Choice]:
    """Return settings of the augmentation, by full key: those of photos for a backbone, else those of the dataset."""
    if has_backbone(config):
        return {f"{_AUGMENTATION}.{name}": Choice(value, _PHOTOS) for name, value in BACKBONE_AUGMENTATION.items()}
    parameters = declared_parameters(load_target(config["dataset"], "dataset"), "dataset")
    found = parameters["augmentation"].default if "augmentation" in parameters else None
    default = found if isinstance(found, Augmentation) else Augmentation()
    reason = "the default of the dataset"
    return {f"{_AUGMENTATION}.{name}": Choice(getattr(default, name), reason) for name in BACKBONE_AUGMENTATION}


def has_backbone(config: Mapping[str, Any]) -> bool:
    """Return whether the space of a config has a backbone."""
    return hasattr(load_target(config["space"], "space"), "pretrained")
