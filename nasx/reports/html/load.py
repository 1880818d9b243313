"""Load everything that the report of a run shows: journal, config, edges, pictures, final trainings."""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from PIL import Image

from nasx.config.components import build, dataset_name
from nasx.config.compose import load_resolved
from nasx.networks.edge import NONE, Edge
from nasx.protocols import SearchSpace
from nasx.reports.text import format_value
from nasx.runs.directory import ARCHS, CONFIG, arch_dir, kept_weights
from nasx.runs.journal import Journal
from nasx.runs.training_records import read_final_record
from nasx.trial import OBJECTIVES, Genotype, Trial

if TYPE_CHECKING:
    from nasx.runs.rows import Lineage, RunInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class RunMaterial:
    """A run as the report is given it."""

    trials: Sequence[Trial]
    lineage: Sequence[Lineage]
    info: RunInfo
    place: str  # the run directory, as it was named
    dataset: str = ""  # its `Dataset.name`; empty: results were looked up in a table
    edges: Mapping[str, Sequence[Edge]] = field(default_factory=dict)  # by arch_id; empty: a space without cells
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what motifs are made of, by arch_id
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)  # by arch_id
    tested: Mapping[str, str] = field(default_factory=dict)  # error on the test images in words, by arch_id
    trained: frozenset[str] = frozenset()  # the networks whose weights are kept
    commands: Sequence[Mapping[str, Any]] = ()  # what goes on from a network: text before its id, what, needs_weights
    config: str = ""  # config.yaml
    reproduce: Sequence[str] = ()  # commands that repeat the run


WIDEST = 900  # pixels: nearly twice what a panel is wide
QUALITY = 75  # of WebP, in 0..100
# folder of a network -> file -> what it shows; the names are those of `explanation.py` and `debugging.py`
PICTURES = {
    "explanation": {
        "shap.png": "What its decisions rest on: sample images with what speaks for and against each class",
        "maps.png": "Where the classes lie after each stage",
        "tree.png": "Which classes are alike",
        "activity.png": "How active each block is for each class",
    },
    "diagnostics": {
        "reliability.png": "Can its confidence be trusted? Accuracy against confidence",
        "risk_coverage.png": "Does its doubt find the errors? Errors among the images answered",
        "suspects.png": "The training images whose labels look wrong",
    },
}


@dataclass(frozen=True)
class Picture:
    """A picture as a page carries it."""

    caption: str
    source: str  # data URI
    width: int  # pixels
    height: int


def gallery(directory: Path) -> list[Picture]:
    """The pictures that lie below the directory of one network, in the order of `PICTURES`.

    The cell, the distances and the profile are left out: the page draws them itself.
    """
    return [
        shrink(path, caption)
        for folder, files in PICTURES.items()
        for name, caption in files.items()
        if (path := directory / folder / name).is_file()
    ]


def shrink(path: Path, caption: str) -> Picture:
    """A picture file as WebP of at most `WIDEST` pixels across."""
    with Image.open(path) as image:
        flat = image.convert("RGB")
    flat.thumbnail((WIDEST, 4 * WIDEST), Image.Resampling.HAMMING)  # half the time of LANCZOS, and fewer bytes
    buffer = io.BytesIO()
    flat.save(buffer, "WEBP", quality=QUALITY, method=2)  # method 2 of 6: half the time for 5 % more bytes
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(caption, source, *flat.size)


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
    with Journal.open(run, read_only=True) as store:
        trials, lineage, info = store.trials(), store.candidates(), store.info
    config = load_resolved(run / CONFIG)
    space: Any = build(config["space"], "space")
    has_cells = hasattr(space, "edges")  # not every space has cells
    genotypes = {t.arch_id: t.genotype for t in trials}
    place = shlex.quote(str(run))
    return RunMaterial(
        trials=trials,
        lineage=lineage,
        info=info,
        place=str(run),
        dataset=dataset_name(config),
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
        record = read_final_record(arch_dir(run, arch_id) / "final")
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
