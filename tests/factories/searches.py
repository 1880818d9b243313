"""Small searches: a space without torch, a scripted algorithm, a loop with a real journal."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nasx.algorithms.nsga2 import NSGA2
from nasx.errors import TrialFailure
from nasx.evaluation.early_stopping import check_rung
from nasx.execution.budget import SearchLimits
from nasx.execution.jobs import Key, key
from nasx.execution.loop import SearchLoop
from nasx.protocols import Problem, SearchAlgorithm
from nasx.runs.directory import DATABASE
from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Job, Reason, TrialStatus
from tests.factories.journals import INFO

FRONT = {(0, 0): (0.1, 0.2), (0, 1): (0.2, 0.4), (0, 2): (0.3, 0.6)}  # genotype -> (error, introspectability)


class PairSpace:
    """Two unordered genes of five alleles; (4, 4) is disconnected."""

    name = "pairs"
    gene_sizes = (5, 5)
    gene_names = ("first", "second")
    settings: dict = {}  # noqa: RUF012

    def allele_names(self, gene):
        return tuple("abcde")

    def canonical(self, genotype):
        return tuple(sorted(genotype))

    def is_connected(self, genotype):
        return genotype != (4, 4)

    def describe(self, genotype):
        return "-".join("abcde"[allele] for allele in genotype)


class Script:
    """Asks for the genotypes of a list, or (genotype, replicate), waits at None, and stores the results."""

    def __init__(self, *genotypes):
        self.genotypes = list(genotypes)
        self.received = {}
        self.asked = 0

    def ask(self):
        if not self.genotypes:
            raise AssertionError("asked for more than the script has")
        if self.genotypes[0] is None:
            self.genotypes.pop(0)
            return None
        genotype, replicate = self.genotypes.pop(0), 0
        if isinstance(genotype[0], tuple):
            genotype, replicate = genotype
        candidate = Candidate(self.asked, genotype, 0, "script", replicate=replicate)
        self.asked += 1
        return candidate

    def tell(self, number, costs):
        assert number not in self.received
        self.received[number] = costs


class ManyPairs(PairSpace):
    """The same with twelve alleles: 77 networks."""

    gene_sizes = (12, 12)

    def describe(self, genotype):
        return "-".join("abcdefghijkl"[allele] for allele in genotype)


def nsga2(seed: int = 0, lag: int = 3, space: PairSpace | None = None, **settings) -> NSGA2:
    space = space or PairSpace()
    problem = Problem(
        gene_sizes=space.gene_sizes, n_objectives=2, seed=seed, key=space.canonical, is_connected=space.is_connected
    )
    return NSGA2(**{"population_size": 4, "initial_samples": 3, "lag": lag, **settings}, problem=problem)


def make_loop(
    run_dir: Path,
    algorithm: SearchAlgorithm,
    evaluations: int = 100,
    *,
    space: PairSpace | None = None,
    objectives: tuple[str, ...] = ("error", "introspectability"),
    early_stopping: bool = False,
    gpus: float = 0.0,
    max_parts: int | None = None,
    **limits,
) -> SearchLoop:
    """Return a loop with the journal in `run_dir`, which is created if necessary."""
    run_dir.mkdir(exist_ok=True)
    exists = (run_dir / DATABASE).exists()
    store = Journal.open(run_dir) if exists else Journal.create(run_dir, RunInfo(**{**vars(INFO), "workers": 2}))
    return SearchLoop(
        run_dir=run_dir,
        store=store,
        algorithm=algorithm,
        space=space or PairSpace(),
        objectives=[OBJECTIVES[name] for name in objectives],
        limits=SearchLimits(evaluations=evaluations, **limits),
        early_stopping=early_stopping,
        gpus=gpus,
        max_parts=max_parts,
    )


def measured(job: Job) -> Evaluation:
    """Return a result that depends only on the genotype, and write weights, as training does."""
    a, b = job.genotype
    error, score = FRONT.get(job.genotype, (0.5 + 0.01 * (3 * a + b), 0.1 + 0.01 * ((a * 7 + b * 3) % 11)))
    job.weights_file.parent.mkdir(parents=True, exist_ok=True)
    job.weights_file.write_bytes(b"weights")
    return Evaluation(TrialStatus.COMPLETE, metrics={"error": error, "introspectability": score})


def noisy(job: Job, std: float = 0.05) -> Evaluation:
    """Return a result with noise that depends on the seed of the training."""
    evaluation, rng = measured(job), random.Random(job.seed)
    metrics = {name: min(1.0, max(0.0, value + rng.gauss(0, std))) for name, value in evaluation.metrics.items()}
    return replace(evaluation, metrics=metrics)


def trained(job: Job) -> Evaluation:
    """Train for four epochs with a curve that depends on genotype and seed, and stop at a rung of the job."""
    a, b = job.genotype
    end = 0.1 + 0.004 * (5 * a + 7 * b % 11) + 0.002 * (a * b % 5) + 0.001 * (job.seed % 7)
    parameters = {"parameters": 1000.0 + 10 * ((a * 5 + b) % 13)}
    history = []
    for epoch in range(1, 5):
        error = end + (4 - epoch) * (0.01 + 0.002 * ((a + 2 * b) % 3))
        history.append({"epoch": epoch, "validation_error": error, "validation_macro_error": error})
        try:
            check_rung(job, history, parameters, {}, lambda errors: True)
        except TrialFailure as cut:
            return Evaluation(
                TrialStatus.INFEASIBLE, Reason(cut.reason), cut.detail, parameters, history=tuple(history)
            )
    introspectability = 0.1 + 0.01 * ((3 * a + b) % 7) + 0.001 * (job.seed % 5)
    metrics = {**parameters, "error": end, "macro_error": end, "introspectability": introspectability}
    return Evaluation(TrialStatus.COMPLETE, metrics=metrics, history=tuple(history))


def pool(
    loop: SearchLoop, workers: int, order: Iterable[Key] | None = None, *, seed: int = 0, evaluate=trained
) -> list[Key]:
    """Evaluate with several workers, which finish in random order or in `order`; return that order."""
    rng, ended = random.Random(seed), []
    arriving = None if order is None else iter(order)
    out: dict[Key, Job] = {}
    while True:
        while len(out) < workers and (job := loop.next_job()) is not None:
            assert key(job) not in out
            out[key(job)] = job
        if not out:
            return ended
        ended.append(next(arriving) if arriving else rng.choice(sorted(out)))
        job = out.pop(ended[-1])
        loop.complete(job, evaluate(job))


def drive(loop: SearchLoop, evaluate=measured, steps: int = 10_000) -> list[Key]:
    """Evaluate one job after the other; return (arch_id, replicate) of each in order."""
    done = []
    for _ in range(steps):
        job = loop.next_job()
        if job is None:
            break
        done.append(key(job))
        loop.begin(job)
        loop.complete(job, evaluate(job))
    return done


def front_of(loop: SearchLoop) -> list[tuple]:
    return sorted((t.arch_id, t.metrics["error"], t.metrics["introspectability"]) for t in loop.front)


def bare(trials) -> list[tuple]:
    """Return trials without times, which differ from run to run."""
    return [
        (t.arch_id, t.replicate, t.genotype, t.seed, t.status, t.evaluation.reason, dict(t.metrics), t.candidate)
        for t in trials
    ]
