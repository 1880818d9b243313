"""Time to open a run of 2,000 trials: journal, trials, candidates, and the summary of the front.

    python -m scripts.bench open_run [--quick] [--json FILE]
    NASX_BENCH_BEFORE=WORKTREE python -m scripts.bench open_run

With NASX_BENCH_BEFORE, a worktree of another version of nasx takes turns with this one, each with a run that it wrote.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.bench.measurement import Measurement, Options

ROOT = Path(__file__).parents[2]
TRIALS = 2000
TURNS = 9
EPOCHS = 12
CLASSES = 10
PARTS = ("journal", "summary")  # opened and read; the front computed from it


def write_run(run_dir: Path, trials: int) -> None:
    """Write a run of synthetic trials whose rows have the size of a search on CIFAR-10."""
    import numpy as np

    from nasx.runs.journal import Journal
    from nasx.runs.rows import RunInfo
    from nasx.trial import Candidate, Evaluation, Score, Trial, TrialStatus, derive_seed

    names = tuple(f"class {i}" for i in range(CLASSES))
    now = "2026-01-02T03:04:05+00:00"
    objectives = ("error", "introspectability")
    info = RunInfo("bench", now, "0.1.0", "2.8.0", "3.11.7", 0, objectives, CLASSES, names, "0" * 16, 2)
    rng = np.random.default_rng(0)
    with Journal.create(run_dir, info) as journal, journal._database.transaction():
        journal._database.transaction = _nested  # type: ignore[method-assign, assignment]  # one commit is faster
        for number in range(trials):
            error, introspectability = rng.uniform(0.05, 0.6), rng.uniform(0.1, 0.9)
            keys = ("learning_rate", "train_loss", "train_error", "validation_loss", "validation_error", "seconds")
            history = tuple({"epoch": e + 1, **dict(zip(keys, rng.random(6).tolist()))} for e in range(EPOCHS))  # noqa: B905
            distances = rng.random((CLASSES, CLASSES))
            distances = (distances + distances.T) / 2
            np.fill_diagonal(distances, 0)
            profile = {f"stage{i}": float(v) for i, v in enumerate(rng.random(4))}
            score = Score("shap", introspectability, profile, distances, 100, 1.5, 0.01)
            genotype = tuple(int(gene) for gene in rng.integers(0, 5, 6))
            heard = tuple(range(number - 1, number)) if number else ()
            candidate = Candidate(number, genotype, number // 20, "crossover+mutation", heard, heard)
            arch_id = f"{number:010x}"
            metrics = {"parameters": 802426 + number, "macs": 10**8 + number, "error": error, "macro_error": error}
            metrics |= {"train_error": error, "introspectability": introspectability}
            trial = Trial(
                arch_id=arch_id,
                replicate=0,
                genotype=genotype,
                architecture="|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|none~2|",
                seed=derive_seed(0, arch_id, 0),
                evaluation=Evaluation(
                    TrialStatus.COMPLETE,
                    metrics={**metrics, "introspectability_shap": introspectability},
                    scores=(score,),
                    history=history,
                    train_seconds=20.5,
                    score_seconds=1.5,
                ),
                candidate=candidate,
                finished=now,
                gpu_seconds=22.0,
            )
            journal.record_candidate(candidate, arch_id, answered=False)
            journal.record_trial(trial)


class _nested:  # noqa: N801 - replaces a method
    """A transaction inside of another one: does nothing."""

    def __init__(self, **settings: bool) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def read_run(run_dir: Path) -> dict[str, float]:
    """Return the seconds to read the journal, and to compute the summary."""
    from nasx.reports.summary import summarize_run
    from nasx.runs.journal import Journal

    started = time.perf_counter()
    with Journal.open(run_dir, read_only=True) as journal:
        info, trials, candidates = journal.info, journal.trials(), journal.candidates()
    read = time.perf_counter()
    summary = summarize_run(trials, info)
    done = time.perf_counter()
    assert len(trials) == len(candidates)
    assert summary.front
    return dict(zip(PARTS, (read - started, done - read), strict=True))


class Reader:
    """A process of one version of nasx, which writes a run once and reads it at each request."""

    def __init__(self, root: Path, run_dir: Path, trials: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        command = [sys.executable, __file__, str(run_dir), str(trials)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env=environment, cwd=root, **pipes)  # type: ignore[call-overload]
        self.read()  # imports and caches

    def read(self) -> dict[str, float]:
        """Read the run once more, and return the seconds."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def benchmark(options: Options) -> Iterator[Measurement]:
    """Measure this version of nasx, and that of NASX_BENCH_BEFORE if it is set."""
    from scripts.bench.measurement import Measurement

    trials, turns = (200, 2) if options.quick else (TRIALS, options.repeats or TURNS)
    before = os.environ.get("NASX_BENCH_BEFORE")
    roots = [ROOT, *([Path(before)] if before else [])]
    with tempfile.TemporaryDirectory() as directory:
        readers = [Reader(root, Path(directory, str(i)), trials) for i, root in enumerate(roots)]
        found = [[reader.read() for reader in readers] for _ in range(turns)]
        for reader in readers:
            reader.close()
    for part in (*PARTS, "sum"):
        ours, *theirs = [
            tuple(sum(turn[i].values()) if part == "sum" else turn[i][part] for turn in found)
            for i in range(len(roots))
        ]
        yield Measurement(
            f"open a run of {trials:,} trials: {part}",
            "the version of NASX_BENCH_BEFORE" if before else "",
            ours,
            theirs[0] if theirs else (),
            target=1.0 if theirs and part == "sum" else None,
        )


def main() -> None:
    """Write a run, then read it at each line of stdin, and print the seconds."""
    run_dir = Path(sys.argv[1])
    run_dir.mkdir(parents=True)
    write_run(run_dir, int(sys.argv[2]))
    for _ in sys.stdin:
        print(json.dumps(read_run(run_dir)), flush=True)


if __name__ == "__main__":
    main()
