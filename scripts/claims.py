"""Check of the paper's claims about introspectable networks, on networks trained on real data.

    python -m scripts.claims                                                            # the digits
    python -m scripts.claims --dataset fashion_mnist --seeds 3 dataset.root=DIR
    python -m scripts.claims --run-dir runs/latest --seeds 3                            # a front and controls
    python -m scripts.claims --quick                                                    # within a minute

For each claim, the effect is the rank correlation, over architectures, of introspectability with the benefit; and the
partial correlation at equal validation error and size, since accurate networks are easier to debug regardless of their
introspectability. The gain compares with a plain alternative: softmax confidence, ranking by loss, training for as long
without the term. Intervals are bootstrapped over architectures. The cache directory, which
`scripts.bench.score_quality` shares, stores the trained networks and all measurements.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from nasx.config.compose import with_overrides
from nasx.config.plain import read_plain
from nasx.errors import NasxError
from nasx.files import write_atomically
from nasx.reports.summary import ArchitectureResult, summarize
from nasx.runs.directory import CONFIG, arch_dir
from nasx.runs.journal import Journal
from nasx.trial import Genotype
from scripts import benefits
from scripts.claims_picture import draw
from scripts.measures import Interval, bootstrap, partial_spearman, spearman
from scripts.trained_networks import Study, Trained, draw_architectures, in_processes, train

Column = NDArray[np.float64]  # (n_architectures,), means over seeds; NaN: not measured
ENOUGH = 8  # architectures: with fewer, any correlation may be due to chance


@dataclass(frozen=True)
class Claim:
    """Claim of the paper and its measurement."""

    text: str
    benefit: str  # a name of `scripts.benefits`; {score} is replaced by the name of the score
    alternative: str | None = None  # the plain alternative


@dataclass(frozen=True)
class Finding:
    """Result of a claim for one score."""

    claim: str
    score: str
    benefit: float  # mean
    gain: Interval | None  # over the plain alternative, mean difference
    effect: Interval  # Spearman with introspectability
    at_equal: Interval  # the same at equal error and size
    n: int  # architectures

    @property
    def verdict(self) -> str:
        if self.n < ENOUGH:
            return "too few networks"
        if not np.isfinite([*self.effect, *self.at_equal]).all():
            return "undefined"
        if self.at_equal.low > 0:
            return "**held**"
        if self.at_equal.high < 0:
            return "the opposite"
        return "held, but not at equal error and size" if self.effect.low > 0 else "did not hold"


CLAIMS = (
    Claim("classes are disentangled: accuracy of a linear probe, mean of stages", "probe"),
    Claim("classes are disentangled: share of variance between classes", "separability"),
    Claim(
        "distance is a calibrated confidence: Spearman with accuracy", "calibration activations", "calibration softmax"
    ),
    Claim("distance finds errors: AUROC", "errors activations", "errors softmax"),
    Claim("distance finds wrong labels: share at the 20th percentile", "mislabels activations", "mislabels loss"),
    Claim("similar classes are those confused: Spearman", "confusions {score}"),
    Claim("increasing a pair's distance repairs it: share of confusions removed", "repair", "repair control"),
)


def find(claim: Claim, score: str, columns: Mapping[str, Column]) -> Finding:
    """Return the correlation of one score's introspectability with the benefit of a claim.

    Args:
        claim: of the paper.
        score: a name of `benefits.SCORERS`.
        columns: measurements by name, (n_architectures,) each; architectures without the benefit are left out.
    """
    benefit, introspectability = columns[claim.benefit.format(score=score)], columns[f"introspectability {score}"]
    at = np.flatnonzero(np.isfinite(benefit))
    given = np.column_stack([columns["error"], columns["parameters"]])
    gain = None
    if claim.alternative is not None:
        more = benefit - columns[claim.alternative]
        gain = _interval(lambda rows: float(np.mean(more[rows])), at)
    return Finding(
        claim=claim.text,
        score=score,
        benefit=float(np.mean(benefit[at])) if len(at) else float("nan"),
        gain=gain,
        effect=_interval(lambda rows: spearman(introspectability[rows], benefit[rows]), at),
        at_equal=_interval(lambda rows: partial_spearman(introspectability[rows], benefit[rows], given[rows]), at),
        n=len(at),
    )


def _interval(statistic: Callable[[NDArray[np.int64]], float], at: NDArray[np.int64]) -> Interval:
    if len(at) < 4:  # too few for a correlation
        return Interval(float("nan"), float("nan"), float("nan"))
    return bootstrap(lambda rows: statistic(at[rows]), len(at))


def markdown(findings: Sequence[Finding]) -> str:
    """Format the findings as a Markdown table."""
    lines = [
        "| claim | benefit | gain over the alternative | score | effect of introspectability | at equal error and size "
        "| networks | verdict |",
        "|--|--|--|--|--|--|--|--|",
    ]
    for f in findings:
        gain = "" if f.gain is None else f"{f.gain.estimate:+.3f} ({f.gain.low:+.3f} to {f.gain.high:+.3f})"
        cells = f.claim, f"{f.benefit:.3f}", gain, f.score, f"{f.effect}", f"{f.at_equal}", f"{f.n}", f.verdict
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def choose(run_dir: Path, n: int) -> list[Genotype]:
    """Return `n` architectures of a run: front members spread over introspectability, each with a control.

    The control of a member is the network off the front, not chosen yet, with the error nearest to the member's.
    """
    store = Journal.open(run_dir, read_only=True)
    try:
        trials = store.trials()
        summary = summarize(trials, ["error", "introspectability"], n_classes=store.info.n_classes)
    finally:
        store.close()
    genotypes = {t.arch_id: t.genotype for t in trials}
    members = sorted(summary.front, key=lambda a: a.metrics["introspectability"])
    spread = [members[i] for i in np.unique(np.linspace(0, len(members) - 1, max(n // 2, 1)).round().astype(int))]
    on_front = {a.arch_id for a in summary.front}
    others = [a for a in summary.architectures if a.arch_id not in on_front and "introspectability" in a.metrics]
    chosen: list[ArchitectureResult] = []
    for member in spread:
        chosen.append(member)
        free = [a for a in others if a not in chosen]
        if free:
            error = member.metrics["error"]
            chosen.append(min(free, key=lambda a: abs(a.metrics["error"] - error)))
    return [genotypes[a.arch_id] for a in chosen]


def main(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the config, e.g. dataset.root=D.")
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of a config: digits, fashion_mnist, cifar10.")] = "digits",
    run_dir: Annotated[Path | None, typer.Option(help="Use networks and recipe of this run.")] = None,
    architectures: Annotated[int, typer.Option(min=4, help="Networks.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per network.")] = 4,
    members: Annotated[int, typer.Option(min=4, help="Networks trained on wrong labels and repaired.")] = 12,
    cache_dir: Annotated[Path, typer.Option("--cache", help="Directory of networks and measurements.")] = Path(
        "runs/studies"
    ),
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes, one thread each: 2, or 1 if quick.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Digits: 5 networks, one seed, 2 epochs.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the effects to this file: .png, .svg or .pdf.")] = None,
) -> None:
    """Check the paper's claims."""
    overrides, jobs = overrides or [], jobs or (1 if quick else 2)
    if quick:
        dataset, architectures, seeds, members, overrides = "digits", 5, 1, 4, ["training.epochs=2"]
    if run_dir is None:
        study = Study.open(cache_dir, dataset, overrides)
        genotypes = draw_architectures(study.experiment.space, architectures, seed=0)
    else:
        study = Study.of(cache_dir, with_overrides(read_plain(run_dir / CONFIG), overrides))
        genotypes = choose(run_dir, architectures)
    progress = Console(stderr=True)
    train(study, genotypes, seeds, jobs=jobs, console=progress)
    rows = study.records(genotypes, seeds)
    columns = measure(study, rows, members, jobs=jobs, console=progress)
    findings = [find(claim, score, columns) for claim in CLAIMS for score in benefits.SCORERS]
    print(f"{study.folder.name}: {len(rows)} architectures x {seeds} seeds, median error ", end="")
    print(f"{np.median(columns['error']):.1%}; correlations over architectures with 90 % intervals\n")
    print(markdown(findings))
    if json_path:
        figures = [{**asdict(f), "verdict": f.verdict} for f in findings]
        values = {name: column.tolist() for name, column in columns.items()}
        record = {"study": study.folder.name, "seeds": seeds, "findings": figures, "architectures": values}
        json_path.write_text(json.dumps(record, indent=1) + "\n")
    if plot:
        draw(findings, plot)


