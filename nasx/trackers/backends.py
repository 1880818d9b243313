"""The trackers, through Lightning's loggers: a logger for the search, and one for each of its trials."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nasx.errors import ResourceError
from nasx.trackers.tracking import Entry, finite, flat

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


class LightningTracker(ABC):
    """The part that all three share: settings once, learning curves and metrics a trial, progress for the search."""

    package: str  # that it needs
    extra: str  # that installs it

    def __init__(self) -> None:
        """Raises ResourceError if the package is not installed: better now than in the middle of a search."""
        try:
            import_module(self.package)
        except ModuleNotFoundError as exc:
            raise ResourceError(f"logger={self.extra} needs {self.package}: pip install 'nasx[{self.extra}]'.") from exc

    def begin(self, name: str, config: Mapping[str, Any], run_dir: Path, known: str | None) -> str:
        self.name, self.run_dir = name, run_dir
        self.whole, self.id = self.open_search(known)
        if known is None:
            self.whole.log_hyperparams(flat(config))
        return self.id

    def log(self, entry: Entry) -> None:
        trial, evaluation = entry.trial, entry.trial.evaluation
        logger = self.open_trial(f"{trial.arch_id}_{trial.replicate}")
        logger.log_hyperparams(describe(entry))
        for epoch in evaluation.history:
            curve = {f"curve/{name}": value for name, value in epoch.items() if name != "epoch"}
            logger.log_metrics(finite(curve), step=int(epoch["epoch"]))
        logger.log_metrics(finite(trial.metrics), step=len(evaluation.history))
        self.close_logger(logger, finished=trial.is_complete)
        self.whole.log_metrics(finite({**entry.progress, **trial.metrics}), step=entry.step)

    def end(self, *, finished: bool) -> None:
        self.close_logger(self.whole, finished=finished)

    def close_logger(self, logger: Logger, *, finished: bool) -> None:
        logger.save()  # TensorBoard's writes settings only on success
        logger.finalize("success" if finished else "failed")

    @abstractmethod
    def open_search(self, known: str | None) -> tuple[Logger, str]:
        """The logger of the search and its id; `known`: the id that it had before."""

    @abstractmethod
    def open_trial(self, name: str) -> Logger:
        """The logger of one trial."""


def describe(entry: Entry) -> dict[str, Any]:
    """Return the identity and the descent of a trial."""
    trial, candidate = entry.trial, entry.trial.candidate
    return {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "architecture": trial.architecture,
        "status": str(trial.evaluation.reason or trial.status),
        "number": candidate.number,
        "generation": candidate.generation,
        "operator": candidate.operator,
        "parents": " ".join(entry.parents),
        "seed": trial.seed,
    }


class TensorBoard(LightningTracker):
    """Event files: in the run directory, or below `directory` if one is given."""

    package = "tensorboardX"
    extra = "tensorboard"

    def __init__(self, *, directory: str | None = None) -> None:
        super().__init__()
        self.directory = directory

    def open_search(self, known: str | None) -> tuple[Logger, str]:
        return self._logger("search"), "search"

    def open_trial(self, name: str) -> Logger:
        return self._logger(f"trials/{name}")

    def _logger(self, version: str) -> Logger:
        from pytorch_lightning.loggers import TensorBoardLogger

        home = self.run_dir / "tensorboard"
        if self.directory is not None:
            home = Path(self.directory).expanduser() / self.name / self.run_dir.name
        return TensorBoardLogger(str(home), name=None, version=version, default_hp_metric=False)


class MLflow(LightningTracker):
    """A server, or a directory: every trial a child run. `tracking_uri`: null for what MLFLOW_TRACKING_URI says."""

    package = "mlflow"
    extra = "mlflow"

    def __init__(self, *, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        super().__init__()
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        # a server that refuses is to be found out in seconds, not in the minutes of MLflow's own retries
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for the front

    def open_search(self, known: str | None) -> tuple[Logger, str]:
        logger = self._logger(self.run_dir.name, known=known, tags={"nasx.run_dir": str(self.run_dir)})
        return logger, logger.run_id

    def open_trial(self, name: str) -> Logger:
        return self._logger(name, tags={"mlflow.parentRunId": self.id})

    def _logger(self, name: str, *, known: str | None = None, tags: Mapping[str, str]) -> Any:
        from pytorch_lightning.loggers import MLFlowLogger

        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        experiment = self.experiment or self.name
        return MLFlowLogger(experiment, run_name=name, tracking_uri=uri, tags=dict(tags), run_id=known)


class WandB(LightningTracker):
    """Weights & Biases: a group of runs, one a trial and one for the search."""

    package = "wandb"
    extra = "wandb"

    def __init__(
        self, *, project: str = "nasx", entity: str | None = None, mode: Literal["online", "offline"] = "online"
    ) -> None:
        super().__init__()
        self.project, self.entity, self.mode = project, entity, mode

    def open_search(self, known: str | None) -> tuple[Logger, str]:
        logger = self._logger("search", self.run_dir.name, known)
        return logger, str(logger.experiment.id)

    def open_trial(self, name: str) -> Logger:
        return self._logger("trial", name, None)

    def close_logger(self, logger: Any, *, finished: bool) -> None:
        super().close_logger(logger, finished=finished)
        logger.experiment.finish(exit_code=0 if finished else 1)

    def _logger(self, job: str, name: str, known: str | None) -> Any:
        import wandb  # type: ignore[import-not-found, unused-ignore]
        from pytorch_lightning.loggers import WandbLogger

        run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            group=f"{self.name}/{self.run_dir.name}",
            job_type=job,
            name=name,
            id=known,
            resume="allow" if known else None,
            dir=str(self.run_dir),
            reinit="create_new",  # the search's run stays open next to those of its trials
        )
        return WandbLogger(experiment=run)
