"""Pretrained networks of transformers, from a directory or the cache of Hugging Face. No code of them is run."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from nasx.backbones.model_stages import LastMap, single_stage, split
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.backbones.sources import KEY, Source, environment, hub_file, import_library, preprocessing_of, translated
from nasx.data.decoding import Interpolation
from nasx.errors import DataError, NasxError, ResourceError, SettingError, kind_and_line
from nasx.files import read_bounded
from nasx.introspection.load_model import read_state

PIL_FILTERS: Final[Mapping[int, Interpolation]] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
MAX_JSON: Final = 10_000_000  # bytes


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
    transformers = import_library("transformers", full)
    config = _file(name, "config.json")
    if config is None:
        raise _no_config(name, full)
    try:
        with environment(HF_HUB_OFFLINE="1"):
            model = _model(transformers, str(config.parent), weights)
    except Exception as error:
        raise translated(error, full) from error
    preprocessing = read_preprocessing(config.with_name("preprocessor_config.json"), full)
    maps = LastMap(model, _maps)
    try:
        stages = split(copy.deepcopy(maps), full, preprocessing.size)
    except SettingError:
        stages = single_stage(maps, full, preprocessing.size, "blocks")
    source = Source(full) if weights is None else Source.of_file(weights)
    return Pretrained(full, stages, preprocessing, source.origin, source.license, source.data)


def _model(transformers: Any, directory: str, weights: Path | None) -> Any:
    """Return a backbone of transformers with its weights, which must be complete and fit.

    AutoBackbone.from_pretrained would access the network, so only the class of the backbone comes from AutoBackbone.
    """
    offline = {"local_files_only": True, "trust_remote_code": False}  # no code of the directory is run
    config = transformers.AutoConfig.from_pretrained(directory, **offline)
    if config.model_type.startswith("timm"):
        raise SettingError(KEY, "is a network of timm, whose weights transformers would download: use timm:NAME")
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


def _maps(model: Any, images: torch.Tensor) -> Any:
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


def _file(name: str, file: str) -> Path | None:
    """Return a file of a directory, or of a name whose files are in the cache; None if it has none."""
    here = Path(name).expanduser() / file
    return here if here.is_file() else hub_file(name, (file,))


def read_preprocessing(file: Path, full: str) -> Preprocessing:
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
        return preprocessing_of(
            size=sides[0],
            mean=[each / scale for each in (found["image_mean"] if is_normalized else (0.0, 0.0, 0.0))],
            std=[each / scale for each in (found["image_std"] if is_normalized else (1.0, 1.0, 1.0))],
            interpolation=PIL_FILTERS.get(found.get("resample", 2), "bilinear"),
        )
    except NasxError:
        raise
    except Exception as error:  # the file may contain anything
        raise DataError(f"{file} of {full} is damaged: {kind_and_line(error)}.") from error
