"""Integrity check of a run directory: everything that any command relies on.

The journal is read as other commands read it, row by row, and compared with the space and the config; then the files.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from nasx.config.components import build
from nasx.data.corrections import MAX_BYTES as MAX_CORRECTIONS
from nasx.errors import NasxError, RunError
from nasx.files import find_corruption, kind_of, read_bounded, read_record
from nasx.protocols import SearchSpace
from nasx.runs.columns import TOLERANCE
from nasx.runs.directory import ARCHS, CONFIG, CORRECTIONS_COPY, DATABASE, arch_dirs, file_in, kept_weights
from nasx.runs.journal import Journal
from nasx.runs.rows import Lineage, RunInfo
from nasx.runs.stored_run import open_run
from nasx.runs.training_records import (
    FINAL_RECORD,
    FINETUNED_RECORD,
    TEST_SET_EVALUATIONS,
    read_final_record,
    read_finetuned,
    read_test_set_evaluations,
)
from nasx.runs.weights import read_retrained, retrained_files
from nasx.trial import OBJECTIVES, Trial, arch_id, derive_seed

FindFront = Callable[[Sequence[Trial], RunInfo], Iterable[str]]
MAX_FILES = 1_000_000  # of a run directory that are looked at
_ANY_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


@dataclass(frozen=True)
class Defect:
    """One problem found in a run."""

    location: str  # "run.db", "candidate 5", "trial 3fa0c11d22", or a file in the run directory
    message: str  # sentence without a final period


@dataclass
class Checked:
    """Result of a check."""

    defects: list[Defect] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)  # names of the parts that were compared, sound or not
    left_out: list[str] = field(default_factory=list)  # parts that could not be compared, each with the reason


def check_run(run_dir: Path, *, front: FindFront | None = None, trust_code: bool = False) -> Checked:
    """Return all problems of a run. Reads all files and changes none.

    A candidate without a trial is not a problem: the search was stopped before the trial finished.

    Args:
        run_dir: Directory of the run.
        front: Returns the ids of the networks on the front; None: their weights are not looked for.
        trust_code: Build a search space whose class is neither of nasx nor of an installed package.

    Raises:
        RunError: If `run_dir` is not a run directory, or if its journal cannot be opened or is of a newer nasx.
    """
    found = Checked()
    found.defects += _unexpected_files(run_dir)
    found.verified.append("types of files")
    with Journal.open(run_dir, read_only=True) as journal:
        info = journal.info
        lineage, trials = _check_journal(journal, found)
        _check_corrections(run_dir, journal, found)
    if _check_config(run_dir, info, lineage, trials, found, trust_code=trust_code) and front is not None:
        kept = {name for name, _ in kept_weights(run_dir)} | {file.parent.name for file in retrained_files(run_dir)}
        missing = [name for name in front(trials, info) if name not in kept]
        found.defects += [Defect(f"{ARCHS}/{name}", "is on the front, but has no weights") for name in missing]
        found.verified.append("weights of the front")
    _check_weights(run_dir, found)
    _check_records(run_dir, trials, found)
    _check_retrained(run_dir, trials, found)
    return found


def _check_journal(journal: Journal, found: Checked) -> tuple[Sequence[Lineage], Sequence[Trial]]:
    """Check database, rows, lineage and trials. Returns the candidates and trials, none if rows are damaged."""
    defects = [Defect(DATABASE, message) for message in (*journal.problems(), *journal.row_problems())]
    found.verified += ["database", "every column and checksum of every row"]
    lineage: Sequence[Lineage] = ()
    trials: Sequence[Trial] = ()
    if not defects:
        try:
            lineage, trials = journal.candidates(), journal.trials()
            journal.noise(), journal.events(), journal.data()
        except RunError as exc:  # rows that do not fit each other
            defects.append(Defect(DATABASE, _one_sentence(exc)))
    found.defects.extend(defects)
    if defects:
        found.left_out.append("lineage, trials and space, because the journal is damaged")
        return (), ()
    found.defects += [*lineage_defects(lineage), *trial_defects(trials, lineage, journal.info)]
    found.verified += [f"lineage of {len(lineage):,} candidates", f"{len(trials):,} trials"]
    return lineage, trials


def _check_corrections(run_dir: Path, journal: Journal, found: Checked) -> None:
    """Check the run's copy of its corrections, if it has any, against the journal."""
    try:
        record = journal.data().get("corrections")
        if record is None:
            return
        content = read_bounded(file_in(run_dir, CORRECTIONS_COPY), MAX_CORRECTIONS)
    except FileNotFoundError:
        found.defects.append(Defect(CORRECTIONS_COPY, "is missing: it is the copy of the run's corrections"))
        return
    except RunError as exc:  # a damaged journal is reported elsewhere
        found.defects.append(Defect(CORRECTIONS_COPY, _one_sentence(exc)))
        return
    if hashlib.sha256(content).hexdigest() != record.facts.get("file_digest"):
        found.defects.append(Defect(CORRECTIONS_COPY, "differs from the corrections with which the run was started"))
    found.verified.append("corrections")


