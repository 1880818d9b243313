"""Look evaluations up in a table instead of training: thousands in seconds, for research and tests.

The table is a CSV file with a header line. Each row has an architecture in the string form of the search space and its
metrics. Networks are looked up by their canonical genotype, so all encodings of a network have the same results.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, Field

from nasx.config.settings import checked, settings
from nasx.data.digest import Content, digest_text
from nasx.errors import ArchitectureError, DataError, SettingError, did_you_mean
from nasx.protocols import CountsParameters, SearchSpace
from nasx.trial import OBJECTIVES, Bounds, Evaluation, Genotype, Job, Reason, TrialStatus


@settings
class Column:
    """Column of a metric: value = offset + factor * number in the column."""

    column: str
    factor: float = 1.0
    offset: float = 0.0


class _Row(NamedTuple):
    where: str  # file and line, for messages
    genotype: Genotype  # as written, may not be canonical
    number: int  # of the training; 0 if the table has no column for it
    metrics: dict[str, float]


def _check_metric(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"must be known metrics, got {name!r}. {did_you_mean(name, OBJECTIVES)}")
    return name


MetricName = Annotated[str, AfterValidator(_check_metric)]


class TabularEvaluation:
    """Evaluation by a CSV file."""

    places: ClassVar[tuple[str, ...]] = ("table",)

    @checked
    def __init__(
        self,
        *,
        table: Path,
        architecture: str = "architecture",
        metrics: Mapping[MetricName, Column],
        replicate: str | None = None,
        n_classes: Annotated[int, Field(ge=2)] = 10,
        seconds: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        """Store the settings; `read` opens the file.

        Args:
            table: CSV file with a header line.
            architecture: column of architectures, in the string form of the space.
            metrics: column of each metric.
            replicate: column of integers that number the trainings of a network. None: one row per network, used for
                all of its trainings.
            n_classes: number of classes of the task.
            seconds: duration of an evaluation, to test an execution.
        """
        self.table = table
        self.architecture = architecture
        self.metrics = metrics
        self.replicate = replicate
        self.n_classes = n_classes
        self.seconds = seconds

    def read(
        self, space: SearchSpace, objectives: Sequence[str], constraints: Mapping[str, Bounds] | None = None
    ) -> TableEvaluator:
        """Read the whole table.

        If the table has several encodings of a network, the rows of the canonical encoding are used, else those of the
        first encoding. With `replicate`, the rows of a network are sorted by the number in that column. The space
        computes the parameters if there is no such column.

        Args:
            space: parses the architectures.
            objectives: names of the metrics that every row must have.
            constraints: allowed range of metrics.

        Raises:
            DataError: the file cannot be read, or a row is invalid. Names the file and the line.
            SettingError: an objective or a constrained metric has no column, and the space does not compute it.
        """
        computed = [name for name in dict.fromkeys((*objectives, *(constraints or {}))) if name not in self.metrics]
        counter = space if isinstance(space, CountsParameters) else None
        for name in computed:
            if name != "parameters" or counter is None:
                use = "an objective" if name in objectives else "constrained"
                problem = f"is missing: {name} is {use}, and the space {space.name} cannot compute it"
                raise SettingError(f"metrics.{name}", problem)
        encodings = self._rows_by_encoding(space)
        used: dict[Genotype, Genotype] = {}  # canonical genotype -> encoding whose rows are used
        for encoding in encodings:
            canonical = space.canonical(encoding)
            if canonical == encoding or canonical not in used:
                used[canonical] = encoding
        if not used:
            raise DataError(f"{self.table} has no architectures: there are no lines after the header.")
        found: dict[Genotype, tuple[Mapping[str, float], ...]] = {}
        for canonical, encoding in used.items():
            rows = encodings[encoding]
            of_space = {}
            if counter is not None and computed:
                of_space["parameters"] = counter.parameters(canonical, n_classes=self.n_classes)
            found[canonical] = tuple({**rows[number], **of_space} for number in sorted(rows))
        return TableEvaluator(
            table=str(self.table),
            space=space,
            metrics=found,
            has_replicates=self.replicate is not None,
            constraints=constraints or {},
            seconds=self.seconds,
        )

    def _rows_by_encoding(self, space: SearchSpace) -> dict[Genotype, dict[int, dict[str, float]]]:
        """Return genotype as written -> number of the training -> metrics."""
        encodings: dict[Genotype, dict[int, dict[str, float]]] = {}
        for row in self._rows(space):
            rows = encodings.setdefault(row.genotype, {})
            if row.number not in rows:
                rows[row.number] = row.metrics
            elif self.replicate is not None:
                raise DataError(
                    f"{row.where}: {self.replicate} {row.number} occurs twice for "
                    f"{space.describe(row.genotype)}. Number the rows of an architecture differently."
                )
            elif space.canonical(row.genotype) == row.genotype:
                rows[row.number] = row.metrics  # use the last row of a canonical encoding, the first of any other
        return encodings

    def _rows(self, space: SearchSpace) -> Iterator[_Row]:
        """Yield every row of the file."""
        genotypes: dict[str, Genotype] = {}  # cache: parsing dominates the time, and replicates repeat the text
        try:
            with self.table.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._check_header(reader.fieldnames)
                for row in reader:
                    where = f"{self.table}, line {reader.line_num}"
                    text = row[self.architecture] or ""
                    try:
                        genotype = genotypes[text] if text in genotypes else space.parse(text)
                    except ArchitectureError as error:
                        raise DataError(f"{where}: {error}") from error
                    genotypes[text] = genotype
                    number = 0 if self.replicate is None else _integer(row, self.replicate, where)
                    metrics = {name: _number(row, name, spec, where) for name, spec in self.metrics.items()}
                    yield _Row(where, genotype, number, metrics)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {self.table}: evaluation.table names a CSV file.") from error
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{self.table} cannot be read as CSV: {error}.") from error

    def _check_header(self, header: Sequence[str] | None) -> None:
        required = {"evaluation.architecture": self.architecture}
        if self.replicate is not None:
            required["evaluation.replicate"] = self.replicate
        required |= {f"evaluation.metrics.{name}.column": spec.column for name, spec in self.metrics.items()}
        for key, column in required.items():
            if column not in (header or ()):
                hint = did_you_mean(column, header or ())
                raise DataError(f"{self.table} has no column {column!r}, which {key} names. {hint}".rstrip())


def _integer(row: Mapping[str, str | None], column: str, where: str) -> int:
    try:
        return int(row[column] or "")
    except ValueError as error:
        raise DataError(f"{where}: {column} must be an integer, got {row[column]!r}.") from error


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


@dataclass(frozen=True, eq=False, kw_only=True)
class TableEvaluator:
    """Table in memory, as an evaluator: row k of a network has the results of its training k."""

    table: str  # path, for messages
    space: SearchSpace
    metrics: Mapping[Genotype, tuple[Mapping[str, float], ...]]  # canonical genotype -> rows, each metric -> value
    has_replicates: bool  # False: one row per network is used for all its trainings
    constraints: Mapping[str, Bounds]  # by metric
    seconds: float  # duration of an evaluation

    @cached_property
    def is_noisy(self) -> bool:
        """Return whether any network has more than one row."""
        return any(len(rows) > 1 for rows in self.metrics.values())

    def content(self) -> Content:
        """Return the content of the table as read: the metrics of each network, in no order of networks."""
        rows = sorted([list(genotype), [sorted(row.items()) for row in own]] for genotype, own in self.metrics.items())
        n_rows = sum(map(len, self.metrics.values()))
        return Content(digest_text(json.dumps(rows)), {"networks": len(rows), "rows": n_rows})

    def __call__(self, job: Job) -> Evaluation:
        """Return the results of a training. Raises DataError if the network has fewer rows than trainings."""
        if self.seconds:
            time.sleep(self.seconds)
        rows = self.metrics.get(job.genotype)
        if rows is None:
            return Evaluation.failed(Reason.ERROR, f"{self.table} has no line for this network")
        metrics = self._row(rows, job) if self.has_replicates else rows[0]
        for name, bounds in self.constraints.items():
            if name in metrics and not bounds.contains(metrics[name]):
                detail = f"{name} {metrics[name]:.6g} is outside [{bounds.min}, {bounds.max}]"
                return Evaluation.infeasible(Reason.CONSTRAINT, detail, metrics)
        return Evaluation(TrialStatus.COMPLETE, metrics=metrics, train_seconds=self.seconds)

    def _row(self, rows: Sequence[Mapping[str, float]], job: Job) -> Mapping[str, float]:
        if job.replicate < len(rows):
            return rows[job.replicate]
        # an error, not a failed trial: the table is too small for these settings
        raise DataError(
            f"{self.table} has {len(rows)} row{'s' * (len(rows) > 1)} for network {job.arch_id}, "
            f"{self.space.describe(job.genotype)}, but the search requests training {job.replicate + 1} of it. "
            "Add rows, or set algorithm.retraining=0 and search.replicates=0, or decrease algorithm.evaluations."
        )
