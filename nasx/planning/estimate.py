"""Estimate of the time of a search, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nasx.experiment import Experiment
from nasx.planning.feature_time import NO_FEATURES, FeatureCost
from nasx.planning.timing import Timing
from nasx.protocols import HasBackbone

OVERHEAD: Final = 0.05  # seconds of the search per training, besides the training itself
# time of a search's trainings, on average, as a share of that of the median network: accurate networks are larger, some
# trainings are stopped early. Measured by processor time: digits, 64 evaluations, 1.3; 1,000 pictures of CIFAR-10, 1.2
SHARE: Final = 1.25
# of heads on a backbone: most random ones have no cell, accurate ones have. Measured: CIFAR-10 at 128 and
# 224 pixels, 64 evaluations, 2.6 to 2.8 and 2.3; 115 photos, 1.1
HEAD_SHARE: Final = 2.5
RAY_START: Final = 4.0  # seconds until Ray has started
NEAR_FRONT: Final = 20  # networks that each round of search.replicates trains again
FRONT: Final = 10  # networks that are fine-tuned, one after the other, each with a control
LOOK_UP: Final = 0.005  # seconds per candidate of a table


@dataclass(frozen=True)
class Estimate:
    """Estimated time of a search."""

    trainings: int  # with those of search.replicates
    per_training: float  # seconds of a worker, with the scoring
    workers: int
    start: float  # seconds until the first training begins
    finetuning: float = 0.0  # seconds after the search
    features: FeatureCost = NO_FEATURES  # of a backbone, before the search
    has_backbone: bool = False
    limit: float | None = None  # seconds after which a limit of the search ends it

    @property
    def training(self) -> float:
        """Seconds of all trainings, without the limit."""
        return self.per_training * max(self.trainings / self.workers, 1.0)

    @property
    def is_cut(self) -> bool:
        """Whether a limit ends the search before its last training."""
        return self.limit is not None and self.training > self.limit

    @property
    def seconds(self) -> float:
        """Seconds of the whole command."""
        search = self.training if self.limit is None else min(self.training, max(self.limit, self.per_training))
        return self.features.seconds + self.start + search + self.finetuning

    def __str__(self) -> str:
        workers = f"{self.workers} worker{'s' * (self.workers > 1)}"
        parts = [self._describe_features()] if self.has_backbone else []
        parts += [
            f"{self.trainings:,} training{'s' * (self.trainings > 1)} of {span(self.per_training)} on {workers}",
            f"start {span(self.start)}",
        ]
        if self.finetuning:
            parts.append(f"fine-tuning {span(self.finetuning)}")
        if self.is_cut and self.limit is not None:
            fitting = max(1, int(self.limit / self.per_training * self.workers))
            parts.append(f"the limit of time ends it after about {fitting:,} trainings")
        return f"about {span(self.seconds)}: {'; '.join(parts)}"

    def _describe_features(self) -> str:
        if not self.features.n_images:
            return "features are in the cache"
        n = self.features.n_images
        return f"features of {n:,} image{'s' * (n > 1)} {span(self.features.seconds)}"


def estimate(experiment: Experiment, timing: Timing) -> Estimate:
    """Return the estimated time of a search whose median training takes as long as `timing` says."""
    config, plan = experiment.config, experiment.execution.plan
    workers = 1 if experiment.execution.in_process else plan.workers
    limits = [3600 * config.search.max_hours] if config.search.max_hours is not None else []
    if config.search.max_gpu_hours is not None:
        limits.append(3600 * config.search.max_gpu_hours / (plan.gpus * workers))
    return Estimate(
        trainings=config.evaluations + replicates(experiment),
        per_training=seconds_per_training(experiment, timing),
        workers=workers,
        start=start_seconds(experiment, timing),
        features=timing.features,
        has_backbone=isinstance(experiment.space, HasBackbone),
        finetuning=finetuning_seconds(experiment, timing),
        limit=min(limits, default=None),
    )


def seconds_per_training(experiment: Experiment, timing: Timing) -> float:
    """Return the seconds that a worker spends on a candidate, on average over a search."""
    share = HEAD_SHARE if isinstance(experiment.space, HasBackbone) else SHARE
    return share * timing.per_training + OVERHEAD


def start_seconds(experiment: Experiment, timing: Timing) -> float:
    """Return the seconds until the first training begins."""
    return timing.start + (0.0 if experiment.execution.in_process else RAY_START)


def replicates(experiment: Experiment) -> int:
    """Return the trainings of `search.replicates` at the end of the search."""
    config = experiment.config
    return min(NEAR_FRONT, config.evaluations) * config.search.replicates


def finetuning_seconds(experiment: Experiment, timing: Timing) -> float:
    """Return the seconds of fine-tuning the front after the search."""
    if experiment.config.finetune_front is None:
        return 0.0
    from nasx.workflows.finetuning import EPOCHS  # torch takes seconds to load

    per_epoch = timing.train / experiment.recipe.epochs
    return FRONT * 2 * (EPOCHS * per_epoch + timing.score)


def span(seconds: float) -> str:
    """Return a duration with two digits or three.

    >>> [span(seconds) for seconds in (0.31, 9.2, 58, 190, 2880, 9000, 400_000)]
    ['0.3 s', '9 s', '58 s', '3 minutes', '48 minutes', '2.5 hours', '4.6 days']
    """
    if seconds < 5:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
