"""From a config to what a search needs: every component built, the data read, and one function that evaluates a job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from nasx.config.components import build
from nasx.config.schema import ExperimentConfig, read_config
from nasx.data.dataset import SearchData
from nasx.errors import ConfigError
from nasx.execution.imports import uncollected
from nasx.protocols import Dataset, Execution, Problem, SearchAlgorithm, SearchSpace
from nasx.trial import OBJECTIVES, Evaluator, Objective, derive_seed

SHOWN_LIMITS = ("replicates", "max_hours", "max_gpu_hours", "patience", "time_limit", "stall_limit")


@dataclass(frozen=True)
class Parts:
    """The components of an experiment, ready to search."""

    experiment: ExperimentConfig
    space: SearchSpace
    execution: Execution
    objectives: tuple[Objective, ...]
    evaluate: Evaluator
    n_classes: int
    class_names: tuple[str, ...]
    facts: Mapping[str, str]  # what candidates are evaluated by, in words, by config group


@uncollected()  # most of it is imports
def prepare(config: Mapping[str, Any], workers: ExitStack | None = None) -> Parts:
    """Build every component that a composed config names, and read and split the data.

    Where `workers` is given, those of the execution start meanwhile, and end with that stack.
    Raises ConfigError, DataError or ResourceError naming what is wrong. Reads training images alone.
    """
    experiment = read_config(config)
    execution = build(_execution_node(experiment), "execution")
    check_gpu_budget(experiment, execution)
    evaluation = _by_training if experiment.evaluation is None else _by_table
    if workers is not None:  # before anything that imports torch: both take seconds
        imports = ["nasx.evaluation.train_and_score", "nasx.training.fit"] if evaluation is _by_training else []
        workers.enter_context(execution.started(imports))
    space = build(experiment.space, "space")
    objectives = tuple(OBJECTIVES[name] for name in experiment.objectives)
    return Parts(experiment, space, execution, objectives, *evaluation(experiment, space, execution))


def build_algorithm(parts: Parts, workers: int) -> SearchAlgorithm:
    """The experiment's algorithm, fresh. `workers`: trials at a time at the start of the run."""
    problem = Problem(
        gene_sizes=parts.space.gene_sizes,
        n_objectives=len(parts.objectives),
        seed=derive_seed(parts.experiment.seed, "algorithm"),
        key=parts.space.canonical,
        is_connected=parts.space.is_connected,
        signs=tuple(objective.sign for objective in parts.objectives),
        workers=workers,
        alleles=allele_names(parts.space),
        exact=tuple(objective.is_exact for objective in parts.objectives),
        is_noisy=getattr(parts.evaluate, "is_noisy", True),
    )
    algorithm: SearchAlgorithm = build(parts.experiment.algorithm, "algorithm", problem=problem)
    return algorithm


def allele_names(space: SearchSpace) -> tuple[tuple[str, ...], ...]:
    """The names of each gene's alleles."""
    return tuple(space.allele_names(gene) for gene in range(len(space.gene_sizes)))


def repeatability(algorithm: SearchAlgorithm, workers: int) -> str:
    """A sentence if the search will not repeat from its seed, with the setting that makes it; else an empty one."""
    schedule = getattr(algorithm, "schedule", None)
    if getattr(schedule, "mode", None) != "free_running":
        return ""
    return (
        f"{workers} workers: networks are bred in the order in which trainings end (free running). The search resumes "
        "exactly, but does not repeat from its seed; algorithm.mode=steady_state does."
    )


def check_gpu_budget(experiment: ExperimentConfig, execution: Execution) -> None:
    """Raise ConfigError if GPU-hours are to be counted and trials run on the CPU."""
    if experiment.search.max_gpu_hours is not None and not execution.plan.gpus:
        raise ConfigError(
            "search.max_gpu_hours counts the time that trials hold GPUs, and here they hold none: set search.max_hours "
            "instead, or give them GPUs by execution.device and execution.gpus_per_trial."
        )


def _execution_node(experiment: ExperimentConfig) -> Mapping[str, Any]:
    """The config of the execution. Trials that are looked up in a table need no GPU."""
    if experiment.evaluation is None:
        return experiment.execution
    on_cpu = {"device": "cpu", "gpus_per_trial": None, "mps": False}
    return {**experiment.execution, **{key: value for key, value in on_cpu.items() if key in experiment.execution}}


