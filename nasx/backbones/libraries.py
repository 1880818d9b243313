"""Pretrained networks of timm, torchvision and transformers, and of a user's function, with weights on this machine.

Nothing is downloaded, and no code in a file is run. Weights of a name are read from the caches of the libraries: the
messages say how to fill them.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from nasx.backbones.model_stages import LastMap, single_stage, split
from nasx.backbones.pretrained import Interpolation, Preprocessing, Pretrained
from nasx.errors import DataError, NasxError, ResourceError, SettingError, did_you_mean, first_line
from nasx.files import read_bounded
from nasx.introspection.load_model import find_factory, load_model, load_state, read_state

KEY: Final = "space.backbone"
UNKNOWN: Final = "unknown"
HUB_FILES: Final = ("model.safetensors", "pytorch_model.bin")  # names of weights in a repository of Hugging Face
PIL_FILTERS: Final[Mapping[int, Interpolation]] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
TAGS: Final[Mapping[str, str]] = {  # parts of the names of weights -> the data on which they were trained
    "in1k": "ImageNet-1k",
    "in12k": "ImageNet-12k",
    "in21k": "ImageNet-21k",
    "in22k": "ImageNet-22k",
    "imagenet1k": "ImageNet-1k",
}
TIMM: Final = "timm:NAME"
MAX_JSON: Final = 10_000_000  # bytes


@dataclass(frozen=True)
class Source:
    """Facts about weights."""

    origin: str  # package or file
    license: str = UNKNOWN
    data: str = UNKNOWN  # on which they were trained

    @classmethod
    def of_file(cls, file: Path) -> Source:
        return cls(f"the file {file.name}")


def load_timm(name: str, weights: Path | None, *, trained: bool = True) -> Pretrained:
    """Return a network of timm.

    Args:
        name: of the network in timm, e.g. "resnet18" or "resnet18.a1_in1k".
        weights: file of its weights; None: the cache of Hugging Face or torch.
        trained: False: without weights.

    Raises:
        SettingError: if there is no such network, or it cannot be cut into stages.
        ResourceError: if timm or the weights are not on this machine.
        DataError: if the weights do not fit.
    """
    full = f"timm:{name}"
    timm = _package("timm", full)
    _check_name(name.partition(".")[0], timm.list_models(), "timm")
    try:
        model = timm.create_model(name, pretrained=False)
        found = model.pretrained_cfg
        source = Source(UNKNOWN)
        if trained and weights is not None:
            classifier = found.get("classifier") or ()
            load_state(model, weights, unused=(classifier,) if isinstance(classifier, str) else tuple(classifier))
            source = Source.of_file(weights)
        elif trained:
            file = _timm_file(found, full)
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"state_dict": read_state(file)})
            source = Source(f"timm, {found.get('hf_hub_id') or file.name}", *_timm_facts(found))
    except Exception as error:
        raise _translated(error, full) from error
    preprocessing = _preprocessing(
        size=found["input_size"][-1], mean=found["mean"], std=found["std"], interpolation=found["interpolation"]
    )
    try:
        stages = split(model, full, preprocessing.size)
    except SettingError:
        if not hasattr(model, "forward_intermediates"):
            raise
        stages = single_stage(LastMap(model, _timm_maps), full, preprocessing.size, "blocks")
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _timm_maps(model: Any, images: torch.Tensor) -> list[torch.Tensor]:
    maps: list[torch.Tensor] = model.forward_intermediates(
        images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def _timm_file(found: Mapping[str, Any], full: str) -> Path:
    """Return the file of a network's weights in the cache of Hugging Face or torch."""
    if found.get("hf_hub_id"):
        name = found.get("hf_hub_filename")
        file = _hub_file(found["hf_hub_id"], (name,) if name else HUB_FILES)
    else:
        file = _torch_hub_file(str(found.get("url") or ""))
    return file or _absent(full, f"import timm; timm.create_model({full.partition(':')[2]!r}, pretrained=True)")


def _timm_facts(found: Mapping[str, Any]) -> tuple[str, str]:
    """Return the license of weights, and the data on which they were trained."""
    return str(found.get("license") or UNKNOWN), _data_of(str(found.get("tag") or ""))


def _data_of(tag: str) -> str:
    """Return the data that the name of weights states.

    >>> _data_of("fb_in22k_ft_in1k"), _data_of("IMAGENET1K_V2"), _data_of("laion2b")
    ('ImageNet-22k, ImageNet-1k', 'ImageNet-1k', 'unknown')
    """
    return ", ".join(TAGS[part] for part in tag.lower().split("_") if part in TAGS) or UNKNOWN


