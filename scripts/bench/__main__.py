"""All benchmarks, one after the other, in one table.

    python -m scripts.bench [NAMES...] [--quick] [--data-root DIR] [--repeats N] [--json FILE] [--plot DIR]

In full it takes half an hour on two idle cores, `--quick` less than three minutes. Needs the extra "bench". The data
root is laid out as for `nasx search dataset.root=DIR`; without one, what needs published images is skipped.
`noisy_search` reads the published table of NAS-Bench-201 that the environment variable NASX_NATS_TABLE names.
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
from scripts.bench.table import Result, record, table, tell

BENCHMARKS: Mapping[str, str] = {  # the modules of this folder that have a function `benchmark`, quick ones first
    "overhead": "what a search costs beside its trials",
    "scores": "SHAP and activation scores beside shap's explainer and the paper's accumulation",
    "candidate": "training one network beside plain PyTorch, and its share of the roofline",
    "shares": "where the time of a search goes",
    "noisy_search": "networks recommended after noisy trainings, by their true costs, beside pymoo, Optuna and random",
    "launches": "GPU work of a trial, counted on a CPU: launches, uploads, copies back",
    "ray_hooks": "what each hook into private parts of Ray and Tune saves",
    "memory": "memory of driver and workers, and its growth",
    "whole_search": "a whole search beside a script with Optuna and plain PyTorch",
}


def run(name: str, options: Options) -> list[Result]:
    """The results of one benchmark, told on stderr as they come."""
    module = importlib.import_module(f"scripts.bench.{name}")
    results: list[Result] = []
    for result in module.benchmark(options):
        results.append(result)
        print(f"{name}: {tell(result)}", file=sys.stderr, flush=True)
    return results


def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Of {', '.join(BENCHMARKS)}; all by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Short, for CI: few repetitions, small tasks.")] = False,
    data_root: Annotated[Path | None, typer.Option(envvar="NASX_DATA", help="Where published datasets lie.")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Turns of whole_search: 2 digits, 1 Fashion-MNIST.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw bench.png into this directory.")] = None,
) -> None:
    """Measure nasx beside what people would use instead."""
    for name in names or ():
        if name not in BENCHMARKS:
            raise typer.BadParameter(f"no benchmark is called {name!r}. {did_you_mean(name, BENCHMARKS)}")
    # one thread a process, as a worker has: read by torch and numpy when they are imported, here and in processes
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from scripts.bench import machine

    started, facts, options = time.monotonic(), machine.facts(), Options(quick, data_root, repeats)
    results: dict[str, list[Result]] = {}
    for name in names or BENCHMARKS:
        results[name] = run(name, options)
        if json_file is not None:  # after each: an hour may be lost otherwise
            json_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json_file, (json.dumps(record(results, facts, options), indent=1) + "\n").encode())
    Console(width=None if sys.stdout.isatty() else 160).print(table(results, machine.describe(facts)))
    measurements = [r for rows in results.values() for r in rows if isinstance(r, Measurement)]
    missed = sum(m.met is False for m in measurements)
    judged = sum(m.met is not None for m in measurements)
    print(f"{judged - missed} of {judged} targets met, in {(time.monotonic() - started) / 60:.1f} minutes")
    if plot is not None and any(m.theirs for m in measurements):
        from nasx.reports.figures.style import save
        from scripts.bench.picture import draw

        save(draw(measurements, "nasx beside its peers"), plot / "bench.png")


if __name__ == "__main__":
    typer.run(main)
