"""Lineage of the front: its ancestors, arranged by generation."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nasx import pareto
from nasx.reports.summary import FrontSummary
from nasx.trial import Trial, costs

if TYPE_CHECKING:
    from nasx.runs.rows import Lineage

SHOWN = 400  # networks at most: the front and its nearest ancestors


@dataclass(frozen=True)
class Phylogeny:
    """Front and its ancestors; each network is in the generation in which it was first proposed."""

    generations: Mapping[str, int]  # arch_id -> generation, of the networks shown
    heights: Mapping[str, float]  # arch_id -> y coordinate within its generation, in [0, 1]
    links: tuple[tuple[str, str], ...]  # (parent, child)
    leaders: frozenset[str]  # dominated by no network of their generation or an earlier one, by the estimates
    left_out: int  # number of ancestors not shown
    share_of_ancestors: float | None  # share of leaders among the front's ancestors; None: no ancestors
    share_of_all: float | None  # share of leaders among all complete networks; None: no networks


def phylogeny(trials: Sequence[Trial], lineage: Sequence[Lineage], summary: FrontSummary) -> Phylogeny:
    """Return the ancestors of the networks on the front.

    A candidate that trains a known network again is neither a child of it nor a new network.

    Args:
        trials: of the run.
        lineage: of all candidates; repeats of a known network have no trial, but may have children.
        summary: of the same trials.
    """
    front = [member.arch_id for member in summary.front]
    firsts = {t.arch_id: t for t in reversed(trials) if t.replicate == 0}
    names = {entry.candidate.number: entry.arch_id for entry in lineage}
    parents: dict[str, set[str]] = {}
    for entry in lineage:
        # a repeat or a re-training does not create the network, so its parents are not the network's
        if not entry.answered and entry.candidate.replicate == 0:
            known = {names[n] for n in entry.candidate.parents if names.get(n) in firsts}
            parents.setdefault(entry.arch_id, set()).update(known - {entry.arch_id})
    order = _ancestors(front, parents)
    ancestors, shown = order[len(front) :], set(order[:SHOWN])
    leaders = _leaders(firsts, summary)
    generations = {a: firsts[a].candidate.generation for a in order if a in shown}
    complete = [a.arch_id for a in summary.architectures]
    links = tuple((p, c) for c in generations for p in sorted(parents.get(c, ())) if p in generations)
    return Phylogeny(
        generations=generations,
        heights=_heights(generations, links),
        links=links,
        leaders=frozenset(leaders & shown),
        left_out=len(order) - len(shown),
        share_of_ancestors=_share(ancestors, leaders),
        share_of_all=_share(complete, leaders),
    )


def _ancestors(front: Sequence[str], parents: Mapping[str, Collection[str]]) -> list[str]:
    """Return the front, then its ancestors, the nearest first."""
    found = dict.fromkeys(front)
    waiting = list(front)
    for child in waiting:
        for parent in sorted(parents.get(child, ())):
            if parent not in found:
                found[parent] = None
                waiting.append(parent)
    return list(found)


def _leaders(firsts: Mapping[str, Trial], summary: FrontSummary) -> set[str]:
    """Return the networks that no network proposed by the end of their generation dominates."""
    complete = [a for a in summary.architectures if a.arch_id in firsts]
    points = np.array([costs(a.metrics, summary.objectives) for a in complete]).reshape(-1, len(summary.objectives))
    born = np.array([firsts[a.arch_id].candidate.generation for a in complete])
    leaders: set[str] = set()
    front = np.empty(0, dtype=int)  # of all networks proposed so far
    for generation in np.unique(born):
        known = np.concatenate([front, np.flatnonzero(born == generation)])
        front = known[pareto.front_mask(points[known])]
        leaders.update(complete[i].arch_id for i in front if born[i] == generation)
    return leaders


def _heights(generations: Mapping[str, int], links: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return y coordinates that keep links short: parents are sorted by the mean of their children's coordinates."""
    children: dict[str, list[str]] = {}
    for parent, child in links:
        children.setdefault(parent, []).append(child)
    heights: dict[str, float] = {}
    for generation in sorted(set(generations.values()), reverse=True):
        own = [a for a, g in generations.items() if g == generation]
        wanted = {a: [heights[c] for c in children.get(a, ()) if c in heights] for a in own}
        own.sort(key=lambda a: sum(wanted[a]) / len(wanted[a]) if wanted[a] else 0.5)
        heights |= {a: (i + 0.5) / len(own) for i, a in enumerate(own)}
    return heights


def _share(networks: Sequence[str], leaders: Collection[str]) -> float | None:
    return sum(a in leaders for a in networks) / len(networks) if networks else None
