"""Run `nsga2` of another version of nasx as a process: genotypes on stdout, their costs on stdin, one JSON per line.

    python scripts/bench/released_nsga2.py TREE SEED TRAININGS

TREE is the directory that contains that version's package `nasx`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(tree: Path, seed: int, trainings: int) -> None:
    """Search; exchange one genotype and its costs per training.

    Args:
        tree: directory that contains the package `nasx`.
        seed: of the search.
        trainings: budget.
    """
    sys.path.insert(0, str(tree))
    import nasx  # the version in `tree`
    from nasx.algorithms.nsga2 import NSGA2
    from nasx.protocols import Problem
    from nasx.spaces.nb201 import NASBench201

    assert Path(nasx.__file__).is_relative_to(tree), f"imported {nasx.__file__}, not from {tree}"
    space = NASBench201()
    problem = Problem(
        gene_sizes=space.gene_sizes, n_objectives=2, seed=seed, key=space.canonical, is_connected=space.is_connected
    )
    algorithm = NSGA2(problem=problem)
    for _ in range(trainings):
        candidate = algorithm.ask()
        assert candidate is not None
        print(json.dumps(candidate.genotype), flush=True)
        algorithm.tell(candidate.number, json.loads(sys.stdin.readline()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]))
