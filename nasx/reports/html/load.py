"""Load the input of a report: journal, config, edges, figures and final trainings of a run."""

from __future__ import annotations

import base64
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from PIL import Image

from nasx.config.components import build, dataset_name, published_name
from nasx.config.plain import to_yaml
from nasx.data.corrections import in_words
from nasx.errors import RunError, first_line
from nasx.files import read_bounded
from nasx.networks.edge import NONE, Edge
from nasx.protocols import HasCells, SearchSpace
from nasx.reports.text import describe_warm_start, format_value
from nasx.reports.training_tables import test_report
from nasx.runs.check import genotype_problem
from nasx.runs.directory import arch_dir, file_in
from nasx.runs.stored_run import DEFAULT, ReadOptions, open_run
from nasx.runs.training_records import FinalRecord, read_final_record
from nasx.trial import OBJECTIVES, Genotype, Trial

if TYPE_CHECKING:
    from nasx.runs.rows import Lineage, RunInfo


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportInput:
    """Input of a report: one run, finished or not."""

    trials: Sequence[Trial]
    lineage: Sequence[Lineage]
    info: RunInfo
    run_dir: str  # as given by the user
    dataset: str = ""  # `Dataset.name`; empty: results come from a table
    published: str = ""  # name of the published dataset; empty: none, or the user's own data
    edges: Mapping[str, Sequence[Edge]] = field(default_factory=dict)  # by arch_id; empty: the space has no cells
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)  # of motifs, by arch_id
    figures: Mapping[str, Sequence[EmbeddedFigure]] = field(default_factory=dict)  # by arch_id
    tested: Mapping[str, str] = field(default_factory=dict)  # test error as text, by arch_id
    trained: frozenset[str] = frozenset()  # networks that have weights or can be trained again from their seed
    commands: Sequence[Mapping[str, Any]] = ()  # for one network: text (without its id), purpose, needs_weights
    config: str = ""  # text of config.yaml
    reproduce: Sequence[str] = ()  # commands that repeat or resume the run
    facts: Sequence[tuple[str, str]] = ()  # corrections and warm start in words


MAX_FIGURE = 50_000_000  # bytes of a figure file
MAX_PIXELS = 100_000_000
MAX_WIDTH = 900  # pixels: nearly twice the width of a panel
WEBP_QUALITY = 75  # in 0..100
# folder of a network -> file -> caption; files of `explanation_page.py` and `debugging_page.py`
FIGURES = {
    "explanation": {
        "shap.png": "Evidence for its decisions: sample images with SHAP values",
        "maps.png": "Classes after each stage (principal components)",
        "tree.png": "Similarity of the classes",
        "activity.png": "Activation of each block for each class",
    },
    "diagnostics": {
        "confusion.png": "Confusion matrix of the validation images",
        "reliability.png": "Reliability of its confidence: accuracy against confidence",
        "risk_coverage.png": "Error when the least confident images are rejected",
        "suspects.png": "Training images with the most suspect labels",
    },
}


@dataclass(frozen=True)
class EmbeddedFigure:
    """Figure that is embedded in the page."""

    caption: str
    source: str  # data URI
    width: int  # pixels
    height: int


def load_figures(directory: Path) -> list[EmbeddedFigure]:
    """Load the figures in the directory of one network, in the order of `FIGURES`.

    Cell, distances and profile are not included: the page draws them itself.
    """
    return [
        compress_figure(path, caption)
        for folder, files in FIGURES.items()
        for name, caption in files.items()
        if (path := file_in(directory, folder, name)).is_file()
    ]


def compress_figure(path: Path, caption: str) -> EmbeddedFigure:
    """Convert an image file to WebP, at most `MAX_WIDTH` pixels wide. Raises RunError if it is damaged."""
    try:
        with Image.open(io.BytesIO(read_bounded(path, MAX_FIGURE))) as image:
            if math.prod(image.size) > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            flat = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as exc:
        raise RunError(f"{path} is damaged ({first_line(exc)}). Remove it, or draw it again.") from exc
    flat.thumbnail((MAX_WIDTH, 4 * MAX_WIDTH), Image.Resampling.HAMMING)  # half the time of LANCZOS, and fewer bytes
    buffer = io.BytesIO()
    flat.save(buffer, "WEBP", quality=WEBP_QUALITY, method=2)  # method 2 of 6: half the time for 5 % more bytes
    source = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return EmbeddedFigure(caption, source, *flat.size)


# command -> (purpose, whether it needs a trained network)
NEXT_COMMANDS = {
    "explain": ("Explain it in figures and text", True),
    "debug": ("Check its confidence and find suspect labels", True),
    "train": ("Train it fully and evaluate it on the test images", False),
    "export": ("Export it for use without nasx", True),
}


