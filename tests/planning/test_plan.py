"""A plan has numbers for all settings that are `auto`; no test depends on the speed of the machine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from nasx.cli.main import main
from nasx.config.auto import DERIVABLE, derived_settings
from nasx.config.compose import compose
from nasx.config.plain import Config, get
from nasx.errors import ConfigError, ResourceError
from nasx.experiment import Experiment
from nasx.planning import plan as planning
from nasx.planning import timing
from nasx.planning.plan import describe_time, plan
from nasx.planning.timing import Timing, median_genotype
from nasx.runs.stored_run import DEFAULT

SLOW = Timing(train=50.0, score=8.0, start=5.0)
FAST = Timing(train=0.01, score=0.01, start=0.1)


def write_classes(root: Path, counts: dict[str, int], size: int = 12) -> Path:
    """Write pictures of noise, brighter from class to class."""
    rng = np.random.default_rng(0)
    for number, (name, n) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 60, (size, size, 3), dtype=np.uint8) + 60 * number
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def leaves(elsewhere: Path) -> Path:
    return write_classes(elsewhere / "leaves", {"oak": 40, "elm": 40, "ash": 40})


def config_of(root: Path, *overrides: str) -> Config:
    return compose("folder", [f"dataset.root={root}", f"dataset.cache={root.parent}/cache", *overrides])


def planned(root: Path, *overrides: str, measured: Timing = SLOW) -> tuple[Config, dict[str, str], list[str]]:
    lines: list[str] = []
    config, reasons = plan(config_of(root, *overrides), lines.append, lambda experiment: measured)
    return config, reasons, lines


def test_every_setting_that_is_auto_becomes_a_number_with_a_reason(leaves: Path) -> None:
    assert derived_settings(config_of(leaves)) == list(DERIVABLE)

    config, reasons, lines = planned(leaves)

    assert derived_settings(config) == []
    assert reasons.keys() == set(DERIVABLE)
    assert get(config, "dataset.image_size") == 8
    assert get(config, "training.batch_size") == 8
    assert lines[0].startswith("space nb201: from scratch, because the median picture is 12 x 12: a backbone needs 64")
    assert lines[1] == "image size 8: the median picture is 12 x 12"
    assert lines[-1].startswith("time: about ")
    Experiment.from_config(config)


def test_a_setting_of_the_user_is_kept_and_the_others_follow_it(leaves: Path) -> None:
    config, reasons, _ = planned(leaves, "training.batch_size=16", "dataset.image_size=24", "algorithm.evaluations=5")

    assert get(config, "training.batch_size") == 16
    assert get(config, "dataset.image_size") == 24
    assert get(config, "algorithm.evaluations") == 5
    assert not {"training.batch_size", "dataset.image_size", "algorithm.evaluations"} & reasons.keys()
    assert reasons["training.epochs"].startswith("150 steps")  # 30 epochs of 5 steps


def test_the_evaluations_fill_the_budget_and_not_more(leaves: Path) -> None:
    config, _, _ = planned(leaves, "search.max_hours=0.2", "execution=serial")

    n = get(config, "algorithm.evaluations")
    assert 0.75 * 720 < 72.5 * n <= 720  # with the share of the machine that others use


def test_only_the_number_of_evaluations_depends_on_the_machine(leaves: Path) -> None:
    slow, fast = planned(leaves)[0], planned(leaves, measured=FAST)[0]

    for key in DERIVABLE:
        if not key.startswith("algorithm."):
            assert get(slow, key) == get(fast, key), key


def test_few_images_need_few_evaluations(leaves: Path) -> None:
    config, reasons, _ = planned(leaves, measured=FAST)

    assert get(config, "algorithm.evaluations") == 38  # twice the 19 validation images
    assert "lucky" in reasons["algorithm.evaluations"]


def test_a_budget_without_time_for_one_training_is_refused_with_advice(leaves: Path) -> None:
    with pytest.raises(ResourceError, match=r"search\.max_hours=0\.01 is too short: one training takes about 73 s"):
        planned(leaves, "search.max_hours=0.01")


def test_a_budget_for_few_trainings_is_planned_with_advice(leaves: Path) -> None:
    _, _, lines = planned(leaves, "search.max_hours=0.1", "execution=serial")

    assert any(line.startswith("few evaluations: a search needs about 16") for line in lines)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("digits", "dataset.image_size=auto", r"dataset\.image_size=auto is known for folders of images only"),
        ("digits", "+dataset.grayscale=auto", r"dataset\.grayscale=auto is known for folders of images only"),
        ("digits", "algorithm.evaluations=auto", r"algorithm\.evaluations=auto needs a budget: set search\.max_hours"),
        ("nats_bench", "algorithm.evaluations=auto", r"needs trainings, but results are looked up in a table"),
    ],
)
def test_auto_is_refused_where_nothing_is_known_to_derive_it_from(
    elsewhere: Path, name: str, override: str, message: str
) -> None:
    extra = ["evaluation.table=t.csv"] if name == "nats_bench" else []
    if override.startswith("dataset.image"):
        override = f"+{override}"
    with pytest.raises(ConfigError, match=message):
        plan(compose(name, [override, *extra]), print, lambda experiment: SLOW)


def test_auto_is_known_in_every_config_that_trains(elsewhere: Path) -> None:
    keys = ["training.batch_size=auto", "training.epochs=auto", "space.channels=auto", "algorithm.evaluations=auto"]
    config, _ = plan(compose("digits", [*keys, "search.max_hours=1"]), lambda line: None, lambda experiment: SLOW)

    assert get(config, "training.batch_size") == 32
    assert derived_settings(config) == []


def test_unbalanced_classes_bring_a_suggestion(elsewhere: Path) -> None:
    root = write_classes(elsewhere / "parts", {"ok": 95, "crack": 10})

    lines = planned(root)[2]

    assert any("images of 'ok' for each one of 'crack'" in line and "macro_error" in line for line in lines)
    asked = planned(root, "objectives=[macro_error,introspectability]")[2]
    assert not any("unbalanced" in line for line in asked)


def test_the_median_network_depends_only_on_the_seed(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CANDIDATES", 5)
    first, second, other = (Experiment.from_config(compose("lines", [f"seed={seed}"])) for seed in (0, 0, 1))

    assert median_genotype(first) == median_genotype(second)
    assert first.space.is_connected(median_genotype(first))
    assert median_genotype(other) != median_genotype(first)


def test_the_time_of_a_table_needs_no_training(elsewhere: Path) -> None:
    experiment = Experiment.from_config(compose("nats_bench", ["evaluation.table=t.csv"]))

    def fail(experiment: Experiment) -> Timing:
        raise AssertionError

    assert describe_time(experiment, fail).startswith("about 2.5 s: results are looked up")


def test_a_training_that_cannot_be_timed_leaves_the_time_unknown(elsewhere: Path) -> None:
    def fail(experiment: Experiment) -> Timing:
        raise ResourceError("the time of a training could not be measured: no memory")

    assert describe_time(Experiment.from_config(compose("lines")), fail).startswith("unknown: the time of a training")


def test_a_limit_below_one_training_brings_advice(elsewhere: Path) -> None:
    experiment = Experiment.from_config(compose("lines", ["search.max_hours=0.001"]))

    assert "One training takes longer than the limit" in describe_time(experiment, lambda experiment: SLOW)


def test_a_dry_run_prints_the_plan_and_the_time(
    leaves: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planning.plan, "__defaults__", (lambda experiment: SLOW, DEFAULT))

    assert main(["search", "--config", "folder", f"dataset.root={leaves}", "--dry-run"]) == 0

    out = capsys.readouterr().out
    assert "leaves, seed 0" in out
    assert "image size 8: the median picture is 12 x 12" in out
    assert "time: about" in out


def test_a_search_keeps_the_numbers_and_repeats_from_its_config(
    leaves: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planning.plan, "__defaults__", (lambda experiment: FAST, DEFAULT))
    few = [
        "algorithm.evaluations=4",
        "training.epochs=1",
        "space.channels=4",
        "execution=serial",
        "split.validation_fraction=0.3",
    ]
    assert main(["search", "--config", "folder", f"dataset.root={leaves}", *few]) == 0
    err = capsys.readouterr().err
    (run,) = (leaves.parent / "runs" / "leaves").iterdir()
    stored: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())

    assert "image size 8: the median picture is 12 x 12" in err
    assert derived_settings(stored) == []
    assert stored["provenance"]["derived"]["dataset.image_size"] == "the median picture is 12 x 12"

    assert main(["search", "--resume", "--run-dir", str(run)]) == 0
    first = capsys.readouterr().out
    assert main(["search", "--config", str(run / "config.yaml")]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda home: None, "set dataset.root=DIR"),
        (lambda home: "nowhere", "nowhere does not exist"),
        (lambda home: (home / "empty").mkdir() or "empty", "at least two classes"),
        (lambda home: write_classes(home / "one", {"cat": 3}), "at least two classes"),
        (lambda home: (home / "a.txt").write_text("x") and "a.txt", "a.txt is not a folder"),
        (lambda home: (home / "a.zip").write_bytes(b"PK\x03\x04") and "a.zip", "a.zip is not a folder"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_line(
    elsewhere: Path, make: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make(elsewhere)
    given = [] if root is None else [f"dataset.root={root}"]

    assert main(["search", "--config", "folder", *given]) == 2

    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
