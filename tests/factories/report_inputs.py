"""Synthetic input of a report: lineage, cells, failures, figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from nasx.reports.html.load import ReportInput, compress_figure
from nasx.runs.rows import Lineage, RunInfo
from nasx.spaces.nb201 import NASBench201
from nasx.trial import Candidate
from tests.factories.trials import make_run


def make_info(**changes):
    info = RunInfo(
        name="made up",
        created="2025-01-01T00:00:00+00:00",
        nasx_version="0.1.0",
        torch_version="2.13.0",
        python_version="3.11.7",
        seed=0,
        objectives=("error", "introspectability"),
        n_classes=10,
        class_names=tuple("0123456789"),
        config_hash="abc",
        workers=1,
    )
    return replace(info, **changes)


def with_lineage(trials, seed=0):
    """Return the trials with two parents each from the previous generation, and finishing times."""
    rng = np.random.default_rng(seed)
    found = []
    for i, trial in enumerate(trials):
        born = [t for t in found if t.candidate.generation == trial.candidate.generation - 1]
        parents = tuple(int(p.candidate.number) for p in rng.permutation(np.array(born, dtype=object))[:2])
        operator = "crossover" if parents else "random"
        candidate = Candidate(trial.candidate.number, trial.genotype, trial.candidate.generation, operator, parents)
        evaluation = replace(trial.evaluation, train_seconds=1.0 + rng.random())
        finished = f"2025-01-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z"
        found.append(replace(trial, candidate=candidate, evaluation=evaluation, finished=finished))
    return found


def make_figure(path, size=(1400, 700), seed=0, noise=0):
    """Write a PNG of smooth shapes, as large as those of `nasx explain`; `noise`, in gray levels, makes it larger."""
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 3, size[1]))
    values = 127 + 60 * np.sin(x * (1 + seed)) + 60 * np.cos(y)
    values = np.clip(values + noise * np.random.default_rng(seed).standard_normal(values.shape), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.dstack([values, values[::-1], values]).astype(np.uint8)).save(path)
    return path


def make_report_input(n=64, *, trials=None, directory=None, explained=0, **changes):
    """Return a run of `n` networks of NAS-Bench-201; the `explained` ones with the lowest error have a figure."""
    space = NASBench201()
    trials = with_lineage(make_run(n)) if trials is None else trials
    genotypes = {t.arch_id: t.genotype for t in trials}
    names = {
        a: [f"{g}: {space.allele_names(0)[x]}" for g, x in zip(space.gene_names, genes, strict=True) if x]
        for a, genes in genotypes.items()
    }
    figures = {}
    if explained:
        best = sorted((t for t in trials if t.is_complete), key=lambda t: t.metrics["error"])[:explained]
        for i, trial in enumerate(best):
            figures[trial.arch_id] = [
                compress_figure(make_figure(directory / f"{i}.png", seed=i), "Evidence for its decisions")
            ]
    given = {
        "trials": trials,
        "lineage": [Lineage(t.candidate, t.arch_id, False) for t in trials if t.replicate == t.candidate.replicate],
        "info": make_info(),
        "run_dir": "runs/made_up",
        "dataset": "cifar10",
        "published": "cifar10",
        "edges": {a: space.edges(g) for a, g in genotypes.items()},
        "traits": names,
        "figures": figures,
        "trained": frozenset(genotypes),
        "commands": [
            {"text": "nasx explain --run-dir runs/made_up --arch-id", "purpose": "Explain", "needs_weights": True}
        ],
        "config": "name: made up\n",
        "reproduce": ["nasx search --config cifar10"],
    }
    return ReportInput(**(given | changes))