def _by_table(
    experiment: ExperimentConfig, space: SearchSpace, execution: Execution
) -> tuple[Evaluator, int, tuple[str, ...], Mapping[str, str]]:
    assert experiment.evaluation is not None
    table = build(experiment.evaluation, "evaluation")
    answers = table.read(space, experiment.objectives, experiment.constraints)
    return answers, table.n_classes, (), {"evaluation": f"{table.table}: {len(answers.metrics):,} networks"}


def _by_training(
    experiment: ExperimentConfig, space: SearchSpace, execution: Execution
) -> tuple[Evaluator, int, tuple[str, ...], Mapping[str, str]]:
    from nasx.evaluation.train_and_score import EvaluationSpec, evaluate  # here: torch takes seconds to import

    recipe = build(experiment.training, "training")
    scorer = build(experiment.scorer, "scorer")
    also = [build(node, f"also_scored.{name}") for name, node in experiment.also_scored.items()]
    dataset: Dataset = build(experiment.dataset, "dataset")
    data = split_data(dataset, experiment)
    for each in (scorer, *also):
        # scorers see labels alone: the names of the classes that a user's similarities are for can be checked only here
        if (similarity := getattr(each, "similarity", None)) is not None:
            similarity.check_names(data.train.class_names)
    spec = EvaluationSpec(
        space=space,
        recipe=recipe,
        augmentation=dataset.augmentation,
        scorer=scorer,
        also_scored=tuple(also),
        constraints=experiment.constraints,
        score_seed=score_seed(experiment),
        device=execution.plan.device,
        gpu_share=min(execution.plan.gpus, 1.0) or 1.0,
        time_limit=experiment.search.time_limit,
        stall_limit=experiment.search.stall_limit,
        in_process=execution.in_process,
        threads=execution.plan.cpus,
    )
    channels, height, width = data.shape
    facts = {
        "dataset": f"{dataset.name}: {len(data.train):,} training and {len(data.validation):,} validation "
        f"images, {height} x {width}, {channels} channel{'s' * (channels > 1)}, {data.n_classes} classes",
        "training": f"{recipe}",
        "scorer": f"{scorer.name}; recorded beside it: {', '.join(s.name for s in also) or 'none'}",
    }
    return partial(evaluate, spec=spec, data=data), data.n_classes, data.train.class_names, facts


def split_data(dataset: Dataset, experiment: ExperimentConfig) -> SearchData:
    """The training and validation images of an experiment: the same ones whenever they are asked for."""
    from nasx.data.splits import split  # here: scikit-learn takes half a second to import

    return split(dataset.train(), **vars(experiment.split), seed=derive_seed(experiment.seed, "split"))


def score_seed(experiment: ExperimentConfig) -> int:
    """The seed with which every network of a run is scored: on the same images, with the same draws."""
    return derive_seed(experiment.seed, "score")


def describe(parts: Parts) -> str:
    """What a search would do, for `--dry-run`."""
    space, experiment = parts.space, parts.experiment
    workers = parts.execution.plan.workers
    algorithm = build_algorithm(parts, workers)  # checks its settings, too
    limits = {name: value for name, value in vars(experiment.search).items() if value and name in SHOWN_LIMITS}
    plan = replace(parts.execution.plan, workers=1) if parts.execution.in_process else parts.execution.plan
    lines = {
        "name": f"{experiment.name}, seed {experiment.seed}",
        "space": f"{space.name}: {math.prod(space.gene_sizes):,} encodings, {dict(space.settings)}",
        **parts.facts,
        "objectives": ", ".join(f"{o.direction} {o.name}" for o in parts.objectives),
        "algorithm": f"{experiment.algorithm['_target_'].rpartition('.')[2]}, {experiment.evaluations:,} evaluations, "
        + ("hopeless trainings are cut" if experiment.early_stopping else "every training goes on to its end"),
        "limits": ", ".join(f"{name} {value:g}" for name, value in limits.items()) or "none but the evaluations",
        "execution": f"{plan}",
    }
    if free := repeatability(algorithm, workers):
        lines["repeats"] = free
    return "\n".join(f"{name + ':':<12}{text}" for name, text in lines.items())
