"""Texts and paths are taken as they are written, on the command line, in YAML files and in Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.factories.black_box import nasx


def shown(capsys: pytest.CaptureFixture[str], key: str, *words: str | Path, config: str | Path = "lines") -> object:
    """Return the value of a key in `nasx config show`."""
    assert nasx("config", "show", config, *words, "--plain") == 0
    found = yaml.safe_load(capsys.readouterr().out)
    for name in key.split("."):
        found = found[name]
    return found


@pytest.mark.parametrize("text", ["2024", "007", "1e3", "1_000", "true", "0x10", "a,b", "[a]", "{a: 1}", "-1", "a=b"])
def test_a_name_is_the_words_behind_the_equals_sign(text, capsys):
    assert shown(capsys, "name", f"name={text}") == text
    assert shown(capsys, "runs_dir", f"runs_dir={text}") == text


@pytest.mark.parametrize(
    "text",
    [
        "/data/a,b (c) {d} [e]",
        "~/x",
        r"C:\x\y",
        r"C:\\x",
        "2024",
        "a#b: c",
        "日本 é",
        "a;b|c&d`e",
        "glob(*)",
        " x ",
        "it's",
    ],
)
def test_a_path_of_data_is_the_words_behind_the_equals_sign(text, capsys):
    assert shown(capsys, "dataset.root", "dataset=folder", f"dataset.root={text}") == text


@pytest.mark.parametrize(("text", "value"), [("null", None), ("'x y'", "x y"), ("${oc.env:NOT_SET,/a}/b", "/a/b")])
def test_null_quotes_and_references_keep_their_meaning(text, value, capsys):
    assert shown(capsys, "dataset.root", "dataset=folder", f"dataset.root={text}") == value


@pytest.mark.parametrize("name", ["${oc.env:HOME}", "a$HOME", "'x'", "${x", "x,${y}"])
def test_a_path_that_exists_is_never_a_reference(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()

    assert shown(capsys, "dataset.root", "dataset=folder", f"dataset.root={name}") == name


def test_variables_of_the_environment_are_replaced_only_in_paths_that_do_not_exist(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "elsewhere")
    (tmp_path / "a$PLACE").mkdir()

    nasx("data", "check", "folder", "dataset.root=a$PLACE")
    nasx("data", "check", "folder", "dataset.root=b$PLACE")

    out = "".join(capsys.readouterr())
    assert "a$PLACE must contain one folder for each" in out
    assert "belsewhere does not exist" in out


@pytest.mark.parametrize("text", ["2024", "007", "1_000", "1e3", "true", "0x10"])
def test_a_text_in_a_yaml_file_is_as_written(text, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    defaults = "defaults: [lines, override dataset: numpy, _self_]"
    file.write_text(f"{defaults}\nname: {text}\ndataset:\n  file: {text}\n")

    assert shown(capsys, "name", config=file) == text
    assert shown(capsys, "dataset.file", config=file) == text
    assert shown(capsys, "name", "name=other", config=file) == "other"


@pytest.mark.parametrize("value", ["!!binary aGk=", "!!timestamp 2024-01-01", "!!set {a}"])
@pytest.mark.parametrize("line", ["name: {}", "seed: {}", "dataset:\n  file: [{}]"])
def test_a_tag_that_json_does_not_have_is_refused_in_one_line(line, value, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(f"defaults: [lines, override dataset: numpy, _self_]\n{line.format(value)}\n")

    assert nasx("search", "--config", file, "--dry-run") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_numbers_stay_numbers(capsys):
    assert shown(capsys, "seed", "seed=7") == 7
    assert shown(capsys, "training.learning_rate", "training.learning_rate=1e-3") == 0.001


@pytest.mark.parametrize("value", ["2024", "null", "'x'", "a, b", 2024, Path("/a,b")])
def test_texts_in_a_mapping_of_python_are_as_they_are(value):
    from nasx.config.compose import compose
    from nasx.results import _as_words

    assert compose("lines", _as_words({"runs_dir": value}))["runs_dir"] == str(value)


def test_ctrl_c_during_the_first_imports_is_one_line(tmp_path):
    code = (
        "import os, runpy, signal, sys\n"
        "class Interrupts:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupts())\n"
        "sys.argv = ['nasx', '--help']\n"
        "runpy.run_module('nasx', run_name='__main__')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "nasx: interrupted.\n")
