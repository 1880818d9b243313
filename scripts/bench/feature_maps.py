"""Time per image of the feature maps of a backbone on CPUs: the way of nasx against plain torch, channels last.

    python -m scripts.bench feature_maps [--quick] [--json FILE]

EfficientNet-Lite0, all cores, batches as in a search, the three cuts of the default space. Decoding and storing not
included. Needs the extras `backbone` and `onnx`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from nasx.backbones.load import load_backbone
from nasx.backbones.onnx_stages import is_installed, maps_at, open_stages
from nasx.backbones.stages import cut_stages
from nasx.errors import NasxError
from nasx.machine import cores, whole_cores
from nasx.networks.backbone import CPU_BATCH
from scripts.bench.measurement import Measurement, Options, Skipped, interleave, seconds_of

BACKBONE = "efficientnet_lite0"
CUTS = ("stage5", "stage6", "stage7")
SIZES = (64, 128, 224)  # pixels per side
BATCHES = 20  # in a turn
TURNS = 7


def benchmark(options: Options) -> Iterator[Measurement | Skipped]:
    """Measure each size."""
    try:
        pretrained = load_backbone(BACKBONE)
    except NasxError as error:
        yield Skipped("feature maps", str(error))
        return
    if not is_installed():
        yield Skipped("feature maps", "the packages of the extra onnx are not installed")
        return
    before = torch.get_num_threads()
    torch.set_num_threads(whole_cores(cores()))
    try:
        for size in SIZES[:1] if options.quick else SIZES:
            yield measure(cut_stages(pretrained, CUTS[-1], 3), size, 2 if options.quick else TURNS)
    finally:
        torch.set_num_threads(before)


def measure(stages: torch.nn.Sequential, size: int, turns: int) -> Measurement:
    images = torch.randn(CPU_BATCH, 3, size, size)
    with tempfile.TemporaryDirectory() as directory:
        by_onnx = open_stages(stages, (CPU_BATCH, 3, size, size), CUTS, Path(directory))
    plain = stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    channels_last = images.contiguous(memory_format=torch.channels_last)

    def ours() -> float:
        return seconds_of(lambda: [by_onnx(images) for _ in range(BATCHES)]) / (BATCHES * CPU_BATCH) * 1e3

    def theirs() -> float:
        with torch.inference_mode():
            work = lambda: [maps_at(plain, channels_last, CUTS) for _ in range(BATCHES)]  # noqa: E731
            return seconds_of(work) / (BATCHES * CPU_BATCH) * 1e3

    found = interleave({"nasx": ours, "torch": theirs}, turns, warm_up=True)
    what = f"feature maps of an image of {size} x {size}, {torch.get_num_threads()} threads"
    return Measurement(what, "torch, channels last", found["nasx"], found["torch"], unit="ms")
