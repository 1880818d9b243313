"""Trained network of a trial: with the weights that the search kept, or trained again from its seed.

A search keeps the weights of its front only. The seed of a trial derives from that of the run, so its training can be
repeated under the same conditions: data, recipe, device, threads, and parts of a batch. On the same machine the weights
are the same, bit for bit. Every epoch is compared with the journal, and a difference is reported wherever the network
is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from nasx.data.digest import FileWatch
from nasx.errors import ResourceError, RunError, TrialFailure, first_line, is_out_of_memory
from nasx.evaluation.device import device_name
from nasx.evaluation.train_and_score import free_memory, resolve_device, torch_threads
from nasx.evaluation.weights import keep_weights, load_weights
from nasx.execution.interrupt import advise
from nasx.experiment import Experiment
from nasx.reports.text import duration
from nasx.runs.check import require_identity
from nasx.runs.directory import ARCHS, Place, make_directory, weights_file
from nasx.runs.stored_run import open_run
from nasx.runs.weights import Retrained, as_metadata, parts_of, read_retrained, retrained_file
from nasx.training.fit import FitResult, fit
from nasx.trial import Trial

COMPARED: Final = ("train_loss", "train_error", "validation_loss", "validation_error")  # of each epoch


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """Network of a trial with trained weights."""

    network: nn.Sequential  # in evaluation mode, on the CPU
    retrained: Retrained | None = None  # None: the weights are those of the search

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """How the network came about, as facts for a page; empty if its weights are those of the search."""
        return () if self.retrained is None else (("weights", self.retrained.note),)


@dataclass(frozen=True)
class Conditions:
    """Conditions of a training, apart from its data and recipe, on which its result depends."""

    device: torch.device
    threads: int  # of torch: the order of sums depends on it
    parts: int  # of a batch, for lack of memory


def trained_network(run_dir: Path, trial: Trial, experiment: Experiment, *, device: str = "auto") -> TrainedNetwork:
    """Return the network of a trial with its kept weights; if there are none, train it again and keep them.

    Args:
        run_dir: directory of the run.
        trial: of the network.
        experiment: of the run. Its options decide whether to train, and receive notices and the progress.
        device: "cpu": use no GPU. Otherwise a training is repeated on the device of the trial, if there is one.

    Raises:
        RunError: there is nothing to train, or training is not allowed, or the weights are damaged.
        DataError: the data are not those of the run.
        ResourceError: memory is short.
    """
    check_result(run_dir, trial, experiment)
    kept = weights_file(run_dir, trial.arch_id, trial.replicate)
    if kept.is_file():
        return TrainedNetwork(_loaded(experiment, trial, kept))
    again = retrained_file(run_dir, trial.arch_id, trial.replicate)
    if again.is_file():
        record = read_retrained(again)
        if (record.arch_id, record.replicate, record.seed) != (trial.arch_id, trial.replicate, trial.seed):
            raise RunError(f"{again} is of another training. Remove it to train again.")
        found = TrainedNetwork(_loaded(experiment, trial, again), record)
    else:
        found = _train_again(run_dir, trial, experiment, again, device)
    assert found.retrained is not None
    experiment.options.notify(f"{trial.arch_id} was {found.retrained.note}.")
    return found


def check_result(run_dir: Path, trial: Trial, experiment: Experiment) -> None:
    """Raise RunError if a trial has no trained network: it was looked up in a table, or it is not complete."""
    require_identity(experiment.space, [(trial.genotype, trial.arch_id)])
    if experiment.config.evaluation is not None:
        raise RunError(f"{run_dir} looked its candidates up in a table: there are no trained networks.")
    if not trial.is_complete:
        why = f"{trial.status}, {trial.evaluation.reason}".replace("_", " ")
        raise RunError(
            f"{trial.arch_id} has no trained network: its trial is {why}. `nasx runs show --details` says more; "
            "`nasx pareto` lists the networks of the front."
        )


def _loaded(experiment: Experiment, trial: Trial, file: Path) -> nn.Sequential:
    network = experiment.untrained(trial.genotype, trial.seed)
    load_weights(network, file)
    return network.eval()


def _train_again(run_dir: Path, trial: Trial, experiment: Experiment, file: Path, device: str) -> TrainedNetwork:
    """Repeat the training of a trial, and keep the weights."""
    options, place = experiment.options, Place.of(run_dir)
    missing = f"{run_dir} keeps no weights of {trial.arch_id}: a search keeps those of its front"
    if not options.train:
        raise RunError(f"{missing}, and training is switched off (--no-train).")
    _ = experiment.data, experiment.recipe  # compares them with those of the run
    if experiment.data_difference:
        raise RunError(
            f"{missing}, and other data would train another network ({experiment.data_difference}). "
            "Restore the data of the search, or choose a network of the front: `nasx pareto` lists them."
        )
    conditions = _conditions(run_dir, trial, experiment, device)
    took = duration(trial.evaluation.train_seconds)
    options.notify(
        f"{missing}. Training it again from its seed: {experiment.recipe.epochs} epochs, {took} in the search."
    )
    advise(f"Nothing was kept of the training of {trial.arch_id}; the same command starts it again.")
    network, fitted = _fit(trial, experiment, conditions, place)
    advise("")
    record = _compare(trial, fitted, conditions)
    place.check()
    try:
        keep_weights(network, file, partial(make_directory, run_dir, ARCHS, trial.arch_id), as_metadata(record))
    except ResourceError as error:  # e.g. of a run that may only be read
        options.notify(f"the weights are used, but not kept: {first_line(error)}")
    loaded = experiment.untrained(trial.genotype, trial.seed)  # in the memory format of weights that are read
    loaded.load_state_dict(network.state_dict())
    return TrainedNetwork(loaded.eval(), record)


def _conditions(run_dir: Path, trial: Trial, experiment: Experiment, device: str) -> Conditions:
    """Return the conditions of a trial, as far as this machine has them."""
    with open_run(run_dir) as run:
        parts = parts_of(trial, run.journal.events())
    was_on_gpu = trial.gpu_seconds > 0  # trials on the CPU use no time of GPUs
    threads = experiment.config.execution.get("cpus_per_trial", 1)
    return Conditions(resolve_device("auto" if was_on_gpu and device != "cpu" else "cpu"), int(threads), parts)


def _fit(trial: Trial, experiment: Experiment, conditions: Conditions, place: Place) -> tuple[nn.Sequential, FitResult]:
    """Train the network of a trial; split batches further if memory is short."""
    options, recipe = experiment.options, experiment.recipe
    files = FileWatch(experiment.data)
    options.watch(0, recipe.epochs)

    def after_epoch(record: Mapping[str, float]) -> None:
        place.check()
        files.check()
        options.watch(int(record["epoch"]), recipe.epochs)

    parts = conditions.parts
    while True:
        network = experiment.untrained(trial.genotype, trial.seed)
        try:
            with torch_threads(conditions.threads):
                fitted = fit(
                    network,
                    experiment.data,
                    recipe,
                    augmentation=experiment.dataset.augmentation,
                    seed=trial.seed,
                    device=conditions.device,
                    micro_batches=parts,
                    report=after_epoch,
                )
            return network, fitted
        except TrialFailure as failure:
            raise RunError(
                f"{trial.arch_id} could not be trained again: {failure.detail}. In the search it could: on the same "
                "machine, with the same versions of nasx and torch, the result is the same."
            ) from failure
        except Exception as error:
            if not is_out_of_memory(error) or 2 * parts > recipe.batch_size // 2:
                raise
        parts *= 2
        options.notify(f"out of memory: training in {parts} parts a batch, which changes the result.")
        free_memory(after_failure=True)


def _compare(trial: Trial, fitted: FitResult, conditions: Conditions) -> Retrained:
    """Compare a repeated training with the trial."""
    recorded = trial.metrics["error"]
    return Retrained(
        arch_id=trial.arch_id,
        replicate=trial.replicate,
        seed=trial.seed,
        error=fitted.validation_error,
        recorded_error=recorded,
        is_same=fitted.validation_error == recorded and _same(trial.evaluation.history, fitted.history),
        device=device_name(conditions.device),
        torch_version=version("torch"),
    )


def _same(recorded: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, float]]) -> bool:
    """Return whether two histories have the same epochs with the same losses and errors."""
    return [[epoch.get(name) for name in COMPARED] for epoch in recorded] == [
        [epoch.get(name) for name in COMPARED] for epoch in found
    ]
