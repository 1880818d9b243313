"""A run in Python and in notebooks: its trials as a frame, its front as networks with estimates and predictions.

::

    run = nasx.search("digits")  # or: nasx.load_run("runs/latest")
    run.trials().sort_values("error")
    best = run.front()[0]
    best.explain()
    best.predict(images).classes
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasx.algorithms.estimates import Noise
from nasx.errors import ConfigError, DataError, ResourceError
from nasx.extras import install_command
from nasx.reports.summary import ArchitectureResult, FrontSummary, summarize_run
from nasx.reports.text import (
    certainty_sentence,
    format_estimate,
    format_share,
    hypervolume_sentence,
    latency_sentence,
    noise_sentence,
    trials_sentence,
)
from nasx.runs.directory import default_runs_dir, find_run
from nasx.runs.rows import RunInfo
from nasx.runs.stored_run import DEFAULT, ReadOptions, open_run
from nasx.runs.weights import choose_training
from nasx.trial import OBJECTIVES, Trial, resolve_arch_id

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nasx.execution.loop import SearchLoop
    from nasx.export.deployed import Description
    from nasx.export.formats import Inference
    from nasx.export.load import Model
    from nasx.export.source import Source
    from nasx.workflows.network_pages import WrittenPage
    from nasx.workflows.search import FeatureWatch, Watch

BATCH = 256  # images a forward pass


def search(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    run_dir: str | Path | None = None,
    warm_start: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Search for accurate, introspectable networks, as `nasx search` does, and return the run.

    Ctrl-C once finishes the running trials and returns the run so far; `resume` continues it.

    Args:
        config: path of a YAML file, name of a packaged config ("digits"), or a composed config.
        overrides: settings on top, as `["algorithm.evaluations=16"]` or `{"algorithm.evaluations": 16}`.
        run_dir: new directory of the run; by default runs/<name>/<timestamp>.
        warm_start: directory of a run whose front is trained first; only its architectures are used.
        progress: print progress on stderr.

    Raises:
        ConfigError: the config or an override is wrong.
        DataError: the dataset is missing or damaged.
        RunError: `run_dir` is not empty.
        ResourceError: the machine lacks something that the config asks for.
    """
    from nasx.config.compose import compose_unchecked, provenance  # Hydra takes 0.3 s to load
    from nasx.workflows.search import start  # torch takes seconds to load

    words = _as_words(overrides)
    begin_with = None if warm_start is None else find_run(Path(warm_start), default_runs_dir())
    if isinstance(config, Mapping):
        if words:
            raise ConfigError("overrides need a config by name or path: change the mapping instead.")
        composed = dict(config)
    else:
        composed = {**compose_unchecked(config, words), "provenance": provenance(config, words)}
    with _progress(progress) as (watch, notify, features):
        place = None if run_dir is None else Path(run_dir)
        loop = start(
            composed, run_dir=place, warm_start=begin_with, watch=watch, notify=notify, watch_features=features
        )
    return _finished(loop, composed["finetune_front"], notify, ReadOptions(trust_code=True))


def resume(
    run_dir: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    trust_code: bool = False,
    progress: bool = True,
) -> Run:
    """Resume a search to the result that it would have had without interruption, or extend it, and return the run.

    Args:
        run_dir: directory of the run; by default the newest one of ./runs.
        overrides: settings that may change, e.g. `["algorithm.evaluations=128"]`, and places of the data.
        trust_code: import any class that the run names; by default only those of nasx and of installed packages.
        progress: print progress on stderr.

    Raises:
        RunError: there is no run, it was edited, or the overrides change what has been measured.
        DataError: the data are not those that the search has read.
        ConfigError: an override is wrong, or the run names code of unknown origin.
    """
    from nasx.workflows.search import finetuning_weight
    from nasx.workflows.search import resume as resume_search  # torch takes seconds to load

    path = _find(run_dir)
    words = _as_words(overrides)
    with _progress(progress) as (watch, notify, features):
        loop = resume_search(path, words, trust_code=trust_code, watch=watch, notify=notify, watch_features=features)
    options = ReadOptions(trust_code=trust_code, overrides=_places(path, words))
    return _finished(loop, finetuning_weight(path, words, trust_code=trust_code), notify, options)


