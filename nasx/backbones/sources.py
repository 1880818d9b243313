"""Packages and files of pretrained networks on this machine: nothing is downloaded, and no code in a file is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import torch
from pydantic import TypeAdapter, ValidationError

from nasx.backbones.pretrained import Preprocessing
from nasx.errors import DataError, NasxError, ResourceError, SettingError, did_you_mean, kind_and_line

KEY: Final = "space.backbone"
UNKNOWN: Final = "unknown"
TAGS: Final[Mapping[str, str]] = {  # parts of the names of weights -> the data on which they were trained
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "imagenet1k": "ImageNet-1k",
}
_PREPROCESSING: Final = TypeAdapter(Preprocessing)


@dataclass(frozen=True)
class Source:
    """Facts about weights."""

    origin: str  # package or file
    license: str = UNKNOWN
    data: str = UNKNOWN  # on which they were trained

    @classmethod
    def of_file(cls, file: Path) -> Source:
        return cls(f"the file {file.name}")


def import_library(name: str, full: str) -> Any:
    """Return a library. Raises ResourceError if it is not installed or does not work."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"{KEY}={full} needs the package {error.name}: pip install {error.name}. Without it, use another backbone, "
            "e.g. efficientnet_lite0."
        ) from error
    except Exception as error:  # e.g. torchvision for another version of torch
        raise ResourceError(
            f"{KEY}={full}: importing {name} failed ({kind_and_line(error)}). Install a version "
            f"that fits torch {torch.__version__}."
        ) from error


def check_name(name: str, known: list[str], library: str) -> None:
    """Raise SettingError if a library has no network of a name."""
    if name not in known:
        hint = did_you_mean(name, known) if len(known) < 10 else _near(name, known)
        raise SettingError(KEY, f"{library} has no network {name!r}. {hint}".rstrip())


def _near(name: str, known: list[str]) -> str:
    """Return a sentence with the nearest name; "" if none is near: libraries have hundreds of them."""
    hint = did_you_mean(name, known)
    return hint if hint.startswith("Did") else ""


def hub_file(repository: str, names: tuple[str, ...]) -> Path | None:
    """Return the first file of a repository that is in the cache of Hugging Face, without access to the network."""
    try:
        hub = import_module("huggingface_hub")
    except ModuleNotFoundError:  # without it there is no cache
        return None
    name, _, revision = repository.partition("@")
    for each in names:
        try:
            file = hub.try_to_load_from_cache(name, each, revision=revision or None)
        except ValueError:  # no name of a repository
            return None
        if isinstance(file, str):
            return Path(file)
    return None


def torch_hub_file(url: str) -> Path | None:
    """Return the file of an address in the cache of torch."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return file if url and file.is_file() else None


def absent(full: str, code: str) -> NoReturn:
    """Raise ResourceError for weights that are not on this machine.

    Args:
        full: name of the backbone.
        code: Python code that downloads them.
    """
    raise ResourceError(
        f"{KEY}={full}: its weights are not on this machine, and nasx downloads none. Download them once: "
        f'python -c "{code}", or name a file: space.weights=FILE.'
    )


def preprocessing_of(**values: Any) -> Preprocessing:
    """Return a preprocessing whose values were checked. Raises SettingError."""
    if values.get("interpolation") not in (None, "bilinear", "bicubic", "lanczos"):
        values["interpolation"] = "bilinear"  # e.g. "nearest", "random"
    try:
        found = _PREPROCESSING.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, first["loc"]))
        raise SettingError(KEY, f"has an invalid preprocessing: {setting}: {first['msg']}") from error
    if not (16 <= found.size <= 2048 and min(found.std) > 0):
        problem = f"size must be from 16 to 2048 and std positive, got {found.size} and {found.std}"
        raise SettingError(KEY, f"has an invalid preprocessing: {problem}")
    return found


def translated(error: Exception, full: str) -> NasxError:
    """Return an error of a library as one line."""
    if isinstance(error, NasxError):
        return error
    text = re.sub(r"\s+", " ", str(error))[:200] or type(error).__name__
    return DataError(f"{KEY}={full} cannot be loaded: {type(error).__name__}: {text}.")


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set environment variables in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def data_of(tag: str) -> str:
    """Return the data that the name of weights states.

    >>> data_of("fb_in22k_ft_in1k"), data_of("IMAGENET1K_V2"), data_of("laion2b")
    ('ImageNet-22k, ImageNet-1k', 'ImageNet-1k', 'unknown')
    """
    return ", ".join(TAGS[part] for part in tag.lower().split("_") if part in TAGS) or UNKNOWN
