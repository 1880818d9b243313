"""Digests by which cached features are found: of the backbone, and of each view of each image."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
from torch import nn

from nasx.backbones.feature_store import KEY_BYTES
from nasx.backbones.pretrained import Pretrained
from nasx.data.augmentation import Augmentation
from nasx.data.dataset import LabeledImages

OWN: Final = ("torch", "nasx")  # packages whose version numbers stand for their code
_digests: WeakKeyDictionary[LabeledImages, list[bytes]] = WeakKeyDictionary()  # of images that are used several times


@lru_cache(maxsize=4)
def describe(pretrained: Pretrained) -> str:
    """Return all that the maps of an image depend on: weights, structure (strides, activations), and other code."""
    stages = pretrained.stages
    return f"{pretrained.digest} {stages} {_code_of(stages)} {list(_settings_of(stages))}"


def _code_of(stages: nn.Module) -> list[str]:
    """Return a digest of each source file that defines a module; torch and nasx have version numbers instead."""
    names = {type(module).__module__ for module in stages.modules() if not _is_own(module)}
    found = (sys.modules.get(name) for name in sorted(names))
    files = [Path(module.__file__) for module in found if module is not None and module.__file__]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]


def _settings_of(stages: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each setting of a module, which its description may not contain."""
    for module in stages.modules():
        if not _is_own(module):
            for name, value in sorted(vars(module).items()):
                if not name.startswith("_") and _is_plain(value):
                    yield name, value


def _is_own(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in OWN


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def view_digests(images: LabeledImages, views: int, augmentation: Augmentation | None) -> list[bytes]:
    """Return a digest for each view of each image: of the pixels, and for augmented views also of their number.

    Args:
        images: n images.
        views: number of views.
        augmentation: of all views but the first.

    Returns:
        views * n digests; those of the first view come first.
    """
    plain = _image_digests(images)
    digests = list(plain)
    for view in range(1, views):
        suffix = f" view {view} {augmentation}".encode()
        digests += [digest(key + suffix) for key in plain]
    return digests


def _image_digests(images: LabeledImages) -> list[bytes]:
    if images not in _digests:
        _digests[images] = [digest(np.ascontiguousarray(image).data) for image in images.images]
    return _digests[images]


def digest(content: bytes | memoryview) -> bytes:
    return hashlib.sha256(content).digest()[:KEY_BYTES]  # faster than blake2b on most processors
