"""Seconds a candidate on a GPU: CIFAR-10's shape, 12 epochs of batches of 512, C=16, N=5, trained and scored.

    python -m scripts.bench.gpu [--cells median] [--at-once 1 2 4 8] [--data DIR|FILE.npz] [--accuracy] [--json FILE]
    python -m scripts.bench.gpu --device cpu --tiny      # does it run at all; figures of no meaning

Alone and with several processes at once on the one GPU, kernel by kernel and by CUDA graphs, beside a plain Lightning
module with a DataLoader, and beside the roofline. Images are random without --data; --accuracy, which needs it, trains
three seeds in bfloat16 and in float32. Needs torch, pytorch_lightning, rich and numpy, but neither ray, hydra, deap,
shap nor optuna. Without a GPU it says so and ends with status 2.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from nasx.data.augmentation import Augmentation
from nasx.data.batches import as_tensor, normalise
from nasx.data.images import SearchData
from nasx.introspection.attributions import ShapScorer
from nasx.training import Recipe
from nasx.training.fitting import fit, resolve_precision
from scripts.bench import machine
from scripts.bench.candidate import CELLS, Setting, network_of, random_data
from scripts.bench.lightning_loop import lightning_rate
from scripts.bench.measurement import Measurement, Options
from scripts.bench.roofline import Limits, training_step
from scripts.bench.table import record, table

FULL = Setting(
    name="CIFAR-10, C=16, N=5",
    shape=(3, 32, 32),
    images=40_000,  # a fifth of the 50,000 validates
    channels=16,
    cells=5,
    recipe=Recipe(epochs=12, batch_size=512),
    augmentation=Augmentation(horizontal_flip=True),
    target=8.0,  # times the baseline's throughput
)
TINY = replace(FULL, name="tiny", images=256, channels=4, cells=1, recipe=Recipe(epochs=1, batch_size=64))
ALONE, AMORTISED = 15.0, 6.0  # seconds of the median cell on an H200, at most
WARM_UP = 3  # batches
PATIENCE = 300  # seconds that processes wait for one another


Precision = Literal["auto", "float32"]


@dataclass(frozen=True)
class Plan:
    """How candidates are trained here."""

    setting: Setting
    device: str
    data: Path | None = None  # None: random images
    graphs: bool = False
    tune: bool = False  # let cuDNN try its convolutions out, once a shape and process
    workers: int = 4  # of the baseline's DataLoader


@dataclass(frozen=True)
class Timing:
    """What one candidate took, seconds."""

    training: float
    scoring: float
    error: float  # validation, a share

    @property
    def seconds(self) -> float:
        return self.training + self.scoring


def data_of(plan: Plan) -> SearchData:
    """Random images, or those of CIFAR-10 or of an archive."""
    if plan.data is None:
        return random_data(plan.setting)
    from nasx.data.arrays import NumpyArrays
    from nasx.data.cifar import CIFAR10
    from nasx.data.splits import split

    dataset = NumpyArrays(file=str(plan.data)) if plan.data.suffix == ".npz" else CIFAR10(root=str(plan.data))
    return split(dataset.train(), train_images=plan.setting.images, seed=0)


def candidate(plan: Plan, cell: str, data: SearchData, *, seed: int = 0, precision: Precision = "auto") -> Timing:
    """Trains and scores one network, as an evaluation does."""
    torch.backends.cudnn.benchmark = plan.tune
    device = torch.device(plan.device)
    network = network_of(plan.setting, cell, seed)
    recipe = replace(plan.setting.recipe, precision=precision)
    fitted = fit(
        network, data, recipe, augmentation=plan.setting.augmentation, seed=seed, device=device, cuda_graphs=plan.graphs
    )
    started = time.perf_counter()
    pixels = normalise(as_tensor(data.validation.images).to(device), data.mean, data.std)
    labels = as_tensor(data.validation.labels).to(device)
    ShapScorer().score(network, pixels, labels, n_classes=data.n_classes, seed=0)  # ends with numbers: it has waited
    return Timing(fitted.seconds, time.perf_counter() - started, fitted.validation_error)


def warm_up(plan: Plan, cell: str, data: SearchData) -> None:
    """A few batches, so that libraries are loaded and memory is allocated."""
    n = WARM_UP * plan.setting.recipe.batch_size
    few = replace(data, train=data.train.take(slice(0, n)))  # type: ignore[arg-type]
    candidate(replace(plan, setting=replace(plan.setting, recipe=replace(plan.setting.recipe, epochs=1))), cell, few)


def at_once(plan: Plan, cell: str, k: int) -> float:
    """Seconds a candidate, amortised, with k processes that train one each at the same time."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(k + 1)  # all wait here before training, and after it
    processes = [context.Process(target=_process, args=(plan, cell, seed, together)) for seed in range(k)]
    for process in processes:
        process.start()
    try:
        together.wait(PATIENCE)
        started = time.perf_counter()
        together.wait(PATIENCE)
        seconds = time.perf_counter() - started
    except threading.BrokenBarrierError:
        raise SystemExit(f"{k} at once: a process failed, see its traceback above") from None
    for process in processes:
        process.join()
    return seconds / k


def _process(plan: Plan, cell: str, seed: int, together: Any) -> None:
    try:
        torch.set_num_threads(1)
        data = data_of(plan)
        warm_up(plan, cell, data)
        together.wait(PATIENCE)
        candidate(plan, cell, data, seed=seed)
        together.wait(PATIENCE)
    except BaseException:
        together.abort()  # nobody need wait for this one
        raise


