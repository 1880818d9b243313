"""A run directory of a stranger is data: its config is not resolved, and the code that it names is not imported."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.factories.black_box import LINES, nasx, nasx_process, search_lines

SECRET = "hunter2-of-the-reader"
NOT_HASHED = ("search", "execution", "runs_dir", "logger", "finetune_front", "provenance")
CANARY = "canary"  # written by code that must not run

# a dataset with all members that nasx needs, in a module that leaves a trace when it is imported
EVIL = f"""
from pathlib import Path
Path({CANARY!r}).touch()
from nasx.data.synthetic import Lines
class Images(Lines):
    pass
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run on drawn lines."""
    home = tmp_path_factory.mktemp("plain")
    return search_lines(home / "run", f"runs_dir={home}", "algorithm.evaluations=3")


@pytest.fixture
def run(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of it in the current directory; an environment variable contains a secret."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_SECRET", SECRET)
    return Path(shutil.copytree(sound, tmp_path / "run"))


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    def read() -> str:
        printed = capsys.readouterr()
        return " ".join((printed.out + printed.err).split())

    return read


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
    return found


def write(run: Path, config: dict[str, Any]) -> None:
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def network(run: Path) -> list[str | Path]:
    return ["--run-dir", run, "--arch-id", sorted(run.glob("archs/*/weights_0.safetensors"))[0].parent.name]


def files_with(text: str, root: Path) -> list[Path]:
    return [f for f in root.rglob("*") if f.is_file() and text.encode() in f.read_bytes()]


SECRETS = [
    {"provenance": {"config": "${oc.env:MY_SECRET}", "overrides": ["name=${oc.env:MY_SECRET}"]}},
    {"provenance": {"config": "lines", "overrides": [["${oc.env:MY_SECRET}"], {"${oc.env:MY_SECRET}": 1}]}},
    {"provenance": {"${oc.env:MY_SECRET}": "${oc.decode:${oc.env:MY_SECRET}}", "x": "${hydra:runtime.cwd}"}},
    {"runs_dir": "${oc.env:MY_SECRET}"},
    {"logger": {"_target_": "nasx.trackers.backends.TensorBoard", "directory": "${oc.env:MY_SECRET}"}},
    {"provenance": ["${oc.env:MY_SECRET}"]},
]


@pytest.mark.parametrize("change", SECRETS, ids=lambda change: str(change)[:50])
def test_no_variable_of_the_environment_reaches_an_output(run, tmp_path, said, change):
    write(run, {**read(run), **change})
    if "logger" not in change:  # the directory of the event files is named by the text as it is
        nasx("search", "--resume", "--run-dir", run, "algorithm.evaluations=4")

    nasx("pareto", "--run-dir", run)
    nasx("report", "--run-dir", run)
    nasx("runs", "show", run)
    if "runs_dir" in change:
        nasx("explain", *network(run), "--sample=0", "--out", tmp_path / "out")

    assert SECRET not in said()
    assert files_with(SECRET, tmp_path) == []


def test_a_place_with_a_variable_is_refused_and_not_replaced(run, said):
    """Readers of datasets replace $NAME in a path that the user types."""
    config = read(run)
    config["dataset"] = {"_target_": "nasx.data.folder.ImageFolder", "root": "/data/${MY_SECRET}"}
    assert nasx("pareto", "--run-dir", run) == 0
    said()
    write(run, config)

    assert nasx("explain", *network(run)) == 2

    assert SECRET not in said()


@pytest.mark.parametrize(
    "line",
    [
        "x: !!python/object/apply:os.system ['touch canary']",
        "x: !!python/name:os.system",
        "x: !<!evil> 1",
        "<<: {seed: 1}\nx: &a [*a]",
        "defaults: [/dataset: cifar10]",
        "hydra: {run: {dir: canary}}",
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(
            f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)
        ),
    ],
)
def test_tags_defaults_and_bombs_are_refused_in_one_line(run, capsys, line):
    file = run / "config.yaml"
    file.write_text(f"{file.read_text()}{line}\n")

    assert nasx("search", "--resume", "--run-dir", run) == 2

    message = capsys.readouterr().err
    assert "config.yaml" in message
    assert message.count("\n") == 1
    assert len(message) < 600
    assert not Path(CANARY).exists()


def test_choices_inside_of_a_run_directory_are_not_used(run):
    """Hydra searches the directory of the config that it composes."""
    (run / "execution").mkdir()
    (run / "execution/serial.yaml").write_text(f"_target_: evil.{CANARY}\n")

    assert nasx("search", "--resume", "--run-dir", run, "execution=serial", "algorithm.evaluations=4") == 0


def test_the_user_s_own_words_may_contain_variables(run, monkeypatch):
    monkeypatch.setenv("DEVICE", "cpu")

    words = ["execution.device=${oc.env:DEVICE}", "algorithm.evaluations=4"]
    assert nasx("search", "--resume", "--run-dir", run, *words) == 0


# --- code


def readers(run: Path) -> list[list[str | Path]]:
    """Return a call of every command that builds parts of a run's config."""
    return [
        ["search", "--resume", "--run-dir", run],
        ["explain", *network(run)],
        ["explain", *network(run), "dataset.test_images=100"],
        ["debug", *network(run)],
        ["train", *network(run), "training.epochs=1"],
        ["export", *network(run), "--format=safetensors"],
        ["report", "--run-dir", run],
        ["pareto", "--run-dir", run, "--paper"],
    ]


