"""Motifs: operations on edges that recur in the networks of the front."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

LARGEST = 3  # traits of a motif at most
MANY_TRAITS = 16  # of a network, from which motifs of three are too many to count
SHOWN = 10  # motifs of each size


@dataclass(frozen=True)
class Motif:
    """Traits that occur together."""

    traits: tuple[str, ...]  # e.g. ("0→1 skip_connect", "1→3 nor_conv_3x3")
    on_front: int  # networks of the front that have them all
    elsewhere: int  # other networks that have them all


def motifs(traits: Mapping[str, Sequence[str]], front: Collection[str]) -> dict[int, list[Motif]]:
    """By size, the motifs whose share among the front exceeds that among all others the most.

    `traits`: those of each network, by arch_id; `front`: ids of its members. A motif counts where at least two members
    of the front have it. Ties go to the smaller number elsewhere, then to the alphabet.

    >>> found = motifs({"a": ["x", "y"], "b": ["x", "y"], "c": ["x"]}, ["a", "b"])
    >>> [m.traits for m in found[1]], found[2]
    ([('y',), ('x',)], [Motif(traits=('x', 'y'), on_front=2, elsewhere=0)])
    """
    names = sorted({t for own in traits.values() for t in own})
    place = {name: i for i, name in enumerate(names)}
    members = [a for a in traits if a in front]
    has = np.zeros((len(traits), len(names)), dtype=bool)
    for row, own in enumerate(traits.values()):
        has[row, [place[t] for t in own]] = True
    is_member = np.array([a in front for a in traits], dtype=bool)
    longest = max((len(traits[a]) for a in members), default=0)
    sizes = range(1, 1 + (LARGEST if longest < MANY_TRAITS else 2))
    found = {}
    for size in sizes:
        sets = sorted({c for a in members for c in combinations(sorted(place[t] for t in traits[a]), size)})
        counted = [_count(np.all(has[:, columns], axis=1), is_member) for columns in map(list, sets)]
        rows = [Motif(tuple(names[i] for i in c), *n) for c, n in zip(sets, counted, strict=True) if n[0] > 1]
        rows.sort(key=lambda m: (-_excess(m, len(members), len(traits) - len(members)), m.elsewhere, m.traits))
        found[size] = rows[:SHOWN]
    return {size: rows for size, rows in found.items() if rows}


def _count(has_all: NDArray[np.bool_], is_member: NDArray[np.bool_]) -> tuple[int, int]:
    on_front = int((has_all & is_member).sum())
    return on_front, int(has_all.sum()) - on_front


def _excess(motif: Motif, n_front: int, n_others: int) -> float:
    return motif.on_front / n_front - motif.elsewhere / max(1, n_others)
