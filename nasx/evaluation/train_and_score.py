"""Evaluating a candidate: build the network, train it, score it, save it. A plain function of a picklable spec.

It needs neither Ray nor Hydra: any process that holds the data can run it, here or on another machine.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.batches import Pixels, as_tensor
from nasx.data.dataset import LabelledImages, SearchData
from nasx.errors import DeviceError, ResourceError, RunError, TrialFailure, first_line, is_out_of_memory
from nasx.evaluation.early_stopping import judge
from nasx.evaluation.watchdog import Progress, hang_file, watchdog
from nasx.files import damage, seal, write_atomically
from nasx.introspection.base import BatchedScorer
from nasx.networks.costs import count_macs, count_parameters
from nasx.protocols import Scorer, SearchSpace
from nasx.training.recipe import Recipe
from nasx.trial import INFEASIBLE_REASONS, Bounds, Evaluation, Job, Reason, Score, TrialStatus

# absent before torch 2.8, whose CUDA errors are plain RuntimeErrors: there the synchronization decides
ACCELERATOR_ERRORS: Final[tuple[type[Exception], ...]] = tuple(filter(None, [getattr(torch, "AcceleratorError", None)]))
MOST_PARTS: Final = 1024  # of a scorer's batch: then it is a single image
MOST_SCORED: Final = 25_000  # images of a dataset that does not fit into memory


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec:
    """All that an evaluation depends on, beside the data."""

    space: SearchSpace
    recipe: Recipe
    augmentation: Augmentation
    scorer: Scorer  # its value is the metric "introspectability"
    also_scored: tuple[Scorer, ...] = ()  # recorded beside it
    constraints: Mapping[str, Bounds] | None = None  # metric -> allowed range
    score_seed: int = 0  # one for all trials: equal samples and draws make scores comparable
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu_share: float = 1.0  # of a GPU's memory, in (0, 1], that a trial may use
    time_limit: float | None = None  # seconds a trial may take
    stall_limit: float | None = None  # seconds that may pass without an epoch or a score
    in_process: bool = True  # whether the process is the search's own, and must not be ended where a trial hangs
    threads: int = 1  # of torch; another number adds up in another order, and gives another result


def evaluate(job: Job, spec: EvaluationSpec, data: SearchData) -> Evaluation:
    """Train and score the network of `job` once. What goes wrong with the network comes back as a status.

    A failure that is the network's (diverged, out of memory, no score, too slow) or an exception out of foreign code
    (a scorer, a space) is an Evaluation that says so, with the traceback: it costs this trial alone. What is the
    machine's (no GPU, no space left) raises a NasxError; DeviceError if this process can no longer use its GPU.
    """
    evaluation = _guarded(job, spec, data)
    free_memory(after_failure=evaluation.status is TrialStatus.FAILED)
    return evaluation


def _guarded(job: Job, spec: EvaluationSpec, data: SearchData) -> Evaluation:
    """The evaluation of a job, whatever is raised meanwhile."""
    # here: who only plans trials need not load Lightning; not within the watchdog: its alarm would leave half a module
    import nasx.training.fit  # noqa: F401

    so_far = _SoFar()
    hang = None if spec.in_process else hang_file(job.weights_file)
    try:
        with watchdog(spec.time_limit, spec.stall_limit, hang) as progress, _threads(spec.threads):
            try:
                return _evaluate(job, spec, data, so_far, progress)
            except Exception as error:
                check_device(error)  # within the watchdog: it waits for the device
                raise
    except TrialFailure as failure:
        return so_far.ended(Reason(failure.reason), failure.detail)
    except ResourceError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            return so_far.ended(Reason.OUT_OF_MEMORY, str(error) or "no memory left")
        return so_far.ended(Reason.ERROR, traceback.format_exc())


def check_device(error: Exception) -> None:
    """Raise DeviceError if `error` shows that this process can no longer use its GPU.

    Most CUDA errors are sticky, and are raised by a later call than the one at fault: hence the synchronization.
    """
    problem = error if isinstance(error, ACCELERATOR_ERRORS) and not is_out_of_memory(error) else None
    if problem is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        try:
            torch.cuda.synchronize()
        except RuntimeError as sticky:
            problem = sticky
    if problem is not None:
        raise DeviceError(first_line(problem)) from problem


def free_memory(*, after_failure: bool) -> None:
    """Free what this process no longer needs; return GPU memory to the trials that share the GPU.

    Raises DeviceError if the GPU cannot be used any more.
    """
    is_on_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if is_on_gpu or after_failure:
        gc.collect()  # what foreign code leaves behind may be parts of cycles
    if is_on_gpu:
        try:
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise DeviceError(first_line(error)) from error


@dataclass
class _SoFar:
    """What an evaluation has measured: it fills up on the way, so that a trial that ends early keeps it."""

    metrics: dict[str, float] = field(default_factory=dict)
    history: list[Mapping[str, float]] = field(default_factory=list)
    train_seconds: float = 0.0  # when the last epoch ended

    def ended(self, reason: Reason, detail: str) -> Evaluation:
        status = TrialStatus.INFEASIBLE if reason in INFEASIBLE_REASONS else TrialStatus.FAILED
        history = tuple(self.history)
        return Evaluation(status, reason, detail, self.metrics, history=history, train_seconds=self.train_seconds)


def _evaluate(job: Job, spec: EvaluationSpec, data: SearchData, so_far: _SoFar, progress: Progress) -> Evaluation:
    """The steps of an evaluation."""
    from nasx.training.fit import fit

    metrics = so_far.metrics
    device = resolve_device(spec.device)
    with torch.random.fork_rng(devices=[]):  # initialisation draws from torch's generator; give it back as it was
        torch.manual_seed(job.seed)
        network = spec.space.build(job.genotype, input_shape=data.shape, n_classes=data.n_classes)
    metrics["parameters"] = count_parameters(network)
    metrics["macs"] = count_macs(network, data.shape)
    constraints = spec.constraints or {}
    if broken := _broken(metrics, constraints):
        return Evaluation.infeasible(Reason.CONSTRAINT, broken, metrics)

    started = time.perf_counter()

    def after_epoch(record: Mapping[str, float]) -> None:
        so_far.history.append(record)
        so_far.train_seconds = time.perf_counter() - started
        progress()
        judge(job, so_far.history, metrics, constraints, lambda errors: has_learned(errors, data.validation))

    trained = fit(
        network,
        data,
        spec.recipe,
        augmentation=spec.augmentation,
        seed=job.seed,
        device=device,
        micro_batches=job.micro_batches,
        gpu_share=spec.gpu_share,
        report=after_epoch,
    )
    metrics["error"] = trained.validation_error
    metrics["macro_error"] = trained.macro_error
    metrics["train_error"] = trained.history[-1]["train_error"]
    learned = has_learned(metrics, data.validation)
    scores: tuple[Score, ...] = ()
    if learned:
        scores = take_scores(network, data.validation, data, spec, device, progress, parts=job.micro_batches)
    for score in scores:
        if not math.isfinite(score.value):
            raise TrialFailure(Reason.NO_SCORE, f"the score of {score.scorer} is {score.value}")
        metrics[f"introspectability_{score.scorer}"] = score.value
    if scores:
        metrics["introspectability"] = scores[0].value

    status, reason = TrialStatus.COMPLETE, None
    detail = f"trained without CUDA graphs: {trained.graph_failure}" if trained.graph_failure else ""
    if not learned:
        status, reason = TrialStatus.INFEASIBLE, Reason.CHANCE_LEVEL
        detail = f"validation error {trained.validation_error:.1%} is not better than guessing the commonest class"
    elif broken := _broken(metrics, constraints):
        status, reason, detail = TrialStatus.INFEASIBLE, Reason.CONSTRAINT, broken
    else:
        save_weights(network, job.weights_file)
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


def take_scores(
    network: nn.Sequential,
    images: LabelledImages,
    data: SearchData,
    spec: EvaluationSpec,
    device: torch.device,
    progress: Progress = lambda: None,
    *,
    parts: int = 1,
) -> tuple[Score, ...]:
    """Return the scores of a trained network on labelled images: the objective's scorer first, each name once.

    Args:
        network: trained, on `device`.
        images: to score it on.
        data: the images that it was trained on, for their mean and standard deviation.
        spec: the scorers, their seed, and the share of the GPU.
        device: of the network.
        progress: called after each score.
        parts: parts into which scorers split their batches, if memory is short.
    """
    if images.on_disk and len(images) > MOST_SCORED:  # a user's scorer is given its images in memory
        images = images.take(np.sort(np.random.default_rng(spec.score_seed).permutation(len(images))[:MOST_SCORED]))
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
    """A score whose batches are halved until they fit into memory: the network need not be trained again."""
    while True:
        try:
            return scorer.in_parts(parts).score(network, pixels, pixels.labels, n_classes=n_classes, seed=seed)
        except Exception as error:
            if not is_out_of_memory(error) or parts >= MOST_PARTS:
                raise
        parts *= 2
        free_memory(after_failure=True)


def has_learned(errors: Mapping[str, float], images: LabelledImages) -> bool:
    """Whether the `error` or the `macro_error` is better than chance."""
    return better_than_chance(errors["error"], images) or balanced_better_than_chance(errors["macro_error"], images)


def better_than_chance(error: float, images: LabelledImages) -> bool:
    """Whether an error is lower than by always naming the commonest class, by more than three standard errors."""
    counts = torch.bincount(as_tensor(images.labels))
    chance = 1 - counts.max().item() / len(images)
    return error < chance - 3 * math.sqrt(chance * (1 - chance) / len(images))


def balanced_better_than_chance(macro_error: float, images: LabelledImages) -> bool:
    """The same where every class counts alike: whoever names one class alone has a macro error of 1 - 1/classes.

    On unbalanced data a network may have learned the rare classes and yet err more often than who names the commonest.
    """
    counts = torch.bincount(as_tensor(images.labels)).double()
    chance = 1 - 1 / len(counts)
    standard_error = math.sqrt(float((chance * (1 - chance) / counts).sum())) / len(counts)
    return macro_error < chance - 3 * standard_error


def _broken(metrics: Mapping[str, float], constraints: Mapping[str, Bounds]) -> str:
    """The first constraint that a metric measured so far breaks, in words; empty where all hold."""
    for name, bounds in constraints.items():
        if name in metrics and not bounds.hold(metrics[name]):
            return f"{name} {metrics[name]:.6g} is outside [{bounds.min}, {bounds.max}]"
    return ""


def resolve_device(device: str, setting: str = "execution.device") -> torch.device:
    """Return the torch device meant by "auto", "cpu" or "cuda".

    Raises ResourceError, which names the `setting`, if a GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(f"{setting} is cuda, but torch sees no GPU: set {setting} to cpu or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the weights as safetensors with a hash, the whole file or none."""
    write_atomically(file, seal(save({name: t.contiguous().cpu() for name, t in network.state_dict().items()})))


def load_weights(network: nn.Module, file: Path) -> None:
    """Read what `save_weights` wrote into a network of the same architecture. Raises RunError where it is damaged."""
    if problem := damage(file):
        raise RunError(f"the weights {file} cannot be used: {problem}. Train the network again in a new run.")
    try:
        network.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError) as error:  # RuntimeError is torch's word for other names or shapes
        raise RunError(
            f"the weights {file} cannot be used: they are of another network than the run's config builds. "
            "Restore both from a copy, or train the network again in a new run."
        ) from error


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Torch with `n` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
