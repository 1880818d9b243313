"""Mutation testing: changes the core modules one small step at a time, and counts the changes that no test notices.

::

    scripts/mutants                        150 mutants, spread over the modules
    scripts/mutants --seed 7 --n 60        another sample
    scripts/mutants --modules 'nasx/algorithms/*.py'

A mutant is killed if one of the tests that execute its line fails, or runs far longer than before. The tests that take
the least time run first. Survivors are gaps in the tests, or equivalent: no test can tell them from the original.
Equivalent ones are listed in scripts/mutants_equivalent.yaml, each with its reason. The last committed state is tested,
in copies of the tree. Which tests execute a line is measured once per state, which takes as long as the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Final

import yaml

from scripts.mutants_coverage import Tests, lines_of_tests
from scripts.mutants_operators import Mutant, mutants_of

CORE: Final = (
    *("nasx/pareto.py", "nasx/trial.py", "nasx/experiment/*.py", "nasx/files.py", "nasx/config/settings.py"),
    *("nasx/algorithms/*.py", "nasx/evaluation/*.py", "nasx/networks/*.py", "nasx/spaces/*.py"),
    *(f"nasx/execution/{name}.py" for name in ("loop", "replay", "budget", "candidates", "replicates", "jobs")),
    *("nasx/execution/front.py", "nasx/execution/workers.py", "nasx/execution/limits.py", "nasx/workflows/search.py"),
    *(f"nasx/runs/{name}.py" for name in ("journal", "database", "rows", "check", "directory")),
    *(f"nasx/introspection/{n}.py" for n in ("similarity", "layers", "shap", "activations", "probes", "base")),
    *(f"nasx/training/{name}.py" for name in ("recipe", "lightning_module", "fit")),
    *(f"nasx/data/{name}.py" for name in ("splits", "batches", "augmentation", "folder", "npz")),
    *(
        f"nasx/diagnostics/{n}.py"
        for n in ("calibration", "confidence", "label_errors", "confident_learning", "centroids")
    ),
    *("nasx/diagnostics/class_pairs.py", "nasx/diagnostics/edge_shares.py"),
)
EQUIVALENT: Final = Path(__file__).with_name("mutants_equivalent.yaml")
DEFAULTS: Final = "tests/config/test_packaged_configs.py::test_a_choice_states_the_defaults"
SECONDS: Final = 60.0  # of tests per mutant, as measured without it: the slowest ones are left out
SLOWER: Final = 5.0  # a mutant that takes this many times as long, plus START, is killed
START: Final = 60.0
LOG: Final = "mutant.log"  # file in a tree: output of the tests of its last mutant
PYTEST: Final = ("pytest", "hypothesis.strategies")
HEAVY: Final = ("numpy", "scipy.stats", "sklearn.model_selection", "torch", "pytorch_lightning", "shap")

KILLED, TIMEOUT, SURVIVED, UNCOVERED = "killed", "killed by the time limit", "survived", "not covered"


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    outcome: str
    diff: str
    tests: int  # number of tests that were run
    equivalent: str | None = None  # reason in the reviewed list


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [_copy(options.root, options.commit, Path(folder, str(job))) for job in range(options.jobs)]
        package, cache = options.modules[0].partition("/")[0], Path(tempfile.gettempdir(), "mutants-coverage")
        tests = lines_of_tests(trees[0], package, cache, jobs=options.jobs, say=_say)
        sources = {name: (trees[0] / name).read_text() for name in _modules(trees[0], options.modules)}
        mutants = {name: mutants_of(name, source) for name, source in sources.items()}
        chosen = sample(mutants, options.n, options.seed)
        if options.again:
            chosen = survivors(options.again, mutants, sources)
        _say(f"{len(chosen)} of {sum(map(len, mutants.values())):,} mutants of {len(sources)} modules.")
        verdicts = run(chosen, sources, tests, trees, _equivalent(options.equivalent), options.verbose)
    print(report(verdicts))
    if options.json:
        options.json.write_text(json.dumps([{**vars(v), "mutant": vars(v.mutant)} for v in verdicts], indent=1))
    return 0 if share(verdicts) >= options.expect else 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/mutants", description="Test the tests: see scripts/mutants.py.")
    parser.add_argument("--n", type=int, default=150, help="number of mutants; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="mutants at a time")
    parser.add_argument("--modules", nargs="+", default=CORE, help="paths or patterns of modules")
    parser.add_argument("--expect", type=float, default=0.95, help="exit status 1 if a smaller share is killed")
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--again", type=Path, help="only the survivors in this file, written by --json before")
    parser.add_argument("--commit", default="HEAD", help="state to be tested")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="repository")
    parser.add_argument("--equivalent", type=Path, default=EQUIVALENT, help="list of equivalent mutants")
    parser.add_argument("--verbose", action="store_true", help="print each mutant when it is done")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _copy(root: Path, commit: str, target: Path) -> Path:
    """Write the files of a commit into a new directory, and return it."""
    target.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=root, check=True, capture_output=True)
    subprocess.run(["tar", "-x"], cwd=target, check=True, input=archive.stdout)
    return target


def _modules(tree: Path, patterns: Sequence[str]) -> list[str]:
    names = sorted(str(file.relative_to(tree)) for file in tree.rglob("*.py"))
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def sample(mutants: Mapping[str, Sequence[Mutant]], n: int, seed: int) -> list[Mutant]:
    """Return `n` mutants: module by module in turn, larger modules more often, all kinds of changes equally often."""
    rng = random.Random(seed)
    if n == 0:
        return [mutant for own in mutants.values() for mutant in own]
    weights = {name: len(own) ** 0.5 for name, own in mutants.items() if own}
    left = {name: list(mutants[name]) for name in weights}
    dues = {name: rng.random() / weight for name, weight in weights.items()}
    chosen: list[Mutant] = []
    while left and len(chosen) < n:
        name = min(left, key=lambda name: dues[name])
        kind = rng.choice(sorted({mutant.operator for mutant in left[name]}))
        mutant = rng.choice([mutant for mutant in left[name] if mutant.operator == kind])
        chosen.append(mutant)
        left[name].remove(mutant)
        dues[name] += 1 / weights[name]
        if not left[name]:
            del left[name]
    return chosen


def survivors(file: Path, mutants: Mapping[str, Sequence[Mutant]], sources: Mapping[str, str]) -> list[Mutant]:
    """Return the mutants that no test noticed in an earlier run, as far as their lines are the same."""
    before = {
        v["diff"].partition("\n")[2] for v in json.loads(file.read_text()) if v["outcome"] in (SURVIVED, UNCOVERED)
    }
    waiting = [m for name in sources for m in mutants[name]]
    return [m for m in waiting if difference(m, sources[m.module]).partition("\n")[2] in before]


def covering(mutant: Mutant, tests: Tests) -> list[str]:
    """Return the tests that execute the lines of a mutant, the fastest first, up to a total of `SECONDS`.

    Tests of the file that mirrors the module come before the others.
    """
    lines = set(mutant.lines)
    module = mutant.module
    found = [t for t, r in tests.items() if module in r["lines"] and (not lines or lines & set(r["lines"][module]))]
    if not lines or mutant.lineno < min(lines):  # defaults are read without executing the function
        found += [test for test in tests if test.startswith(DEFAULTS) and test not in found]
    mirror = f"test_{Path(module).stem}.py"
    kept: list[str] = []
    total = 0.0
    for test in sorted(found, key=lambda t: (mirror not in t, tests[t]["seconds"])):
        total += tests[test]["seconds"]
        if kept and total > SECONDS:
            break
        kept.append(test)
    return kept


def run(
    mutants: Sequence[Mutant],
    sources: Mapping[str, str],
    tests: Tests,
    trees: Sequence[Path],
    equivalent: Mapping[tuple[str, str, str], str],
    verbose: bool = False,
) -> list[Verdict]:
    """Test each mutant in one of the trees, as many at a time as there are trees."""
    for name in (*PYTEST, *(HEAVY if (trees[0] / "nasx").is_dir() else ())):
        import_module(name)  # once, before the processes are forked
    _check_unchanged(mutants, sources, tests, trees[0])
    waiting, free, verdicts = list(mutants)[::-1], list(trees), []
    running: dict[int, tuple[Mutant, Path, float, int]] = {}

    def done(mutant: Mutant, outcome: str, n: int) -> None:
        diff = difference(mutant, sources[mutant.module])
        verdicts.append(Verdict(mutant, outcome, diff, n, _why_equivalent(mutant, diff, equivalent)))
        if verbose:
            _say(f"[{len(verdicts)}/{len(mutants)}] {outcome}, {n} tests\n{diff}")

    while waiting or running:
        while waiting and free:
            mutant = waiting.pop()
            if not (own := covering(mutant, tests)):
                done(mutant, UNCOVERED, 0)
                continue
            tree = free.pop()
            limit = START + SLOWER * sum(tests[test]["seconds"] for test in own)
            pid = _start(mutant, sources[mutant.module], own, tree)
            running[pid] = (mutant, tree, time.monotonic() + limit, len(own))
        time.sleep(0.05)
        for pid, (mutant, tree, deadline, n) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            late = not ended and time.monotonic() > deadline
            if not ended and not late:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # whatever the tests have started
            if late:
                os.waitpid(pid, 0)
            del running[pid]
            (tree / mutant.module).write_text(sources[mutant.module])
            free.append(tree)
            done(mutant, TIMEOUT if late else KILLED if status else SURVIVED, n)
    return verdicts


def _check_unchanged(mutants: Sequence[Mutant], sources: Mapping[str, str], tests: Tests, tree: Path) -> None:
    """Raise RuntimeError if tests fail here without a mutation: the fastest test of every file that is needed."""
    fastest: dict[str, str] = {}
    for test in {test for mutant in mutants for test in covering(mutant, tests)}:
        name = test.partition("::")[0]
        fastest[name] = min(test, fastest.get(name, test), key=lambda t: tests[t]["seconds"])
    if not fastest:
        return
    module, source = next(iter(sources.items()))
    _, status = os.waitpid(_start(Mutant(module, "none", 1, 0, 0, "", ()), source, sorted(fastest.values()), tree), 0)
    if status:
        raise RuntimeError("tests fail without any mutation:\n" + (tree / LOG).read_text()[-3000:])


def _start(mutant: Mutant, source: str, tests: Sequence[str], tree: Path) -> int:
    """Run tests on a mutant in a forked process, and return its id."""
    (tree / mutant.module).write_text(mutant.apply(source))
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir(tree)
    with (tree / LOG).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("scripts", "tests")]:
        del sys.modules[name]
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # a mutant may have the size and the second of the one before
    status: int = 1
    try:
        import pytest

        # it would warn that hypothesis has been imported
        quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        status = int(pytest.main(["-x", "-q", "-n", "0", "--tb=line", *quiet, *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def difference(mutant: Mutant, source: str) -> str:
    """Return the changed lines of a mutant as a diff without context."""
    before, after = source.splitlines(), mutant.apply(source).splitlines()
    changes = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    changes = [line for line in changes if not line.startswith("@@")]
    return "\n".join([f"{mutant.module}:{mutant.lineno} {mutant.operator}", *changes])


def _sides(diff: str) -> tuple[str, str]:
    """Return the lines before and after a change, without indentation: they identify it in any version."""
    lines = diff.splitlines()[1:]
    before, after = ("\n".join(line[1:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return before, after


def _equivalent(file: Path) -> dict[tuple[str, str, str], str]:
    """Return the reviewed list of equivalent mutants: module, lines before and after -> the reason.

    An entry without lines after is about every change of its lines.
    """
    entries = yaml.safe_load(file.read_text()) if file.is_file() else []
    return {(e["module"], e["before"].strip(), e.get("after", "").strip()): e["reason"] for e in entries or []}


def _why_equivalent(mutant: Mutant, diff: str, listed: Mapping[tuple[str, str, str], str]) -> str | None:
    """Return the reason why a mutant is in the reviewed list; None if it is not."""
    before, after = _sides(diff)
    return listed.get((mutant.module, before, after)) or listed.get((mutant.module, before, ""))


def share(verdicts: Sequence[Verdict]) -> float:
    """Return the share of mutants that are killed among those that are not equivalent."""
    counted = [v for v in verdicts if v.equivalent is None]
    return sum(v.outcome in (KILLED, TIMEOUT) for v in counted) / len(counted) if counted else 1.0


def report(verdicts: Sequence[Verdict]) -> str:
    """Return the survivors with their changes, then the counts."""
    gaps = [v for v in verdicts if v.outcome in (SURVIVED, UNCOVERED) and v.equivalent is None]
    lines = [f"{v.outcome} ({v.tests} tests): {v.diff}\n" for v in sorted(gaps, key=lambda v: v.diff)]
    counts = Counter("equivalent" if v.equivalent and v.outcome == SURVIVED else v.outcome for v in verdicts)
    lines.append(", ".join(f"{n} {outcome}" for outcome, n in counts.most_common()))
    lines.append(f"{share(verdicts):.1%} of those that are not equivalent are killed.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
