"""A run in Python and in notebooks: its trials as a frame, its front as networks with estimates and predictions.

::

    run = nasx.load_run("runs/latest")
    run.trials().sort_values("error")
    best = run.front()[0]
    best.predict(images).classes
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasx.algorithms.estimates import Noise
from nasx.errors import DataError, ResourceError
from nasx.reports.summary import ArchitectureResult, FrontSummary, summarise_run
from nasx.reports.text import (
    certainty_sentence,
    format_estimate,
    format_share,
    hypervolume_sentence,
    noise_sentence,
    trials_sentence,
)
from nasx.runs.directory import find_run, runs_home, weights_file
from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo
from nasx.trial import OBJECTIVES, Trial, resolve_arch_id

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nasx.export.source import Source

BATCH = 256  # images a forward pass


def load_run(run_dir: str | Path | None = None) -> Run:
    """Return the run in a directory; the newest one of ./runs if none is given. Reads its journal, changes nothing.

    Raises RunError if there is no run.
    """
    path = find_run(None if run_dir is None else Path(run_dir), runs_home())
    with Journal.open(path, read_only=True) as store:
        return Run(path, store.info, tuple(store.trials()))


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for n images."""

    classes: tuple[str, ...]  # n names: the likeliest class of each
    probabilities: NDArray[np.float32]  # (n, n_classes)
    confidence: NDArray[np.float32]  # (n,) probability that the likeliest class is correct


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a run.

    A training is a noisy answer: `metrics` has the estimate of each objective's true value, from all trainings of the
    run, `std` its standard deviation. Without a model (`Run.summary.is_estimated`) the values are observed means.
    """

    run_dir: Path
    trial: Trial  # its first training whose weights are kept, or else the first
    metrics: Mapping[str, float]  # objectives: estimates of the true values; other metrics: means of its trainings
    observed: Mapping[str, float] = field(default_factory=dict)  # means of its trainings in the search
    std: Mapping[str, float] = field(default_factory=dict)  # of each objective's estimate; empty: not known
    trainings: int = 1  # complete ones in the search
    front_probability: float = math.nan  # of being on the true front of the run's networks; NaN: not known

    def __repr__(self) -> str:
        names = self.std or [name for name in ("error", "introspectability") if name in self.metrics]
        values = [
            f"{OBJECTIVES[name].label} {format_estimate(OBJECTIVES[name], self.metrics[name], self.std.get(name))}"
            for name in names
        ]
        count = f"{self.trainings} training{'s' * (self.trainings != 1)}"
        return f"<nasx network {self.arch_id}: {', '.join([*values, count])}>"

    @property
    def arch_id(self) -> str:
        return self.trial.arch_id

    @property
    def architecture(self) -> str:
        """The string form."""
        return self.trial.architecture

    def network(self) -> nn.Sequential:
        """Return the trained network, in evaluation mode on the CPU, from normalized images to logits.

        The finally trained one if `nasx train` has made one, else that of the search.
        Raises RunError if the search keeps no weights of it: only members of the front keep theirs.
        """
        return self._source.network

    def predict(self, images: NDArray[np.uint8] | Sequence[str | Path]) -> Predictions:
        """Return the predictions for images, (n, channels, height, width) or (n, height, width), uint8, 0 to 255.

        Or of picture files, which are cut and resized as it wants. Raises DataError for images of another form.
        """
        from nasx.export.deployed import Deployed
        from nasx.export.formats import run_module

        source = self._source
        pixels = as_pixels(images, source.description.shape)
        run = run_module(Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval())
        parts = [run(pixels[start : start + BATCH]) for start in range(0, len(pixels), BATCH)]
        probabilities, confidence = (np.concatenate(some) for some in zip(*parts, strict=True))
        names = source.description.class_names
        return Predictions(tuple(names[i] for i in probabilities.argmax(axis=1)), probabilities, confidence)

    @cached_property
    def _source(self) -> Source:
        from nasx.export.source import find_source  # torch takes seconds to load

        return find_source(self.run_dir, self.trial)


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it was on disk at the moment of loading."""

    path: Path
    info: RunInfo
    records: tuple[Trial, ...]  # every trial of the journal, in the order of finishing

    def trials(self) -> pd.DataFrame:
        """Return every trial as a row: network, training (`replicate`), descent, status and every observed metric."""
        front = {member.arch_id for member in self.summary.front}
        return _pandas().DataFrame([{**_row(trial), "front": trial.arch_id in front} for trial in self.records])

    def history(self) -> pd.DataFrame:
        """Return the learning curves: every epoch of every trial as a row."""
        keys = ("arch_id", "replicate")
        return _pandas().DataFrame(
            [{**{k: getattr(t, k) for k in keys}, **epoch} for t in self.records for epoch in t.evaluation.history]
        )

    def front(self) -> list[Network]:
        """Return the networks that no other one beats in every objective by the estimates, in order of the first."""
        return [self._network(member) for member in self.summary.front]

    def __getitem__(self, prefix: str) -> Network:
        """Return the complete network whose id begins with `prefix`. Raises ArchitectureError if none or several do."""
        results = {result.arch_id: result for result in self.summary.architectures}
        return self._network(results[resolve_arch_id(prefix, results)])

    @cached_property
    def summary(self) -> FrontSummary:
        """The front and all networks of the run, with estimates, uncertainty and hypervolume."""
        return summarise_run(self.records, self.info)

    @property
    def noise(self) -> dict[str, Noise]:
        """The noise of one training by objective, and what it was estimated from; empty: not known."""
        return {noise.objective: noise for noise in self.summary.noise}

    def _network(self, result: ArchitectureResult) -> Network:
        own = [t for t in self.records if t.arch_id == result.arch_id]
        kept = (t for t in own if weights_file(self.path, t.arch_id, t.replicate).is_file())
        return Network(
            run_dir=self.path,
            trial=next(kept, own[0]),
            metrics=result.metrics,
            observed=result.observed,
            std=result.std,
            trainings=result.trainings,
            front_probability=result.front_probability,
        )

    def __repr__(self) -> str:
        return f"<nasx run {self.path}: {trials_sentence(self.summary)}, front of {len(self.summary.front)}>"

    def _repr_html_(self) -> str:
        """The front as a picture and a table, for notebooks."""
        from nasx.reports.figures import front, style  # matplotlib takes half a second to import

        png = style.as_png(front.front_figure(self.summary, title=f"Pareto front of {self.info.name}"))
        picture = f'<img alt="Pareto front" width="640" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        summary = self.summary
        sentences = [trials_sentence(summary), hypervolume_sentence(summary), certainty_sentence(summary)]
        text = html.escape("; ".join(filter(None, [*sentences, noise_sentence(summary)])))
        return f"<p><code>{html.escape(str(self.path))}</code>: {text}</p>{picture}{self._table()}"

    def _table(self) -> str:
        summary = self.summary
        headers = ["network", *(o.label for o in summary.objectives), "trainings"]
        rows = [
            [
                f"<code>{m.arch_id}</code>",
                *(format_estimate(o, m.metrics[o.name], m.std.get(o.name)) for o in summary.objectives),
                str(m.trainings),
            ]
            for m in summary.front
        ]
        if summary.is_estimated:
            headers.append("P(front)")
            rows = [[*row, format_share(m.front_probability)] for row, m in zip(rows, summary.front, strict=True)]
        head = "".join(f"<th>{html.escape(header)}</th>" for header in headers)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><tr>{head}</tr>{body}</table>"


