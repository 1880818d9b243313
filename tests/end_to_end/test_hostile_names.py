"""Text of a stranger in every place from which nasx reads text: no command prints or writes it raw, or fails on it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.factories.black_box import nasx, search_lines
from tests.factories.every_command import HOSTILE, LINES, LONG, QUICK, files_below, run_line, uncontrolled

NAME = f"{HOSTILE}\udce9"  # with a byte that is not UTF-8
SMALL = (
    *("dataset.image_size=12", "dataset.grayscale=true", "dataset.test_fraction=0.25", "space.channels=2"),
    *("training.epochs=3", "training.batch_size=16", "training.precision=float32"),
    *("scorer.samples_per_class=2", "scorer.draws=2", "scorer.background=4"),
    *("algorithm.population_size=4", "algorithm.evaluations=4", "execution=serial"),
)
pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="file names are always UTF-8 there")


def write_images(folder: Path, names: tuple[str, ...]) -> Path:
    """Write 80 images of each class: lines that only the first class has across."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(80):
            pixels = rng.integers(0, 100, (12, 12), dtype=np.uint8)
            pixels[rng.integers(12)] = 255
            Image.fromarray(pixels if label == 0 else pixels.T).save(folder / name / f"{number}{NAME}.png")
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """A run of which every name is hostile: its directory, its data, classes, images and config."""
    root = tmp_path_factory.mktemp("names") / f"root{NAME}"
    data = write_images(root / "data", (f"={NAME}", f"b{NAME}"))
    config = root / f"c{NAME}.yaml"
    quoted = json.dumps(str(data))  # as YAML has it, too
    defaults = "defaults: [lines, override dataset: folder, _self_]"
    config.write_text(f"{defaults}\nname: names\ndataset: {{root: {quoted}}}\n")
    (root / "hostile_model.py").write_text(
        "from torch import nn\n"
        "def model():\n"
        "    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 2))\n"
    )
    shown = [name.replace("\udce9", "\\xe9") for name in (f"={NAME}", f"b{NAME}")]
    rows = [["", *shown], [shown[0], 1, 0.5], [shown[1], 0.5, 1]]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    similarity = root / f"s{NAME}.csv"
    similarity.write_bytes(text.getvalue().encode("utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("NASX_RUNS", str(root / "runs"))
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.syspath_prepend(str(root))
        words = ["search", "--config", str(config), *SMALL]
        assert nasx(*words, f"dataset.root={data}", "--run-dir", root / "runs" / f"run{NAME}") == 0
        assert nasx(*words, "seed=1", "--run-dir", root / "runs" / "other") == 0
        run = root / "runs" / f"run{NAME}"
        yield {
            "run": run,
            "runs": root / "runs",
            "other": root / "runs" / "other",
            "id": files_below(run / "archs", ".safetensors")[0].parent.name,
            "data": data,
            "image": files_below(data, ".png")[0],
            "config": config,
            "similarity": similarity,
            "out": root / "out",
        }


@pytest.mark.parametrize("name", LINES)
def test_every_command_works_on_hostile_names_and_prints_none_raw(places, capfd, name):
    for line in LINES[name]:
        capfd.readouterr()
        status = run_line(line, **places)
        out, err = capfd.readouterr()

        assert status == 0, (line, err)
        assert "Traceback" not in err
        assert uncontrolled(out) == ""
        assert uncontrolled(err) == ""
        if "--format json" in line:
            json.loads(out)
        if "--format csv" in line:
            assert_harmless_csv(out)


def assert_harmless_csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "@", "\t", "\r")]


def test_written_files_contain_hostile_names_only_escaped(places):
    """Runs after the commands: looks at all that they have written."""
    out = Path(str(places["out"]))
    pages = files_below(out, ".html")
    assert len(pages) >= 3
    for page in pages:
        text = page.read_text("utf-8")
        assert "'!A0<script>" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
    for card in files_below(out, ".md"):
        text = card.read_text("utf-8")
        assert "<script>" not in text.replace("\\<script\\>", "")
        assert "\x1b" not in text
    for table in files_below(out, ".csv"):
        assert_harmless_csv(table.read_text("utf-8"))
    for record in files_below(out, ".json"):
        json.loads(record.read_text("utf-8"))
    assert (Path(str(places["run"])) / "config.yaml").read_text("utf-8")


@pytest.mark.parametrize("line", [line for name in QUICK for line in LINES[name] if "--plot" not in line])
def test_a_terminal_gets_colors_but_no_commands(places, capfd, monkeypatch, line):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")

    if line.startswith("report"):  # it shows a spinner
        return
    assert run_line(line, **places) == 0

    out, _ = capfd.readouterr()
    assert uncontrolled(out, colors=True) == ""


