"""Data of the report as plain JSON values: all numbers on the page are computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.reports import paper as papers
from nasx.reports.html.load import ReportInput
from nasx.reports.html.motifs import motifs
from nasx.reports.html.network_data import LayerTable, first_training, network_data, rounded
from nasx.reports.html.phylogeny import phylogeny
from nasx.reports.summary import (
    ArchitectureResult,
    FrontSummary,
    hypervolume_growth,
    in_finishing_order,
    summarize,
    summarize_run,
)
from nasx.reports.text import (
    COUNTS,
    certainty_sentence,
    clean,
    hypervolume_sentence,
    latency_sentence,
    noise_sentence,
    trials_sentence,
)
from nasx.trial import OBJECTIVES, Trial, TrialStatus

if TYPE_CHECKING:
    from nasx.runs.rows import RunInfo

# the distances of all pairs of classes are included for all networks up to the first number of classes, for the front
# and explained networks up to the second; else only those of the closest and farthest pairs
ALL_PAIRS_CLASSES, FRONT_PAIRS_CLASSES = 10, 40


def run_data(run: ReportInput) -> dict[str, Any]:
    """Return all data of the page, ready for `json.dumps(..., allow_nan=False)`."""
    info, trials = run.info, run.trials
    summary = summarize_run(trials, info)
    layers = LayerTable()
    networks = _networks(run, summary, layers)
    front = [m.arch_id for m in summary.front]
    return {
        "name": info.name,
        "run_dir": run.run_dir,
        "created": info.created,
        "class_names": [clean(name) for name in info.class_names],
        "statuses": [str(status) for status in TrialStatus],
        "objectives": list(info.objectives),
        "metrics": _metrics(networks, info.objectives),
        "knee": summary.knee,
        "front": front,
        "rivals": [m.arch_id for m in summary.rivals],
        "hypervolume": hypervolume_sentence(summary),
        "certainty": certainty_sentence(summary),
        "noise": noise_sentence(summary),
        "latency": latency_sentence(summary),
        "estimated": summary.is_estimated,
        "trials": trials_sentence(summary),
        "networks": networks,
        "layers": layers.values,
        "growth": [rounded(v) for v in hypervolume_growth(trials, summary)],
        "phylogeny": _phylogeny(run, summary),
        "motifs": _motifs(run, front, summary.architectures),
        "paper": _paper(run),
        "figures": {a: [asdict(f) for f in own] for a, own in run.figures.items() if own},
        "looked_up": not run.dataset,
        "commands": [dict(c) for c in run.commands],
        "facts": [*_facts(info), *run.facts],
        "config": run.config,
        "reproduce": list(run.reproduce),
    }


def _networks(run: ReportInput, summary: FrontSummary, layers: LayerTable) -> list[dict[str, Any]]:
    """Return one record per network, including failed ones, in order of completion."""
    groups: dict[str, list[Trial]] = {}
    for trial in in_finishing_order(run.trials):
        groups.setdefault(trial.arch_id, []).append(trial)
    results = {a.arch_id: a for a in summary.architectures}
    noteworthy = {m.arch_id for m in (*summary.front, *summary.rivals)} | set(run.figures)
    n_classes = run.info.n_classes
    limits = {a: FRONT_PAIRS_CLASSES if a in noteworthy else ALL_PAIRS_CLASSES for a in groups}
    parents = {arch_id: first_training(group).candidate.parents for arch_id, group in groups.items()}
    by_number = {entry.candidate.number: entry.arch_id for entry in run.lineage}
    return [
        network_data(group, results.get(arch_id), layers, all_pairs=n_classes <= limits[arch_id])
        | {
            "edges": [[e.source, e.target, e.operation] for e in run.edges.get(arch_id, ())],
            "parents": [by_number[n] for n in parents[arch_id] if n in by_number],
            "has_weights": arch_id in run.trained,
            "test_error": run.tested.get(arch_id, ""),
        }
        for arch_id, group in groups.items()
    ]


def _metrics(networks: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the metrics that can be an axis: first the objectives, then the others of any complete network."""
    complete = [n["metrics"] for n in networks if n["status"] == "complete"]
    recorded = dict.fromkeys(name for metrics in complete for name in metrics)
    for name in [n for n in recorded if n.startswith("introspectability_")]:
        if all(metrics.get(name) == metrics.get("introspectability") for metrics in complete):
            del recorded[name]  # the scorer of the objective is already listed as the objective
    if not any(metrics["train_seconds"] for metrics in complete):
        recorded.pop("train_seconds", None)  # results come from a table
    names = [*objectives, *(m for m in OBJECTIVES if m in recorded and m not in objectives)]
    names += [m for m in recorded if m not in names]
    return {name: _metric(name) for name in names}


