"""Warm start: a new search whose first candidates are the front of another run.

Only genotypes travel. The networks are trained again, because data, objectives or recipe may differ. The genotypes are
stored in the config of the new run, which therefore repeats and resumes without the other run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nasx.config.components import TARGET, build
from nasx.config.plain import Config, get
from nasx.errors import ConfigError, RunError
from nasx.escaping import printable
from nasx.protocols import SearchSpace
from nasx.reports.summary import summarize_run
from nasx.runs.check import genotype_problem, network_id
from nasx.runs.stored_run import StoredRun, open_run
from nasx.trial import Genotype


def with_warm_start(config: Config, run_dir: Path, notify: Callable[[str], None]) -> Config:
    """Return the config of a new search that begins with the recommended front of a run.

    Nothing of the other run's config is built or imported: its journal suffices.

    Args:
        config: of the new search, with numbers for all settings.
        run_dir: directory of the other run.
        notify: receives messages for the user, one line each.

    Raises:
        RunError: if the other run has no front or is damaged.
        ConfigError: if its networks are not networks of the new search's space.
    """
    space: SearchSpace = build(config["space"], "space")
    with open_run(run_dir, notify=notify) as run:
        trials = run.journal.trials()
        front = [member.arch_id for member in summarize_run(trials, run.info).front]
        if not front:
            raise RunError(f"--warm-start: {run_dir} has no network on its front. `nasx runs show` lists its trials.")
        genotypes = {trial.arch_id: trial.genotype for trial in trials}
        for arch_id in front:
            if not _is_same(space, run, genotypes[arch_id], arch_id):
                raise ConfigError(
                    f"--warm-start: {run_dir} searched another space, {_describe((run.found or {}).get('space'))}; "
                    f"this search has {_describe(config['space'])}. Choose the same space with its settings, or "
                    "start without --warm-start."
                )
    chosen = spread(front, int(get(config, "algorithm.evaluations", len(front))))
    some = f"{len(chosen)} of the {len(front)} networks" if len(chosen) < len(front) else _networks(len(front))
    notify(f"Warm start: begins with {some} on the front of {run_dir}, which are trained again.")
    return {**config, "warm_start": {"run": str(run_dir), "genotypes": [list(genotypes[a]) for a in chosen]}}


def _networks(count: int) -> str:
    return "the network" if count == 1 else f"the {count} networks"


def _is_same(space: SearchSpace, run: StoredRun, genotype: Genotype, arch_id: str) -> bool:
    """Return whether a network of a run is the same network of a space, by its id."""
    names = tuple(tuple(space.allele_names(gene)) for gene in range(len(space.gene_sizes)))
    if run.info.alleles and run.info.alleles != names:
        return False
    return genotype_problem(space, genotype) is None and network_id(space, genotype) == arch_id


def _describe(node: Any) -> str:
    """Return a section `space` in words: name of the class and settings."""
    if not isinstance(node, Mapping):
        return "an unknown one"
    settings = ", ".join(f"{name} {value}" for name, value in node.items() if name != TARGET)
    return printable(f"{str(node.get(TARGET)).rpartition('.')[2]} ({settings})")[:200]


def spread(front: Sequence[str], limit: int) -> list[str]:
    """Return at most `limit` members of a sorted front, evenly spread, with both ends if possible.

    >>> spread(["a", "b", "c", "d", "e"], 3), spread(["a", "b"], 8)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    if len(front) <= limit:
        return list(front)
    return [front[i] for i in np.linspace(0, len(front) - 1, limit).round().astype(int)]