def _check_config(
    run_dir: Path,
    info: RunInfo,
    lineage: Sequence[Lineage],
    trials: Sequence[Trial],
    found: Checked,
    *,
    trust_code: bool,
) -> bool:
    """Check config.yaml against the journal, and the trials against the space; return whether networks were trained."""
    try:
        with open_run(run_dir, trust_code=trust_code, notify=lambda line: None) as run:
            config = run.config
            found.verified.append(f"{CONFIG} against the journal")
    except NasxError as exc:
        found.defects.append(Defect(CONFIG, _one_sentence(exc)))
        found.left_out.append("space, because the config cannot be used")
        return False
    try:
        space: SearchSpace = build(config["space"], "space")
    except NasxError as exc:
        found.defects.append(Defect(CONFIG, _one_sentence(exc)))
        return False
    found.defects += space_defects(space, info, lineage, trials)
    found.verified.append("networks, their ids and seeds against the space")
    return config.get("evaluation") is None


def space_defects(
    space: SearchSpace, info: RunInfo, lineage: Sequence[Lineage], trials: Sequence[Trial]
) -> Iterator[Defect]:
    """Check the journal against the space: names of alleles, genotypes, ids, texts and seeds are derived again.

    Args:
        space: The search space of the run.
        info: Has the seed of the run and the names of its alleles.
        lineage: All candidates.
        trials: All trials.
    """
    names = tuple(tuple(space.allele_names(gene)) for gene in range(len(space.gene_sizes)))
    if info.config and info.alleles != names:  # older versions may have named them otherwise
        yield Defect(DATABASE, "its names of alleles are not those of the space")
    for entry in lineage:
        genotype = entry.candidate.genotype
        if problem := genotype_problem(space, genotype):
            yield Defect(f"candidate {entry.candidate.number}", problem)
        elif (own := network_id(space, genotype)) != entry.arch_id:
            yield Defect(f"candidate {entry.candidate.number}", f"its network is {own}, recorded is {entry.arch_id}")
    for trial in trials:
        for message in _trial_problems(space, info, trial):
            yield Defect(_location(trial), message)


def _trial_problems(space: SearchSpace, info: RunInfo, trial: Trial) -> Iterator[str]:
    if problem := genotype_problem(space, trial.genotype):
        yield problem
        return
    if space.canonical(trial.genotype) != trial.genotype:
        yield "its genotype is not canonical"
    if (own := network_id(space, trial.genotype)) != trial.arch_id:
        yield f"its network is {own}"
    if space.describe(trial.genotype) != trial.architecture:
        yield "its architecture is not that of its genotype"
    if trial.seed != derive_seed(info.seed, trial.arch_id, trial.replicate):
        yield f"its seed is {trial.seed}, which is not derived from the seed of the run"
    if trial.is_complete and not space.is_connected(trial.genotype):
        yield "is complete, but no path leads from the input to the output of its network"


