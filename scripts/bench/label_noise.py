"""Value of finding wrong labels: planted errors in Fashion-MNIST are ranked, corrected, and the network trained again.

    python -m scripts.bench label_noise --data-root DIR [--quick] [--json FILE]

10 % and 20 % of 15,000 labels are changed, to any other class or to a similar one (the tops, the shoes), with 3 seeds.
The network is one cell of NAS-Bench-201 with 8 channels. It is trained on the noisy labels, and its probabilities rank
all images as in `nasx debug`. Figures, means with range over the seeds:

- share of planted errors among the first n suspects, n the number planted, and AUROC: by nasx; by cleanlab's
  `get_label_quality_scores` from the same probabilities; by the loss; by the distance to class means;
- test error after training on the noisy labels, without the suspects, with the suspects relabeled to the class that the
  network suggests, and on clean labels. As many suspects are acted on as nasx estimates errors, through a file of
  corrections, as a person would. Test labels are clean.

Every result is kept in build/label_noise.json, so that an interrupted run continues; delete it to measure again. Two
processes, each with one thread, take about half an hour on two idle cores. cleanlab is compared if it is installed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from nasx.files import write_atomically
from scripts.bench.label_noise_trial import Job, measure
from scripts.bench.measurement import Measurement, Options, Skipped

KINDS: Final = ("uniform", "similar")
SHARES: Final = (0.1, 0.2)
SEEDS: Final = (0, 1, 2)
TREATMENTS: Final = ("noisy", "dropped", "relabeled")
RANKINGS: Final = ("nasx", "cleanlab", "loss", "distance")
FILE: Final = Path(__file__).parents[2] / "build" / "label_noise.json"
PROCESSES: Final = 2


Record = Mapping[str, Any]  # result of a job


def benchmark(options: Options) -> Iterator[Measurement | Skipped]:
    """Yield the precision of the ranking against cleanlab, and the share of the gap that corrections close."""
    if options.data_root is None or not (options.data_root / "FashionMNIST").is_dir():
        yield Skipped("planted label errors", "Fashion-MNIST is not in the data root")
        return
    jobs = jobs_of(quick=options.quick)
    records = run_jobs(jobs, options.data_root, FILE if not options.quick else None)
    Console(file=sys.stderr, width=120).print(ranking_table(records), error_table(records))
    yield from measurements(records)


def jobs_of(*, quick: bool) -> list[Job]:
    """Return all jobs; the long ones first."""
    kinds, shares, seeds = (KINDS[:1], SHARES[1:], SEEDS[:1]) if quick else (KINDS, SHARES, SEEDS)
    noisy = [Job(kind, share, seed) for seed in seeds for kind in kinds for share in shares]
    jobs = [*noisy, *(Job("clean", 0.0, seed) for seed in seeds)]
    return [replace(job, images=1_500, test_images=1_000, epochs=8, batch=16) for job in jobs] if quick else jobs


def run_jobs(jobs: Sequence[Job], data_root: Path, file: Path | None) -> dict[Job, Record]:
    """Return the record of each job. Records in `file` are not measured again, and new ones are added at once."""
    known: dict[str, Record] = json.loads(file.read_text()) if file is not None and file.is_file() else {}
    missing = [job for job in jobs if job.key not in known]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    os.environ.update(threads)  # read by the processes when they import torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(PROCESSES, len(missing) or 1), mp_context=context) as pool:
        waiting = {pool.submit(measure, job, data_root): job for job in missing}
        for done, future in enumerate(as_completed(waiting), start=1):
            job = waiting[future]
            known[job.key] = future.result()
            print(f"label_noise: {done} of {len(missing)}: {job.key}", file=sys.stderr, flush=True)
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, (json.dumps(known, indent=1) + "\n").encode())
    return {job: known[job.key] for job in jobs}


def settings(records: Mapping[Job, Record]) -> list[tuple[str, float]]:
    """Return kind and share of all settings with errors, in order."""
    return sorted({(job.kind, job.share) for job in records if job.kind != "clean"})


def of_setting(records: Mapping[Job, Record], kind: str, share: float) -> list[tuple[Job, Record]]:
    return [(job, record) for job, record in records.items() if (job.kind, job.share) == (kind, share)]


def clean_errors(records: Mapping[Job, Record]) -> dict[int, float]:
    """Return the test error after training on clean labels by seed."""
    return {job.seed: record["error"] for job, record in records.items() if job.kind == "clean"}


def recovered(noisy: Sequence[float], treated: Sequence[float], clean: Sequence[float]) -> float:
    """Return the share of the gap between noisy and clean that a treatment closes, from means over seeds.

    >>> recovered([0.2, 0.3], [0.15, 0.25], [0.1, 0.2])
    0.5
    """
    gap = statistics.mean(noisy) - statistics.mean(clean)
    return round((statistics.mean(noisy) - statistics.mean(treated)) / gap, 6) if gap else float("nan")


def measurements(records: Mapping[Job, Record]) -> Iterator[Measurement]:
    """Yield precision against cleanlab for each setting, and the best share of the gap that is closed."""
    clean = clean_errors(records)
    for kind, share in settings(records):
        found = of_setting(records, kind, share)
        what = f"{share:.0%} {kind} errors"
        rankings = [record["rankings"] for _, record in found]
        for peer in ("cleanlab", "loss", "distance"):
            if all(peer in ranking for ranking in rankings):
                yield Measurement(
                    f"{what}: planted among the first n suspects",
                    peer,
                    ours=tuple(ranking["nasx"]["precision"] for ranking in rankings),
                    theirs=tuple(ranking[peer]["precision"] for ranking in rankings),
                    unit="",
                    better="more",
                    target=1.0 if peer == "cleanlab" else None,
                )
        for treatment in TREATMENTS[1:]:
            noisy, treated = ([record["errors"][name] for _, record in found] for name in ("noisy", treatment))
            share_closed = recovered(noisy, treated, [clean[job.seed] for job, _ in found])
            yield Measurement(
                f"{what}: gap to clean labels closed, suspects {treatment}",
                "half of it",
                ours=(share_closed,),
                unit="",
                better="more",
                target=0.5,
            )


def mean_range(values: Sequence[float], *, percent: bool = True) -> str:
    """Return the mean with the range.

    >>> mean_range([0.1, 0.2, 0.3]), mean_range([0.9], percent=False)
    ('20.0 % (10.0-30.0)', '0.900')
    """
    factor, digits, unit = (100, 1, " %") if percent else (1, 3, "")
    mean, low, high = (f"{factor * v:.{digits}f}" for v in (statistics.mean(values), min(values), max(values)))
    return f"{mean}{unit}" if len(values) == 1 else f"{mean}{unit} ({low}-{high})"


def ranking_table(records: Mapping[Job, Record]) -> Table:
    """Return precision and AUROC of each ranking, and the number of errors that nasx estimates."""
    table = Table(title="Planted errors among the first n suspects; AUROC", title_justify="left")
    for heading in ("errors", "ranked by", "among the first n", "AUROC", "estimated / planted", "right of those"):
        table.add_column(heading)
    for kind, share in settings(records):
        found = [record for _, record in of_setting(records, kind, share)]
        names = [n for n in found[0]["rankings"] if all(n in record["rankings"] for record in found)]
        for name in names:
            precision = mean_range([record["rankings"][name]["precision"] for record in found])
            auroc = mean_range([record["rankings"][name]["auroc"] for record in found], percent=False)
            extra = ("", "")
            if name == "nasx":
                extra = (
                    mean_range([record["estimated"] / record["planted"] for record in found], percent=False),
                    mean_range([record["acted_precision"] for record in found]),
                )
            table.add_row(f"{share:.0%} {kind}", name, precision, auroc, *extra)
    return table


def error_table(records: Mapping[Job, Record]) -> Table:
    """Return the test error after each treatment, with the share of the gap that it closes."""
    table = Table(title="Test error of the same network", title_justify="left")
    for heading in ("errors", "labels", "test error", "gap closed"):
        table.add_column(heading)
    clean = clean_errors(records)
    for kind, share in settings(records):
        found = of_setting(records, kind, share)
        ideal = [clean[job.seed] for job, _ in found]
        noisy = [record["errors"]["noisy"] for _, record in found]
        for treatment in TREATMENTS:
            errors = [record["errors"][treatment] for _, record in found]
            closed = "" if treatment == "noisy" else f"{recovered(noisy, errors, ideal):.0%}"
            table.add_row(f"{share:.0%} {kind}", treatment, mean_range(errors), closed)
        table.add_row(f"{share:.0%} {kind}", "clean", mean_range(ideal), "100%")
    return table
