"""Evaluate a candidate: build, train and score the network, save its weights. A function of a picklable spec.

It needs neither Ray nor Hydra: any process with the data can run it, on this or another machine.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import torch
from torch import nn

from nasx.backbones.features import on_features
from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels, as_tensor
from nasx.data.dataset import LabeledImages, SearchData
from nasx.errors import DeviceError, ResourceError, TrialFailure, first_line, is_out_of_memory
from nasx.evaluation.device import describe_device, measure_latency
from nasx.evaluation.early_stopping import check_rung
from nasx.evaluation.watchdog import Progress, hang_file, watchdog
from nasx.evaluation.weights import keep_weights
from nasx.introspection.base import BatchedScorer
from nasx.networks.costs import count_macs, count_parameters
from nasx.networks.untrained import build_untrained
from nasx.protocols import Scorer, SearchSpace
from nasx.runs.directory import prepare_directory
from nasx.training.recipe import Recipe
from nasx.trial import INFEASIBLE_REASONS, MEASURED_ON, Bounds, Evaluation, Genotype, Job, Reason, Score, TrialStatus

if TYPE_CHECKING:
    from nasx.training.fit import FitResult

# Absent before torch 2.8, which raises plain RuntimeErrors: then the synchronization shows the problem
ACCELERATOR_ERRORS: Final[tuple[type[Exception], ...]] = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))
MAX_PARTS: Final = 1024  # of a scorer's batch: a part is then a single image
MAX_SCORED_IMAGES: Final = 25_000  # images of a dataset that does not fit into memory


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """Settings of an evaluation: everything that it depends on except the data and the job."""

    space: SearchSpace
    recipe: Recipe
    augmentation: Augmentation
    scorer: Scorer  # its value is the metric "introspectability"
    also_scored: tuple[Scorer, ...] = ()  # recorded, too
    constraints: Mapping[str, Bounds] | None = None  # metric -> allowed range
    score_seed: int = 0  # the same for all trials: equal samples and draws make scores comparable
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu_share: float = 1.0  # of a GPU's memory, in (0, 1], that a trial may use
    time_limit: float | None = None  # seconds a trial may take
    stall_limit: float | None = None  # seconds that may pass without an epoch or a score
    in_process: bool = True  # True in the process of the search, which must not be ended if a trial hangs
    threads: int = 1  # of torch; the order of sums, and so the result, depends on it
    latency: bool = False  # measure the latency: it is an objective or has bounds


def evaluate(job: Job, spec: EvaluationSpec, data: SearchData) -> Evaluation:
    """Train and score the network of `job` once.

    Failures of the network (divergence, out of memory, no score, timeout) and exceptions in user code (a scorer, a
    space) are returned as the status of the evaluation, with the traceback; only this trial fails.

    Args:
        job: the trial.
        spec: settings of the evaluation.
        data: training and validation images.

    Raises:
        NasxError: for problems of the machine: no GPU, no space left on the disk.
        DeviceError: this process can no longer use its GPU.
    """
    evaluation = _evaluate_safely(job, spec, data)
    free_memory(after_failure=evaluation.status is TrialStatus.FAILED)
    return evaluation


def _evaluate_safely(job: Job, spec: EvaluationSpec, data: SearchData) -> Evaluation:
    """Return the evaluation of a job; translate exceptions into its status."""
    # Lightning takes seconds to load. Outside the watchdog: an alarm would leave a half-initialized module
    import nasx.training.fit  # noqa: F401

    so_far = _PartialResult()
    hang = None if spec.in_process else hang_file(job.weights_file)
    try:
        if hang is not None and spec.stall_limit is not None:
            prepare_directory(job, hang)
        with watchdog(spec.time_limit, spec.stall_limit, hang) as progress, torch_threads(spec.threads):
            try:
                return _evaluate(job, spec, data, so_far, progress)
            except Exception as error:
                check_device(error)  # inside the watchdog, because it waits for the device
                raise
    except TrialFailure as failure:
        return so_far.ended(Reason(failure.reason), failure.detail)
    except ResourceError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            return so_far.ended(Reason.OUT_OF_MEMORY, str(error) or "out of memory")
        return so_far.ended(Reason.ERROR, traceback.format_exc())


def check_device(error: Exception) -> None:
    """Raise DeviceError if `error` shows that this process can no longer use its GPU.

    Most CUDA errors are persistent and asynchronous: a later call raises them. Therefore synchronize first.
    """
    problem = error if isinstance(error, ACCELERATOR_ERRORS) and not is_out_of_memory(error) else None
    if problem is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.synchronize()
        except RuntimeError as persistent:
            problem = persistent
    if problem is not None:
        raise DeviceError(first_line(problem)) from problem


def free_memory(*, after_failure: bool) -> None:
    """Free unused memory of this process, on the GPU for the trials that share it.

    Raises DeviceError if the GPU can no longer be used.
    """
    is_on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if is_on_gpu or after_failure:
        gc.collect()  # objects of user code may be parts of cycles
    if is_on_gpu:
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise DeviceError(first_line(error)) from error


@dataclass
class _PartialResult:
    """Measurements of a running evaluation, kept if the trial ends early."""

    metrics: dict[str, float] = field(default_factory=dict)
    history: list[Mapping[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0  # when the last epoch ended

    def ended(self, reason: Reason, detail: str) -> Evaluation:
        """Return the evaluation of a trial that ended early."""
        status = TrialStatus.INFEASIBLE if reason in INFEASIBLE_REASONS else TrialStatus.FAILED
        history = tuple(self.history)
        return Evaluation(status, reason, detail, self.metrics, history=history, train_seconds=self.train_seconds)


def _evaluate(
    job: Job, spec: EvaluationSpec, data: SearchData, so_far: _PartialResult, progress: Progress
) -> Evaluation:
    """Build, train and score the network of a job; save its weights if the trial is complete."""
    metrics = so_far.metrics
    device = resolve_device(spec.device)
    network = initial_network(spec, data, job.genotype, job.seed)
    metrics["parameters"] = count_parameters(network)
    metrics["macs"] = count_macs(network, data.shape)
    notes = []
    if spec.latency:
        metrics["latency"] = measure_latency(network, data.shape, device)
        notes.append(f"{MEASURED_ON}{describe_device(device, spec.threads)}")
    constraints = spec.constraints or {}
    if violated := _violated_constraint(metrics, constraints):
        return Evaluation.infeasible(Reason.CONSTRAINT, violated, metrics)
    trained = _train(network, job, spec, data, so_far, progress)
    learned = has_learned(metrics, data.validation)
    scores: tuple[Score, ...] = ()
    if learned:
        part, read = on_features(network, data)
        scores = take_scores(part, read.validation, read, spec, device, progress, parts=job.micro_batches)
    _add_scores(metrics, scores)
    status, reason = TrialStatus.COMPLETE, None
    if trained.graph_failure:
        notes.append(f"trained without CUDA graphs: {trained.graph_failure}")
    detail = "; ".join(notes)
    if not learned:
        status, reason = TrialStatus.INFEASIBLE, Reason.CHANCE_LEVEL
        detail = f"validation error {trained.validation_error:.1%} is not better than guessing the most common class"
    elif violated := _violated_constraint(metrics, constraints):
        status, reason, detail = TrialStatus.INFEASIBLE, Reason.CONSTRAINT, violated
    else:
        keep_weights(network, job.weights_file, partial(prepare_directory, job, job.weights_file))
    return Evaluation(
        status=status,
        reason=reason,
        detail=detail,
        metrics=metrics,
        scores=scores,
        history=trained.history,
        train_seconds=trained.seconds,
        score_seconds=sum(score.seconds for score in scores),
    )


def initial_network(spec: EvaluationSpec, data: SearchData, genotype: Genotype, seed: int) -> nn.Sequential:
    """Return a network before its training.

    Args:
        spec: has the space, and the number of a backbone's stages that are trained.
        data: has the shape of the images, and the classes.
        genotype: of the network.
        seed: of the initial weights.
    """
    return build_untrained(
        spec.space,
        genotype,
        input_shape=data.shape,
        n_classes=data.n_classes,
        seed=seed,
        n_unfrozen=spec.recipe.unfreeze,
    )


def _train(
    network: nn.Sequential,
    job: Job,
    spec: EvaluationSpec,
    data: SearchData,
    so_far: _PartialResult,
    progress: Progress,
) -> FitResult:
    """Train a network; add history and errors to `so_far`. Stop early at a rung of the job."""
    from nasx.training.fit import fit  # Lightning takes seconds to load

    started = time.perf_counter()

    def after_epoch(record: Mapping[str, float]) -> None:
        so_far.history.append(record)
        so_far.train_seconds = time.perf_counter() - started
        progress()
        check_rung(
            job,
            so_far.history,
            so_far.metrics,
            spec.constraints or {},
            lambda errors: has_learned(errors, data.validation),
        )

    trained = fit(
        network,
        data,
        spec.recipe,
        augmentation=spec.augmentation,
        seed=job.seed,
        device=resolve_device(spec.device),
        micro_batches=job.micro_batches,
        gpu_share=spec.gpu_share,
        report=after_epoch,
    )
    so_far.metrics["error"] = trained.validation_error
    so_far.metrics["macro_error"] = trained.macro_error
    so_far.metrics["train_error"] = trained.history[-1]["train_error"]
    return trained


def _add_scores(metrics: dict[str, float], scores: Sequence[Score]) -> None:
    """Add scores to the metrics; the first one is the objective. Raises TrialFailure if one is not finite."""
    for score in scores:
        if not math.isfinite(score.value):
            raise TrialFailure(Reason.NO_SCORE, f"the score of {score.scorer} is {score.value}")
        metrics[f"introspectability_{score.scorer}"] = score.value
    if scores:
        metrics["introspectability"] = scores[0].value


def take_scores(
    network: nn.Sequential,
    images: LabeledImages,
    data: SearchData,
    spec: EvaluationSpec,
    device: torch.device,
    progress: Progress = lambda: None,
    *,
    parts: int = 1,
) -> tuple[Score, ...]:
    """Return the scores of a trained network on labeled images: the objective's scorer first, each name once.

    Args:
        network: trained, on `device`.
        images: on which it is scored.
        data: images on which it was trained, for their mean and standard deviation.
        spec: scorers, their seed, and the share of the GPU.
        device: of the network.
        progress: called after each score.
        parts: number of parts into which scorers split their batches, to save memory.
    """
    if images.on_disk and len(images) > MAX_SCORED_IMAGES:  # scorers of users receive a tensor in memory
        images = images.take(
            np.sort(np.random.default_rng(spec.score_seed).permutation(len(images))[:MAX_SCORED_IMAGES])
        )
    pixels = Pixels(images, mean=data.mean, std=data.std, device=device, gpu_share=spec.gpu_share)
    scorers: dict[str, Scorer] = {}
    for scorer in (spec.scorer, *spec.also_scored):
        scorers.setdefault(scorer.name, scorer)
    scores = []
    for scorer in scorers.values():
        if isinstance(scorer, BatchedScorer):
            scores.append(_in_parts(scorer, network, pixels, images.n_classes, spec.score_seed, parts))
        else:
            how = {"n_classes": images.n_classes, "seed": spec.score_seed}
            scores.append(scorer.score(network, pixels[:], pixels.labels, **how))
        progress()
    return tuple(scores)


def _in_parts(
    scorer: BatchedScorer, network: nn.Sequential, pixels: Pixels, n_classes: int, seed: int, parts: int
) -> Score:
    """Return a score; halve its batches until they fit into memory, so that the training is not lost."""
    while True:
        try:
            return scorer.in_parts(parts).score(network, pixels, pixels.labels, n_classes=n_classes, seed=seed)
        except Exception as error:
            if not is_out_of_memory(error) or parts >= MAX_PARTS:
                raise
        parts *= 2
        free_memory(after_failure=True)


def has_learned(errors: Mapping[str, float], images: LabeledImages) -> bool:
    """Return whether the `error` or the `macro_error` is better than chance."""
    return better_than_chance(errors["error"], images) or balanced_better_than_chance(errors["macro_error"], images)


def better_than_chance(error: float, images: LabeledImages) -> bool:
    """Return whether an error is more than three standard errors below that of predicting the most common class."""
    counts = torch.bincount(as_tensor(images.labels))
    chance = 1 - counts.max().item() / len(images)
    return error < chance - 3 * math.sqrt(chance * (1 - chance) / len(images))


def balanced_better_than_chance(macro_error: float, images: LabeledImages) -> bool:
    """Return whether a macro error is more than three standard errors below that of predicting one class.

    The latter is 1 - 1 / n_classes. On unbalanced data, a network that has learned the rare classes may have a larger
    error than predicting the most common class.
    """
    counts = torch.bincount(as_tensor(images.labels)).double()
    chance = 1 - 1 / len(counts)
    standard_error = math.sqrt(float((chance * (1 - chance) / counts).sum())) / len(counts)
    return macro_error < chance - 3 * standard_error


def _violated_constraint(metrics: Mapping[str, float], constraints: Mapping[str, Bounds]) -> str:
    """Return a message about the first violated constraint of the given metrics; "" if there is none."""
    for name, bounds in constraints.items():
        if name in metrics and not bounds.contains(metrics[name]):
            return f"{name} {metrics[name]:.6g} is outside [{bounds.min}, {bounds.max}]"
    return ""


def resolve_device(device: str, setting: str = "execution.device") -> torch.device:
    """Return the torch device of "auto", "cpu" or "cuda".

    Raises ResourceError, which names the `setting`, if a GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(f"{setting} is cuda, but torch sees no GPU: set {setting} to cpu or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set the number of torch threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
