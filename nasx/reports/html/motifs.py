"""Motifs: combinations of operations on edges that are more frequent on the front than off it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

LARGEST = 3  # traits of a motif, at most
MANY_TRAITS = 16  # per network, from which motifs of three are too many to count
SHOWN = 10  # motifs of each size, at most


@dataclass(frozen=True)
class Motif:
    """Set of traits that occur together."""

    traits: tuple[str, ...]  # e.g. ("0→1 skip_connect", "1→3 nor_conv_3x3")
    on_front: int  # networks on the front that have all of them
    elsewhere: int  # other networks that have all of them


def motifs(traits: Mapping[str, Sequence[str]], front: Collection[str]) -> dict[int, list[Motif]]:
    """Return, by size, the motifs whose frequency on the front exceeds that off the front the most.

    A motif occurs in at least two members of the front. Ties: first the motif that is less frequent off the front, then
    in alphabetical order. `traits`: of each network, by arch_id; `front`: ids of its members.

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
