"""Describe what a search would do, for `nasx search --dry-run`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from nasx.experiment import Experiment, repeatability

SHOWN_LIMITS: Final = ("replicates", "max_hours", "max_gpu_hours", "patience", "time_limit", "stall_limit")


def describe(experiment: Experiment) -> str:
    """Return what a search would do, one line per part, for `--dry-run`."""
    space, config = experiment.space, experiment.config
    workers = experiment.execution.plan.workers
    algorithm = experiment.algorithm(workers)  # checks its settings, too
    limits = {name: value for name, value in vars(config.search).items() if value and name in SHOWN_LIMITS}
    plan = experiment.execution.plan
    lines = {
        "name": f"{config.name}, seed {config.seed}",
        "space": f"{space.name}: {math.prod(space.gene_sizes):,} encodings, {dict(space.settings)}",
        **_describe_evaluation(experiment),
        "objectives": ", ".join(f"{o.direction} {o.name}" for o in experiment.objectives),
        "algorithm": f"{config.algorithm['_target_'].rpartition('.')[2]}, {config.evaluations:,} evaluations, "
        + ("hopeless trainings are stopped early" if config.early_stopping else "every training runs to its end"),
        "limits": ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none but the evaluations",
        "execution": f"{replace(plan, workers=1) if experiment.execution.in_process else plan}",
    }
    if free := repeatability(algorithm, workers, experiment.measures_latency):
        lines["repeats"] = free
    return "\n".join(f"{name + ':':<12}{text}" for name, text in lines.items())


def _describe_evaluation(experiment: Experiment) -> dict[str, str]:
    if experiment.table is not None:
        answers: Any = experiment.evaluate
        return {"evaluation": f"{experiment.table.table}: {len(answers.metrics):,} networks"}
    data = experiment.data
    channels, height, width = data.shape
    also = ", ".join(scorer.name for scorer in experiment.also_scored)
    return {
        "dataset": f"{experiment.dataset.name}: {len(data.train):,} training and {len(data.validation):,} validation "
        f"images, {height} x {width}, {channels} channel{'s' * (channels > 1)}, {data.n_classes} classes",
        **({"corrected": words} if (words := experiment.corrections_in_words) else {}),
        "training": f"{experiment.recipe}",
        "scorer": f"{experiment.scorer.name}; also recorded: {also or 'none'}",
    }
