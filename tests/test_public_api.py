"""What `import nasx` offers: names, light import, searches and notebooks."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from sklearn.datasets import load_digits

import nasx

NOTEBOOK = Path(__file__).parents[1] / "scripts" / "quickstart.ipynb"
# the notebook's own search, with less of everything
SMALL = {
    "algorithm.evaluations": 3,
    "algorithm": "random",
    "training.epochs": 4,
    "training.batch_size": 32,
    "split.train_images": 400,
    "split.validation_images": 150,
    "space.channels": 4,
    "execution": "serial",
}


def test_dir_lists_the_public_names_and_every_one_exists():
    assert dir(nasx) == sorted(nasx.__all__)
    for name in nasx.__all__:
        assert getattr(nasx, name) is not None
    assert not hasattr(nasx, "nothing")


def test_every_public_name_has_a_docstring_of_its_own():
    for name in set(nasx.__all__) - {"__version__"}:
        assert (getattr(nasx, name).__doc__ or "").strip(), name


def test_every_error_is_a_nasx_error():
    for name in nasx.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(nasx, name), nasx.NasxError)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_returns_its_run_and_resume_extends_it(here, capsys):
    run = nasx.search("digits", SMALL, run_dir="first")

    assert run.path == Path("first")
    assert len(run.records) == 3
    assert "3/3 trainings" in capsys.readouterr().err
    longer = nasx.resume("first", {"algorithm.evaluations": 4}, progress=False)
    assert len(longer.records) == 4
    assert [(t.arch_id, t.metrics) for t in longer.records[:3]] == [(t.arch_id, t.metrics) for t in run.records]
    assert capsys.readouterr().err == ""


def test_a_mapping_is_a_composed_config_and_takes_no_overrides(here):
    with pytest.raises(
        nasx.ConfigError, match=r"^overrides need a config by name or path: change the mapping instead\.$"
    ):
        nasx.search({"name": "mine"}, ["seed=1"])
    with pytest.raises(nasx.ConfigError, match=r"^dataset is missing"):
        nasx.search({"name": "mine"})


def test_a_mistake_is_one_line(here):
    with pytest.raises(nasx.ConfigError, match=r"^training\.epochs must be at least 1, got 0\.$"):
        nasx.search("digits", {**SMALL, "training.epochs": 0})


def lines_of(cell) -> list[str]:
    return [line for line in "".join(cell["source"]).splitlines() if line.strip()]


def run_cell(source: str, names: dict) -> object:
    """Run a cell as a notebook does: return the value of its last line, if that is an expression."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "cell", "exec"), names)
        return None
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook_searches_looks_explains_and_predicts_in_about_ten_lines(here, monkeypatch):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    search = nasx.search
    monkeypatch.setattr(
        nasx, "search", lambda config, overrides, **more: search(config, {**overrides, **SMALL}, **more), raising=False
    )
    names: dict = {}

    shown = [run_cell("".join(cell["source"]), names) for cell in cells]

    assert sum(len(lines_of(cell)) for cell in cells) <= 11
    run, frame, best, page, classes = shown
    assert isinstance(run, nasx.Run)
    assert "<img alt=" in run._repr_html_()
    assert list(frame.error) == sorted(frame.error)
    assert repr(best).startswith(f"<nasx network {best.arch_id}: ")
    assert "<iframe srcdoc=" in page._repr_html_()
    assert f"Network {best.arch_id}" in repr(page)
    assert len(classes) == 5
    assert set(classes) <= {str(target) for target in load_digits().target_names}


def test_records_are_short_in_a_notebook(here):
    run = nasx.search("digits", SMALL, progress=False)
    trial = run.records[0]

    for shown in (repr(run), repr(trial), repr(trial.evaluation.scores[0]), repr(run.front()[0])):
        assert len(shown) < 200
        assert "\n" not in shown
