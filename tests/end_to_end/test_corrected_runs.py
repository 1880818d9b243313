"""Corrections are part of a run: counted, copied, compared; a new search may begin with the front of another run."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from nasx.experiment import Experiment
from nasx.workflows.suspect_review import search_again
from tests.factories.black_box import LINES, nasx

ROWS = ["0,relabel,{}", "1,drop,", "2,keep,", "3,drop,"]


def other_class(position: int) -> str:
    images = Experiment.from_config(api_config()).dataset.train()
    return images.class_names[(images.labels[position] + 1) % images.n_classes]


def api_config(*overrides: str):
    from nasx.config.compose import compose

    return compose("lines", [*LINES[2:], *overrides])


def write(file: Path, *rows: str) -> Path:
    file.write_text("\n".join(["image,action,label", *rows]) + "\n")
    return file


def append(file: Path, row: str) -> None:
    file.write_text(f"{file.read_text()}{row}\n")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    here = tmp_path_factory.mktemp("corrected")
    fixes = write(here / "fixes.csv", *(row.format(other_class(0)) for row in ROWS))
    assert nasx("search", *LINES, f"dataset.corrections={fixes}", "--run-dir", here / "run") == 0
    return here


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A copy of the run, with its file of corrections."""
    shutil.copytree(sound / "run", tmp_path / "run")
    shutil.copy(sound / "fixes.csv", tmp_path / "fixes.csv")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(sound), str(tmp_path)))
    return tmp_path


def test_the_validation_images_stay_the_same_except_dropped_ones(sound: Path) -> None:
    plain = Experiment.from_config(api_config())
    corrected = Experiment.from_config(api_config(f"dataset.corrections={sound / 'fixes.csv'}"))

    for part in ("train", "validation"):
        before, after = (getattr(each.data, part).positions for each in (plain, corrected))
        assert after.tolist() == [position for position in before if position not in (1, 3)]
    labels = {
        p: label
        for part in (corrected.data.train, corrected.data.validation)
        for p, label in zip(part.positions.tolist(), part.labels.tolist(), strict=True)
    }
    assert labels[0] == (plain.dataset.train().labels[0] + 1) % 4
    assert corrected.corrections_in_words == "1 label changed, 2 images dropped, 1 confirmed (fixes.csv)"


def test_a_run_shows_how_many_corrections_it_uses(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nasx("runs", "show", sound / "run") == 0
    assert "corrections: 1 label changed, 2 images dropped, 1 confirmed (fixes.csv)" in capsys.readouterr().out
    assert nasx("runs", "check", sound / "run") == 0
    assert nasx("report", "--run-dir", sound / "run", "--out", sound / "report.html") == 0
    assert "1 label changed, 2 images dropped" in (sound / "report.html").read_text()


def test_an_edited_file_is_refused_on_resume_and_the_copy_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(place / "fixes.csv", "7,drop,")
    resume = ["search", "--resume", "--run-dir", place / "run"]

    assert nasx(*resume) == 2
    error = capsys.readouterr().err
    assert "fixes.csv has changed since the run was started: " in error
    assert "1 and 2 then, 1 and 3 now" in error
    assert nasx(*resume, f"dataset.corrections={place / 'fixes.csv'}") == 2
    assert "the data are not those of the run: the corrections differ" in capsys.readouterr().err
    assert nasx(*resume, "dataset.corrections=null") == 2
    assert nasx(*resume, f"dataset.corrections={place / 'run' / 'corrections.csv'}") == 0


def test_a_new_reason_or_a_confirmed_label_is_no_change(place: Path) -> None:
    file = place / "fixes.csv"
    file.write_text(file.read_text() + "9,keep,\n")

    assert nasx("search", "--resume", "--run-dir", place / "run") == 0


def test_the_copy_suffices_when_the_file_is_gone(place: Path) -> None:
    (place / "fixes.csv").unlink()

    assert nasx("search", "--resume", "--run-dir", place / "run") == 0
    assert nasx("runs", "check", place / "run") == 0


def test_a_changed_copy_is_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(place / "run" / "corrections.csv", "7,drop,")

    assert nasx("runs", "check", place / "run") == 2
    assert "corrections.csv: differs from the corrections" in capsys.readouterr().out
    assert nasx("search", "--resume", "--run-dir", place / "run") == 2


def test_a_search_begins_with_the_front_of_another_run(sound: Path, tmp_path: Path) -> None:
    front = front_of(sound / "run")

    assert nasx("search", *LINES, "seed=5", "--warm-start", sound / "run", "--run-dir", tmp_path / "warm") == 0

    config = yaml.safe_load((tmp_path / "warm" / "config.yaml").read_text())
    assert [tuple(g) for g in config["warm_start"]["genotypes"]] == front
    with_journal = genotypes_asked(tmp_path / "warm")
    assert with_journal[: len(front)] == front
    assert nasx("search", "--config", tmp_path / "warm" / "config.yaml", "--run-dir", tmp_path / "again") == 0
    assert genotypes_asked(tmp_path / "again") == with_journal


def genotypes_asked(run: Path) -> list[tuple[int, ...]]:
    from nasx.runs.stored_run import open_run

    with open_run(run) as stored:
        return [entry.candidate.genotype for entry in stored.journal.candidates()]


def front_of(run: Path) -> list[tuple[int, ...]]:
    from nasx.reports.summary import read_summary
    from nasx.runs.stored_run import open_run

    with open_run(run) as stored:
        genotypes = {trial.arch_id: trial.genotype for trial in stored.journal.trials()}
    return [genotypes[member.arch_id] for member in read_summary(run).front]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["space.channels=8"], "searched another space, NASBench201 (channels 2, cells 1); this search has"),
        (["space=chain"], "searched another space"),
    ],
)
def test_another_space_is_refused(
    sound: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nasx("search", *LINES, *words, "--warm-start", sound / "run", "--dry-run") == 2
    assert message in capsys.readouterr().err


def test_a_warm_start_is_no_resumed_search(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nasx("search", "--resume", "--warm-start", sound / "run") == 2
    assert "leave out --resume" in capsys.readouterr().err


def test_the_command_of_the_review_page_names_the_config_and_the_settings_of_the_run(sound):
    config = Experiment.of_run(sound / "run").config
    words = shlex.split(search_again(config.provenance, sound / "run"))
    assert words[:4] == ["nasx", "search", "--config", config.provenance["config"]]
    own = [word for word in config.provenance["overrides"] if not word.startswith("dataset.corrections=")]
    assert own and own == words[4:-3]
    assert words[-3:] == ["dataset.corrections=corrections.csv", "--warm-start", str(sound / "run")]
    again = shlex.split(search_again({}, sound / "run"))  # started from Python
    assert again[3] == str(sound / "run" / "config.yaml")
