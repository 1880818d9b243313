"""Measure how long a search trains a network of median size, in the conditions of the search: all workers at once."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from nasx.data.dataset import LabeledImages
from nasx.errors import ArchitectureError, ResourceError
from nasx.execution.budget import last_line
from nasx.experiment import Experiment
from nasx.planning.feature_time import NO_FEATURES, FeatureCost, StandIns, measure_features
from nasx.protocols import HasBackbone
from nasx.trial import Genotype, derive_seed

CANDIDATES: Final = 32  # random networks, of which the median by MACs is timed
IMAGES: Final = 4096  # at most, on which it is timed
MAX_PROCESSES: Final = 16  # more workers hardly disturb each other more
PATIENCE: Final = 120.0  # seconds after which there is no estimate


@dataclass(frozen=True)
class Timing:
    """Time that a worker needs, while the others work too."""

    train: float  # seconds of a training
    score: float  # seconds of its scoring
    start: float  # seconds until a worker is ready
    features: FeatureCost = NO_FEATURES  # before the first training

    @property
    def per_training(self) -> float:
        return self.train + self.score


Timer = Callable[[Experiment], Timing]


def median_genotype(experiment: Experiment) -> Genotype:
    """Return the connected genotype with the median number of MACs among random ones, drawn by the seed of the run.

    Of networks on a frozen backbone, the MACs of the part that is trained count.
    """
    space = experiment.space
    rng = np.random.default_rng(derive_seed(experiment.config.seed, "timing"))
    macs: dict[Genotype, int] = {}
    for _ in range(10 * CANDIDATES):
        genotype = space.canonical(tuple(int(rng.integers(size)) for size in space.gene_sizes))
        if space.is_connected(genotype) and genotype not in macs:
            macs[genotype] = _trained_macs(experiment, genotype)
        if len(macs) == CANDIDATES:
            break
    if not macs:
        raise ArchitectureError(f"no connected network among {10 * CANDIDATES} random ones of {space.name}.")
    return sorted(macs, key=lambda each: (macs[each], each))[len(macs) // 2]


def _trained_macs(experiment: Experiment, genotype: Genotype) -> int:
    """Return the MACs of the part of a network that is trained."""
    from nasx.backbones.stages import measure  # torch takes seconds to load
    from nasx.networks.backbone import backbone_of, trained_part
    from nasx.networks.costs import count_macs

    space, shape = experiment.space, experiment.data.shape
    network = experiment.untrained(genotype, 0)
    backbone = backbone_of(network)
    if backbone is None or backbone.cut is None or not isinstance(space, HasBackbone):
        return count_macs(network, shape)
    return count_macs(trained_part(network), measure(space.pretrained(), shape)[backbone.cut])


def time_training(experiment: Experiment) -> Timing:
    """Return the time of the median network: as many processes as the search has workers train it at once.

    With a frozen backbone, a few features are computed, and the training is timed with stand-ins for them.

    Raises ResourceError if it cannot be trained.
    """
    from nasx.planning.stopwatch import Work  # torch and Lightning take seconds to load

    data, plan = experiment.data, experiment.execution.plan
    features = measure_features(experiment)
    spec = replace(
        experiment.spec, device=plan.device, gpu_share=min(plan.gpus, 1.0) or 1.0, threads=plan.cpus, in_process=True
    )
    some = replace(
        data,
        train=_some(data.train, IMAGES),
        validation=_some(data.validation, max(1024, IMAGES * len(data.validation) // len(data.train))),
        features=StandIns(experiment.space) if isinstance(experiment.space, HasBackbone) else None,
    )
    work = Work(spec, some, len(data.train), len(data.validation), median_genotype(experiment))
    processes = 1 if experiment.execution.in_process else min(plan.workers, MAX_PROCESSES)
    return replace(_run(pickle.dumps(work), processes), features=features)


def _some(images: LabeledImages, n: int) -> LabeledImages:
    """Return the first images, which a split has shuffled, in memory."""
    n = min(n, len(images))
    return LabeledImages(np.array(images.images[:n]), images.labels[:n], images.class_names)


def _run(work: bytes, processes: int) -> Timing:
    """Time the work in several processes at once, and return the median."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory(prefix="nasx-timing-") as folder:
        file = Path(folder, "work")
        file.write_bytes(work)
        started = time.time()
        command = [sys.executable, "-m", "nasx.planning.stopwatch", str(file)]
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            for _ in range(processes)
        ]
        try:
            found = [_result(process, started + PATIENCE - time.time()) for process in running]
        finally:
            for process in running:
                process.kill()
                process.communicate()
    return Timing(
        train=median(each["train"] for each in found),
        score=median(each["score"] for each in found),
        start=max(each["ready"] for each in found) - started,
    )


def _result(process: subprocess.Popen[str], patience: float) -> dict[str, float]:
    """Return what a process has measured. Raises ResourceError if it failed, or if it takes too long."""
    try:
        out, err = process.communicate(timeout=max(0.0, patience))
    except subprocess.TimeoutExpired as error:
        raise ResourceError(f"the time of a training could not be measured within {PATIENCE:.0f} s.") from error
    if process.returncode:
        reason = last_line(err) or f"exit status {process.returncode}"
        raise ResourceError(f"the time of a training could not be measured: {reason}")
    result: dict[str, float] = json.loads(last_line(out))
    return result
