"""Trackers based on the loggers of Lightning: one logger for the search and one for each trial."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nasx.config.settings import expand_user
from nasx.errors import ResourceError
from nasx.extras import install_command
from nasx.trackers.tracking import Entry, finite_only, flatten

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger


class LightningTracker(ABC):
    """Base class: logs the settings once, learning curves and metrics of each trial, and the progress of the search."""

    package: str  # required package
    extra: str  # extra of nasx that installs it

    def __init__(self) -> None:
        """Check that the package is installed, before the search starts. Raises ResourceError."""
        try:
            import_module(self.package)
        except ModuleNotFoundError as exc:
            raise ResourceError(f"logger={self.extra} needs {self.package}: {install_command(self.extra)}.") from exc

    def begin(self, name: str, config: Mapping[str, Any], run_dir: Path, known: str | None) -> str:
        """Open the run of the search.

        Args:
            name: Name of the experiment.
            config: Config of the search.
            run_dir: Directory of the run.
            known: Id of the tracker's run if the search is resumed.

        Returns:
            The id of the tracker's run.
        """
        self.name, self.run_dir = name, run_dir
        self.search_logger, self.id = self.open_search(known)
        if known is None:
            self.search_logger.log_hyperparams(flatten(config))
        return self.id

    def log(self, entry: Entry) -> None:
        """Log a finished trial."""
        trial, evaluation = entry.trial, entry.trial.evaluation
        logger = self.open_trial(f"{trial.arch_id}_{trial.replicate}")
        logger.log_hyperparams(describe(entry))
        for epoch in evaluation.history:
            curve = {f"curve/{name}": value for name, value in epoch.items() if name != "epoch"}
            logger.log_metrics(finite_only(curve), step=int(epoch["epoch"]))
        logger.log_metrics(finite_only(trial.metrics), step=len(evaluation.history))
        self.close_logger(logger, finished=trial.is_complete)
        self.search_logger.log_metrics(finite_only({**entry.progress, **trial.metrics}), step=entry.step)

    def end(self, *, finished: bool) -> None:
        """Close the run of the search."""
        self.close_logger(self.search_logger, finished=finished)

    def close_logger(self, logger: Logger, *, finished: bool) -> None:
        """Save and close a logger."""
        logger.save()  # otherwise TensorBoard writes settings only on success
        logger.finalize("success" if finished else "failed")

    @abstractmethod
    def open_search(self, known: str | None) -> tuple[Logger, str]:
        """Return the logger of the search and its id; `known` is the id of a previous session."""

    @abstractmethod
    def open_trial(self, name: str) -> Logger:
        """Return the logger of one trial."""


def describe(entry: Entry) -> dict[str, Any]:
    """Return the identity and the lineage of a trial as hyperparameters."""
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
    """TensorBoard event files in the run directory, or below `directory`."""

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
        from pytorch_lightning.loggers import TensorBoardLogger  # Lightning takes seconds to load

        root = self.run_dir / "tensorboard"
        if self.directory is not None:
            root = expand_user(Path(self.directory), "logger.directory") / self.name / self.run_dir.name
        return TensorBoardLogger(str(root), name=None, version=version, default_hp_metric=False)


class MLflow(LightningTracker):
    """MLflow server or directory, with a child run per trial. `tracking_uri`: null for MLFLOW_TRACKING_URI."""

    package = "mlflow"
    extra = "mlflow"

    def __init__(self, *, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        super().__init__()
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        # detect an unreachable server within seconds: MLflow's default retries take minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout contains the front

    def open_search(self, known: str | None) -> tuple[Logger, str]:
        logger = self._logger(self.run_dir.name, known=known, tags={"nasx.run_dir": str(self.run_dir)})
        return logger, logger.run_id

    def open_trial(self, name: str) -> Logger:
        return self._logger(name, tags={"mlflow.parentRunId": self.id})

    def _logger(self, name: str, *, known: str | None = None, tags: Mapping[str, str]) -> Any:
        from pytorch_lightning.loggers import MLFlowLogger  # Lightning takes seconds to load

        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        experiment = self.experiment or self.name
        return MLFlowLogger(experiment, run_name=name, tracking_uri=uri, tags=dict(tags), run_id=known)


class WandB(LightningTracker):
    """Weights & Biases: a group of runs, one per trial and one for the search."""

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
        import wandb  # type: ignore[import-not-found, unused-ignore]  # optional package
        from pytorch_lightning.loggers import WandbLogger  # Lightning takes seconds to load

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
            reinit="create_new",  # keep the run of the search open
        )
        return WandbLogger(experiment=run)