def genotype_problem(space: SearchSpace, genotype: Sequence[int]) -> str | None:
    """Return why a genotype is none of the space; None if it is one."""
    sizes = space.gene_sizes
    if len(genotype) != len(sizes):
        return f"its genotype has {len(genotype)} genes, expected {len(sizes)}"
    if any(not 0 <= allele < size for allele, size in zip(genotype, sizes, strict=True)):
        return "its genotype has an allele that the space does not have"
    return None


def network_id(space: SearchSpace, genotype: tuple[int, ...]) -> str:
    """Return the id of the network of a genotype."""
    return arch_id(space.name, space.settings, space.canonical(genotype))


def require_identity(space: SearchSpace, genotypes: Iterable[tuple[tuple[int, ...], str]]) -> None:
    """Raise RunError unless each recorded id is that of the network of its genotype.

    Ids become parts of paths: those of a run of unknown origin could be those of other networks.

    Args:
        space: The search space of the run.
        genotypes: Each with the recorded id.
    """
    for genotype, recorded in genotypes:
        problem = genotype_problem(space, genotype)
        if problem is None and network_id(space, genotype) != recorded:
            problem = "the network of its genotype has another id"
        if problem is not None:
            raise RunError(
                f"the journal is damaged: {recorded}: {problem}. Run `nasx runs check` for details, or restore it from "
                "a copy."
            )


def lineage_defects(lineage: Sequence[Lineage]) -> Iterator[Defect]:
    """Check the candidates: each requests the trainings of its network in order, and known ones were requested before.

    That they are numbered 0, 1, 2, ... and descend from earlier ones is checked whenever they are read.
    """
    requested: Counter[str] = Counter()  # trainings of each network
    for entry in lineage:
        location = f"candidate {entry.candidate.number}"
        if entry.answered and entry.arch_id not in requested:
            yield Defect(location, f"was answered from the journal, but {entry.arch_id} was not requested before")
        replicate, expected = entry.candidate.replicate, requested[entry.arch_id]
        if replicate > 0 and expected == 0:
            yield Defect(location, f"requests replicate {replicate} of {entry.arch_id}, which was not requested before")
        elif replicate not in (0, expected):  # 0: the network is known, and the journal answers
            yield Defect(location, f"requests replicate {replicate} of {entry.arch_id}, expected replicate {expected}")
        requested[entry.arch_id] = max(expected, replicate + 1)


def trial_defects(trials: Sequence[Trial], lineage: Sequence[Lineage], info: RunInfo) -> Iterator[Defect]:
    """Check the trials against each other.

    A replicate must be requested by its candidate, or be of an extra round and have the candidate of its network's
    first training. Exact metrics are equal in all trainings of a network, and scores are those of the metrics.

    Args:
        trials: All trials of the run.
        lineage: All candidates of the run.
        info: Names the objectives.
    """
    first = {trial.arch_id: trial for trial in trials if trial.replicate == 0}
    for trial in trials:
        location = _location(trial)
        if trial.arch_id not in first:
            yield Defect(location, "is a replicate of a network that has no first training")
            continue
        one = first[trial.arch_id]
        if trial.candidate.replicate != trial.replicate and trial.candidate != one.candidate:
            number, replicate = trial.candidate.number, trial.candidate.replicate
            yield Defect(location, f"candidate {number} requested replicate {replicate}")
        if trial.genotype != one.genotype or trial.architecture != one.architecture:
            yield Defect(location, "has another architecture than the first training of its network")
        for name in (o.name for o in OBJECTIVES.values() if o.is_exact):
            own, other = trial.metrics.get(name), one.metrics.get(name)
            if own is not None and other is not None and own != other and not math.isnan(own + other):
                yield Defect(location, f"{name} is {own:g}, in the first training of its network {other:g}")
        for score in trial.evaluation.scores:
            if not _is_distance_matrix(score.distances):
                yield Defect(location, f"class distances of {score.scorer} are not symmetric with a zero diagonal")
            recorded = trial.metrics.get(f"introspectability_{score.scorer}", score.value)
            if recorded != score.value:
                yield Defect(location, f"its score of {score.scorer} is {score.value:g}, in its metrics {recorded:g}")


