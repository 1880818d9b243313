"""Checkpoints of a training, from which it continues to a bit-identical result. Plain tensors, no pickle.

The order of images and their augmentation depend only on (seed, epoch). The state between two epochs is therefore the
weights, the momentum, the average of the weights and the history.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from nasx.errors import RunError
from nasx.files import add_checksum, find_corruption, read_metadata, write_atomically

_STATE = "state"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """State of a training after an epoch."""

    identity: Mapping[str, Any]  # settings of the training, plain JSON; only the same training may continue from it
    history: tuple[Mapping[str, float], ...]  # one record per finished epoch
    tensors: Mapping[str, Mapping[str, Tensor]]  # part ("network", "momentum", "average", "best") -> name -> tensor


def save_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; replaces the one at `file`."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()  # safetensors rejects tensors that share memory
        for part, named in checkpoint.tensors.items()
        for name, tensor in named.items()
    }
    state = json.dumps({"identity": checkpoint.identity, "history": checkpoint.history})
    write_atomically(file, add_checksum(save(tensors, {_STATE: state})), parents=False)


def load_checkpoint(file: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Return the checkpoint at `file`; None if there is no file.

    Raises RunError if it is damaged or belongs to another training.
    """
    if not file.is_file():
        return None
    if problem := find_corruption(file):
        raise RunError(f"the checkpoint {file} cannot be used: {problem}. Remove it to train from the beginning.")
    content = file.read_bytes()  # safetensors itself opens only paths in UTF-8
    try:
        state = json.loads(read_metadata(content)[_STATE])
        history, found = tuple(state["history"]), state["identity"]
    except (KeyError, TypeError, ValueError) as exc:
        raise RunError(f"{file} is not a checkpoint of nasx. Remove it to train from the beginning.") from exc
    if found != json.loads(json.dumps(identity)):  # JSON turns tuples into lists
        raise RunError(f"the checkpoint {file} belongs to another training. Remove it to train from the beginning.")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load(content).items():
        part, _, name = key.partition("/")
        tensors.setdefault(part, {})[name] = tensor
    return Checkpoint(found, history, tensors)