@pytest.mark.parametrize("words", [["nope" + NAME], ["--" + NAME], ["pareto", "--format", NAME], ["search", NAME]])
def test_words_of_a_wrong_call_are_printed_escaped(capfd, words):
    assert nasx(*words) == 2

    out, err = capfd.readouterr()
    assert out == ""
    assert uncontrolled(err) == ""
    assert err.count("\n") == 1


def test_a_traceback_is_printed_escaped(capfd, monkeypatch):
    monkeypatch.setenv("NASX_DEBUG", "1")

    assert nasx("pareto", "--run-dir", f"/nowhere/{NAME}") == 2

    err = capfd.readouterr().err
    assert "Traceback" in err
    assert uncontrolled(err) == ""


def test_two_class_folders_that_would_have_one_name_are_refused(tmp_path, capfd):
    folder = write_images(tmp_path / "data", ("a", os.fsdecode(b"caf\xe9"), "caf\\xe9"))

    assert nasx("data", "check", folder) == 2
    assert "two class folders named caf\\xe9" in "".join(capfd.readouterr())


def test_class_names_of_an_npz_file_with_escapes_and_half_characters_are_printed_escaped(tmp_path, capfd):
    names = np.array([f"a{HOSTILE}", "b\ud800"])
    images, labels = np.zeros((20, 12, 12), np.uint8), np.arange(20) % 2
    np.savez(tmp_path / "x.npz", images=images, labels=labels, class_names=names)

    nasx("data", "check", "numpy", f"dataset.file={tmp_path / 'x.npz'}")

    out, err = capfd.readouterr()
    assert "b\\ud800" in out
    assert uncontrolled(out + err) == ""


# --- the journal ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_lines(tmp_path_factory.mktemp("journal") / "run")


def seal(connection: sqlite3.Connection) -> None:
    """Write the checksums of all rows anew, as somebody would who knows nasx. Older journals have none."""
    try:
        from nasx.runs.rows import checksum
    except ImportError:
        return
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    of_run = ""
    for table in sorted(tables, key=lambda name: name != "run"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "checksum"]
        rows = connection.execute(f"SELECT rowid, {', '.join(columns)} FROM {table}").fetchall()
        for number, *values in rows:
            found = checksum(values, of_run)
            connection.execute(f"UPDATE {table} SET checksum = ? WHERE rowid = ?", (found, number))
        if table == "run":
            of_run = found


def hostile_values(value: object) -> Iterator[str]:
    """Hostile values of the form that a column has."""
    yield HOSTILE + LONG
    if isinstance(value, str) and value.startswith(("[", "{")):
        found = json.loads(value)
        if isinstance(found, list):
            yield json.dumps([HOSTILE] * max(2, len(found)))
        else:
            yield json.dumps({**found, HOSTILE: HOSTILE})
            yield json.dumps(dict.fromkeys(found, HOSTILE))


UNIQUE = ("arch_id", "part", "scorer", "objective")  # part of a primary key: only one row can have the same text


def text_columns(run: Path) -> list[tuple[str, str, object]]:
    with sqlite3.connect(run / "run.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [
            (table, column[1], (connection.execute(f"SELECT {column[1]} FROM {table}").fetchone() or [""])[0])
            for table in tables
            for column in connection.execute(f"PRAGMA table_info({table})").fetchall()
            if column[2] == "TEXT"
        ]


def test_hostile_text_in_any_column_of_a_journal_is_never_printed_raw(lines_run, tmp_path, capfd):
    columns = text_columns(lines_run)
    assert len(columns) > 25
    for table, column, value in columns:
        for number, hostile in enumerate(hostile_values(value)):
            run = tmp_path / f"{table}_{column}_{number}"
            shutil.copytree(lines_run, run)
            with sqlite3.connect(run / "run.db") as connection:
                first = f"WHERE rowid = (SELECT min(rowid) FROM {table})" if column in UNIQUE else ""
                connection.execute(f"UPDATE {table} SET {column} = ? {first}", (hostile,))
                seal(connection)
            connection.close()
            for line in ("pareto --run-dir {run}", "runs show {run} --details", "runs check {run}"):
                capfd.readouterr()
                status = run_line(line, run=run)
                out, err = capfd.readouterr()

                assert status in (0, 2), (line, table, column)
                assert "Traceback (" not in err, (line, table, column)
                assert uncontrolled(out + err) == "", (line, table, column)
    assert nasx("runs", "--runs-dir", tmp_path) == 0  # lists all of them
    assert uncontrolled("".join(capfd.readouterr())) == ""