def load_report_input(run: Path, commands: Sequence[str], options: ReadOptions = DEFAULT) -> ReportInput:
    """Load a run, finished or not; `commands`: names of the commands of nasx.

    Raises RunError if the journal or the config cannot be read, ConfigError if the config names unknown code.
    """
    with open_run(run, trust_code=options.trust_code, notify=options.notify) as stored:
        trials, lineage, info = stored.journal.trials(), stored.journal.candidates(), stored.info
        config = stored.config
        corrections = stored.data.get("corrections")
    space: Any = build(config["space"], "space")
    cells = space if isinstance(space, HasCells) else None
    genotypes = {t.arch_id: t.genotype for t in trials}
    for trial in trials:
        if problem := genotype_problem(space, trial.genotype):
            raise RunError(
                f"the journal is damaged: trial {trial.arch_id}: {problem}. Run `nasx runs check` for details."
            )
    run_dir = shlex.quote(str(run))
    return ReportInput(
        trials=trials,
        lineage=lineage,
        info=info,
        run_dir=str(run),
        dataset=dataset_name(config),
        published=published_name(config),
        edges={a: cells.edges(g) for a, g in genotypes.items()} if cells else {},
        traits={a: _traits(space, g, has_cells=cells is not None) for a, g in genotypes.items()},
        figures=_figures(run, trials),
        tested=_tested(run, trials),
        trained=frozenset(t.arch_id for t in trials if t.is_complete and config.get("evaluation") is None),
        commands=[
            {"text": f"nasx {name} --run-dir {run_dir} --arch-id", "purpose": purpose, "needs_weights": needs_weights}
            for name, (purpose, needs_weights) in NEXT_COMMANDS.items()
            if name in commands and not (config.get("evaluation") and name == "train")
        ],
        config=to_yaml(config),
        facts=[
            (name, fact)
            for name, fact in (
                ("corrections", in_words(corrections.facts) if corrections else ""),
                ("warm start", describe_warm_start(config)),
            )
            if fact
        ],
        reproduce=_reproduce(config, run_dir),
    )


def _traits(space: SearchSpace, genotype: Genotype, *, has_cells: bool) -> list[str]:
    """Return the gene and allele names of a genotype, without edges that carry no operation."""
    names = [
        (gene, space.allele_names(i)[allele])
        for i, (gene, allele) in enumerate(zip(space.gene_names, genotype, strict=True))
    ]
    return [f"{gene}: {allele}" for gene, allele in names if not (has_cells and allele == NONE)]


def _figures(run: Path, trials: Sequence[Trial]) -> dict[str, list[EmbeddedFigure]]:
    """Load the figures of all networks that have some; directories of unknown networks are ignored."""
    return {a: found for a in dict.fromkeys(t.arch_id for t in trials) if (found := load_figures(arch_dir(run, a)))}


def _tested(run: Path, trials: Sequence[Trial]) -> dict[str, str]:
    """Return the test error of each fully trained network, as mean and standard deviation over its seeds."""
    found = {}
    for arch_id in dict.fromkeys(t.arch_id for t in trials):
        record = read_final_record(arch_dir(run, arch_id, "final"))
        tests = [t.test["error"] for t in record.trainings if t.test] if record else []
        if errors := [error for error in tests if error is not None]:
            spread = f" ± {100 * stdev(errors):.2f}" if len(errors) > 1 else ""
            mean = format_value(OBJECTIVES["error"], fmean(errors)).removesuffix(" %")
            macro = _macro(record) if record else ""
            found[arch_id] = f"{mean}{spread} % ({len(errors)} final training{'s' if len(errors) > 1 else ''}){macro}"
    return found


def _macro(record: FinalRecord) -> str:
    """Return the macro error on the test images if they are unbalanced, else an empty text."""
    report = test_report(record)
    if report is None or not report.is_unbalanced:
        return ""
    return f"; macro error {format_value(OBJECTIVES['macro_error'], report.macro_error)}"


def _reproduce(config: Mapping[str, Any], run_dir: str) -> list[str]:
    """Return the command that started the run, and the one that resumes it."""
    provenance, resume = config.get("provenance"), f"nasx search --resume --run-dir {run_dir}"
    if not isinstance(provenance, Mapping) or not isinstance(provenance.get("config"), str):  # started from Python
        return [resume]
    overrides = provenance.get("overrides")
    words = [provenance["config"], *map(str, overrides if isinstance(overrides, list) else ())]
    warm = config.get("warm_start")
    if isinstance(warm, Mapping) and isinstance(warm.get("run"), str):
        words += ["--warm-start", warm["run"]]
    return [f"nasx search --config {shlex.join(words)}", resume]
