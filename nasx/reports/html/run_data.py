"""Data of the report as plain JSON values: every number on the page is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.reports import paper as papers
from nasx.reports.html.load import RunMaterial
from nasx.reports.html.motifs import motifs
from nasx.reports.html.network_data import Interned, network_data, origin, rounded
from nasx.reports.html.phylogeny import phylogeny
from nasx.reports.summary import (
    ArchitectureResult,
    FrontSummary,
    hypervolume_growth,
    in_order,
    summarise,
    summarise_run,
)
from nasx.reports.text import COUNTS, certainty_sentence, clean, hypervolume_sentence, noise_sentence, trials_sentence
from nasx.trial import OBJECTIVES, Trial, TrialStatus

if TYPE_CHECKING:
    from nasx.runs.rows import RunInfo

ALWAYS_WHOLE = 10  # classes: up to here every network brings the distances of all its pairs of classes,
AT_MOST_WHOLE = 40  # ... up to here those of the front and those explained do, else only the extreme pairs


def run_data(material: RunMaterial) -> dict[str, Any]:
    """Return everything on the page, ready for `json.dumps(..., allow_nan=False)`."""
    info, trials = material.info, material.trials
    summary = summarise_run(trials, info)
    layers = Interned()
    networks = _networks(material, summary, layers)
    front = [m.arch_id for m in summary.front]
    return {
        "name": info.name,
        "place": material.place,
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
        "estimated": summary.is_estimated,
        "trials": trials_sentence(summary),
        "networks": networks,
        "layers": layers.values,
        "growth": [rounded(v) for v in hypervolume_growth(trials, summary)],
        "phylogeny": _phylogeny(material, summary),
        "motifs": _motifs(material, front, summary.architectures),
        "paper": _paper(material),
        "pictures": {a: [asdict(p) for p in own] for a, own in material.pictures.items() if own},
        "looked_up": not material.dataset,
        "commands": [dict(c) for c in material.commands],
        "facts": _facts(info),
        "config": material.config,
        "reproduce": list(material.reproduce),
    }


def _networks(material: RunMaterial, summary: FrontSummary, layers: Interned) -> list[dict[str, Any]]:
    """One record a network, in the order of finishing; failed ones too."""
    groups: dict[str, list[Trial]] = {}
    for trial in in_order(material.trials):
        groups.setdefault(trial.arch_id, []).append(trial)
    results = {a.arch_id: a for a in summary.architectures}
    noteworthy = {m.arch_id for m in (*summary.front, *summary.rivals)} | set(material.pictures)
    n_classes = material.info.n_classes
    whole = {a for a in groups if n_classes <= ALWAYS_WHOLE or (n_classes <= AT_MOST_WHOLE and a in noteworthy)}
    parents = {arch_id: origin(group).candidate.parents for arch_id, group in groups.items()}
    by_number = {entry.candidate.number: entry.arch_id for entry in material.lineage}
    return [
        network_data(group, results.get(arch_id), layers, whole=arch_id in whole)
        | {
            "edges": [[e.source, e.target, e.operation] for e in material.edges.get(arch_id, ())],
            "parents": [by_number[n] for n in parents[arch_id] if n in by_number],
            "has_weights": arch_id in material.trained,
            "test_error": material.tested.get(arch_id, ""),
        }
        for arch_id, group in groups.items()
    ]


def _metrics(networks: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The metrics that can be an axis: the objectives first, then every other one of some complete network."""
    complete = [n["metrics"] for n in networks if n["status"] == "complete"]
    recorded = dict.fromkeys(name for metrics in complete for name in metrics)
    for name in [n for n in recorded if n.startswith("introspectability_")]:
        if all(metrics.get(name) == metrics.get("introspectability") for metrics in complete):
            del recorded[name]  # the scorer that is the objective is listed under that name only
    if not any(metrics["train_seconds"] for metrics in complete):
        recorded.pop("train_seconds", None)  # looked up
    names = [*objectives, *(m for m in OBJECTIVES if m in recorded and m not in objectives)]
    names += [m for m in recorded if m not in names]
    return {name: _metric(name) for name in names}


def _metric(name: str) -> dict[str, Any]:
    """Label, unit and kind of a metric; `better`: +1 if more is better, -1 if less is, else 0."""
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


def _phylogeny(material: RunMaterial, summary: FrontSummary) -> dict[str, Any]:
    tree = phylogeny(material.trials, material.lineage, summary)
    return {
        "nodes": [[a, g, rounded(tree.heights[a], 3), a in tree.led] for a, g in tree.generations.items()],
        "links": tree.links,
        "left_out": tree.left_out,
        "share_of_ancestors": tree.share_of_ancestors,
        "share_of_all": tree.share_of_all,
    }


def _motifs(
    material: RunMaterial, front: Sequence[str], complete: Sequence[ArchitectureResult]
) -> list[dict[str, Any]]:
    """Motifs of the front by size; empty if the parts of networks are not known."""
    traits = {a.arch_id: material.traits[a.arch_id] for a in complete if a.arch_id in material.traits}
    others = len(traits) - len(front)
    return [
        {"size": size, "rows": [[list(m.traits), m.on_front, len(front), m.elsewhere, others] for m in rows]}
        for size, rows in motifs(traits, front).items()
    ]


def _paper(material: RunMaterial) -> dict[str, Any] | None:
    """The paper's front and this run's in the same measure; None if either is missing."""
    if material.dataset not in papers.MEASURES:
        return None
    theirs = papers.paper_front(material.dataset)
    try:
        measured = papers.in_paper_measure(material.trials, theirs)
    except NasxError:  # the run has not recorded the paper's score
        return None
    n_classes = material.info.n_classes
    summary = summarise(measured, papers.OBJECTIVE_NAMES, n_classes=n_classes, alleles=material.info.alleles)
    return {
        "sentence": papers.comparison(summary, theirs, n_classes=n_classes),
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
        ("begun", info.created),
        ("nasx", info.nasx_version),
        ("torch", info.torch_version),
        ("python", info.python_version),
        ("config hash", info.config_hash),
    ]