def as_pixels(images: NDArray[np.uint8] | Sequence[str | Path], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Images as a network of `shape`, (channels, height, width), takes them: (n, channels, height, width).

    Raises DataError if they are of another type or shape, or a file cannot be read.
    """
    channels, height, width = shape
    if not isinstance(images, np.ndarray):
        from nasx.data.image_files import read_picture

        files = [read_picture(Path(file), size=(height, width), channels=channels) for file in images]
        images = np.stack(files) if files else np.empty((0, *shape), dtype=np.uint8)
    pixels = images[:, np.newaxis] if images.ndim == 3 else images
    if pixels.dtype != np.uint8 or pixels.shape[1:] != shape or len(pixels) == 0:
        raise DataError(
            f"expected at least one uint8 image of shape (n, {channels}, {height}, {width}), "
            f"got {images.dtype} of shape {images.shape}."
        )
    return np.ascontiguousarray(pixels)


def _row(trial: Trial) -> dict[str, Any]:
    evaluation, candidate = trial.evaluation, trial.candidate
    return {
        "arch_id": trial.arch_id,
        "replicate": trial.replicate,
        "number": candidate.number,
        "generation": candidate.generation,
        "operator": candidate.operator,
        "parents": candidate.parents,
        "status": str(trial.status),
        "reason": None if evaluation.reason is None else str(evaluation.reason),
        "architecture": trial.architecture,
        "seed": trial.seed,
        "train_seconds": evaluation.train_seconds,
        "score_seconds": evaluation.score_seconds,
        "finished": trial.finished,
        **trial.metrics,
    }


def _pandas() -> Any:
    try:
        return import_module("pandas")
    except ModuleNotFoundError as exc:
        raise ResourceError("frames need the package pandas: pip install 'nasx[notebook]'.") from exc
