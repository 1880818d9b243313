"""From a run directory to what its report is made of: the journal, the config, the space's edges, the pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from nasx import config as configs
from nasx.final.record import read_record
from nasx.networks.edge import NONE
from nasx.protocols import SearchSpace
from nasx.reports.gallery import Picture, gallery
from nasx.reports.run_data import RunMaterial
from nasx.reports.wording import format_value
from nasx.rundir import ARCHS, CONFIG, arch_dir, kept_weights
from nasx.store import RunStore
from nasx.trial import OBJECTIVES, Genotype, Trial

# what goes on from a network, by command: what it is for, and whether it takes the trained weights
ONWARD = {
    "explain": ("Explain it in pictures and plain words", True),
    "debug": ("See how far it can be trusted, and which labels look wrong", True),
    "train": ("Train it in full, and judge it on the test images", False),
    "export": ("Hand it on", True),
}


def gather(run: Path, commands: Sequence[str]) -> RunMaterial:
    """All that is known of a run, also while it runs. `commands`: those that nasx has.

    Raises RunError where the journal cannot be read, ConfigError where the run's config cannot.
    """
    with RunStore.open(run, read_only=True) as store:
        trials, lineage, info = store.trials(), store.candidates(), store.info
    config = configs.load_resolved(run / CONFIG)
    space: Any = configs.build(config["space"], "space")
    has_cells = hasattr(space, "edges")  # not every space has cells
    genotypes = {t.arch_id: t.genotype for t in trials}
    place = shlex.quote(str(run))
    return RunMaterial(
        trials=trials,
        lineage=lineage,
        info=info,
        place=str(run),
        dataset=configs.dataset_name(config),
        edges={a: space.edges(g) for a, g in genotypes.items()} if has_cells else {},
        traits={a: _traits(space, g, has_cells=has_cells) for a, g in genotypes.items()},
        pictures=_pictures(run, trials),
        tested=_tested(run, trials),
        trained=frozenset(arch_id for arch_id, _ in kept_weights(run)),
        commands=[
            {"text": f"nasx {name} --run-dir {place} --arch-id", "what": what, "needs_weights": needs_weights}
            for name, (what, needs_weights) in ONWARD.items()
            if name in commands and not (config.get("evaluation") and name == "train")
        ],
        config=(run / CONFIG).read_text("utf-8"),
        reproduce=_reproduce(config, place),
    )


def _traits(space: SearchSpace, genotype: Genotype, *, has_cells: bool) -> list[str]:
    """What a network is made of, gene by gene; a gene that puts nothing on its edge is no trait."""
    names = [
        (gene, space.allele_names(i)[allele])
        for i, (gene, allele) in enumerate(zip(space.gene_names, genotype, strict=True))
    ]
    return [f"{gene}: {allele}" for gene, allele in names if not (has_cells and allele == NONE)]


def _pictures(run: Path, trials: Sequence[Trial]) -> dict[str, list[Picture]]:
    """The pictures of every network that has some; only directories of the run's own networks are looked into."""
    return {a: found for a in dict.fromkeys(t.arch_id for t in trials) if (found := gallery(run / ARCHS / a))}


def _tested(run: Path, trials: Sequence[Trial]) -> dict[str, str]:
    """The error on the test images of every network that has been trained to the end, over its seeds."""
    found = {}
    for arch_id in dict.fromkeys(t.arch_id for t in trials):
        record = read_record(arch_dir(run, arch_id) / "final")
        tests = [t.test["error"] for t in record.trainings if t.test] if record else []
        if errors := [error for error in tests if error is not None]:
            spread = f" ± {100 * stdev(errors):.2f}" if len(errors) > 1 else ""
            mean = format_value(OBJECTIVES["error"], fmean(errors)).removesuffix(" %")
            found[arch_id] = f"{mean}{spread} % ({len(errors)} final training{'s' if len(errors) > 1 else ''})"
    return found


def _reproduce(config: Mapping[str, Any], place: str) -> list[str]:
    """The command that began the run, and the one that goes on with it."""
    provenance = config.get("provenance") or {}
    goes_on = f"nasx search --resume --run-dir {place}"
    if "config" not in provenance:  # begun from Python
        return [goes_on]
    words = [str(provenance["config"]), *map(str, provenance.get("overrides", ()))]
    return [f"nasx search --config {shlex.join(words)}", goes_on]
