"""Answers from a table in place of training: searches of thousands of evaluations in seconds, for research and tests.

The table is a CSV file with a header line, one architecture a line in the string form of the search space. Networks are
looked up by their canonical form: every encoding of a network gets one answer.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasx.errors import ArchitectureError, DataError, SettingError, did_you_mean
from nasx.protocols import SearchSpace
from nasx.trial import OBJECTIVES, Bounds, Evaluation, Genotype, Job, Reason, TrialStatus


@dataclass(frozen=True, kw_only=True)
class Column:
    """Where a metric stands in the table: value = offset + factor * the column's number."""

    column: str
    factor: float = 1.0
    offset: float = 0.0


class TabularEvaluation:
    """Looks trials up in a CSV file."""

    def __init__(
        self,
        *,
        table: Path,
        architecture: str = "architecture",
        metrics: Mapping[str, Column],
        n_classes: int = 10,
        seconds: float = 0.0,
    ) -> None:
        """`architecture`: the column of strings. `seconds`: how long an answer takes, to try an execution out."""
        if n_classes < 2:
            raise SettingError("n_classes", f"must be at least 2, got {n_classes}")
        if not 0 <= seconds < math.inf:
            raise SettingError("seconds", f"must be at least 0, got {seconds:g}")
        for name in metrics:
            if name not in OBJECTIVES:
                raise SettingError("metrics", f"must be known metrics, got {name!r}. {did_you_mean(name, OBJECTIVES)}")
        self.table = table
        self.architecture = architecture
        self.metrics = metrics
        self.n_classes = n_classes
        self.seconds = seconds

    def read(
        self, space: SearchSpace, objectives: Sequence[str], constraints: Mapping[str, Bounds] | None = None
    ) -> TableAnswers:
        """The whole table, by canonical genotype.

        Where several lines are encodings of one network, the line of the canonical encoding counts, else the first. An
        objective without a column is counted by the space where it can (parameters).
        Raises DataError naming the file and line, SettingError where an objective comes from nowhere.
        """
        counted = [name for name in objectives if name not in self.metrics]
        for name in counted:
            if not hasattr(space, name):
                raise SettingError(
                    f"metrics.{name}", f"is missing: {name} is an objective, and {space.name} cannot tell it"
                )
        found: dict[Genotype, dict[str, float]] = {}
        for genotype, metrics in self._rows(space):
            canonical = space.canonical(genotype)
            if canonical not in found or genotype == canonical:
                found[canonical] = metrics
        for canonical, metrics in found.items():
            for name in counted:
                metrics[name] = getattr(space, name)(canonical, n_classes=self.n_classes)
        if not found:
            raise DataError(f"{self.table} holds no architecture: nothing comes after its header.")
        return TableAnswers(str(self.table), found, constraints or {}, self.seconds)

    def _rows(self, space: SearchSpace) -> Iterator[tuple[Genotype, dict[str, float]]]:
        """(genotype, metrics) of every line."""
        try:
            with self.table.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._check_header(reader.fieldnames)
                for row in reader:
                    where = f"{self.table}, line {reader.line_num}"
                    try:
                        genotype = space.parse(row[self.architecture] or "")
                    except ArchitectureError as error:
                        raise DataError(f"{where}: {error}") from error
                    yield genotype, {name: _number(row, name, spec, where) for name, spec in self.metrics.items()}
        except FileNotFoundError as error:
            raise DataError(f"there is no file {self.table}: evaluation.table names a CSV file.") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.table} cannot be read as CSV: {error}.") from error

    def _check_header(self, header: Sequence[str] | None) -> None:
        wanted = {"evaluation.architecture": self.architecture}
        wanted |= {f"evaluation.metrics.{name}.column": spec.column for name, spec in self.metrics.items()}
        for key, column in wanted.items():
            if column not in (header or ()):
                hint = did_you_mean(column, header or ())
                raise DataError(f"{self.table} has no column {column!r}, which {key} names. {hint}".rstrip())


def _number(row: Mapping[str, str | None], metric: str, spec: Column, where: str) -> float:
    try:
        value = spec.offset + spec.factor * float(row[spec.column] or "")
    except ValueError as error:
        raise DataError(f"{where}: {spec.column} must be a number, got {row[spec.column]!r}.") from error
    objective = OBJECTIVES[metric]
    if not (math.isfinite(value) and objective.low <= value <= objective.high):
        raise DataError(
            f"{where}: {metric} would be {value:g}, outside [{objective.low:g}, {objective.high:g}]. "
            f"evaluation.metrics.{metric} sets the factor and offset of {spec.column}."
        )
    return value


@dataclass(frozen=True, eq=False)
class TableAnswers:
    """A table in memory: an evaluator."""

    table: str
    metrics: Mapping[Genotype, Mapping[str, float]]  # canonical genotype -> metric -> value
    constraints: Mapping[str, Bounds]
    seconds: float  # an answer takes

    def __call__(self, job: Job) -> Evaluation:
        if self.seconds:
            time.sleep(self.seconds)
        metrics = self.metrics.get(job.genotype)
        if metrics is None:
            return Evaluation.failed(Reason.ERROR, f"{self.table} has no line for this network")
        for name, bounds in self.constraints.items():
            if name in metrics and not bounds.hold(metrics[name]):
                detail = f"{name} {metrics[name]:.6g} is outside [{bounds.min}, {bounds.max}]"
                return Evaluation.infeasible(Reason.CONSTRAINT, detail, metrics)
        return Evaluation(TrialStatus.COMPLETE, metrics=metrics, train_seconds=self.seconds)
