"""A run goes on and is looked at only with its own data and its own config; figures name where they come from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import unicodedata
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.factories.black_box import LINES, nasx

SMALL = [word for word in LINES if not word.startswith(("dataset.", "algorithm.evaluations"))]
NOT_HASHED = ("search", "execution", "runs_dir", "logger", "finetune_front", "provenance")
CLASSES = ("bird", "cat", "dog")


def draw(kind: int, number: int) -> np.ndarray:
    """Return a gray image of 12 x 12 pixels: a horizontal, vertical or diagonal line on noise."""
    noise = np.random.default_rng([kind, number])
    pixels = noise.integers(0, 90, (12, 12)).astype(np.uint8)
    place = int(noise.integers(2, 10))
    if kind == 0:
        pixels[place] = 230
    elif kind == 1:
        pixels[:, place] = 230
    else:
        pixels[np.arange(12), (np.arange(12) + place) % 12] = 230
    return pixels


def write_pictures(root: Path, per_class: int, first: int = 0) -> Path:
    for kind, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            Image.fromarray(draw(kind, number)).save(root / name / f"{number:03}.png")
    return root


def write_arrays(file: Path, *, change: Callable[[dict[str, np.ndarray]], None] = lambda arrays: None) -> Path:
    kinds = np.arange(180) % 3
    arrays = {
        "train_images": np.stack([draw(kind, number) for number, kind in enumerate(kinds)]),
        "train_labels": kinds,
        "test_images": np.stack([draw(kind, 500 + number) for number, kind in enumerate(kinds[:60])]),
        "test_labels": kinds[:60],
        "class_names": np.array(CLASSES),
    }
    change(arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return file


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of three networks, one on pictures, one on arrays, next to their data."""
    home = tmp_path_factory.mktemp("identity")
    write_pictures(home / "pictures", per_class=60)
    write_arrays(home / "data/arrays.npz")
    here = ["algorithm.evaluations=3", f"runs_dir={home / 'runs'}"]
    folder = ["dataset=folder", f"dataset.root={home / 'pictures'}", f"dataset.cache={home / 'cache'}"]
    folder += ["dataset.image_size=12", "dataset.grayscale=true"]
    arrays = ["dataset=numpy", f"dataset.file={home / 'data/arrays.npz'}"]
    assert nasx("search", *SMALL, *folder, *here, "--run-dir", home / "on_pictures") == 0
    assert nasx("search", *SMALL, *arrays, *here, "--run-dir", home / "on_arrays") == 0
    return home


@pytest.fixture
def own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the runs and of their data, to which config.yaml still points by the paths of the originals."""
    monkeypatch.chdir(tmp_path)
    for name in ("on_pictures", "on_arrays", "pictures", "data"):
        shutil.copytree(home / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was printed on stderr since the last call, as one line of words."""
    return lambda: " ".join(capsys.readouterr().err.split())


def edit(run: Path, before: str, after: str) -> None:
    text = (run / "config.yaml").read_text()
    assert before in text
    (run / "config.yaml").write_text(text.replace(before, after, 1))


def member(run: Path) -> str:
    """Return the id of a network whose weights are kept."""
    return sorted(run.glob("archs/*/weights_0.safetensors"))[0].parent.name


def trials(run: Path) -> int:
    with sqlite3.connect(run / "run.db") as connection:
        (found,) = connection.execute("SELECT count(*) FROM trials").fetchone()
    connection.close()
    return int(found)


def resume(run: Path, *words: str | Path) -> int:
    return nasx("search", "--resume", "--run-dir", run, "algorithm.evaluations=4", *words)


# --- the data


def test_a_search_does_not_go_on_over_more_images(own, said):
    write_pictures(own / "pictures", per_class=60, first=60)

    assert resume(own / "on_pictures", f"dataset.root={own / 'pictures'}") == 2

    assert "144 images of 3 classes then, 288 now" in said()
    assert trials(own / "on_pictures") == 3


def test_a_search_does_not_go_on_over_renamed_classes(own, said):
    (own / "pictures/cat").rename(own / "pictures/catty")

    assert resume(own / "on_pictures", f"dataset.root={own / 'pictures'}") == 2

    assert "class 'cat' is now called 'catty'" in said()


def swap_labels(arrays: dict[str, np.ndarray]) -> None:
    labels = arrays["train_labels"]
    labels[[0, 1]] = labels[[1, 0]]