def load_run(
    run_dir: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    other_data: bool = False,
    trust_code: bool = False,
    train: bool = True,
) -> Run:
    """Load the run in a directory; by default the newest one of ./runs. Reads its journal, changes nothing.

    Args:
        run_dir: directory of the run.
        overrides: other places of its data, e.g. `{"dataset.root": "~/data"}`.
        other_data: accept other data than those of the search when its networks are explained or debugged.
        trust_code: import any class that the run names; by default only those of nasx and of installed packages.
        train: train a network again from its seed when it is needed and the search kept no weights of it.

    Raises RunError if there is no run, or if it is damaged or was edited.
    """
    path, options = _find(run_dir), ReadOptions(tuple(_as_words(overrides)), other_data, trust_code, train=train)
    with open_run(path) as run:
        return Run(path, run.info, tuple(run.journal.trials()), options)


def _find(run_dir: str | Path | None) -> Path:
    return find_run(None if run_dir is None else Path(run_dir), default_runs_dir())


def _as_words(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """Return overrides as `key=value` texts.

    >>> _as_words({"algorithm.evaluations": 16, "space.channels": None})
    ['algorithm.evaluations=16', 'space.channels=null']
    """
    if not isinstance(overrides, Mapping):
        return list(overrides)
    return [f"{key}={_as_word(value)}" for key, value in overrides.items()]


def _as_word(value: Any) -> str:
    if not isinstance(value, str):
        return str(value) if isinstance(value, Path) else json.dumps(value)
    from nasx.config.written import quoted  # Hydra takes 0.3 s to load

    # on a command line, these would be null, and a text without the quotes
    return quoted(value) if value.lower() == "null" or value[:1] in ("'", '"') else value


@contextmanager
def _progress(shown: bool) -> Iterator[tuple[Watch | None, Callable[[str], None], FeatureWatch | None]]:
    """Show the progress of a search and of its features on stderr, or not at all."""
    if not shown:
        yield None, lambda line: None, None
        return
    from nasx.cli.progress import SearchDisplay, SearchFeatureDisplay  # for the time of a search only
    from nasx.terminal import Console

    console = Console(stderr=True)
    with SearchDisplay(console) as panel:
        yield panel.watch, lambda line: console.say(line), SearchFeatureDisplay(panel).show


@contextmanager
def _training(options: ReadOptions) -> Iterator[ReadOptions]:
    """Show the progress of a network that is trained again within the block, on stderr."""
    from nasx.cli.progress import TrainingDisplay  # only if a network is needed
    from nasx.terminal import Console

    console = Console(stderr=True)
    status = console.status("") if console.is_terminal else None
    display = TrainingDisplay(console, status)

    def watch(finished: int, epochs: int) -> None:
        if status is not None and finished == 0:
            status.start()
        display.show(finished, epochs)
        if status is not None and finished == epochs:
            status.stop()

    try:
        yield replace(options, watch=watch)
    finally:
        if status is not None:
            status.stop()


def _places(run_dir: Path, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that name places of a run's data."""
    with open_run(run_dir) as run:
        return tuple(text for text in overrides if text.partition("=")[0] in run.places)


def _finished(
    loop: SearchLoop, finetune_front: float | None, notify: Callable[[str], None], options: ReadOptions
) -> Run:
    """Fine-tune the front of a search that was not interrupted, if its config asks for it, and load the run."""
    from nasx.workflows import finetuning, search  # torch takes seconds to load

    if finetune_front is not None and loop.stopping != search.INTERRUPTED:
        finetuning.finetune_front(loop.run_dir, finetune_front, notify, options)
    return load_run(loop.run_dir, options.overrides, trust_code=options.trust_code)


@dataclass(frozen=True)
class Predictions:
    """The predictions of a network for n images."""

    classes: tuple[str, ...]  # n names: the likeliest class of each
    probabilities: NDArray[np.float32]  # (n, n_classes)
    confidence: NDArray[np.float32]  # (n,) probability that the likeliest class is correct

    def __repr__(self) -> str:
        n = len(self.classes)
        return f"<nasx predictions for {n:,} image{'s' * (n != 1)}, {self.probabilities.shape[1]} classes>"


@dataclass(frozen=True, eq=False)
class ExportedModel:
    """A model file of `nasx export`, loaded."""

    path: Path
    arch_id: str  # of the network
    dataset: str  # name of the training images
    class_names: tuple[str, ...]  # in the order of the probabilities
    shape: tuple[int, int, int]  # (channels, height, width) of an image
    _model: Model = field(repr=False)

    def predict(self, images: NDArray[np.uint8] | Sequence[str | Path]) -> Predictions:
        """Return the predictions for images, as `Network.predict` does."""
        from nasx.export.predict import run_model  # torch takes seconds to load

        return _predictions(images, self._model.description, lambda pixels: run_model(self._model, pixels))


def load_model(path: str | Path, *, trust: bool = False) -> ExportedModel:
    """Load a model file of `nasx export`, or one of a directory, without executing code in it.

    Args:
        path: the file or directory.
        trust: accept a .pt2 file, which can execute any code.

    Raises DataError if it cannot be loaded.
    """
    from nasx.export.load import load_model as load  # torch takes seconds to load

    model = load(Path(path), trust=trust)
    about = model.description
    return ExportedModel(model.file, about.arch_id, about.dataset, about.class_names, about.shape, model)


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a run.

    A training is a noisy answer: `metrics` has the estimate of each objective's true value, from all trainings of the
    run, `std` its standard deviation. Without a model (`Run.summary.is_estimated`) the values are observed means.
    """

    run_dir: Path
    trial: Trial  # its training that is explained, debugged and exported (`nasx.runs.weights.choose_training`)
    metrics: Mapping[str, float]  # objectives: estimates of the true values; other metrics: means of its trainings
    observed: Mapping[str, float] = field(default_factory=dict)  # means of its trainings in the search
    std: Mapping[str, float] = field(default_factory=dict)  # of each objective's estimate; empty: not known
    trainings: int = 1  # complete ones in the search
    front_probability: float = math.nan  # of being on the true front of the run's networks; NaN: not known
    options: ReadOptions = DEFAULT  # how the run and its data are read again

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
        If the search kept no weights of it, it is trained again from its seed: `nasx.load_run(..., train=False)`
        raises RunError instead.
        """
        return self._source.network

    def predict(self, images: NDArray[np.uint8] | Sequence[str | Path]) -> Predictions:
        """Return the predictions for images, (n, channels, height, width) or (n, height, width), uint8, 0 to 255.

        Or of picture files, which are cut and resized to fit. Raises DataError for images of another form.
        """
        from nasx.export.deployed import Deployed
        from nasx.export.formats import run_module

        source = self._source
        deployed = Deployed(source.network, source.confidence, mean=source.mean, std=source.std).eval()
        return _predictions(images, source.description, run_module(deployed))

    def export(self, *, format: str = "onnx", out: str | Path | None = None) -> Path:  # noqa: A002 - as the option
        """Export the network as `nasx export` does, with a model card, and return the path of the model file.

        Args:
            format: "onnx", "torch" or "safetensors".
            out: directory of the files; by default export/ next to the weights in the run directory.

        Raises ConfigError for another format, ResourceError if a package is missing.
        """
        from nasx.export.export import export_trial  # torch takes seconds to load
        from nasx.export.formats import WRITERS

        if format not in WRITERS:
            raise ConfigError(f"format must be one of {', '.join(WRITERS)}, got {format!r}.")
        where = None if out is None else Path(out)
        return export_trial(self.run_dir, self.trial, format, out=where, options=self.options)[0][0]

    def explain(self, *, samples: int = 2, out: str | Path | None = None, device: str = "auto") -> WrittenPage:
        """Explain the network as `nasx explain` does, and return the page, which a notebook shows with its figures.

        Args:
            samples: images shown per class, at least 1.
            out: directory of the page; by default next to the weights in the run directory.
            device: "auto", "cpu" or "cuda".

        It is trained again from its seed if the search kept no weights of it.
        """
        from nasx.workflows.network_pages import explain  # torch and shap take seconds to load

        where = None if out is None else Path(out)
        with _training(self.options) as options:
            return explain(self.run_dir, self.trial, samples=samples, out=where, device=device, options=options)

    def debug(self, *, out: str | Path | None = None, device: str = "auto") -> WrittenPage:
        """Debug the network as `nasx debug` does: calibration, suspect labels, confused classes. Return the page.

        It is trained again from its seed if the search kept no weights of it.
        """
        from nasx.workflows.network_pages import debug  # torch takes seconds to load

        where = None if out is None else Path(out)
        with _training(self.options) as options:
            return debug(self.run_dir, self.trial, out=where, device=device, options=options)

    @cached_property
    def _source(self) -> Source:
        from nasx.export.source import find_source  # torch takes seconds to load

        with _training(self.options) as options:
            return find_source(self.run_dir, self.trial, options=options)


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it was on disk at the moment of loading."""

    path: Path
    info: RunInfo
    records: tuple[Trial, ...]  # every trial of the journal, in the order of finishing
    options: ReadOptions = DEFAULT  # how the run and its data are read again

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
        return summarize_run(self.records, self.info)

    @property
    def noise(self) -> dict[str, Noise]:
        """The noise of one training by objective, and what it was estimated from; empty: not known."""
        return {noise.objective: noise for noise in self.summary.noise}

    def _network(self, result: ArchitectureResult) -> Network:
        own = [t for t in self.records if t.arch_id == result.arch_id]
        return Network(
            run_dir=self.path,
            trial=choose_training(self.path, own),
            metrics=result.metrics,
            observed=result.observed,
            std=result.std,
            trainings=result.trainings,
            front_probability=result.front_probability,
            options=self.options,
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
        text = html.escape("; ".join(filter(None, [*sentences, latency_sentence(summary), noise_sentence(summary)])))
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


def _predictions(
    images: NDArray[np.uint8] | Sequence[str | Path], description: Description, run: Inference
) -> Predictions:
    """Return the predictions of a network for images."""
    parts = [run(batch) for batch in _batches(images, description)]
    probabilities, confidence = (np.concatenate(some) for some in zip(*parts, strict=True))
    names = description.class_names
    return Predictions(tuple(names[i] for i in probabilities.argmax(axis=1)), probabilities, confidence)


def _batches(images: NDArray[np.uint8] | Sequence[str | Path], description: Description) -> Iterator[NDArray[np.uint8]]:
    """Yield images as a network takes them, uint8 (n, channels, height, width). Files are read batch by batch."""
    if isinstance(images, np.ndarray):
        pixels = as_pixels(images, description.shape)
        yield from (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        return
    from nasx.export.predict import read_for  # torch takes seconds to load

    if len(images) == 0:
        raise DataError("expected at least one image file, got none.")
    for start in range(0, len(images), BATCH):
        yield np.stack([read_for(Path(file), description) for file in images[start : start + BATCH]])


def as_pixels(images: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Images as a network of `shape`, (channels, height, width), takes them: (n, channels, height, width).

    Raises DataError if they are of another type or shape.
    """
    channels, height, width = shape
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
        raise ResourceError(f"frames need the package pandas: {install_command('notebook')}.") from exc