def load_torchvision(name: str, weights: Path | None, *, trained: bool = True) -> Pretrained:
    """Return a network of torchvision; the arguments and errors are those of `load_timm`.

    Args:
        name: of the network in torchvision, e.g. "resnet18".
        weights: file of its weights; None: the cache of torch.
        trained: False: without weights.
    """
    full = f"torchvision:{name}"
    models = _package("torchvision", full).models
    _check_name(name, models.list_models(module=models), "torchvision")
    try:
        entry = models.get_model_weights(name).DEFAULT
        source = Source(UNKNOWN)
        if trained and weights is None:
            file = _torch_hub_file(entry.url) or _absent(
                full, f"import torchvision; torchvision.models.get_model({name!r}, weights='DEFAULT')"
            )
            with _environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"):  # no code in the file is run
                model = models.get_model(name, weights=entry)
            license_ = str(entry.meta.get("license") or UNKNOWN)
            source = Source(f"torchvision, {file.name}", license_, _data_of(entry.name))
        else:
            model = models.get_model(name, weights=None)
            if trained and weights is not None:
                load_state(model, weights, unused=_last_linear(model))
                source = Source.of_file(weights)
        transforms = entry.transforms()
        preprocessing = _preprocessing(
            size=transforms.crop_size[0],
            mean=transforms.mean,
            std=transforms.std,
            interpolation=transforms.interpolation.value,
        )
    except Exception as error:
        raise _translated(error, full) from error
    stages = split(model, full, preprocessing.size)
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _last_linear(model: nn.Module) -> tuple[str, ...]:
    """Return the name of the last linear layer, the classifier of networks of torchvision; () if there is none."""
    return tuple(name for name, module in model.named_modules() if isinstance(module, nn.Linear))[-1:]


def load_transformers(name: str, weights: Path | None) -> Pretrained:
    """Return a network of transformers that is a backbone there.

    Args:
        name: directory with config.json and model.safetensors, or name on the hub of Hugging Face whose files are in
            its cache.
        weights: file of its weights; None: model.safetensors.

    Raises:
        SettingError: if transformers has no backbone for it.
        ResourceError: if transformers or the files are not on this machine.
        DataError: if the weights do not fit.
    """
    full = f"transformers:{name}"
    transformers = _package("transformers", full)
    config = _transformers_file(name, "config.json")
    if config is None:
        raise _no_config(name, full)
    try:
        with _environment(HF_HUB_OFFLINE="1"):
            model = _transformers_model(transformers, str(config.parent), weights)
    except Exception as error:
        raise _translated(error, full) from error
    preprocessing = _transformers_preprocessing(config.with_name("preprocessor_config.json"), full)
    maps = LastMap(model, _transformers_maps)
    try:
        stages = split(copy.deepcopy(maps), full, preprocessing.size)
    except SettingError:
        stages = single_stage(maps, full, preprocessing.size, "blocks")
    source = Source(full) if weights is None else Source.of_file(weights)
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _transformers_model(transformers: Any, directory: str, weights: Path | None) -> Any:
    """Return a backbone of transformers with its weights, which must be complete and fit.

    AutoBackbone.from_pretrained would ask the network, so only the class of the backbone comes from AutoBackbone.
    """
    offline = {"local_files_only": True, "trust_remote_code": False}  # no code of the directory is run
    config = transformers.AutoConfig.from_pretrained(directory, **offline)
    if config.model_type.startswith("timm"):
        raise SettingError(KEY, f"is a network of timm, whose weights transformers would download: use {TIMM}")
    kind = type(transformers.AutoBackbone.from_config(config, trust_remote_code=False))
    transformers.utils.logging.set_verbosity_error()  # otherwise it lists the weights of the classifier
    transformers.utils.logging.disable_progress_bar()
    place = directory if weights is None else None
    own = {"use_safetensors": True} if weights is None else {"state_dict": read_state(weights)}
    model, report = kind.from_pretrained(place, config=config, output_loading_info=True, **offline, **own)
    # norms of the feature maps are often not stored: they begin as identity
    if problems := sorted(key for key in report["missing_keys"] if "norm" not in key):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{weights or directory}: parameter {problems[0]!r}{more} of the backbone is missing")
    return model


def _transformers_maps(model: Any, images: torch.Tensor) -> Any:
    return model(images).feature_maps


def _no_config(name: str, full: str) -> ResourceError:
    if Path(name).expanduser().exists():
        return ResourceError(f"{KEY}={full}: it must be a directory with config.json and model.safetensors.")
    code = "from huggingface_hub import snapshot_download; "
    code += f"snapshot_download({name!r}, allow_patterns=['*.json', '*.safetensors'])"
    return ResourceError(
        f"{KEY}={full}: there is no such directory, its files are not in the cache of Hugging Face, and nasx downloads "
        f'none. Download them once: python -c "{code}".'
    )


def _transformers_file(name: str, file: str) -> Path | None:
    """Return a file of a directory, or of a name whose files are in the cache; None if it has none."""
    here = Path(name).expanduser() / file
    return here if here.is_file() else _hub_file(name, (file,))