def brighten(arrays: dict[str, np.ndarray]) -> None:
    arrays["train_images"][0, 0, 0] ^= 1


def enlarge(arrays: dict[str, np.ndarray]) -> None:
    arrays["train_images"] = np.pad(arrays["train_images"], ((0, 0), (1, 1), (1, 1)))


def reorder_classes(arrays: dict[str, np.ndarray]) -> None:
    arrays["class_names"] = arrays["class_names"][::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap_labels, "as many images of each class, but other labels or another order"),
        (brighten, "as many images of each class, but other pixels or another order"),
        (enlarge, r"images of 1 x 12 x 12 then, 1 x 14 x 14 now"),
        (reorder_classes, "the classes are in another order"),
    ],
)
def test_no_command_reads_changed_arrays_as_those_of_the_run(own, said, change, words):
    run, file = own / "on_arrays", write_arrays(own / "data/changed.npz", change=change)
    looked = ["--run-dir", run, "--arch-id", member(run), f"dataset.file={file}"]

    assert resume(run, f"dataset.file={file}") == 2
    assert words in said()
    for command in (["explain"], ["debug"], ["export", "--format=safetensors"], ["train", "training.epochs=1"]):
        assert nasx(command[0], *looked, *command[1:]) == 2, command
        assert words in said(), command


def test_other_data_are_accepted_for_looking_and_the_page_says_so(own, said, capsys):
    run, file = own / "on_arrays", write_arrays(own / "data/changed.npz", change=brighten)

    looked = ["--run-dir", run, "--arch-id", member(run), f"dataset.file={file}", "--other-data", "--out", own / "out"]
    assert nasx("explain", "--sample=0", *looked) == 0

    assert "NOT those of the search: as many images of each class" in " ".join(capsys.readouterr().out.split())
    assert "NOT those of the search" in (own / "out/image.html").read_text()


def test_runs_on_other_data_are_no_repetitions_of_each_other(own, capsys):
    """Two runs with the same config at two times, between which an array has changed."""
    file = own / "data/arrays.npz"
    runs = []
    for number, change in enumerate((lambda arrays: None, brighten)):
        write_arrays(file, change=change)
        words = ["dataset=numpy", f"dataset.file={file}", "algorithm.evaluations=1", f"runs_dir={own}"]
        runs.append(own / f"run_{number}")
        assert nasx("search", *SMALL, *words, f"seed={number}", "--run-dir", runs[-1]) == 0
    capsys.readouterr()

    assert nasx("compare", *runs, "--format=csv") == 0
    assert len(set(re.findall(r"data=\w{8}", capsys.readouterr().out))) == 2


def test_a_search_never_accepts_other_data(own, said):
    assert nasx("search", "--resume", "--other-data", "--run-dir", own / "on_arrays") == 2
    assert "--other-data" in said()


def test_the_check_of_a_run_compares_data_that_are_at_hand(own, said, capsys):
    run = own / "on_arrays"
    assert nasx("runs", "check", run) == 0
    file = write_arrays(own / "data/changed.npz", change=swap_labels)
    edit(run, "data/arrays.npz", "data/changed.npz")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "dataset": {**config["dataset"], "file": str(file)}}))
    capsys.readouterr()

    assert nasx("runs", "check", run) == 2

    assert "other labels" in capsys.readouterr().out


def test_a_run_in_python_refuses_other_data_too(own):
    import nasx as package
    from nasx.errors import DataError

    file = write_arrays(own / "data/changed.npz", change=brighten)
    network = package.load_run(own / "on_arrays", {"dataset.file": file}).front()[0]

    with pytest.raises(DataError, match="the data are not those of the run: as many images of each class"):
        network.explain()


def test_the_figure_of_further_seeds_rests_on_the_same_test_images(own, said):
    def fewer(arrays: dict[str, np.ndarray]) -> None:
        arrays["test_images"], arrays["test_labels"] = arrays["test_images"][:45], arrays["test_labels"][:45]

    run = own / "on_arrays"
    call = ["train", "--run-dir", run, "--arch-id", member(run), "training.epochs=1", "training.batch_size=16"]
    assert nasx(*call, "training.precision=float32") == 0
    file = write_arrays(own / "data/fewer.npz", change=fewer)

    assert nasx(*call, "training.precision=float32", "--seeds=2", f"dataset.file={file}") == 2

    assert "60 images of 3 classes then, 45 now" in said()
    assert len(json.loads((run / "test_touches.json").read_text())) == 1


