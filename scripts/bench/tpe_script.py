"""Search by Optuna's TPE with the SHAP score until a deadline: a variant of `scripts.bench.optuna_script`.

The peer of `scripts.bench.front_truth`.

    python -m scripts.bench.tpe_script TASK.npz RESULT.json --deadline UNIX_TIME --score-seed N [--scorer JSON]

The networks are trained as in `scripts.bench.optuna_script`: plain PyTorch, a DataLoader, float32, one thread per
process, one journal file for all processes. The score is nasx's `ShapScorer`, called as a library. Trainings that are
running at the deadline finish, but are not counted. Processes are forked, so that none of them imports torch again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from nasx.data.dataset import SearchData
from nasx.errors import TrialFailure
from nasx.introspection.shap import ShapScorer
from scripts.bench.optuna_script import STUDY, Objective, Task, load_task


@dataclass(frozen=True)
class Limits:
    """Deadline of the peer, and settings of its score."""

    deadline: float  # Unix time
    score_seed: int  # chooses the images explained and the draws
    scorer: dict[str, Any] = field(default_factory=dict)  # arguments of ShapScorer


class ShapObjective(Objective):
    """Trains and scores the network of an Optuna trial: (validation error, introspectability by SHAP)."""

    def __init__(self, task: Task, data: SearchData, limits: Limits) -> None:
        super().__init__(task, data)
        self.scorer = ShapScorer(**limits.scorer)
        self.score_seed = limits.score_seed

    def score(self, network: nn.Sequential) -> float:
        """Score a trained network; a network that has no score is pruned."""
        seed, n_classes = self.score_seed, self.data.n_classes
        try:
            return self.scorer.score(network, self.images, self.labels, n_classes=n_classes, seed=seed).value
        except TrialFailure as failure:
            raise optuna.TrialPruned(f"no score: {failure}") from failure


def open_study(journal: Path, seed: int) -> optuna.Study:
    """Open the study that all processes share."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        sampler=sampler,
        directions=["minimize", "maximize"],
        load_if_exists=True,
    )


def work(task: Task, data: SearchData, limits: Limits, journal: Path, process: int) -> None:
    """Train networks of the study in this process until the deadline.

    Args:
        task: settings of the search.
        data: images.
        limits: deadline and score.
        journal: Optuna's journal file.
        process: number of this process, for its seed.
    """
    torch.set_num_threads(1)
    study = open_study(journal, seed=1000 * task.seed + process)
    objective = ShapObjective(task, data, limits)
    while (left := limits.deadline - time.time()) > 0:  # `optimize` may return early, since it has its own clock
        study.optimize(objective, timeout=left)


def in_time(trials: Sequence[FrozenTrial], deadline: float) -> list[FrozenTrial]:
    """Return the complete trials that ended by the deadline."""
    latest = datetime.fromtimestamp(deadline)  # Optuna records local time
    return [
        t for t in trials if t.state is TrialState.COMPLETE and t.datetime_complete and t.datetime_complete <= latest
    ]


def genotype(trial: FrozenTrial) -> list[int]:
    """Return the alleles that a trial chose, in the order of the edges."""
    return [trial.params[f"edge{edge}"] for edge in range(len(trial.params))]


def search(task_file: Path, limits: Limits) -> dict[str, Any]:
    """Run the processes and return the trainings that count, with the numbers of trials that do not."""
    task, data = load_task(task_file)
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.log"
        open_study(journal, task.seed)
        context = multiprocessing.get_context("fork")
        arguments = [(task, data, limits, journal, n) for n in range(task.processes)]
        processes = [context.Process(target=work, args=each) for each in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise SystemExit(f"a process of the search ended with status {process.exitcode}")
        trials = open_study(journal, task.seed).get_trials()
    counted = in_time(trials, limits.deadline)
    complete = sum(t.state is TrialState.COMPLETE for t in trials)
    return {
        "trainings": [{"genotype": genotype(t), "values": t.values} for t in counted],
        "late": complete - len(counted),
        "pruned": sum(t.state is TrialState.PRUNED for t in trials),
        "failed": sum(t.state is TrialState.FAIL for t in trials),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.tpe_script")
    parser.add_argument("task", type=Path, help="saved by `optuna_script.save_task`")
    parser.add_argument("result", type=Path, help="JSON file for the trainings that count")
    parser.add_argument("--deadline", type=float, required=True, help="Unix time")
    parser.add_argument("--score-seed", type=int, required=True)
    parser.add_argument("--scorer", type=json.loads, default={}, help="arguments of ShapScorer, JSON")
    chosen = parser.parse_args()
    limits = Limits(chosen.deadline, chosen.score_seed, chosen.scorer)
    chosen.result.write_text(json.dumps(search(chosen.task, limits)))


if __name__ == "__main__":
    main()