def measure(
    study: Study, rows: Sequence[Sequence[Trained]], members: int, *, jobs: int, console: Console
) -> dict[str, Column]:
    """Measure all benefits.

    Args:
        study: the trained networks.
        rows: their records, (n_architectures, n_seeds).
        members: number of architectures that are trained on wrong labels and repaired.
        jobs: processes.
        console: for the progress bar.

    Returns:
        By name, the means over the seeds, (n_architectures,).
    """
    tasks = [(study, "describe", network) for row in rows for network in row]
    tasks += [(study, part, row[0]) for part in ("planted", "repaired") for row in rows[:members]]
    values: dict[str, dict[str, list[float]]] = {}
    for arch_id, found in in_processes(_measure, tasks, jobs=jobs, title="measuring", console=console):
        for name, value in found.items():
            values.setdefault(name, {}).setdefault(arch_id, []).extend([] if value is None else [value])
    ids = [row[0].arch_id for row in rows]
    return {
        name: np.array([np.mean(by_id[i]) if by_id.get(i) else np.nan for i in ids]) for name, by_id in values.items()
    }


def _measure(study: Study, part: str, record: Trained) -> tuple[str, dict[str, float | None]]:
    """Return (arch_id, result) of one function of `scripts.benefits` for one network, from the cache if possible."""
    file = arch_dir(study.folder, record.arch_id) / f"{part}_{record.replicate}_{_version()}.json"
    if not file.exists():
        write_atomically(file, json.dumps(getattr(benefits, part)(study, record), indent=1).encode())
    return record.arch_id, json.loads(file.read_text())


@cache
def _version() -> str:
    """Return a hash of the source, so that results of an earlier version are measured again."""
    return hashlib.sha256(Path(benefits.__file__).read_bytes()).hexdigest()[:8]


if __name__ == "__main__":
    try:
        typer.run(main)
    except NasxError as error:
        raise SystemExit(str(error)) from error