def test_a_run_of_an_older_version_goes_on_only_with_its_classes(own, said):
    """Its journal has the names of the classes, but no digests; those are recorded when it resumes."""
    run = shutil.copytree(Path(__file__).parents[1] / "old_runs/c8f4bd1/finished", own / "older")
    config = yaml.safe_load((run / "config.yaml").read_text())
    kept = {name: value for name, value in config.items() if name not in NOT_HASHED}
    kept["dataset"] = config["dataset"] = {
        "_target_": "nasx.data.npz.NumpyArrays",
        "file": str(own / "data/arrays.npz"),
    }
    kept["algorithm"] = {name: value for name, value in config["algorithm"].items() if name != "evaluations"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with sqlite3.connect(run / "run.db") as connection:
        digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]
        connection.execute("UPDATE run SET config_hash = ?", (digest,))
    connection.close()

    assert nasx("search", "--resume", "--run-dir", run, "algorithm.evaluations=8") == 2

    assert "4 classes then, 3 now" in said()


def test_other_versions_are_reported_once(own, said, monkeypatch):
    run = own / "on_arrays"
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")

    looked = ["explain", "--sample=0", "--run-dir", run, "--arch-id", member(run), "--out", own / "out"]
    assert nasx(*looked) == 0
    assert said().count("and Python 3.99.0: new figures may differ slightly.") == 1
    assert resume(run) == 0
    assert said().count("and Python 3.99.0: new figures may differ slightly.") == 1
    assert nasx("search", "--resume", "--run-dir", run, "algorithm.evaluations=5") == 0
    assert "Python 3.99.0" not in said()


# --- places


def test_moved_arrays_are_named_once_and_remembered(own, said):
    run, moved = own / "on_arrays", own / "elsewhere/renamed.npz"
    moved.parent.mkdir()
    shutil.copy(own / "data/arrays.npz", moved)
    os.utime(moved, (1, 1))

    assert resume(run, f"dataset.file={moved}") == 0
    assert trials(run) == 4
    moved.rename(own / "again.npz")
    looked = ["explain", "--sample=0", "--run-dir", run, "--arch-id", member(run), "--out", own / "out"]
    assert nasx(*looked) == 2
    assert "elsewhere/renamed.npz does not exist" in said()
    assert nasx(*looked, f"dataset.file={own / 'again.npz'}") == 0