def _is_distance_matrix(distances: NDArray[np.float64]) -> bool:
    diagonal = np.nan_to_num(np.diagonal(distances))
    return bool(np.allclose(distances, distances.T, equal_nan=True) and np.allclose(diagonal, 0, atol=TOLERANCE))


def _location(trial: Trial) -> str:
    return f"trial {trial.arch_id}" + (f", replicate {trial.replicate}" if trial.replicate else "")


def _check_weights(run_dir: Path, found: Checked) -> None:
    files = [file for directory in arch_dirs(run_dir) for file in sorted(directory.rglob("*.safetensors"))]
    files = [file for file in files if stat.S_ISREG(file.lstat().st_mode)]
    for file in files:
        if (message := find_corruption(file)) is not None:
            found.defects.append(Defect(_name(run_dir, file), message))
    found.verified.append(f"{len(files):,} files of weights")


def _check_records(run_dir: Path, trials: Sequence[Trial], found: Checked) -> None:
    """Check records outside of the journal: each can be read, and is of the network in whose directory it is."""
    genotypes = {trial.arch_id: trial.genotype for trial in trials}
    checks: list[tuple[Path, Callable[[], object]]] = [
        (run_dir / TEST_SET_EVALUATIONS, partial(read_test_set_evaluations, run_dir)),
        (run_dir / "tracker.json", partial(_read_object, run_dir / "tracker.json")),
    ]
    for directory in arch_dirs(run_dir):
        final = directory / "final"
        checks.append((directory / FINETUNED_RECORD, partial(read_finetuned, run_dir, directory.name)))
        checks.append((final / FINAL_RECORD, partial(read_final_record, final)))
        checks += [(file, partial(_read_object, file)) for file in sorted(final.glob("confidence_*.json"))]
    read = 0
    for file, read_it in checks:
        try:
            record = read_it()
        except NasxError as exc:
            found.defects.append(Defect(_name(run_dir, file), _one_sentence(exc)))
            continue
        read += file.exists()
        name = getattr(record, "arch_id", None)
        directory_name = next((p.name for p in file.parents if p.parent.name == ARCHS), None)
        if name not in (None, directory_name):
            found.defects.append(Defect(_name(run_dir, file), f"is of the network {name}"))
        genotype = getattr(record, "genotype", None)
        if genotype is not None and genotypes.get(name or "", genotype) != tuple(genotype):
            found.defects.append(Defect(_name(run_dir, file), "has another genotype than the trials of its network"))
    found.verified.append(f"{read:,} records of trainings")


def _check_retrained(run_dir: Path, trials: Sequence[Trial], found: Checked) -> None:
    """Check the headers of repeated trainings: each is of the trial in whose directory and name it is."""
    seeds = {(trial.arch_id, trial.replicate): trial.seed for trial in trials if trial.is_complete}
    files = retrained_files(run_dir)
    for file, replicate in files.items():
        try:
            record = read_retrained(file)
        except RunError as exc:
            found.defects.append(Defect(_name(run_dir, file), _one_sentence(exc)))
            continue
        own = (record.arch_id, record.replicate)
        if own != (file.parent.name, replicate) or (trials and seeds.get(own) != record.seed):
            found.defects.append(Defect(_name(run_dir, file), "is of no complete trial of this run"))
    if files:
        found.verified.append(f"{len(files):,} repeated training{'s' * (len(files) > 1)}")


def _read_object(file: Path) -> object:
    return read_record(file, _ANY_OBJECT, remedy="")


def _unexpected_files(run_dir: Path) -> Iterator[Defect]:
    """Check that a run has only files and directories: nasx follows no link in it."""
    seen = 0
    for root, directories, files in os.walk(run_dir):
        for name in (*directories, *files):
            seen += 1
            path = Path(root, name)
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield Defect(_name(run_dir, path), f"is {kind_of(mode)}, expected a file or a directory")
        if seen > MAX_FILES:
            yield Defect(".", f"has more than {MAX_FILES:,} files: the others are not looked at")
            return


def _name(run_dir: Path, path: Path) -> str:
    return path.relative_to(run_dir).as_posix()


def _one_sentence(exc: NasxError) -> str:
    return str(exc).rstrip(".")
