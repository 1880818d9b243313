"""Quality of the introspectability scores, on networks trained on real data.

    python -m scripts.bench.score_quality                                                    # the digits
    python -m scripts.bench.score_quality --dataset fashion_mnist dataset.root=DIR --seeds 3
    python -m scripts.bench.score_quality --quick                                            # within a minute

A score is a useful objective if it depends more on the architecture than on the training seed: ICC is the share of its
variance that is due to the architecture. Every network is scored by every variant, with the same score seed, as in a
search. Settings are chosen on one half of the architectures (even positions in the order of drawing) and reported on
the other. The cache directory stores trained networks and scores; a second run measures only what is missing, also
after a kill. Seconds are CPU time on one thread, or wall time on a GPU.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nasx.errors import NasxError
from nasx.files import write_atomically
from nasx.introspection import layers, shap, similarity
from nasx.introspection.activations import ActivationScorer
from nasx.introspection.shap import ShapScorer
from nasx.protocols import Scorer
from nasx.runs.directory import arch_dir
from scripts.bench.score_quality_picture import draw
from scripts.measures import Interval, bootstrap, icc, icc_interval, spearman
from scripts.trained_networks import Study, Trained, draw_architectures, in_processes, pixels_of, seconds, train

DEFAULT, PAPER = "shap", "activations"
SCORERS: Mapping[str, Scorer] = {
    DEFAULT: ShapScorer(),
    "shap_predicted": ShapScorer(explain="predicted"),
    PAPER: ActivationScorer(),
    "activations_predicted": ActivationScorer(group_by="predicted"),
    "activations_balanced": ActivationScorer(layer_balanced=True),
    "shap_quadrature": ShapScorer(path="quadrature"),
}
# one setting varied at a time, the others at their defaults: setting -> value -> scorer; the defaults are measured once
SWEEPS: Mapping[str, Mapping[int, Scorer]] = {
    "samples_per_class": {n: ShapScorer(samples_per_class=n) for n in (5, 10, 40)},
    "draws": {n: ShapScorer(draws=n) for n in (2, 4, 16)},
    "background": {n: ShapScorer(background=n) for n in (8, 64)},
    "quadrature": {n: ShapScorer(path="quadrature", draws=n) for n in (4, 16)},
    "max_samples": {n: ActivationScorer(max_samples=n) for n in (100, 300, 1000)},
}
DEFAULT_OF = {
    "samples_per_class": DEFAULT,
    "draws": DEFAULT,
    "background": DEFAULT,
    "max_samples": PAPER,
    "quadrature": "shap_quadrature",
}
# on few images: the number of draws for a completeness error within 2 % of the logit gap
ACCURATE: Mapping[int, Scorer] = {n: ShapScorer(draws=n, samples_per_class=1) for n in (64, 128, 256)}
TARGET_ICC, TARGET_COMPLETENESS = 0.7, 0.02
TOLERANCE = 0.02  # of ICC: settings within it of the best count as equal, and the cheapest is the knee


@dataclass(frozen=True)
class Scored:
    """Score of one network by one variant."""

    value: float
    completeness_error: float | None  # share of the logit gap; only SHAP
    seconds: float  # CPU time


@dataclass(frozen=True)
class Quality:
    """Quality of one variant."""

    name: str
    icc: Interval  # over all architectures
    chosen_on: float  # ICC over the half of the architectures on which settings are chosen
    reported_on: Interval  # ICC over the other half
    completeness_error: float | None  # median over the networks
    seconds: float  # mean
    share_of_training: float  # of its seconds; median over the networks


def variants(sweeps: bool) -> dict[str, Scorer]:
    """Return name -> scorer: all variants, or only those in SCORERS."""
    named = dict(SCORERS)
    if not sweeps:
        return named
    for setting, values in SWEEPS.items():
        named |= {_named(setting, value): scorer for value, scorer in values.items()}
    return {**named, **{_accurate(n): scorer for n, scorer in ACCURATE.items()}}


def measure(study: Study, rows: Sequence[Sequence[Trained]], *, sweeps: bool, jobs: int, console: Console) -> Values:
    """Score every network by every variant.

    Args:
        study: the trained networks.
        rows: their records, (n_architectures, n_seeds).
        sweeps: whether to include the variants of SWEEPS.
        jobs: processes.
        console: for the progress bar.

    Returns:
        Variant -> (n_architectures, n_seeds) of `Scored`.
    """
    networks = [network for row in rows for network in row]
    jobs_wanted = [(study, network, sweeps) for network in networks]
    found = dict(in_processes(_score, jobs_wanted, jobs=jobs, title="scoring", console=console))
    return {
        name: [[found[network.arch_id, network.replicate][name] for network in row] for row in rows]
        for name in variants(sweeps)
    }


Values = dict[str, list[list[Scored]]]


def judge(name: str, values: NDArray[np.float64], scored: Sequence[Scored], train_seconds: Sequence[float]) -> Quality:
    """Return the quality of a variant.

    Args:
        name: of the variant.
        values: scores, (n_architectures, n_seeds).
        scored: the same network by network, (n_architectures * n_seeds,).
        train_seconds: training time of each network, in the same order.
    """
    errors = [s.completeness_error for s in scored if s.completeness_error is not None]
    shares = [s.seconds / seconds for s, seconds in zip(scored, train_seconds, strict=True)]
    return Quality(
        name=name,
        icc=icc_interval(values),
        chosen_on=icc(values[::2]),
        reported_on=icc_interval(values[1::2]),
        completeness_error=float(np.median(errors)) if errors else None,
        seconds=float(np.mean([s.seconds for s in scored])),
        share_of_training=float(np.median(shares)),
    )


def knee(qualities: Sequence[Quality]) -> Quality:
    """Return the cheapest variant whose ICC, on the half for choosing, is within TOLERANCE of the best."""
    best = max(q.chosen_on for q in qualities)
    return min((q for q in qualities if q.chosen_on >= best - TOLERANCE), key=lambda q: q.seconds)


def verdicts(qualities: Mapping[str, Quality], ahead: Interval) -> list[str]:
    """Return the conclusions as sentences; `ahead` is the difference of the ICCs of default and paper."""
    default, paper = qualities[DEFAULT], qualities[PAPER]
    reached = default.icc.estimate >= TARGET_ICC
    apart = not default.icc.overlaps(paper.icc)
    within = [q for q in qualities.values() if (q.completeness_error or math.inf) <= TARGET_COMPLETENESS]
    cheapest = min(within, key=lambda q: q.seconds, default=None)
    lines = [
        f"ICC of the default objective {default.icc}: {'reaches' if reached else 'misses'} {TARGET_ICC}.",
        f"ICC of the paper's activation score {paper.icc}: the 90 % intervals {'do not ' if apart else ''}overlap; "
        f"the difference is {ahead}.",
        f"Completeness error of the default: {default.completeness_error:.1%} of the logit gap; "
        + (f"{TARGET_COMPLETENESS:.0%} is reached by {cheapest.name}." if cheapest else "no setting reached 2 %."),
        f"The default takes {default.share_of_training:.1%} of the training time here.",
    ]
    for setting, names in swept().items():
        if (measured := [qualities[name] for name in names if name in qualities])[1:]:
            chosen = knee(measured)
            lines.append(f"Knee of {setting}: {chosen.name}; ICC on the other half {chosen.reported_on}.")
    return lines


def swept() -> dict[str, list[str]]:
    """Return setting -> names of its variants, including the default."""
    return {setting: [*(_named(setting, v) for v in values), DEFAULT_OF[setting]] for setting, values in SWEEPS.items()}


def gradients() -> dict[str, dict[int, str]]:
    """Return path -> gradients per sample and probe -> name of the variant, for the curve of completeness."""
    random = {n: _named("draws", n) for n in SWEEPS["draws"]} | {n: _accurate(n) for n in ACCURATE}
    quadrature = {n: _named("quadrature", n) for n in SWEEPS["quadrature"]}
    shipped = ShapScorer().draws
    return {"random": random | {shipped: DEFAULT}, "quadrature": quadrature | {shipped: "shap_quadrature"}}


def quality_table(title: str, qualities: Sequence[Quality]) -> Table:
    """Draw one row per variant."""
    table = Table(
        "score", "ICC (90 %)", "first half", "second half", "completeness", "seconds", "of training", title=title
    )
    for q in qualities:
        error = "" if q.completeness_error is None else f"{q.completeness_error:.1%}"
        halves = f"{q.chosen_on:.2f}", str(q.reported_on)
        table.add_row(q.name, str(q.icc), *halves, error, f"{q.seconds:.2f}", f"{q.share_of_training:.1%}")
    return table


def correlation_table(means: Mapping[str, NDArray[np.float64]]) -> Table:
    """Draw the rank correlations over architectures of means over seeds."""
    table = Table("Spearman", *means, title="Rank correlation over architectures")
    for name, values in means.items():
        table.add_row(name, *(f"{spearman(values, others):.2f}" for others in means.values()))
    return table


def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the config, e.g. dataset.root=D.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of a config: digits, fashion_mnist, cifar10.")] = "digits",
    architectures: Annotated[int, typer.Option(min=4, help="Networks drawn from the space.")] = 24,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings per network.")] = 4,
    cache_dir: Annotated[Path, typer.Option("--cache", help="Directory of trained networks and scores.")] = Path(
        "runs/studies"
    ),
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes, one thread each; default: 2, or 1 if quick.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Digits: 6 networks, 2 seeds, 2 epochs, no sweeps.")] = False,
    train_only: Annotated[bool, typer.Option("--train-only", help="Train missing networks, then stop.")] = False,
    no_train: Annotated[bool, typer.Option("--no-train", help="Measure only networks that are trained.")] = False,
    sweeps: Annotated[bool, typer.Option("--sweeps/--no-sweeps", help="Also vary the scorers' settings.")] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curves to this file: .png, .svg or .pdf.")] = None,
) -> None:
    """Measure the quality of the scores."""
    overrides, jobs = overrides or [], jobs or (1 if quick else 2)  # a quick run is too short for a second process
    if quick:
        dataset, architectures, seeds, overrides = "digits", 6, 2, ["training.epochs=2"]
    progress = Console(stderr=True)
    study = Study.open(cache_dir, dataset, overrides)
    genotypes = draw_architectures(study.experiment.space, architectures, seed=0)
    if not no_train:
        train(study, genotypes, seeds, jobs=jobs, console=progress)
    if train_only:
        return
    rows = study.records(genotypes, seeds)
    if len(rows) < 4:
        raise SystemExit(f"at least 4 architectures must have learned the task with all {seeds} seeds, got {len(rows)}")
    scores = measure(study, rows, sweeps=sweeps and not quick, jobs=jobs, console=progress)
    figures = report(dataset, rows, scores, plot)
    if json_path:
        json_path.write_text(json.dumps({"study": study.folder.name, **figures}, indent=1) + "\n")


def report(dataset: str, rows: Sequence[Sequence[Trained]], scores: Values, plot: Path | None) -> dict[str, Any]:
    """Print and draw the results, and return them as plain data.

    Args:
        dataset: name of the config, for titles.
        rows: records of the networks, (n_architectures, n_seeds).
        scores: result of `measure`.
        plot: file of the figure; None: no figure.
    """
    train_seconds = [network.train_seconds for row in rows for network in row]
    values = {name: np.array([[s.value for s in row] for row in table]) for name, table in scores.items()}
    qualities = {
        name: judge(name, values[name], [s for row in table for s in row], train_seconds)
        for name, table in scores.items()
    }
    errors = np.array([[network.error for network in row] for row in rows])
    means = {name: values[name].mean(axis=1) for name in SCORERS} | {
        "error": errors.mean(axis=1),
        "parameters": np.array([row[0].parameters for row in rows], dtype=float),
    }
    ahead = bootstrap(lambda at: icc(values[DEFAULT][at]) - icc(values[PAPER][at]), len(rows))
    sentences = [
        f"{len(rows)} architectures x {len(rows[0])} seeds; ICC of the validation error itself {icc_interval(errors)}; "
        f"median error {np.median(errors):.1%}.",
        *verdicts(qualities, ahead),
    ]
    console = Console(width=150)
    console.print(quality_table(f"Quality of the scores: {dataset}", list(qualities.values())))
    console.print(correlation_table(means))
    console.print("\n".join(sentences), highlight=False)
    if plot:
        draw(dataset, qualities, swept(), gradients(), plot)
    return {
        "dataset": dataset,
        "architectures": len(rows),
        "seeds": len(rows[0]),
        "icc_of_error": icc_interval(errors),
        "qualities": [asdict(q) for q in qualities.values()],
        "ahead_of_activations": ahead,
        "correlations": {a: {b: spearman(x, y) for b, y in means.items()} for a, x in means.items()},
        "verdicts": sentences,
    }


def _score(study: Study, record: Trained, sweeps: bool) -> tuple[tuple[str, int], dict[str, Scored]]:
    """Return (arch_id, replicate) and the score of one network by each variant; compute only what the cache lacks."""
    file = arch_dir(study.folder, record.arch_id) / f"scores_{record.replicate}.json"
    cached: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    wanted = variants(sweeps)
    keys = {name: f"{name} {_version(type(scorer).__module__)}" for name, scorer in wanted.items()}
    if missing := [name for name, key in keys.items() if key not in cached]:
        data = study.experiment.data
        network, seed = study.network(record), study.experiment.score_seed
        images, labels = pixels_of(data.validation, data)
        for name in missing:
            started = seconds()
            score = wanted[name].score(network, images, labels, n_classes=data.n_classes, seed=seed)
            cached[keys[name]] = score.value, score.completeness_error, seconds() - started
        write_atomically(file, json.dumps(cached, indent=1).encode())
    return (record.arch_id, record.replicate), {name: Scored(*cached[key]) for name, key in keys.items()}


@cache
def _version(module: str) -> str:
    """Return a hash of a scorer's source, so that scores of an earlier version are measured again."""
    parts = (module, shap.__name__, similarity.__name__, layers.__name__)
    sources = b"".join(Path(sys.modules[part].__file__ or "").read_bytes() for part in parts)
    return hashlib.sha256(sources).hexdigest()[:8]


def _named(setting: str, value: int) -> str:
    return f"{setting}={value}"


def _accurate(draws: int) -> str:
    return f"draws={draws}, 1 image a class"  # a key of stored scores


if __name__ == "__main__":
    try:
        typer.run(main)
    except NasxError as error:
        raise SystemExit(str(error)) from error