def _transformers_preprocessing(file: Path, full: str) -> Preprocessing:
    """Return the preprocessing in a preprocessor_config.json; that of ImageNet if there is none."""
    if not file.is_file():
        return Preprocessing()
    try:
        found = json.loads(read_bounded(file, MAX_JSON, follow=True))
        size = found.get("crop_size") if found.get("do_center_crop", True) else None
        size = size or found.get("size") or Preprocessing.size
        sides = [size] if isinstance(size, int) else [size[key] for key in ("height", "shortest_edge") if key in size]
        scale = 255 * float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 255.0
        is_normalized = found.get("do_normalize", True)
        return _preprocessing(
            size=sides[0],
            mean=[each / scale for each in (found["image_mean"] if is_normalized else (0.0, 0.0, 0.0))],
            std=[each / scale for each in (found["image_std"] if is_normalized else (1.0, 1.0, 1.0))],
            interpolation=PIL_FILTERS.get(found.get("resample", 2), "bilinear"),
        )
    except NasxError:
        raise
    except Exception as error:  # the file may contain anything
        raise DataError(f"{file} of {full} is damaged: {type(error).__name__}: {first_line(error)}.") from error


def load_factory(factory: str, weights: Path | None) -> Pretrained:
    """Return the network that a user's function builds.

    Args:
        factory: "module:function", called without arguments. The function or the network may have an attribute
            `preprocessing`, a mapping with any of size, mean, std, interpolation; otherwise those of ImageNet apply.
        weights: file of its weights; None: the function loads them itself.

    Raises:
        ConfigError: if the network cannot be built or cut into stages.
        DataError: if the weights do not fit.
    """
    model = load_model(factory, weights)
    found = getattr(model, "preprocessing", None) or getattr(find_factory(factory), "preprocessing", None) or {}
    if not isinstance(found, Mapping) or not set(found) <= {"size", "mean", "std", "interpolation"}:
        raise SettingError(
            KEY, f"{factory}: its attribute preprocessing must be a mapping with size, mean, std, interpolation"
        )
    preprocessing = _preprocessing(**found)
    stages = split(copy.deepcopy(model), factory, preprocessing.size)  # a module may keep its model
    source = Source(f"the function {factory}") if weights is None else Source.of_file(weights)
    return Pretrained(factory, stages, preprocessing, source.origin, source.license, source.data)


# --- parts


def _package(name: str, full: str) -> Any:
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
            f"{KEY}={full}: importing {name} failed ({type(error).__name__}: {first_line(error)}). Install a version "
            f"that fits torch {torch.__version__}."
        ) from error


def _check_name(name: str, known: list[str], library: str) -> None:
    if name not in known:
        hint = did_you_mean(name, known) if len(known) < 10 else _near(name, known)
        raise SettingError(KEY, f"{library} has no network {name!r}. {hint}".rstrip())


def _near(name: str, known: list[str]) -> str:
    """Return a sentence with the nearest name; "" if none is near: libraries have hundreds of them."""
    hint = did_you_mean(name, known)
    return hint if hint.startswith("Did") else ""


def _hub_file(repository: str, names: tuple[str, ...]) -> Path | None:
    """Return the first file of a repository that is in the cache of Hugging Face. Never asks the network."""
    hub = import_module("huggingface_hub")
    name, _, revision = repository.partition("@")
    for each in names:
        try:
            file = hub.try_to_load_from_cache(name, each, revision=revision or None)
        except ValueError:  # no name of a repository
            return None
        if isinstance(file, str):
            return Path(file)
    return None


def _torch_hub_file(url: str) -> Path | None:
    """Return the file of an address in the cache of torch."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return file if url and file.is_file() else None


def _absent(full: str, code: str) -> Path:
    raise ResourceError(
        f"{KEY}={full}: its weights are not on this machine, and nasx downloads none. Download them once: "
        f'python -c "{code}", or name a file: space.weights=FILE.'
    )


def _preprocessing(**values: Any) -> Preprocessing:
    """Return a preprocessing whose values were checked. Raises SettingError."""
    if values.get("interpolation") not in (None, "bilinear", "bicubic", "lanczos"):
        values["interpolation"] = "bilinear"  # e.g. "nearest", "random"
    try:
        found = _PREPROCESSING.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingError(KEY, f"its preprocessing is invalid: {where}: {first['msg']}") from error
    if not (16 <= found.size <= 2048 and min(found.std) > 0):
        raise SettingError(KEY, f"its preprocessing is invalid: size {found.size}, std {found.std}")
    return found


_PREPROCESSING: Final = TypeAdapter(Preprocessing)


def _translated(error: Exception, full: str) -> NasxError:
    """Return an error of a library as one line."""
    if isinstance(error, NasxError):
        return error
    text = re.sub(r"\s+", " ", str(error))[:200] or type(error).__name__
    return DataError(f"{KEY}={full} cannot be loaded: {type(error).__name__}: {text}.")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
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


Loader = Callable[[str, Path | None], Pretrained]
LOADERS: Final[Mapping[str, Loader]] = {
    "timm": load_timm,
    "torchvision": load_torchvision,
    "transformers": load_transformers,
    "": load_factory,
}
