"""Run all benchmarks in sequence and print one table.

    python -m scripts.bench [NAMES...] [--quick] [--data-root DIR] [--repeats N] [--json FILE] [--plot DIR]

A full run takes half an hour on two idle cores, `--quick` less than three minutes. Needs the extra "bench". The data
root has the layout of `nasx search dataset.root=DIR`; without it, measurements on published images are skipped.
`noisy_search` reads the published table of NAS-Bench-201 from the file that NASX_NATS_TABLE names.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nasx.errors import did_you_mean
from nasx.files import write_atomically
from scripts.bench.measurement import Measurement, Options
from scripts.bench.table import Result, one_line, record, table

BENCHMARKS: Mapping[str, str] = {  # the modules of this folder that have a function `benchmark`, quick ones first
    "overhead": "overhead of a search beyond its trials",
    "scores": "SHAP and activation scores, compared with shap's explainer and the paper's accumulation",
    "candidate": "training one network, compared with plain PyTorch and with the roofline",
    "shares": "time of a search by part",
    "open_run": "opening a run of 2,000 trials, compared with another version of nasx",
    "data_digest": "the content of the images that a search reads, as digests",
    "feature_maps": "feature maps of a backbone, compared with plain torch",
    "noisy_search": "true costs of networks recommended after noisy trainings, compared with pymoo, Optuna and random",
    "launches": "GPU work of a trial, counted on a CPU: launches, uploads, copies back",
    "ray_hooks": "gain of each hook into private parts of Ray and Tune",
    "label_noise": "planted label errors found, and test error after they are corrected",
    "memory": "memory of driver and workers, and its growth",
    "whole_search": "a whole search, compared with a script that uses Optuna and plain PyTorch",
}


def run(name: str, options: Options) -> list[Result]:
    """Run one benchmark and return its results; print each on stderr as soon as it is available."""
    module = importlib.import_module(f"scripts.bench.{name}")
    results: list[Result] = []
    for result in module.benchmark(options):
        results.append(result)
        print(f"{name}: {one_line(result)}", file=sys.stderr, flush=True)
    return results


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"From {', '.join(BENCHMARKS)}; default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="For CI: few repetitions, small tasks.")] = False,
    data_root: Annotated[Path | None, typer.Option(envvar="NASX_DATA", help="Folder of published datasets.")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Turns of whole_search; default: 2 on digits, 1 on Fashion-MNIST.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw bench.png into this directory.")] = None,
) -> None:
    """Measure nasx and compare it with alternatives."""
    for name in names or ():
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"no benchmark is called {name!r}. {did_you_mean(name, BENCHMARKS)}")
    # one thread per process, as in a worker: torch and numpy read this at import, here and in child processes
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from scripts.bench import machine  # imports torch, after the variables are set

    started, facts, options = time.monotonic(), machine.facts(), Options(quick, data_root, repeats)
    results: dict[str, list[Result]] = {}
    for name in names or BENCHMARKS:
        results[name] = run(name, options)
        if json_file is not None:  # after each benchmark, so that an interruption does not lose all results
            json_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json_file, (json.dumps(record(results, facts, options), indent=1) + "\n").encode())
    Console(width=None if sys.stdout.isatty() else 160).print(table(results, machine.describe(facts)))
    measurements = [r for rows in results.values() for r in rows if isinstance(r, Measurement)]
    missed = sum(m.met is False for m in measurements)
    judged = sum(m.met is not None for m in measurements)
    print(f"{judged - missed} of {judged} targets met, in {(time.monotonic() - started) / 60:.1f} minutes")
    if plot is not None and any(m.theirs for m in measurements):
        from nasx.reports.figures.style import save  # matplotlib takes seconds to load
        from scripts.bench.picture import draw

        save(draw(measurements, "nasx compared with its peers"), plot / "bench.png")


if __name__ == "__main__":
    typer.run(main)
