"""Evaluating a candidate: build the network, train it, score it, save it. A plain function of a picklable spec.

It needs neither Ray nor Hydra: any process that holds the data can run it, here or on another machine.
"""

from __future__ import annotations

import math
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save
from torch import nn

from nasx.data.augmentation import Augmentation
from nasx.data.batches import as_tensor, normalise
from nasx.data.images import LabelledImages, SearchData
from nasx.errors import ResourceError, RunError, TrialFailure
from nasx.files import write_atomically
from nasx.networks.costs import count_macs, count_parameters
from nasx.protocols import Scorer, SearchSpace
from nasx.training import Recipe, fit
from nasx.trial import Bounds, Evaluation, Job, Reason, Score, TrialStatus
from nasx.weights import damage, seal


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
    time_limit: float | None = None  # seconds a trial may take
    threads: int = 1  # of torch; another number adds up in another order, and gives another result


def evaluate(job: Job, spec: EvaluationSpec, data: SearchData) -> Evaluation:
    """Train and score the network of `job` once. What goes wrong with the network comes back as a status.

    A failure that is the network's (diverged, out of memory, no score, too slow) or an exception out of foreign code
    (a scorer, a space) is an Evaluation that says so, with the traceback: it costs this trial alone. What is the
    machine's (no GPU, no space left) raises a NasxError.
    """
    metrics: dict[str, float] = {}
    try:
        with _time_limit(spec.time_limit), _threads(spec.threads):
            return _evaluate(job, spec, data, metrics)
    except TrialFailure as failure:
        return Evaluation.failed(Reason(failure.reason), failure.detail, metrics)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return Evaluation.failed(Reason.OUT_OF_MEMORY, str(error) or "no memory left", metrics)
    except ResourceError:
        raise
    except Exception:
        return Evaluation.failed(Reason.ERROR, traceback.format_exc(), metrics)


def _evaluate(job: Job, spec: EvaluationSpec, data: SearchData, metrics: dict[str, float]) -> Evaluation:
    """The steps of an evaluation; `metrics` fills up on the way, so that a failure keeps what was measured."""
    device = resolve_device(spec.device)
    with torch.random.fork_rng(devices=[]):  # initialisation draws from torch's generator; give it back as it was
        torch.manual_seed(job.seed)
        network = spec.space.build(job.genotype, input_shape=data.shape, n_classes=data.n_classes)
    metrics["parameters"] = count_parameters(network)
    metrics["macs"] = count_macs(network, data.shape)
    constraints = spec.constraints or {}
    if broken := _broken(metrics, constraints):
        return Evaluation.infeasible(Reason.CONSTRAINT, broken, metrics)

    trained = fit(
        network,
        data,
        spec.recipe,
        augmentation=spec.augmentation,
        seed=job.seed,
        device=device,
        micro_batches=job.micro_batches,
    )
    metrics["error"] = trained.validation_error
    metrics["macro_error"] = trained.macro_error
    metrics["train_error"] = trained.history[-1]["train_error"]
    learned = better_than_chance(trained.validation_error, data.validation) or balanced_better_than_chance(
        trained.macro_error, data.validation
    )
    scores = take_scores(network, data.validation, data, spec, device) if learned else ()
    for score in scores:
        if not math.isfinite(score.value):
            raise TrialFailure(Reason.NO_SCORE, f"the score of {score.scorer} is {score.value}")
        metrics[f"introspectability_{score.scorer}"] = score.value
    if scores:
        metrics["introspectability"] = scores[0].value

    status, reason, detail = TrialStatus.COMPLETE, None, ""
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
    network: nn.Sequential, images: LabelledImages, data: SearchData, spec: EvaluationSpec, device: torch.device
) -> tuple[Score, ...]:
    """The scores of a trained network on labelled images: the objective's scorer first, each name once."""
    pixels = normalise(as_tensor(images.images).to(device), data.mean, data.std)
    labels = as_tensor(images.labels).to(device)
    scorers: dict[str, Scorer] = {}
    for scorer in (spec.scorer, *spec.also_scored):
        scorers.setdefault(scorer.name, scorer)
    return tuple(
        scorer.score(network, pixels, labels, n_classes=images.n_classes, seed=spec.score_seed)
        for scorer in scorers.values()
    )


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


def resolve_device(device: str) -> torch.device:
    """The torch device meant by `auto`, `cpu` or `cuda`. Raises ResourceError where a GPU is asked for in vain."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("execution.device is cuda, but torch sees no GPU: say execution.device=cpu, or auto.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def save_weights(network: nn.Module, file: Path) -> None:
    """Write the weights as safetensors with a hash, the whole file or none."""
    write_atomically(file, seal(save({name: t.contiguous().cpu() for name, t in network.state_dict().items()})))


def load_weights(network: nn.Module, file: Path) -> None:
    """Read what `save_weights` wrote into a network of the same architecture. Raises RunError where it is damaged."""
    if problem := damage(file):
        raise RunError(f"the weights {file} cannot be used: {problem}. Train the network again in a new run.")
    network.load_state_dict(load_file(file))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Torch with `n` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TrialFailure(Reason.TIMEOUT) in the block after `seconds`.

    By SIGALRM, which only a main thread can take; where there is none the driver's own guard ends the trial.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: object) -> None:
        raise TrialFailure(Reason.TIMEOUT, f"took longer than search.time_limit, {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
