"""Checkpoints of a training: all that it takes to go on as if it had never stopped, as plain tensors without pickle.

The order of images and their augmentation depend on (seed, epoch) alone, so that weights, momentum, the average of the
weights and the history are the whole state between two epochs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from nasx.errors import RunError
from nasx.files import add_checksum, find_corruption, write_atomically

_STATE = "state"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after a whole number of epochs."""

    identity: Mapping[str, Any]  # what was trained and how: plain JSON; a training goes on from its own alone
    history: tuple[Mapping[str, float], ...]  # one record an epoch that is done
    tensors: Mapping[str, Mapping[str, Tensor]]  # part ("network", "momentum", "average", "best") -> name -> tensor


def save_checkpoint(file: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint in place of the one that is there, as a whole or not at all."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous().clone()  # cloned: safetensors refuses shared memory
        for part, named in checkpoint.tensors.items()
        for name, tensor in named.items()
    }
    state = json.dumps({"identity": checkpoint.identity, "history": checkpoint.history})
    write_atomically(file, add_checksum(save(tensors, {_STATE: state})))


def load_checkpoint(file: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint at `file`; None where there is none. Raises RunError on a damaged or another one's."""
    if not file.is_file():
        return None
    if problem := find_corruption(file):
        raise RunError(f"the checkpoint {file} cannot be used: {problem}. Remove it to train from the beginning.")
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    try:
        state = json.loads(metadata[_STATE])
        history, found = tuple(state["history"]), state["identity"]
    except (KeyError, TypeError, ValueError) as exc:
        raise RunError(f"{file} is no checkpoint of nasx. Remove it to train from the beginning.") from exc
    if found != json.loads(json.dumps(identity)):  # tuples have become lists
        raise RunError(f"the checkpoint {file} is of another training. Remove it to train from the beginning.")
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(file).items():
        part, _, name = key.partition("/")
        tensors.setdefault(part, {})[name] = tensor
    return Checkpoint(found, history, tensors)