def least_seconds(plan: Plan, cell: str, data: SearchData, limits: Limits) -> float:
    """Of training, by the roofline of a step."""
    device, recipe = torch.device(plan.device), plan.setting.recipe
    n = min(recipe.batch_size, len(data.train))
    images = normalise(as_tensor(data.train.images[:n]).to(device), data.mean, data.std)
    network = network_of(plan.setting, cell).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = training_step(
        network,
        images.contiguous(memory_format=torch.channels_last),
        as_tensor(data.train.labels[:n]).to(device),
        bfloat16=resolve_precision("auto", device) == "bfloat16",
        limits=limits,
    )
    return work.seconds * len(data.train) / n * recipe.epochs


def of_cell(plan: Plan, cell: str, chosen: argparse.Namespace, limits: Limits) -> Iterator[Measurement]:
    """All figures of one cell."""
    data = data_of(plan)
    is_median = cell == "median" and plan.device == "cuda"
    row = partial(Measurement, unit="s")
    variants = {"": plan}
    if plan.device == "cuda":
        variants |= {", CUDA graphs": replace(plan, graphs=True), ", cuDNN tuned": replace(plan, tune=True)}
    rates: tuple[float, ...] = ()
    for name, variant in variants.items():
        warm_up(variant, cell, data)
        timings = [candidate(variant, cell, data, seed=seed) for seed in range(chosen.repeats)]
        what = f"{plan.setting.name}, {cell} cell{name}"
        yield row(
            f"{what}: alone",
            "the H200's target",
            tuple(t.seconds for t in timings),
            target=ALONE if is_median else None,
            note=f"of which scoring {statistics.median(t.scoring for t in timings):.2f} s",
        )
        if not name:
            rates = tuple(plan.setting.recipe.epochs * len(data.train) / t.training for t in timings)
            least = least_seconds(plan, cell, data, limits)
            shares = tuple(100 * least / t.training for t in timings)
            yield row(f"{what}: training", "roofline", shares, unit="%", better="more", note=limits.describe())
        for k in chosen.at_once:
            if k > 1:
                target = AMORTISED if is_median else None
                yield row(
                    f"{what}: {k} processes at once, amortised",
                    "the H200's target",
                    (at_once(variant, cell, k),),
                    target=target,
                )
    if not chosen.no_baseline:
        augmentation, recipe = plan.setting.augmentation, plan.setting.recipe
        baseline = tuple(
            lightning_rate(network_of(plan.setting, cell), data, recipe, augmentation, plan.device, plan.workers)
            for _ in rates
        )
        yield Measurement(
            f"{plan.setting.name}, {cell} cell: training",
            "Lightning, DataLoader, float32",
            rates,
            baseline,
            unit="images/s",
            better="more",
            target=plan.setting.target if plan.device == "cuda" else None,
        )


def accuracy(plan: Plan, cell: str) -> Iterator[Measurement]:
    """Validation errors of three seeds in the device's own precision, beside float32."""
    data = data_of(plan)
    precisions: tuple[Precision, ...] = ("auto", "float32")
    errors = {
        precision: tuple(candidate(plan, cell, data, seed=seed, precision=precision).error for seed in range(3))
        for precision in precisions
    }
    spread = statistics.stdev(errors["float32"])
    yield Measurement(
        f"{plan.setting.name}, {cell} cell: validation error above float32's",
        f"twice the float32 seeds' standard deviation, {100 * spread:.2f} points",
        (100 * (statistics.mean(errors["auto"]) - statistics.mean(errors["float32"])),),
        unit="points",
        target=200 * spread,
        note=", ".join(f"{name}: {[f'{100 * e:.2f}' for e in found]} %" for name, found in errors.items()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.gpu")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="networks and data of no meaning, to try the script out")
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=list(CELLS))
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 4, 8], metavar="K", help="processes on the GPU")
    parser.add_argument("--repeats", type=int, default=2, help="trainings alone of each cell and variant")
    parser.add_argument("--data", type=Path, help="root of CIFAR-10, or an .npz as configs/dataset/numpy.yaml has it")
    parser.add_argument("--workers", type=int, default=4, help="processes of the baseline's DataLoader")
    parser.add_argument("--no-baseline", action="store_true")
    parser.add_argument("--accuracy", action="store_true", help="of three seeds; needs --data")
    parser.add_argument("--json", type=Path, help="write the figures here, after each of them")
    chosen = parser.parse_args()
    if chosen.accuracy and chosen.data is None:
        parser.error("--accuracy needs --data: random images cannot be learned")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here; --device cpu --tiny tries the script out without one", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    setting = TINY if chosen.tiny else FULL
    plan = Plan(setting, chosen.device, chosen.data, workers=0 if chosen.tiny else chosen.workers)
    facts, limits = machine.facts(), Limits.measured(torch.device(chosen.device))
    results: list[Measurement] = []
    for cell in chosen.cells:
        figures = accuracy(plan, cell) if chosen.accuracy else of_cell(plan, cell, chosen, limits)
        for measurement in figures:
            results.append(measurement)
            note = f" ({measurement.note})" if measurement.note else ""
            print(f"{measurement.what}: {measurement.median:.3g}{note}", file=sys.stderr, flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(record({"gpu": results}, facts, Options()), indent=1) + "\n")
    Console(width=160).print(table({"gpu": results}, machine.describe(facts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
