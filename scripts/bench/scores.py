"""Speed of the scorers, compared with shap's own explainer and with accumulation sample by sample.

    python -m scripts.bench.scores --json scores.json

Contenders take turns. CPU time is measured rather than wall time, so that other load on the machine matters less; the
memory of each contender is measured in its own process. shap's GradientExplainer explains all logits, or the most
likely ones of each sample; the score needs the logit of the true label, for which all must be explained.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import shap
import torch
import typer
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import pdist
from torch import Tensor, nn

from nasx.introspection.activations import class_grams
from nasx.introspection.layers import evaluation_mode, live_layers, observe_layers
from nasx.introspection.shap import Paths, channel_sums, expected_gradients, stage_probes
from nasx.introspection.similarity import cosine_distances
from nasx.spaces.nb201 import NASBench201
from scripts.bench import measurement

ARCHITECTURE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
N_CLASSES = 10
BACKGROUND = 16
BATCH = 128


@dataclass(frozen=True)
class Task:
    """Network with random weights and random images to be scored; they cost as much as trained ones."""

    channels: int
    cells: int
    size: int  # height and width of the images
    samples: int  # for SHAP
    draws: int  # per sample and probe
    images: int  # for activations


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one contender."""

    group: str
    name: str
    seconds: tuple[float, ...]  # CPU time, one value per repetition
    peak_mib: float  # resident memory beyond that before the contender ran

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@cache
def network_of(task: Task) -> nn.Sequential:
    torch.manual_seed(0)
    space = NASBench201(channels=task.channels, cells=task.cells)
    network = space.build(space.parse(ARCHITECTURE), input_shape=(3, task.size, task.size), n_classes=N_CLASSES)
    return network.eval()


