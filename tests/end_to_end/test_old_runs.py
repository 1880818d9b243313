"""Runs, final trainings and exports of an earlier commit: they open, resume, explain, export and predict.

`python -m scripts.old_runs` creates tests/old_runs/<commit>. Modules, classes and keys have been renamed since; further
renames must keep these files working.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import nasx
from nasx.cli.main import main
from nasx.config.components import build, load_target
from nasx.errors import ResourceError
from nasx.protocols import Problem

OLD = Path(__file__).parents[1] / "old_runs/c8f4bd1"
FINAL = ["training.epochs=30", "training.batch_size=16", "training.precision=float32"]
CLASSES = ("none", "horizontal", "vertical", "diagonal")
COMPONENTS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((OLD / "components.yaml").read_text())
CHOICES = [(group, choice) for group, choices in COMPONENTS.items() for choice in choices]
FORMATS = ["onnx", "torch", "safetensors"]
NEEDED = {"execution": {"cluster": {"workers": 2}}}  # settings that a user must give

needs_onnx = pytest.mark.skipif(
    not all(map(find_spec, ("onnxscript", "onnxruntime"))), reason="the extra onnx is not installed"
)
EACH_FORMAT = [pytest.param(name, marks=needs_onnx if name == "onnx" else ()) for name in FORMATS]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Path:
    """Copy of the finished search, in the directory of runs."""
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")
    return Path(shutil.copytree(OLD / "finished", tmp_path / "runs/finished/2025-01-01_00-00-00"))


@pytest.fixture
def interrupted(tmp_path) -> Path:
    """Copy of the interrupted search."""
    return Path(shutil.copytree(OLD / "interrupted", tmp_path / "interrupted"))


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """Image of a vertical line."""
    pixels = np.zeros((12, 12), dtype=np.uint8)
    pixels[:, 6] = 255
    file = tmp_path_factory.mktemp("images") / "line.png"
    Image.fromarray(pixels).save(file)
    return file


def trained() -> str:
    """Return the arch_id of the network of the finished search with a final training."""
    (file,) = OLD.glob("finished/archs/*/final/final.json")
    return str(json.loads(file.read_text())["arch_id"])


def trials(run: Path) -> list[tuple[Any, ...]]:
    """Return the stored rows of all trials of a journal."""
    connection = sqlite3.connect(run / "run.db")
    columns = "arch_id, replicate, number, genotype, seed, status, reason, metrics, history, finished"
    rows = connection.execute(f"SELECT {columns} FROM trials ORDER BY rowid").fetchall()
    connection.close()
    return rows


def predict(model: Path, image: Path, capsys) -> dict[str, Any]:
    """Return the prediction of an exported model for an image."""
    capsys.readouterr()
    assert main(["predict", str(model), str(image), "--trust", "--format=json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    return dict(answer)


def test_a_finished_search_is_listed_and_shown(finished, capsys):
    assert main(["runs"]) == 0
    assert str(finished) in capsys.readouterr().out
    assert main(["runs", "show"]) == 0
    assert capsys.readouterr().out.count(" complete ") == len(trials(finished))


@pytest.mark.parametrize("name", ["finished", "interrupted"])
def test_a_run_passes_its_check(tmp_path, name, capsys):
    run = shutil.copytree(OLD / name, tmp_path / name)

    assert main(["runs", "check", str(run)]) == 0, capsys.readouterr().out


def test_the_front_is_unchanged_and_its_fine_tuning_is_shown(finished, capsys):
    assert main(["pareto", "--run-dir", str(finished), "--format=json"]) == 0
    front = {member["arch_id"] for member in json.loads(capsys.readouterr().out)["front"]}
    assert main(["pareto", "--run-dir", str(finished)]) == 0
    out = capsys.readouterr().out

    tuned = {file.parent.name for file in finished.glob("archs/*/finetuned.json")}
    assert front == {file.parent.name for file in finished.glob("archs/*/weights_0.safetensors")} == tuned
    assert all(out.count(arch_id) >= 2 for arch_id in tuned)  # in the table of the front and in that of fine-tuning


def test_a_finished_search_is_reported(finished, tmp_path):
    assert main(["report", "--run-dir", str(finished), "--out", str(tmp_path / "report.html")]) == 0

    assert trained() in (tmp_path / "report.html").read_text()


def test_a_network_is_explained_and_has_the_same_error(finished, tmp_path, capsys):
    (error,) = (json.loads(row[7])["error"] for row in trials(finished) if row[0] == trained())

    assert main(["explain", "--run-dir", str(finished), "--arch-id", trained(), "--out", str(tmp_path / "out")]) == 0

    assert f"{100 * error:.2f} % (" in capsys.readouterr().out
    assert (tmp_path / "out/explanation.html").is_file()


def test_a_network_is_debugged(finished, tmp_path, capsys):
    assert main(["debug", "--run-dir", str(finished), "--arch-id", trained(), "--out", str(tmp_path / "out")]) == 0

    assert trained() in capsys.readouterr().out
    assert list((tmp_path / "out").glob("*.html"))


def test_a_network_of_the_search_predicts_in_python(finished, image):
    network = next(n for n in nasx.load_run(finished).front() if n.trial.arch_id == trained())
    shutil.rmtree(finished / "archs" / trained() / "final")  # so that the weights of the search are used

    found = network.predict([image])

    assert found.classes[0] in CLASSES
    assert found.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_finished_search_is_extended(finished):
    before = trials(finished)

    assert main(["search", "--resume", "--run-dir", str(finished), f"algorithm.evaluations={len(before) + 2}"]) == 0

    assert trials(finished)[: len(before)] == before
    assert len(trials(finished)) > len(before)


def test_a_search_is_not_resumed_with_other_settings(finished, capsys):
    changed = "training.weight_decay=0.3"

    assert main(["search", "--resume", "--run-dir", str(finished), changed]) == 2

    assert "was started with other settings: training.weight_decay was 0.0005, is 0.3 now." in capsys.readouterr().err


def test_an_interrupted_search_is_resumed_to_its_end(interrupted, capsys):
    before = trials(interrupted)
    evaluations = yaml.safe_load((interrupted / "config.yaml").read_text())["algorithm"]["evaluations"]
    assert 0 < len(before) < evaluations

    assert main(["search", "--resume", "--run-dir", str(interrupted)]) == 0

    assert "Stopped" not in capsys.readouterr().err
    assert trials(interrupted)[: len(before)] == before
    assert len(trials(interrupted)) > len(before)
    assert main(["runs", "check", str(interrupted)]) == 0


def test_a_finished_final_training_is_neither_trained_nor_tested_again(finished, capsys):
    directory = finished / "archs" / trained() / "final"
    before = {file.name: file.read_bytes() for file in directory.iterdir()}

    assert main(["train", "--run-dir", str(finished), "--arch-id", trained(), *FINAL]) == 0

    assert all((directory / name).read_bytes() == content for name, content in before.items())
    assert "has used the test images" not in capsys.readouterr().err


def test_an_interrupted_test_set_evaluation_counts_once(finished, capsys):
    file = finished / "archs" / trained() / "final/final.json"
    record = json.loads(file.read_text())
    tested = record["trainings"][0].pop("test")  # as if killed between recording the evaluation and its result
    file.write_text(json.dumps(record))

    assert main(["train", "--run-dir", str(finished), "--arch-id", trained(), *FINAL]) == 0

    assert "has used the test images" not in capsys.readouterr().err
    assert len(json.loads((finished / "test_touches.json").read_text())) == 1
    assert json.loads(file.read_text())["trainings"][0]["test"]["error"] == pytest.approx(tested["error"], abs=0.02)


def test_a_final_training_with_other_settings_is_refused(finished, capsys):
    call = ["train", "--run-dir", str(finished), "--arch-id", trained(), *FINAL, "training.epochs=31"]

    assert main(call) == 2

    assert "contains a training with other settings (training.epochs: 30, now 31)" in capsys.readouterr().err


def test_a_final_training_resumes_from_its_checkpoint(finished, tmp_path):
    directory = Path(shutil.copytree(OLD / "final_interrupted", tmp_path / "final"))
    done = mark(directory / "checkpoint_0.safetensors", train_loss=-1.0)
    assert 0 < done < 30

    call = ["train", "--run-dir", str(finished), "--arch-id", trained(), *FINAL, f"--out={directory}"]
    assert main(call) == 0

    def losses(file: Path) -> list[float]:
        return [epoch["train_loss"] for epoch in json.loads(file.read_text())["trainings"][0]["history"]]

    resumed, undisturbed = losses(directory / "final.json"), losses(finished / f"archs/{trained()}/final/final.json")
    assert resumed[:done] == [-1.0] * done  # a training from the beginning would have replaced them
    assert len(resumed) == len(undisturbed)
    assert resumed[done] == pytest.approx(undisturbed[done], rel=0.01)  # without the momentum it differs by 4 %
    assert not list(directory.glob("checkpoint_*"))


def mark(checkpoint: Path, **values: float) -> int:
    """Set values in every epoch that a checkpoint records, and return the number of epochs."""
    data = checkpoint.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    state = json.loads(header["__metadata__"]["state"])
    state["history"] = [{**epoch, **values} for epoch in state["history"]]
    header["__metadata__"]["state"] = json.dumps(state)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    checkpoint.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    return len(state["history"])


@pytest.mark.parametrize("name", EACH_FORMAT)
def test_exported_files_predict_as_the_network_does(finished, image, name, capsys):
    network = next(n for n in nasx.load_run(finished).front() if n.trial.arch_id == trained())
    expected = network.predict([image])

    answer = predict(OLD / "exports" / name, image, capsys)

    assert answer["class"] == expected.classes[0]
    assert answer["probability"] == pytest.approx(expected.probabilities.max(), abs=1e-4)
    assert answer["confidence"] == pytest.approx(expected.confidence[0], abs=1e-4)


@pytest.mark.parametrize("name", EACH_FORMAT)
def test_a_network_is_exported_again(finished, image, tmp_path, name, capsys):
    call = ["export", "--run-dir", str(finished), "--arch-id", trained(), "--format", name, "--out", str(tmp_path)]
    assert main(call) == 0

    answer, before = predict(tmp_path, image, capsys), predict(OLD / "exports" / name, image, capsys)

    assert answer["class"] == before["class"]
    assert answer["probability"] == pytest.approx(before["probability"], abs=1e-4)


@pytest.mark.parametrize("file", sorted((OLD / "spaces").glob("*.safetensors")), ids=lambda file: file.stem)
def test_weights_of_other_spaces_predict(file, image, capsys):
    assert predict(file, image, capsys)["class"] in CLASSES


def test_every_space_has_a_network_of_the_old_version():
    searched = {"nb201", "cell_yaml"}
    assert {file.stem for file in (OLD / "spaces").glob("*.safetensors")} == set(COMPONENTS["space"]) - searched


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_a_component_is_built_from_its_old_settings(tmp_path, group, choice):
    settings = {**COMPONENTS[group][choice], **NEEDED.get(group, {}).get(choice, {})}
    settings = {key: str(tmp_path / key) if value == "???" else value for key, value in settings.items()}
    supplied = {}
    if group == "algorithm":  # these two are settings of the search
        settings = {key: value for key, value in settings.items() if key not in ("evaluations", "early_stopping")}
        supplied["problem"] = Problem(gene_sizes=(5,) * 6, n_objectives=2, seed=0)

    target = load_target(settings, group)
    try:
        component = build(settings, group, **supplied)
    except ResourceError:  # raised by the constructor, after all settings were accepted
        assert group == "logger"  # its package is not installed
    else:
        assert isinstance(component, target)  # type: ignore[arg-type]


def test_the_config_of_an_old_run_starts_a_new_run_that_is_compared_as_its_repetition(finished, tmp_path, capsys):
    again = tmp_path / "again"
    call = ["search", "--config", str(finished / "config.yaml"), "--run-dir", str(again), f"runs_dir={tmp_path}"]

    assert main([*call, "seed=1"]) == 0
    capsys.readouterr()
    assert main(["compare", str(finished), str(again), "--format=json"]) == 0

    (group,) = json.loads(capsys.readouterr().out)["groups"]  # one config, two seeds
    assert len(group["runs"]) == 2
