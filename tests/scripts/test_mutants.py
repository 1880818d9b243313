"""Mutation testing: the changes of a module, and the runner on a small package with a weak and a strong test."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.mutants import difference, sample, survivors
from scripts.mutants_operators import mutants_of

ROOT = Path(__file__).parents[2]
MODULE = '''"""Toy."""

LIMIT = 3


def strong(x: int) -> bool:
    """Return whether x is below 10."""
    return x < LIMIT


def weak(values: list[int]) -> int:
    total = 0
    for value in values:
        total += value
    return max(total, 0)


def unused(x):
    return -x
'''
TESTS = {
    "tests/test_strong.py": """
from toy.module import strong


def test_strong():
    assert [strong(x) for x in (2, 3, 4)] == [True, False, False]
""",
    "tests/test_weak.py": """
import pytest

from toy.module import weak


@pytest.fixture(scope="session")
def result():
    return weak([1, 2])


def test_first(result):
    pass  # the fixture is executed here


def test_weak(result):
    assert result > 0
""",
}


def changes(source: str) -> set[str]:
    return {mutant.apply(source) for mutant in mutants_of("m.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a < b", {"x = (a <= b)", "x = (a > b)"}),
        ("x = a is None", {"x = (a is not None)"}),
        ("x = a + b", {"x = (a - b)"}),
        ("x = a and b", {"x = (a or b)", "x = (a)", "x = (b)"}),
        ("x = not a", {"x = (a)"}),
        ("x = 5", {"x = 6", "x = 4"}),
        ("x = 0.5", {"x = 1.0", "x = 1.5"}),
        ("x = True", {"x = False"}),
        ("x = a if c else b", {"x = (b if c else a)"}),
        ("x = f(a, k=b)", {"x = f(a)"}),
        ("x = a[b:c]", {"x = a[:c]", "x = a[b:]"}),
        ("x = max(a)", {"x = min(a)"}),
        ("x = a.sum()", {"x = a.mean()"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if True]"}),
        ("f(a)", {"pass"}),
        ("a.b = c", {"pass"}),
        ("a -= b", {"a += b", "pass"}),
        ("while a:\n    break", {"while False:\n    break", "while (not (a)):\n    break", "while a:\n    continue"}),
        ("def f():\n    return a", {"def f():\n    return None"}),
        ("def f(a=b):\n    ...", set()),
        ("try:\n    a\nexcept KeyError:\n    b", {"try:\n    a\nexcept ZeroDivisionError:\n    b"}),
        ("é = ü < ö", {"é = (ü <= ö)", "é = (ü > ö)"}),  # columns count bytes
        # bounds of settings are behavior, other annotations are not
        ("def f(a: F[Field(ge=1)]): ...", {f"def f(a: F[Field({k})]): ..." for k in ("", "ge=2", "ge=0")}),
        ("a: tuple[int, Literal[3]]", set()),
        ("Key = tuple[int, Literal[3]]", set()),
        # texts, checks of types and imports
        ('"""Text 1."""', set()),
        ("raise E(1)", set()),
        ("assert a == 1", set()),
        ("def __repr__(self):\n    return a[1]", set()),
        ("if TYPE_CHECKING:\n    a = 1", set()),
        ("@d(frozen=True)\nclass A:\n    ...", set()),
        ("x = a + 'text'", set()),
        ("x = zip(a, b, strict=True)", set()),
    ],
)  # fmt: skip
def test_each_change_is_one_that_a_test_should_notice(source, expected):
    assert changes(source) == expected


def test_mutants_of_this_package_are_valid_and_different():
    for name in ("nasx/config/find.py", "nasx/execution/replay.py"):
        source = (ROOT / name).read_text()
        before = ast.dump(ast.parse(source))
        mutants = mutants_of(name, source)

        assert len(mutants) > 20
        for mutant in mutants[::4]:
            assert ast.dump(ast.parse(mutant.apply(source))) != before


def test_a_sample_is_repeatable_and_takes_something_of_every_module():
    mutants = {name: mutants_of(name, (ROOT / name).read_text()) for name in ("nasx/pareto.py", "nasx/trial.py")}

    first = sample(mutants, 20, seed=3)

    assert len(set(first)) == 20
    assert {mutant.module for mutant in first} == set(mutants)
    assert first == sample(mutants, 20, seed=3) != sample(mutants, 20, seed=4)
    assert len(sample(mutants, 0, seed=3)) == sum(map(len, mutants.values()))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Test all mutants of a small package; returns the exit status, the results and the report."""
    root = tmp_path_factory.mktemp("toy")
    for name, text in {"toy/__init__.py": "", "toy/module.py": MODULE, **TESTS}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q"), ("add", "."), ("commit", "-qm", "toy")):
        subprocess.run([*git, *words], cwd=root, check=True)
    listed = {"module": "toy/module.py", "before": "return max(total, 0)", "after": "return max(total, -1)"}
    (root / "equivalent.yaml").write_text(yaml.safe_dump([{**listed, "reason": "the total is positive"}]))
    command = ["--root", root, "--modules", "toy/*.py", "--n", "0", "--jobs", "2", "--json", root / "found.json"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.mutants", *map(str, command), "--equivalent", root / "equivalent.yaml"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("tmp"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (root / "found.json").is_file(), done.stderr
    return done.returncode, json.loads((root / "found.json").read_text()), done.stdout


def test_a_strong_test_kills_every_mutant_and_a_weak_one_leaves_survivors(toy):
    _, found, _ = toy
    outcomes: dict[str, set[str]] = {"": set(), "strong": set(), "weak": set(), "unused": set()}
    for verdict in found:
        before = MODULE[: verdict["mutant"]["start"]]
        outcomes[before.rpartition("def ")[2].partition("(")[0] if "def " in before else ""].add(verdict["outcome"])
    survivors = [v["diff"].splitlines()[1:] for v in found if v["outcome"] == "survived"]

    killed, survived, not_covered = {"killed"}, {"survived"}, {"not covered"}
    assert outcomes == {"": killed, "strong": killed, "weak": killed | survived, "unused": not_covered}
    assert ["-    total = 0", "+    total = 1"] in survivors
    # only the second test, which does not execute the line itself, notices: lines of a fixture count for its users
    assert ["-        total += value", "+        total -= value"] not in survivors


def test_a_reviewed_list_excuses_equivalent_mutants_and_the_share_decides_the_status(toy):
    status, found, report = toy

    excused = [v for v in found if v["equivalent"]]
    assert [v["diff"].splitlines()[-1] for v in excused] == ["+    return max(total, -1)"]
    killed, counted = sum(v["outcome"] == "killed" for v in found), len(found) - 1
    assert f"{killed / counted:.1%} of those that are not equivalent are killed." in report
    assert status == 1  # below 95 %


def test_survivors_of_an_earlier_run_are_found_again_on_other_lines(tmp_path):
    source = "def f(x):\n    return x + 1\n"
    before = {"toy.py": mutants_of("toy.py", source)}
    noticed, missed = before["toy.py"][:2]
    results = [
        {"outcome": outcome, "diff": difference(mutant, source)}
        for mutant, outcome in ((noticed, "killed"), (missed, "survived"))
    ]
    (tmp_path / "found.json").write_text(json.dumps(results))

    later = "import y\n\n\n" + source
    found = survivors(tmp_path / "found.json", {"toy.py": mutants_of("toy.py", later)}, {"toy.py": later})

    assert [mutant.apply(later) for mutant in found] == ["import y\n\n\n" + missed.apply(source)]


def test_the_reviewed_list_has_a_reason_for_each_entry_and_lines_that_exist():
    entries = yaml.safe_load((ROOT / "scripts" / "mutants_equivalent.yaml").read_text())

    for entry in entries:
        assert entry.keys() <= {"module", "before", "after", "reason"} and entry["reason"]
        lines = {line.strip() for line in (ROOT / entry["module"]).read_text().splitlines()}
        assert set(entry["before"].splitlines()) <= lines, entry