def _metric(name: str) -> dict[str, Any]:
    """Return label, unit and kind of a metric; `better`: 1 if more is better, -1 if less is better, else 0."""
    objective = OBJECTIVES.get(name)
    if objective is not None:
        kind = "share" if objective.unit == "%" else "count" if name in COUNTS else "number"
        return {"label": objective.label, "unit": objective.unit, "kind": kind, "better": -objective.sign}
    if name == "train_seconds":
        return {"label": "training time", "unit": "s", "kind": "number", "better": -1}
    if name.endswith("_error"):
        return {"label": name.replace("_", " "), "unit": "%", "kind": "share", "better": -1}
    scorer = name.removeprefix("introspectability_")
    label = f"introspectability by {scorer}" if scorer != name else name
    return {"label": clean(label), "unit": "", "kind": "number", "better": 1 if scorer != name else 0}


def _phylogeny(run: ReportInput, summary: FrontSummary) -> dict[str, Any]:
    tree = phylogeny(run.trials, run.lineage, summary)
    return {
        "nodes": [[a, g, rounded(tree.heights[a], 3), a in tree.leaders] for a, g in tree.generations.items()],
        "links": tree.links,
        "left_out": tree.left_out,
        "share_of_ancestors": tree.share_of_ancestors,
        "share_of_all": tree.share_of_all,
    }


def _motifs(run: ReportInput, front: Sequence[str], complete: Sequence[ArchitectureResult]) -> list[dict[str, Any]]:
    """Return the motifs of the front by size; empty if the traits of the networks are unknown."""
    traits = {a.arch_id: run.traits[a.arch_id] for a in complete if a.arch_id in run.traits}
    others = len(traits) - len(front)
    return [
        {"size": size, "rows": [[list(m.traits), m.on_front, len(front), m.elsewhere, others] for m in rows]}
        for size, rows in motifs(traits, front).items()
    ]


def _paper(run: ReportInput) -> dict[str, Any] | None:
    """Return the paper's front and this run's by the same scorer; None if either is missing."""
    if run.published not in papers.SCORERS:
        return None
    theirs = papers.paper_front(run.published)
    try:
        measured = papers.with_paper_score(run.trials, theirs)
    except NasxError:  # no scores by the paper's scorer
        return None
    n_classes = run.info.n_classes
    summary = summarize(measured, papers.OBJECTIVE_NAMES, n_classes=n_classes, alleles=run.info.alleles)
    return {
        "sentence": papers.comparison_sentence(summary, theirs, n_classes=n_classes),
        "source": theirs.source,
        "scorer": theirs.scorer,
        "theirs": [[rounded(x), rounded(y)] for x, y in zip(theirs.introspectability, theirs.error, strict=True)],
        "ours": [
            [rounded(m.metrics["introspectability"]), rounded(m.metrics["error"]), m.arch_id] for m in summary.front
        ],
        "chance": 1 - 1 / n_classes,
        "difference": rounded(summary.hypervolume - theirs.hypervolume(n_classes)),
    }


def _facts(info: RunInfo) -> list[tuple[str, str]]:
    return [
        ("experiment", info.name),
        ("seed", str(info.seed)),
        ("started", info.created),
        ("nasx", info.nasx_version),
        ("torch", info.torch_version),
        ("python", info.python_version),
        ("config hash", info.config_hash),
    ]
