"""Fine-tuning of the front of a finished search: train its networks further, with the regularizer.

Source: Carmichael, Moon, Jacobs, 2023, who report the best hypervolume for it; they do not state epochs or
learning rate. On the digits a rate of 0.001 changed nothing and 0.02 diverged. For each network a control is trained as
long without the regularizer, as more training may help by itself.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import nn

from nasx.backbones.features import on_features
from nasx.errors import TrialFailure
from nasx.evaluation.train_and_score import resolve_device, take_scores
from nasx.evaluation.weights import save_weights
from nasx.experiment import Experiment
from nasx.reports.summary import summarize_run
from nasx.runs.directory import Place, lock
from nasx.runs.stored_run import DEFAULT, ReadOptions, open_run
from nasx.runs.training_records import Finetuned, finetuned_weights_path, read_finetuned, write_finetuned
from nasx.runs.weights import choose_training
from nasx.training.fit import fit
from nasx.trial import Trial, derive_seed
from nasx.workflows.trained_network import trained_network

EPOCHS: Final = 5
LEARNING_RATE: Final = 0.01
Report = Callable[[str], None]  # receives the current step, in one line


def finetune_front(
    run_dir: Path, weight: float, report: Report = lambda line: None, options: ReadOptions = DEFAULT
) -> list[Finetuned]:
    """Fine-tune every network of a run's front with the regularizer at `weight`, and return their records.

    Networks that have been fine-tuned at this weight are not trained again. One whose training diverges is reported
    and left out.

    Args:
        run_dir: directory of the run.
        weight: of the class similarity in the loss.
        report: receives the current step.
        options: how the run and its data are read.
    """
    with lock(run_dir):
        with open_run(run_dir, options.overrides, trust_code=options.trust_code, notify=options.notify) as run:
            trials, experiment = run.journal.trials(), Experiment.of_stored(run, options)
            front = summarize_run(trials, run.info).front
        found = []
        for number, member in enumerate(front, start=1):
            record = read_finetuned(run_dir, member.arch_id)
            if (
                record is None
                or record.regularizer != weight
                or not finetuned_weights_path(run_dir, member.arch_id).is_file()
            ):
                report(f"fine-tuning {member.arch_id}, {number} of {len(front)}")
                own = [t for t in trials if t.arch_id == member.arch_id]
                try:
                    record = finetune(run_dir, choose_training(run_dir, own), experiment, weight)
                except TrialFailure as failure:
                    report(f"{member.arch_id} could not be fine-tuned: {failure.detail}")
                    continue
            found.append(record)
    return found


def finetune(run_dir: Path, trial: Trial, experiment: Experiment, weight: float) -> Finetuned:
    """Train a network and its control further from the kept weights; write the weights, then the record."""
    started = time.perf_counter()
    device = resolve_device(experiment.config.execution.get("device", "auto"))
    network = trained_network(run_dir, trial, experiment).network.to(device)
    place = Place.of(run_dir)

    def train_further(regularizer: float) -> tuple[nn.Sequential, dict[str, float]]:
        copied = copy.deepcopy(network)
        recipe = replace(
            experiment.recipe,
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            warmup_epochs=0.0,
            keep="last",
            regularizer=regularizer,
        )
        seed = derive_seed(trial.seed, "finetune")
        fitted = fit(
            copied, experiment.data, recipe, augmentation=experiment.dataset.augmentation, seed=seed, device=device
        )
        return copied, {"error": fitted.validation_error, **_scores(copied, experiment, device)}

    copied, after = train_further(weight)
    _, control = train_further(0.0)
    place.check()
    save_weights(copied, finetuned_weights_path(run_dir, trial.arch_id))
    record = Finetuned(
        arch_id=trial.arch_id,
        replicate=trial.replicate,
        regularizer=weight,
        epochs=EPOCHS,
        learning_rate=LEARNING_RATE,
        before={name: value for name, value in trial.metrics.items() if name in after},
        after=after,
        control=control,
        seconds=time.perf_counter() - started,
    )
    write_finetuned(record, run_dir)
    return record


def _scores(network: nn.Sequential, experiment: Experiment, device: torch.device) -> Mapping[str, float]:
    """Return scores on the validation images, named as in a trial's metrics."""
    part, read = on_features(network, experiment.data)
    scores = take_scores(part, read.validation, read, experiment.spec, device)
    named = {f"introspectability_{score.scorer}": score.value for score in scores}
    return {"introspectability": scores[0].value, **named}