def images_of(task: Task, n: int) -> tuple[Tensor, Tensor]:
    images = torch.randn(n, 3, task.size, task.size, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(n) % N_CLASSES


def nasx_shap(task: Task) -> list[Tensor]:
    """Compute channel values at all probes by nasx, each (samples, channels)."""
    images, labels = images_of(task, task.samples + BACKGROUND)
    n, paths = task.samples, _paths(task)
    network = network_of(task)
    values = []
    with evaluation_mode(network):
        for probe in stage_probes(network):
            with torch.no_grad():
                outputs = probe.body(images)
            values.append(
                expected_gradients(
                    probe.tail, outputs[:n], outputs[n:], labels[:n], paths, batch_size=BATCH, reduce=channel_sums
                )
            )
    return values


def shap_all_logits(task: Task) -> list[Tensor]:
    """Compute values for all logits at all probes by shap, and keep the label's, each (samples, channels)."""
    images, labels = images_of(task, task.samples + BACKGROUND)
    values = _shap_values(task, images)
    labels = labels[: task.samples]
    return [torch.from_numpy(v[np.arange(len(labels)), ..., labels]).sum(dim=(2, 3)) for v in values]


def shap_likeliest_logit(task: Task) -> list[Tensor]:
    """Compute values for only the likeliest logit at all probes by shap, each (samples, channels)."""
    images, _ = images_of(task, task.samples + BACKGROUND)
    values = _shap_values(task, images, ranked_outputs=1)
    return [torch.from_numpy(v[..., 0]).sum(dim=(2, 3)) for v in values]


def streamed(task: Task) -> np.ndarray:
    """Compute cosine distances of class means by nasx from streamed class sums, (n_pairs,)."""
    images, labels = images_of(task, task.images)
    network = network_of(task)
    layers = live_layers(network, images[:16])
    grams = class_grams(network, images, labels, n_classes=N_CLASSES, layers=layers, batch_size=BATCH)
    return cosine_distances(np.sum(list(grams.values()), axis=0))[np.triu_indices(N_CLASSES, 1)]


def every_sample(task: Task) -> np.ndarray:
    """Sum all samples' concatenated activations one by one in numpy, then compute scipy's distances, (n_pairs,)."""
    images, labels = images_of(task, task.images)
    return _accumulate(task, images, labels, batch_size=BATCH)


def every_sample_unbatched(task: Task) -> np.ndarray:
    """Compute `every_sample` with one forward pass per sample."""
    images, labels = images_of(task, task.images)
    return _accumulate(task, images, labels, batch_size=1)


CONTENDERS: dict[str, dict[str, Callable[[Task], object]]] = {
    "SHAP": {
        "nasx": nasx_shap,
        "shap, all logits": shap_all_logits,
        "shap, top logit": shap_likeliest_logit,
    },
    "activations": {
        "nasx": streamed,
        "every sample, batched": every_sample,
        "every sample, one per pass": every_sample_unbatched,
    },
}


def main(
    channels: Annotated[int, typer.Option(help="Channels of the first stage.")] = 16,
    cells: Annotated[int, typer.Option(help="Cells per stage.")] = 1,
    size: Annotated[int, typer.Option(help="Height and width of the images, pixels.")] = 8,
    samples: Annotated[int, typer.Option(help="Images explained by SHAP.")] = 100,
    draws: Annotated[int, typer.Option(help="Gradients per sample and probe.")] = 16,
    images: Annotated[int, typer.Option(help="Images whose activations are averaged.")] = 500,
    repeats: Annotated[int, typer.Option(help="Measurements of each contender.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the results to this file.")] = None,
) -> None:
    """Measure the scorers and their peers."""
    task = Task(channels, cells, size, samples, draws, images)
    torch.set_num_threads(threads)
    check_agreement(task)
    measurements = measure(task, repeats, threads)
    show(measurements)
    if json_file is not None:
        figures = {"task": asdict(task), "threads": threads, "measurements": [asdict(m) for m in measurements]}
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


# (group, name of ours, name of the peer, its key in CONTENDERS, minimum speedup)
TARGETS = (
    ("SHAP", "SHAP score", "shap's explainer, all logits", "shap, all logits", 10.0),
    ("SHAP", "SHAP score", "shap's explainer, only the likeliest logit", "shap, top logit", None),
    ("activations", "activation score", "the paper's accumulation, unbatched", "every sample, one per pass", 20.0),
    ("activations", "activation score", "accumulation from batched passes", "every sample, batched", None),
)


def benchmark(options: measurement.Options) -> Iterator[measurement.Measurement]:
    """Yield the CPU time compared with each peer, and the memory of a score."""
    task = Task(16, 1, 8, samples=30, draws=8, images=200) if options.quick else Task(16, 1, 8, 100, 16, 500)
    check_agreement(task)
    found = {(m.group, m.name): m for m in measure(task, repeats=1 if options.quick else 3, threads=1)}
    for group, what, against, peer, target in TARGETS:
        ours, theirs = found[group, "nasx"], found[group, peer]
        memory = f"peak memory {ours.peak_mib:.0f} MiB, the peer's {theirs.peak_mib:.0f}"
        yield measurement.Measurement(what, against, ours.seconds, theirs.seconds, target=target, note=memory)


def check_agreement(task: Task) -> None:
    """Raise AssertionError if contenders do not compute the same."""
    small = Task(task.channels, task.cells, task.size, samples=4, draws=2, images=60)
    np.testing.assert_allclose(streamed(small), every_sample(small), atol=1e-6)
    for ours, theirs in zip(nasx_shap(small), shap_all_logits(small), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def measure(task: Task, repeats: int, threads: int) -> list[Measurement]:
    """Measure the contenders in turns.

    Args:
        task: network and images.
        repeats: number of turns.
        threads: of torch in the processes that measure memory.
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for group, contenders in CONTENDERS.items():
            for name, run in contenders.items():
                started = time.process_time()
                run(task)
                seconds.setdefault((group, name), []).append(time.process_time() - started)
    return [Measurement(g, n, tuple(s), peak_memory(task, g, n, threads)) for (g, n), s in seconds.items()]


def peak_memory(task: Task, group: str, name: str, threads: int) -> float:
    """Return the MiB of resident memory that a contender adds to a fresh process.

    Args:
        task: network and images.
        group: of the contender.
        name: of the contender.
        threads: of torch.
    """
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_added_memory, task, group, name, threads).result()


def show(measurements: list[Measurement]) -> None:
    """Print a table of the measurements."""
    table = Table("score", "contender", "median", "spread", "times nasx", "peak memory", title="CPU time of one score")
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    ours = {m.group: m.median for m in measurements if m.name == "nasx"}
    for m in measurements:
        spread = f"{min(m.seconds):.2f}–{max(m.seconds):.2f} s"
        ratio, memory = f"{m.median / ours[m.group]:.1f}", f"{m.peak_mib:.0f} MiB"
        table.add_row(m.group, m.name, f"{m.median:.2f} s", spread, ratio, memory)
    Console().print(table)


def _paths(task: Task) -> Paths:
    """Return shap's draws: numpy's global generator draws an image and a position alternately."""
    state = np.random.RandomState(0)
    pairs = [(state.choice(BACKGROUND), state.uniform()) for _ in range(task.samples * task.draws)]
    table = torch.tensor(pairs, dtype=torch.float64).view(task.samples, task.draws, 2)
    return Paths(table[..., 0].long(), table[..., 1])


def _shap_values(task: Task, images: Tensor, ranked_outputs: int | None = None) -> list[np.ndarray]:
    values = []
    for probe in stage_probes(network_of(task)):
        with torch.no_grad():
            outputs = probe.body(images)
        explainer = shap.GradientExplainer(probe.tail, outputs[task.samples :])
        found = explainer.shap_values(
            outputs[: task.samples], nsamples=task.draws, ranked_outputs=ranked_outputs, rseed=0
        )
        values.append(found if ranked_outputs is None else found[0])
    return values


def _accumulate(task: Task, images: Tensor, labels: Tensor, *, batch_size: int) -> np.ndarray:
    network = network_of(task)
    sums: list[np.ndarray | float] = [0.0] * N_CLASSES
    for batch, classes in zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True):
        maps: list[np.ndarray] = []
        with (
            torch.no_grad(),
            observe_layers(network, lambda _, output, maps=maps: maps.append(output.flatten(1).numpy())),
        ):
            network(batch)
        for row, label in enumerate(classes.tolist()):
            sums[label] = sums[label] + np.concatenate([m[row] for m in maps]).astype(np.float64)
    counts = torch.bincount(labels, minlength=N_CLASSES).numpy()
    return pdist(np.stack([s / n for s, n in zip(sums, counts, strict=True)]), "cosine")


def _added_memory(task: Task, group: str, name: str, threads: int) -> float:
    torch.set_num_threads(threads)
    network_of(task)(images_of(task, 2)[0])  # memory of torch itself
    # Linux: reset the peak, so that it is this contender's (ru_maxrss of a child starts with its parent's)
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_mib()
    CONTENDERS[group][name](task)
    return _peak_mib() - before


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    typer.run(main)
