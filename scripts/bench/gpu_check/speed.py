"""Measurements of seconds per candidate: one or several on a GPU, compared with plain PyTorch and Lightning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nasx.data.augmentation import augment
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.training.fit import fit
from scripts.bench.candidate import network_of, random_data
from scripts.bench.gpu_check.candidates import BIG, pixels, trained
from scripts.bench.gpu_check.checking import CHECKS, DEVICE, IS_CUDA, check
from scripts.bench.lightning_loop import lightning_rate
from scripts.bench.plain_training import BatchesInMemory, tensors, train

EPOCHS = 12  # of a candidate
MEASURED = 3  # epochs, the first of which warms up
WORKER_SECONDS = 60


def epoch_ends(cell: str, *, epochs: int = MEASURED, graphs: bool | None = None) -> tuple[Any, Any, list[float]]:
    """Train; return (network, data, end of each epoch including validation, Unix time)."""
    data, ends = random_data(BIG), list[float]()
    network = network_of(BIG, cell)
    fit(
        network, data, replace(BIG.recipe, epochs=epochs), augmentation=BIG.augmentation, seed=0, device=DEVICE,
        cuda_graphs=graphs, report=lambda record: ends.append(time.time()),
    )  # fmt: skip
    return network, data, ends


def per_epoch(ends: list[float]) -> float:
    """Return the mean seconds per epoch, without the first one."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def single(cell: str, graphs: bool | None) -> None:
    """Register a check that trains one candidate; `graphs`: None for nasx's default."""

    def one() -> dict[str, float]:
        network, data, ends = epoch_ends(cell, graphs=graphs)
        found = {"s_an_epoch": round(per_epoch(ends), 3), "s_a_training": round(EPOCHS * per_epoch(ends), 2)}
        if graphs is None:
            images, labels = pixels(data.validation, data)
            for scorer in (ShapScorer(), ActivationScorer()):
                seconds = []
                for _ in range(2):
                    started = time.perf_counter()
                    scorer.score(network, images, labels, n_classes=10, seed=0)
                    seconds.append(time.perf_counter() - started)
                found[f"s_{scorer.name}"] = round(min(seconds), 2)
        if IS_CUDA:
            found["GiB_at_most"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        return found

    one.__name__ = f"{cell}_{'eager' if graphs is False else 'default'}"
    CHECKS.append((one, False))


single("median", graphs=None)
single("median", graphs=False)
single("heavy", graphs=None)
single("light", graphs=None)


@check
def whole_median_candidate() -> str:
    """Measure a candidate of 12 epochs, from the untrained network to its SHAP score."""
    data = random_data(BIG)
    started = time.perf_counter()
    network = network_of(BIG, "median")
    fitted = fit(network, data, BIG.recipe, augmentation=BIG.augmentation, seed=0, device=DEVICE)
    ShapScorer().score(network, *pixels(data.validation, data), n_classes=10, seed=0)
    seconds = time.perf_counter() - started
    return f"{seconds:.2f} s, of which {fitted.seconds:.2f} s training; graphs: {fitted.graphed}"


@check
def lightning_with_loader() -> str:
    data = random_data(BIG)
    rate = lightning_rate(network_of(BIG, "median"), data, BIG.recipe, BIG.augmentation, DEVICE.type, 8 * IS_CUDA)
    return f"{rate:,.0f} images/s = {EPOCHS * len(data.train) / rate:.1f} s per training"


@check
def plain_loop_in_memory() -> str:
    """Measure plain PyTorch in float32, with whole batches of images on the device."""
    data = random_data(BIG)
    images, labels = (tensor.to(DEVICE) for tensor in tensors(data.train, data))

    class There(BatchesInMemory):
        def __iter__(self) -> Any:
            for chosen in torch.split(torch.randperm(len(self.labels), device=DEVICE), self.batch_size):
                yield augment(self.images[chosen], self.augmentation, self.generator), self.labels[chosen]

    batches = There(images, labels, BIG.augmentation, BIG.recipe.batch_size, 0)
    batches.generator = torch.Generator(DEVICE).manual_seed(0)
    network, seconds = network_of(BIG, "median").to(DEVICE), 0.0
    for _ in range(2):
        started = time.perf_counter()
        train(network, batches, [(images[:1024], labels[:1024])], replace(BIG.recipe, epochs=1))
        seconds = time.perf_counter() - started
    return f"{EPOCHS * seconds:.1f} s per training"


def at_once(k: int, *, graphs: bool, mps: bool = False) -> None:
    """Register a check with several processes that train the median cell at the same time.

    Args:
        k: number of processes.
        graphs: whether to use CUDA graphs.
        mps: whether to use NVIDIA's Multi-Process Service.
    """

    def one() -> str:
        folder = tempfile.mkdtemp()
        environment = {**os.environ, "NASX_GPU_CHECK_TOGETHER": json.dumps([folder, k, graphs])}
        if mps:
            environment |= {"CUDA_MPS_PIPE_DIRECTORY": f"{folder}-pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}-log"}
            for name in ("pipe", "log"):
                Path(f"{folder}-{name}").mkdir()
            subprocess.run(["nvidia-cuda-mps-control", "-d"], env=environment, check=True, timeout=10)
        command = [sys.executable, "-m", "scripts.bench.gpu_check.speed"]
        processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(k)]
        try:
            lines = [process.communicate(timeout=WORKER_SECONDS)[0].strip().splitlines()[-1] for process in processes]
        finally:
            for process in processes:
                process.kill()
            if mps:
                subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, env=environment, timeout=20)
        seconds = float(np.mean([per_epoch(json.loads(line)) for line in lines]))
        return f"{seconds:.2f} s per epoch each = {EPOCHS * seconds / k:.2f} s per training, amortized"

    one.__name__ = f"{k}_at_once_{'graphs' if graphs else 'eager'}{'_mps' if mps else ''}"
    CHECKS.append((one, True))


at_once(4, graphs=True)
at_once(4, graphs=True, mps=True)
at_once(8, graphs=True, mps=True)


def wait_for_others(folder: Path, k: int) -> None:
    """Warm up, then wait until `k` processes have done so."""
    trained(recipe={"epochs": 1})  # creates the context, loads libraries
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < k:
        time.sleep(0.01)


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, processes, by_graphs = json.loads(os.environ["NASX_GPU_CHECK_TOGETHER"])
    wait_for_others(Path(where), processes)
    print(json.dumps(epoch_ends("median", epochs=4, graphs=by_graphs)[2]))