def older(run: Path, **targets: str) -> Path:
    """Replace a run by one of an older version, with other classes in its config: its journal has only a hash."""
    shutil.rmtree(run)
    shutil.copytree(Path(__file__).parents[1] / "old_runs/c8f4bd1/finished", run)
    config = read(run)
    for group, target in targets.items():
        config[group]["_target_"] = target
    write(run, config)
    with sqlite3.connect(run / "run.db") as connection:
        connection.execute("UPDATE run SET config_hash = ?", (hash_of(config),))
    connection.close()
    return run


def hash_of(config: dict[str, Any]) -> str:
    """Return the hash of the settings that affect a result, as every version of nasx computes it."""
    kept = {name: value for name, value in config.items() if name not in NOT_HASHED}
    kept["algorithm"] = {name: value for name, value in config["algorithm"].items() if name != "evaluations"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "place", ["evil.py", "evil/__init__.py", "nested/evil.py"], ids=["module", "package", "on PYTHONPATH"]
)
def test_no_command_imports_a_module_that_is_not_installed(run, said, monkeypatch, place):
    """The current directory is searched for modules of the user's own config, but never for those of a run."""
    file = Path(place)
    file.parent.mkdir(exist_ok=True)
    file.write_text(EVIL)
    if file.parent.name == "nested":
        monkeypatch.syspath_prepend(file.parent.resolve())
    older(run, dataset="evil.Images")
    shutil.rmtree(next(run.glob("archs/*/final")))  # an export of it needs no class of the config

    for call in readers(run) if place == "evil.py" else [["explain", *network(run)]]:
        assert nasx(*call) == 2, call
        printed = said()
        assert "evil.Images, which is not part of nasx or of an installed package" in printed, call
        assert "--trust-code" in printed
        assert not Path(CANARY).exists(), call


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("subprocess.Popen", "which is not part of nasx or of an installed package"),
        ("os.system", "which is not part of nasx or of an installed package"),
        ("this.s", "which is not part of nasx or of an installed package"),
        ("builtins.exec", "which is not part of nasx or of an installed package"),
        ("nasx.__main__.main", "a program"),
        ("nasx.cli.main.main", "it has no train and no test"),
        ("numpy.ndarray", "it has no train and no test"),
        ("nowhere.At.All", "there is no module 'nowhere'"),
    ],
)
def test_only_classes_that_can_do_what_is_needed_are_called(run, said, target, words):
    older(run, dataset=target)

    assert nasx("explain", *network(run)) == 2

    assert words in said()


def test_code_in_operations_of_a_space_is_checked_before_it_is_imported(run, said):
    Path("evil.py").write_text(EVIL)
    config = read(run)
    config["logger"] = {"_target_": "nasx.trackers.backends.TensorBoard", "more": [{"deep": {"_target_": "evil.X"}}]}
    write(run, config)

    assert nasx("search", "--resume", "--run-dir", run) == 2

    assert "logger.more[0].deep._target_ names evil.X" in said()
    assert not Path(CANARY).exists()


def test_a_final_record_of_a_stranger_imports_nothing(run, said):
    Path("evil.py").write_text(EVIL)
    older(run)
    (file,) = run.glob("archs/*/final/final.json")
    record = json.loads(file.read_text())
    record["course"]["space"]["_target_"] = "evil.Images"
    file.write_text(json.dumps(record))

    looked = ["--run-dir", run, "--arch-id", file.parents[1].name]
    assert nasx("export", *looked, "--format=safetensors") == 2

    assert "space._target_ names evil.Images" in said()
    assert not Path(CANARY).exists()


def test_a_user_s_own_components_need_no_flag_for_a_search_and_one_for_its_run(tmp_path, monkeypatch, said):
    """The README's scorer lives in the directory of the user."""
    scorer = """
import numpy as np
from nasx.trial import Score
class Flat:
    name = "flat"
    def score(self, network, images, labels, *, n_classes, seed):
        return Score(self.name, 0.5, {"head": 0.5}, np.full((n_classes, n_classes), 0.5), len(images), 0.0)
"""
    (tmp_path / "flat_scorer.py").write_text(scorer)
    (tmp_path / "configs/scorer").mkdir(parents=True)
    (tmp_path / "configs/scorer/flat.yaml").write_text("_target_: flat_scorer.Flat\n")
    words = [word for word in LINES if not word.startswith("scorer.")]
    search = nasx_process("search", *words, "scorer=flat", "--run-dir", "run", "algorithm.evaluations=2", cwd=tmp_path)
    assert search.returncode == 0, search.stderr
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"

    more = ["search", "--resume", "--run-dir", run, "algorithm.evaluations=3"]
    assert nasx(*more) == 2
    assert "scorer._target_ names flat_scorer.Flat" in said()
    assert nasx("pareto", "--run-dir", run) == 0
    assert nasx(*more, "--trust-code") == 0


def test_a_run_in_python_is_trusted_by_a_parameter(run):
    import nasx as package
    from nasx.errors import ConfigError

    Path("evil.py").write_text(EVIL)
    older(run, dataset="evil.Images")
    shutil.rmtree(next(run.glob("archs/*/final")))  # predictions with it need no dataset

    with pytest.raises(ConfigError, match=r"dataset\._target_ names evil\.Images"):
        package.load_run(run).front()[0].explain()
    assert not Path(CANARY).exists()
    with pytest.raises(ConfigError, match="trust_code=True"):
        package.resume(run, progress=False)
    package.load_run(run, trust_code=True).front()[0].predict(np.zeros((1, 12, 12), np.uint8))
    assert Path(CANARY).exists()
    del sys.modules["evil"]