@pytest.mark.parametrize("kind", ["arrays", "pictures"])
def test_both_unicode_forms_of_a_class_name_are_the_same_class(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    names = ("cafz", "café", "dog")  # without normalization the forms of the second are sorted differently
    for form in ("NFC", "NFD"):
        own = [unicodedata.normalize(form, name) for name in names]
        write_arrays(tmp_path / form / "arrays.npz", change=lambda arrays, own=own: arrays.update(class_names=own))
        pictures = write_pictures(tmp_path / form / "pictures", per_class=60)
        for name, there in zip(CLASSES, own, strict=True):
            (pictures / name).rename(pictures / there)
    data = {
        "arrays": lambda form: ["dataset=numpy", f"dataset.file={tmp_path / form / 'arrays.npz'}"],
        "pictures": lambda form: ["dataset=folder", f"dataset.root={tmp_path / form / 'pictures'}"],
    }[kind]
    form_of_pictures = ["dataset.image_size=12", "dataset.grayscale=true"] if kind == "pictures" else []
    run = tmp_path / "run"
    small = [*SMALL, "algorithm.evaluations=3"]
    assert nasx("search", *small, *data("NFC"), *form_of_pictures, "--run-dir", run) == 0
    assert resume(run, *data("NFD")[1:]) == 0


def test_renamed_and_touched_pictures_that_read_the_same_are_accepted(own):
    for file in (own / "pictures").glob("*/*.png"):
        file.rename(file.with_name(f"moved_{file.name}"))
        os.utime(file.with_name(f"moved_{file.name}"), (1, 1))

    new = [f"dataset.root={own / 'pictures'}", f"dataset.cache={own / 'new_cache'}", "dataset.memory_map=true"]
    assert resume(own / "on_pictures", *new) == 0


@pytest.mark.parametrize(
    "words", [["execution=serial"], ["execution.device=cpu"], ["logger=null"], ["dataset.cache="], ["search.retries=2"]]
)
def test_a_resumed_search_takes_other_places_and_ways_of_working(own, words):
    assert resume(own / "on_pictures", *words) == 0


def test_a_setting_that_decides_results_may_not_change_with_a_place(own, said):
    assert resume(own / "on_pictures", "dataset.image_size=16") == 2

    assert "dataset.image_size was 12, is 16 now. Here only" in said()
    looked = ["--run-dir", own / "on_arrays", "--arch-id", member(own / "on_arrays")]
    assert nasx("explain", *looked, "algorithm.evaluations=9") == 2
    assert "Here only dataset.file may change" in said()


def table_of(change: float = 0.0) -> str:
    """Return a table of all networks of NAS-Bench-201; `change` is added to the error of the last one."""
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    rows = ["architecture,error,introspectability"]
    for number, (a, b, c, d, e, f) in enumerate(product(operations, repeat=6)):
        text = f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"
        rows.append(f"{text},{10 + number % 70 + change * (number == 15_624)},{number % 89 / 100}")
    return "\n".join(rows)


TABULAR = """
defaults: [base, space: nb201, algorithm: random, execution: serial, override evaluation: tabular, _self_]
evaluation:
  metrics:
    error: {column: error, factor: 0.01}
    introspectability: {column: introspectability}
"""


@pytest.fixture
def tabular(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run on a table of ten networks."""
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(table_of())
    settings = yaml.safe_load(TABULAR)
    settings["evaluation"]["table"] = str(table)
    (tmp_path / "tabular.yaml").write_text(yaml.safe_dump(settings))
    config = ["--config", tmp_path / "tabular.yaml"]
    search = ["algorithm.evaluations=4", f"runs_dir={tmp_path}"]
    assert nasx("search", *config, *search, "--run-dir", tmp_path / "run") == 0
    return tmp_path / "run"


def test_a_table_may_move_and_its_rows_may_be_sorted_otherwise(tabular, tmp_path):
    header, *rows = table_of().splitlines()
    (tmp_path / "table.csv").rename(tmp_path / "moved.csv")
    (tmp_path / "moved.csv").write_text("\n".join([f"{header},remark", *(f"{row},x" for row in reversed(rows))]))

    assert resume(tabular, f"evaluation.table={tmp_path / 'moved.csv'}", "algorithm.evaluations=6") == 0


def test_a_search_does_not_go_on_over_a_changed_table(tabular, tmp_path, said):
    (tmp_path / "table.csv").write_text(table_of(change=0.5))

    assert resume(tabular) == 2
    assert "as many rows, but other values" in said()


def test_a_changed_file_of_class_similarities_is_refused(tmp_path, monkeypatch, said):
    monkeypatch.chdir(tmp_path)
    names = ("none", "horizontal", "vertical", "diagonal")
    rows = [",".join([name, *("1" if name == other else "0.5" for other in names)]) for name in names]
    similar = tmp_path / "similar.csv"
    similar.write_text("\n".join([",".join(["", *names]), *rows]))
    run = ["--run-dir", tmp_path / "run"]
    assert nasx("search", *LINES, f"scorer.similarity={similar}", "algorithm.evaluations=2", *run) == 0
    similar.rename(tmp_path / "moved.csv")

    assert resume(tmp_path / "run", f"scorer.similarity={tmp_path / 'moved.csv'}", "algorithm.evaluations=3") == 0
    (tmp_path / "moved.csv").write_text((tmp_path / "moved.csv").read_text().replace("0.5", "0.25"))
    assert resume(tmp_path / "run") == 2
    assert "the file of scorer.similarity has other content" in said()
    assert resume(tmp_path / "run", "scorer.similarity=null") == 2


# --- the config


def readers(run: Path) -> list[list[str | Path]]:
    """Return a call of every command that reads a run."""
    network = ["--run-dir", run, "--arch-id", member(run)]
    return [
        ["search", "--resume", "--run-dir", run],
        ["pareto", "--run-dir", run],
        ["explain", *network],
        ["explain", *network, "--sample=0"],
        ["debug", *network],
        ["train", *network, "training.epochs=1"],
        ["export", *network, "--format=safetensors"],
        ["report", "--run-dir", run],
        ["compare", run, run.parent / "on_pictures"],
        ["runs", "show", run],
        ["runs", "check", run],
    ]


def test_every_command_refuses_an_edited_config_and_names_the_key(own, capsys):
    run = own / "on_arrays"
    edit(run, "seed: 0", "seed: 1")

    for call in readers(run):
        assert nasx(*call) == 2, call
        printed = capsys.readouterr()
        assert "seed was 0, is 1 now" in printed.err + printed.out, call
        assert not printed.err.count("Traceback")


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("epochs: 1", "epochs: 5", "training.epochs was 1, is 5 now"),
        ("channels: 2", "channels: 2\n  cells: 1", "twice"),
        ("validation_fraction: 0.2", "validation_fraction: 0.3", "split.validation_fraction was 0.2, is 0.3 now"),
        ("seed: 0\n", "", "seed was 0, is not set now"),
        ("seed: 0\n", "seed: 0\nspeed: 3\n", "speed was not set, is 3 now"),
        ("- introspectability\n", "- parameters\n", "objectives was"),
    ],
)
def test_an_edited_config_is_refused_with_both_values(own, said, before, after, words):
    run = own / "on_arrays"
    edit(run, before, after)

    assert nasx("pareto", "--run-dir", run) == 2

    assert words in said()


def test_a_config_that_only_looks_different_is_the_same(own):
    run = own / "on_arrays"
    config = yaml.safe_load((run / "config.yaml").read_text())
    turned = dict(reversed(config.items()))
    turned["training"] = {**config["training"], "momentum": 0.9, "weight_decay": 5e-4, "learning_rate": 0.1}
    turned["split"] = {**config["split"], "validation_fraction": 0.2}
    text = yaml.safe_dump(turned, sort_keys=False, default_flow_style=True)
    (run / "config.yaml").write_text(f"# a comment\n{text}".replace("regularizer: 0.0", "regularizer: 0"))

    assert nasx("pareto", "--run-dir", run) == 0
    assert resume(run) == 0


def test_a_config_that_is_gone_is_restored(own, said):
    run = own / "on_arrays"
    before = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").unlink()

    assert nasx("pareto", "--run-dir", run) == 0

    assert "config.yaml was missing: restored from the journal." in said()
    assert yaml.safe_load((run / "config.yaml").read_text()) == before


@pytest.mark.parametrize(
    "content", [b"", b"- 1", b"\xff\xfe", b"a: [1", b"seed: 0\n" + b"#" * 10_000_000, b"a: &a [*a]", b"? [1]\n: 2"]
)
def test_a_damaged_config_is_refused_in_one_line_that_says_how_to_go_on(own, capsys, content):
    run = own / "on_arrays"
    (run / "config.yaml").write_bytes(content)

    assert nasx("pareto", "--run-dir", run) == 2

    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "config.yaml" in message
    (run / "config.yaml").unlink()
    assert nasx("pareto", "--run-dir", run) == 0


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_config_that_is_no_file_is_refused(own, said, kind):
    run = own / "on_arrays"
    file = run / "config.yaml"
    if kind == "link":
        file.rename(own / "outside.yaml")
        file.symlink_to(own / "outside.yaml")
    else:
        file.unlink()
        os.mkfifo(file) if kind == "pipe" else file.mkdir()

    assert nasx("pareto", "--run-dir", run) == 2

    assert "config.yaml" in said()


def test_places_edited_by_hand_take_effect(own):
    run = own / "on_arrays"
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["dataset"]["file"] = str(own / "data/arrays.npz")
    config["algorithm"]["evaluations"] = 5
    (run / "config.yaml").write_text(yaml.safe_dump(config))

    assert nasx("search", "--resume", "--run-dir", run) == 0

    assert trials(run) == 5


# --- figures


def test_a_page_shows_the_error_of_the_journal_and_the_one_computed_here_as_what_it_is(own, capsys):
    """The journal's error is changed here, as another precision would change it."""
    run, arch_id = own / "on_arrays", member(own / "on_arrays")
    shutil.rmtree(own / "on_pictures")
    assert nasx("explain", "--run-dir", run, "--arch-id", arch_id, "--out", own / "out") == 0
    page = " ".join(capsys.readouterr().out.split())
    (error,) = re.findall(r"validation error (\d+\.\d+) % \((\d+) of 36 images\)", page)

    assert nasx("pareto", "--run-dir", run, "--format=json") == 0
    networks = json.loads(capsys.readouterr().out)["front"]
    assert nasx("debug", "--run-dir", run, "--arch-id", arch_id, "--out", own / "out") == 0
    debugged = " ".join(capsys.readouterr().out.split())

    (observed,) = [n["error_observed"] for n in networks if n["arch_id"] == arch_id]
    assert f"{100 * observed:.2f}" == error[0]
    assert f"validation error {error[0]} % ({error[1]} of 36 images)" in debugged
