"""Store and load the weights of trained networks, without those of the frozen stages of a backbone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from nasx.errors import ResourceError, RunError
from nasx.files import add_checksum, find_corruption, read_metadata, write_atomically
from nasx.networks.backbone import BACKBONE, backbone_names, backbone_of, frozen_names
from nasx.runs.directory import ATTEMPTS


def save_weights(network: nn.Module, file: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the weights atomically as safetensors with a checksum, without those of frozen stages of a backbone.

    Args:
        network: with the weights, on any device.
        file: in a directory that exists.
        metadata: further texts for the header of the file.
    """
    frozen = frozen_names(network)
    tensors = {name: t.contiguous().cpu() for name, t in network.state_dict().items() if name not in frozen}
    backbone = backbone_of(network)
    texts = {**(metadata or {}), **({} if backbone is None else {BACKBONE: backbone.digest})}
    write_atomically(file, add_checksum(save(tensors, texts)), parents=False)


def keep_weights(
    network: nn.Module, file: Path, prepare: Callable[[], object], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the weights of a run's network. Its search may remove the directory while it is empty: then try again.

    Args:
        network: with the weights, on any device.
        file: in the directory of the network.
        prepare: creates that directory.
        metadata: further texts for the header of the file.
    """
    for attempt in range(ATTEMPTS):
        prepare()
        try:
            save_weights(network, file, metadata)
            break
        except ResourceError:
            if attempt == ATTEMPTS - 1 or file.parent.is_dir():
                raise


def load_weights(network: nn.Module, file: Path) -> None:
    """Load weights that `save_weights` wrote into a network of the same architecture.

    Raises RunError if the file is corrupt or its weights do not fit, or were trained on another backbone.
    """
    if problem := find_corruption(file):
        raise RunError(f"the weights {file} cannot be used: {problem}. Train the network again in a new run.")
    content = file.read_bytes()
    backbone, trained_on = backbone_of(network), read_metadata(content).get(BACKBONE)
    if backbone is not None and trained_on not in (None, backbone.digest):
        raise RunError(
            f"the weights {file} were trained on a backbone with other weights. Restore those of the search: the same "
            "version of their package, or space.weights=FILE."
        )
    try:
        stored = load(content)
        pretrained = backbone_names(network)
        kept = {name: tensor for name, tensor in network.state_dict().items() if name in pretrained}
        network.load_state_dict({**kept, **stored})
    except (SafetensorError, RuntimeError) as error:  # torch raises RuntimeError for other names or shapes
        raise RunError(
            f"the weights {file} cannot be used: they do not fit the network of the run's config. "
            "Restore both from a copy, or train the network again in a new run."
        ) from error
