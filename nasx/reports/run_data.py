"""What the report of a run shows, as plain JSON values: every figure on the page is worked out here, from trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nasx.errors import NasxError
from nasx.networks.edge import Edge
from nasx.reports import paper as papers
from nasx.reports.gallery import Picture
from nasx.reports.growth import hypervolume_growth
from nasx.reports.motifs import motifs
from nasx.reports.phylogeny import phylogeny
from nasx.reports.summary import ArchitectureResult, FrontSummary, summarise
from nasx.reports.wording import COUNTS, clean, hypervolume_sentence, trials_sentence
from nasx.trial import OBJECTIVES, Objective, Score, Trial, TrialStatus

if TYPE_CHECKING:
    from nasx.store.records import Lineage, RunInfo

ALWAYS_WHOLE = 10  # classes: up to here every network brings the distances of all its pairs of classes,
AT_MOST_WHOLE = 40  # ... up to here those of the front and those explained do,
SHOWN_PAIRS = 5  # ... and else this many of the closest and of the farthest pairs
TOLD = 600  # characters of why a trial is not complete; `nasx runs show` tells the rest


@dataclass(frozen=True, kw_only=True, eq=False)
class RunMaterial:
    """A run as the report is given it."""

    trials: Sequence[Trial]
    lineage: Sequence[Lineage]
    info: RunInfo
    place: str  # the run directory, as it was named
    dataset: str = ""  # name of its reader, in lower case; empty: looked up in a table
    edges: Mapping[str, Sequence[Edge]] = field(default_factory=dict)  # by arch_id; empty: a space without cells
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what motifs are made of, by arch_id
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)  # by arch_id
    trained: frozenset[str] = frozenset()  # the networks whose weights are kept
    commands: Sequence[Mapping[str, Any]] = ()  # what goes on from a network: text before its id, what, needs_weights
    config: str = ""  # config.yaml
    reproduce: Sequence[str] = ()  # commands that make the run anew


def run_data(material: RunMaterial) -> dict[str, Any]:
    """Everything on the page, ready for `json.dumps(..., allow_nan=False)`."""
    info, trials = material.info, material.trials
    summary = summarise(trials, info.objectives, n_classes=info.n_classes)
    layers = _Interned()
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
        "trials": trials_sentence(summary),
        "networks": networks,
        "layers": layers.values,
        "growth": [_round(v) for v in hypervolume_growth(_by_finish(trials), summary.objectives, summary.reference)],
        "phylogeny": _phylogeny(material, front, summary.objectives),
        "motifs": _motifs(material, front, summary.architectures),
        "paper": _paper(material),
        "pictures": {a: [asdict(p) for p in own] for a, own in material.pictures.items() if own},
        "commands": [dict(c) for c in material.commands],
        "facts": _facts(info),
        "config": material.config,
        "reproduce": list(material.reproduce),
    }


class _Interned:
    """Lists of layer names, each kept once: all networks of a kind share theirs."""

    def __init__(self) -> None:
        self.values: list[list[str]] = []
        self._places: dict[tuple[str, ...], int] = {}

    def place(self, names: Sequence[str]) -> int:
        key = tuple(clean(name) for name in names)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(list(key))
        return self._places[key]


def _by_finish(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda t: (t.finished, t.candidate.number, t.replicate))


def _networks(material: RunMaterial, summary: FrontSummary, layers: _Interned) -> list[dict[str, Any]]:
    """One record a network, in the order of finishing; failed ones too."""
    groups: dict[str, list[Trial]] = {}
    for trial in _by_finish(material.trials):
        groups.setdefault(trial.arch_id, []).append(trial)
    results = {a.arch_id: a for a in summary.architectures}
    noteworthy = {m.arch_id for m in (*summary.front, *summary.rivals)} | set(material.pictures)
    n_classes = material.info.n_classes
    whole = {a for a in groups if n_classes <= ALWAYS_WHOLE or (n_classes <= AT_MOST_WHOLE and a in noteworthy)}
    parents = {t.arch_id: t.candidate.parents for t in material.trials}
    by_number = {entry.candidate.number: entry.arch_id for entry in material.lineage}
    return [
        _network(group, results.get(arch_id), layers, whole=arch_id in whole)
        | {
            "edges": [[e.source, e.target, e.operation] for e in material.edges.get(arch_id, ())],
            "parents": [by_number[n] for n in parents[arch_id] if n in by_number],
            "has_weights": arch_id in material.trained,
        }
        for arch_id, group in groups.items()
    ]


def _network(
    trials: Sequence[Trial], result: ArchitectureResult | None, layers: _Interned, *, whole: bool
) -> dict[str, Any]:
    """A network: the means of its complete trials, else what is known of the first one."""
    first = next((t for t in trials if t.is_complete), trials[0])
    evaluation, candidate = first.evaluation, first.candidate
    metrics = dict(result.metrics if result else first.metrics)
    metrics |= {"train_seconds": float(np.mean([t.evaluation.train_seconds for t in trials]))}
    return {
        "id": first.arch_id,
        "generation": candidate.generation,
        "operator": candidate.operator,
        "status": str(first.status),
        "reason": str(evaluation.reason or ""),
        "detail": evaluation.detail.strip()[-TOLD:],
        "architecture": first.architecture,
        "trainings": len(trials),
        "failed_trainings": sum(not t.is_complete for t in trials),
        "p_front": _round(result.front_probability) if result else None,
        "metrics": {name: _round(value) for name, value in metrics.items()},
        "spread": {name: _round(value) for name, value in result.spread.items()} if result else {},
        "scores": [_score(score, layers, whole=whole) for score in evaluation.scores],
    }


def _score(score: Score, layers: _Interned, *, whole: bool) -> dict[str, Any]:
    upper = score.distances[np.triu_indices(len(score.distances), k=1)]
    record: dict[str, Any] = {
        "scorer": clean(score.scorer),
        "value": _round(score.value),
        "layers": layers.place(list(score.profile)),
        "profile": [_round(v, 3) for v in score.profile.values()],
        "samples": score.n_samples,
        "completeness_error": None if score.completeness_error is None else _round(score.completeness_error, 3),
    }
    if whole:
        return record | {"distances": [_round(v, 3) for v in upper.tolist()]}
    return record | dict(zip(("closest", "farthest"), _extremes(upper, len(score.distances)), strict=True))


def _extremes(upper: NDArray[np.float64], n_classes: int) -> tuple[list[list[Any]], list[list[Any]]]:
    """The closest and the farthest pairs as [first class, second class, distance]."""
    first, second = np.triu_indices(n_classes, k=1)
    known = np.flatnonzero(np.isfinite(upper))
    order = known[np.argsort(upper[known], kind="stable")]
    pairs = [[int(first[i]), int(second[i]), _round(float(upper[i]), 3)] for i in order]
    return pairs[:SHOWN_PAIRS], pairs[: -SHOWN_PAIRS - 1 : -1]


def _metrics(networks: Sequence[Mapping[str, Any]], objectives: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What can be an axis: the objectives first, then what else is recorded of some complete network."""
    complete = [n["metrics"] for n in networks if n["status"] == "complete"]
    recorded = dict.fromkeys(name for metrics in complete for name in metrics)
    for name in [n for n in recorded if n.startswith("introspectability_")]:
        if all(metrics.get(name) == metrics.get("introspectability") for metrics in complete):
            del recorded[name]  # the scorer that is the objective goes by that name alone
    names = [*objectives, *(m for m in OBJECTIVES if m in recorded and m not in objectives)]
    names += [m for m in recorded if m not in names]
    return {name: _metric(name) for name in names}


