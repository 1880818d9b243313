"""Stages of a backbone as an ONNX graph: on CPUs, ONNX Runtime computes feature maps about four times as fast as torch.

EfficientNet-Lite0, two cores of an Intel Xeon with AVX-512, batches of 16 images: 3.2, 3.9 and 4.4 times as fast at 64,
128 and 224 pixels per side (python -m scripts.bench feature_maps).

The graph is a file of the feature store. Each time it is opened, its feature maps of random images are compared with
those of torch. They do not depend on the number of threads, on the other images of a batch, or on the other cuts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from nasx.backbones.pretrained import Pretrained
from nasx.errors import NasxError, ResourceError, kind_and_line
from nasx.extras import EXTRAS
from nasx.files import read_bounded, write_atomically
from nasx.networks.onnx_writer import onnx_bytes, quiet_exporters

PACKAGES: Final = EXTRAS["onnx"]  # their modules have the same names
MIN_WEIGHTS: Final = 100_000  # of a backbone; writing the graph of a smaller one takes longer than it saves
TOLERANCE: Final = 1e-4  # largest difference from the feature maps of torch, as a share of the largest number
MAX_BYTES: Final = 2**31  # of a graph
FATAL: Final = 4  # log level of ONNX Runtime: prints no warnings, and no errors, which it also raises

MapsAt = Callable[[Tensor], dict[str, Tensor]]  # feature maps of a batch of images at each cut


class NoGraphError(Exception):
    """Raised if torch cannot write the graph of a network, or if its feature maps differ. The message is the reason."""


def is_installed() -> bool:
    """Return whether the packages that write and run the graph are installed."""
    return all(map(find_spec, PACKAGES))


def gains_from_onnx(pretrained: Pretrained, device: str) -> bool:
    """Return whether a backbone is faster as an ONNX graph."""
    return torch.device(device).type == "cpu" and pretrained.n_weights >= MIN_WEIGHTS


def uses_onnx(pretrained: Pretrained, device: str) -> bool:
    """Return whether a backbone runs as an ONNX graph."""
    return gains_from_onnx(pretrained, device) and is_installed()


def maps_at(stages: nn.Sequential, images: Tensor, cuts: Sequence[str]) -> dict[str, Tensor]:
    """Return the feature maps of images, (n, channels, height, width), after the named stages."""
    found, maps = {}, images
    for name, stage in stages.named_children():
        maps = stage(maps)
        if name in cuts:
            found[name] = maps
    return found


def open_stages(
    stages: nn.Sequential, shape: tuple[int, int, int, int], cuts: Sequence[str], directory: Path
) -> MapsAt:
    """Return the function that computes the feature maps of a batch of images, by ONNX Runtime.

    Args:
        stages: up to the last cut, in evaluation mode.
        shape: of the batches, (n, channels, height, width).
        cuts: names of stages.
        directory: of the feature store, which keeps the graph.

    Raises:
        NoGraphError: if torch cannot write the graph, or if its feature maps differ from those of torch.
    """
    cuts = [name for name, _ in stages.named_children() if name in cuts]
    about = f"{cuts} {shape} {torch.__version__}"
    file = directory / f"stages-{hashlib.sha256(about.encode()).hexdigest()[:16]}.onnx"
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = maps_at(stages, images, cuts)
    with suppress(FileNotFoundError, NasxError, NoGraphError):  # missing, unreadable or damaged: write it again
        return _open(read_bounded(file, MAX_BYTES, follow=True), images, expected)
    content = _graph(stages, cuts, images)
    found = _open(content, images, expected)
    with suppress(ResourceError):  # a cache that may only be read, or a full disk
        write_atomically(file, content)
    return found


class _Cuts(nn.Module):
    """Stages that return the feature maps at several cuts."""

    def __init__(self, stages: nn.Sequential, cuts: Sequence[str]) -> None:
        super().__init__()
        self.stages = stages
        self.cuts = cuts

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(maps_at(self.stages, images, self.cuts).values())


def _graph(stages: nn.Sequential, cuts: Sequence[str], images: Tensor) -> bytes:
    """Return the graph from images to the feature maps at several cuts. Raises NoGraphError."""
    if sum(tensor.nbytes for tensor in stages.state_dict().values()) >= MAX_BYTES:
        raise NoGraphError("it would have more than 2 GB")
    # not the names of the cuts: a graph may not have an operation of the same name
    names = [f"maps_at_cut_{number}" for number in range(len(cuts))]
    with _reasons(), quiet_exporters():  # operations of a user's network that ONNX or torch.export does not know
        return onnx_bytes(torch.export.export(_Cuts(stages, cuts), (images,)), names)


def _open(content: bytes, images: Tensor, expected: Mapping[str, Tensor]) -> MapsAt:
    """Return the function that a graph computes.

    Args:
        content: the graph.
        images: a batch.
        expected: its feature maps at each cut.

    Raises:
        NoGraphError: if ONNX Runtime cannot run the graph, or if it returns other feature maps.
    """
    with _reasons():  # a damaged file, a package that does not work
        import onnxruntime  # optional dependency

        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other processes use the cores, too
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        cuts = tuple(expected)

        def run(images: Tensor) -> dict[str, Tensor]:
            outputs: Sequence[Any] = session.run(None, {given.name: images.contiguous().numpy()})
            return dict(zip(cuts, map(torch.from_numpy, outputs), strict=True))

        _compare(run(images), expected)
    return run


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise NoGraphError if feature maps differ from the expected ones by more than `TOLERANCE`."""
    for cut, maps in expected.items():
        gap = float((found[cut] - maps).abs().max() / maps.abs().max().clamp(min=1e-6))
        if not gap <= TOLERANCE:  # also if it is NaN
            raise NoGraphError(f"its feature maps at {cut} differ by {gap:.2g} of the largest number")


@contextmanager
def _reasons() -> Iterator[None]:
    """Raise NoGraphError for any error in the block: torch.export and ONNX Runtime have no common class of errors."""
    try:
        yield
    except NoGraphError:
        raise
    except Exception as error:
        raise NoGraphError(kind_and_line(error)[:160]) from error