def _metric(name: str) -> dict[str, Any]:
    """How a metric is called and shown; `better`: +1 where more is better, -1 where less is, else 0."""
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


def _phylogeny(material: RunMaterial, front: Sequence[str], objectives: Sequence[Objective]) -> dict[str, Any]:
    tree = phylogeny(material.trials, material.lineage, front, objectives)
    return {
        "nodes": [[a, g, _round(tree.heights[a], 3), a in tree.led] for a, g in tree.generations.items()],
        "links": tree.links,
        "left_out": tree.left_out,
        "share_of_ancestors": tree.share_of_ancestors,
        "share_of_all": tree.share_of_all,
    }


def _motifs(
    material: RunMaterial, front: Sequence[str], complete: Sequence[ArchitectureResult]
) -> list[dict[str, Any]]:
    """Motifs of the front by size; empty where nothing is known of what networks are made of."""
    traits = {a.arch_id: material.traits[a.arch_id] for a in complete if a.arch_id in material.traits}
    others = len(traits) - len(front)
    return [
        {"size": size, "rows": [[list(m.traits), m.on_front, len(front), m.elsewhere, others] for m in rows]}
        for size, rows in motifs(traits, front).items()
    ]


def _paper(material: RunMaterial) -> dict[str, Any] | None:
    """The paper's front beside this run's, measured alike; None where either is lacking."""
    if material.dataset not in papers.MEASURES:
        return None
    theirs = papers.paper_front(material.dataset)
    try:
        measured = papers.in_paper_measure(material.trials, theirs)
    except NasxError:  # the run has not recorded the paper's score
        return None
    n_classes = material.info.n_classes
    summary = summarise(measured, papers.OBJECTIVE_NAMES, n_classes=n_classes)
    return {
        "sentence": papers.comparison(summary, theirs, n_classes=n_classes),
        "source": theirs.source,
        "scorer": theirs.scorer,
        "theirs": [[_round(x), _round(y)] for x, y in zip(theirs.introspectability, theirs.error, strict=True)],
        "ours": [
            [_round(m.metrics["introspectability"]), _round(m.metrics["error"]), m.arch_id] for m in summary.front
        ],
        "chance": 1 - 1 / n_classes,
        "difference": _round(summary.hypervolume - theirs.hypervolume(n_classes)),
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


def _round(value: float, digits: int = 5) -> float | int | None:
    """A number as JSON knows it, to as many digits as can be seen; None where there is none."""
    if not math.isfinite(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() else round(number, digits)
