"""Page, figures and tables of `nasx debug`."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from nasx.cli.main import main
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.confident_learning import ErrorEstimate, relative_confidence
from nasx.diagnostics.debug import ConfidenceMeasure, Diagnosis
from nasx.diagnostics.label_errors import Detection, PlantedErrors
from nasx.diagnostics.repair import Outcome, Repair
from nasx.diagnostics.suspects import Suspects
from nasx.errors import SettingError
from nasx.escaping import printable
from nasx.reports.debugging_page import debugging_page, reliability_csv, write_debugging
from nasx.reports.figures.image_grid import suspects_figure
from nasx.reports.page import Page, as_html, as_markdown, as_terminal
from nasx.reports.suspects_section import SUSPECTS, suspects_csv, suspects_section, verdict
from nasx.trial import Evaluation, TrialStatus
from nasx.workflows.network_pages import find_pair
from tests.factories.trials import make_score, make_trial, symmetric

HOSTILE = ("<b>x</b>\x1b[2J", "[red]=1+1|`$y$`", "ship")
INDICES = np.array([40, 11, 12, 33, 24, 5])
PAIR_DISTANCES = symmetric(3, pair_01=0.1, pair_02=0.7, pair_12=0.9)


PROBABILITIES = np.array(
    [[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.1, 0.2, 0.7], [0.04, 0.06, 0.9], [0.2, 0.7, 0.1], [0.2, 0.2, 0.6]]
)
ESTIMATE = ErrorEstimate(1, 1, 2)


def make_suspects(images, class_names=("cat", "dog", "ship"), estimate=ESTIMATE, files=()):
    """Return suspects of four training and two validation images; the fourth has the least probable label."""
    labels = np.array([0, 1, 2, 0, 1, 2])
    everything = LabeledImages(images, labels, class_names, files=files, indices=INDICES)
    return Suspects(
        train=everything.take(np.arange(4)),
        validation=everything.take(np.arange(4, 6)),
        probabilities=PROBABILITIES.copy(),
        out_of_sample=np.arange(6) >= 4,
        confidence=relative_confidence(labels, PROBABILITIES),
        distance=np.array([-0.3, 0.2, -0.1, 0.4, -0.2, -0.5]),
        estimate=estimate,
    )


def make_debugging(class_names=("cat", "dog", "ship"), confusion=None, channels=1):
    rng = np.random.default_rng(0)
    confusion = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 10]]) if confusion is None else confusion
    n, n_right = int(confusion.sum()), int(np.trace(confusion))
    is_correct = np.arange(n) < n_right
    values = np.linspace(1, 0.4, n)
    names = ("softmax", "activations", "activation margin")
    images = rng.integers(0, 256, (6, channels, 8, 8), dtype=np.uint8)
    return Diagnosis(
        is_correct=is_correct,
        confidences=tuple(ConfidenceMeasure(name, values, values, name == "softmax") for name in names),
        confusion=confusion,
        train=LabeledImages(images, np.array([0, 1, 2, 0, 1, 2]), class_names),
        suspects=make_suspects(images, class_names),
        distances={"shap": PAIR_DISTANCES},
    )


def trial():
    score = make_score(PAIR_DISTANCES, {"stem": PAIR_DISTANCES})
    return make_trial(1, evaluation=Evaluation(TrialStatus.COMPLETE, metrics={"error": 0.1}, scores=(score,)))


PLANTED = PlantedErrors(
    0.2,
    0.05,
    by_confidence=Detection({0.1: 0.5, 0.2: 1.0}, 0.99),
    by_distance=Detection({0.1: 0.5, 0.2: 0.9}, 0.97),
    by_loss=Detection({0.1: 0.4, 0.2: 0.8}, 0.9),
)


def make_repair(confusions):
    after = tuple(Outcome(c, 5, 0.6) for c in confusions)
    return Repair((0, 1), 30, Outcome(3, 3, 0.5), after, (Outcome(4, 5, 0.5), Outcome(5, 6, 0.5)))


def make_page(**changes):
    return debugging_page(make_debugging(**changes), trial(), planted=PLANTED, repair=make_repair((1, 2)))


def section(page, heading):
    return next(s for s in page.sections if s.heading.startswith(heading))


def test_the_page_answers_its_questions_with_numbers_and_units():
    page = make_page()
    assert dict(page.facts)["validation error"] == "10.00 % (3 of 30 images)"
    assert dict(page.facts)["introspectability"] == "0.567 by shap"
    assert section(page, "Is it less confident").table[1] == ("softmax", "1.000", "10 % to 0 %")
    verdict, meaning, source = section(page, "Which labels").paragraphs
    assert verdict.startswith("Verdict: about 1 of 6 images (16.7 %) probably have a wrong label (1 to 2).")
    assert meaning.startswith("All 6 training and validation images are ranked")
    assert "--folds" in source
    assert section(page, "Which labels").table[1] == ("33", "cat", "ship", "90.0 %", "4.0 %", "+0.400")
    assert section(page, "Does it find").table[1] == ("probability of its class", "50 %", "100 %", "0.990")
    assert section(page, "Does it find").table[2] == ("distance to the mean of its class", "50 %", "90 %", "0.970")
    assert section(page, "Which classes").table[1:] == (("cat and dog", "0.100", "3"),)
    assert section(page, "Which classes").bullets == ("distance by shap: Spearman 0.866, Pearson 0.971",)


def test_facts_over_all_trainings_follow_those_of_this_training():
    page = debugging_page(make_debugging(), trial(), known=[("over all trainings", "validation error 9 ± 1 %")])
    assert [name for name, _ in page.facts] == [
        "validation error",
        "introspectability",
        "over all trainings",
        "architecture",
    ]


@pytest.mark.parametrize(
    ("confusions", "verdict"),
    [
        ((1, 2), "the repair helped:"),
        ((1, 4), "the repair did not help: the pair is not confused less often"),
    ],
)
def test_a_repair_has_its_verdict(confusions, verdict):
    page = debugging_page(make_debugging(), trial(), repair=make_repair(confusions))
    repair = section(page, "Repair of cat and dog")
    assert verdict in repair.paragraphs[1]
    assert repair.table[1] == ("before", "3", "3", "0.5")
    assert repair.table[3] == ("controls", "4.5 (4 to 5)", "5.5 (5 to 6)", "0.5 (0.5 to 0.5)")


def test_a_network_without_errors_has_a_page():
    page = debugging_page(make_debugging(confusion=np.diag([10, 10, 10])), trial())
    assert section(page, "Is it less confident").paragraphs == ("There are no errors among the validation images.",)
    assert section(page, "Which classes").paragraphs == ("None: all validation images are classified correctly.",)
    assert section(page, "Can its confidence").table[1][1] == "-"
    assert not [s for s in page.sections if s.heading.startswith(("Does it find", "Repair"))]


def test_hostile_class_names_stay_text_everywhere():
    page = make_page(class_names=HOSTILE)
    html = as_html(page, {s.figure: b"" for s in page.sections if s.figure})
    assert "<b>x" not in html
    assert "&lt;b&gt;x" in html
    assert r"\<b\>x" in as_markdown(page)
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(as_terminal(page))
    screen = console.file.getvalue()
    assert "[red]" in screen
    assert "\x1b" not in screen
    assert max(map(len, screen.splitlines())) <= 80
    rows = list(csv.DictReader(io.StringIO(suspects_csv(make_debugging(class_names=HOSTILE).suspects))))
    assert {row["label"] for row in rows} == {printable(HOSTILE[0]), HOSTILE[1], HOSTILE[2]}


def test_the_csv_ranks_every_image_under_its_position_in_the_dataset():
    rows = list(csv.DictReader(io.StringIO(suspects_csv(make_debugging().suspects))))
    assert sorted(int(row["image"]) for row in rows) == sorted(INDICES)
    assert rows[0] == {
        "rank": "1",
        "image": "33",
        "part": "training",
        "label": "cat",
        "predicted": "ship",
        "confidence": "0.900000",
        "label_probability": "0.040000",
        "relative_probability": "0.095238",
        "distance": "0.400000",
        "out_of_sample": "no",
        "likely_error": "yes",
    }
    assert {row["part"] for row in rows if row["out_of_sample"] == "yes"} == {"validation"}


def test_suspects_are_named_by_their_files_and_linked_in_html(tmp_path):
    images = np.zeros((6, 1, 8, 8), dtype=np.uint8)
    files = ("cat/a.jpg", "dog/b.jpg", "ship/c.jpg", 'cat/#1 "x".jpg', "dog/e.jpg", "ship/f.jpg")
    suspects = make_suspects(images, files=files)

    found = suspects_section(suspects, path_of=lambda name: tmp_path / name)
    page = as_html(Page("title", (), (found,)), {SUSPECTS: b""})

    assert found.table[1][0] == 'cat/#1 "x".jpg'
    assert f'href="{tmp_path.as_uri()}/cat/%231%20%22x%22.jpg"' in page
    assert next(csv.DictReader(io.StringIO(suspects_csv(suspects))))["image"] == 'cat/#1 "x".jpg'


@pytest.mark.parametrize(
    ("estimate", "wrong", "seen", "words"),
    [
        (ErrorEstimate(0, 0, 0), (), False, "no more suspects than expected"),
        (ErrorEstimate(0, 0, 3), (), True, "Verdict: unknown. The network may have learned wrong labels"),
        (ErrorEstimate(1, 1, 2), (), True, "about 1 of 6 images"),
        (ErrorEstimate(1, 0, 2), (4, 5), True, "too weak to find wrong labels: 100 % of 6 images"),
    ],
)
def test_the_verdict_is_in_words(estimate, wrong, seen, words):
    suspects = make_suspects(np.zeros((6, 1, 8, 8), dtype=np.uint8), estimate=estimate)
    suspects.out_of_sample[:4] = not seen
    suspects.probabilities[3] = [0.9, 0.06, 0.04]  # the labels of all training images are predicted
    suspects.probabilities[list(wrong)] = suspects.probabilities[list(wrong)][:, [1, 2, 0]]

    assert words in verdict(suspects)


def test_the_bins_of_the_reliability_diagram_are_written_out():
    rows = list(csv.DictReader(io.StringIO(reliability_csv(make_debugging()))))
    assert len(rows) == 3  # 30 images fill one bin of each measure
    assert list(rows[0].values())[:5] == ["softmax", "1", "30", "0.700000", "0.900000"]
    assert float(rows[0]["accuracy_low"]) == pytest.approx(0.744, abs=1e-3)
    assert float(rows[0]["accuracy_high"]) == pytest.approx(0.965, abs=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_figure_shows_the_most_suspect_images(channels):
    figure = suspects_figure(make_debugging(HOSTILE, channels=channels).suspects)
    assert len(figure.axes) == 6
    texts = [t.get_text() for t in figure.texts]
    assert "33" in texts
    assert "<b>x</b> [2J" in texts
    assert "→ ship" in texts


def test_all_files_are_written(tmp_path):
    debugging = make_debugging(HOSTILE)
    page = debugging_page(debugging, trial())
    files = write_debugging(page, debugging, tmp_path / "out")
    names = {
        "confusion.png",
        "classes.csv",
        "reliability.png",
        "risk_coverage.png",
        "suspects.png",
        "debug.md",
        "debug.html",
    }
    assert {f.name for f in files} == names | {"reliability.csv", "suspects.csv"}
    assert all(f.stat().st_size > 100 for f in files)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("cat", "dgo"), r"--repair must name two different classes, got 'dgo'. Did you mean dog\?"),
        (("cat", "cat"), "--repair must name two different classes, got 'cat' twice."),
    ],
)
def test_an_invalid_pair_is_refused(names, message):
    with pytest.raises(SettingError, match=message):
        find_pair(names, ("cat", "dog", "ship"))


def test_a_pair_is_chosen_by_name():
    assert find_pair(("ship", "cat"), ("cat", "dog", "ship")) == (2, 0)


def test_a_network_of_a_real_run_is_debugged(tmp_path, monkeypatch, capsys):
    torch.set_num_threads(1)
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    overrides = ["algorithm.evaluations=4", "algorithm.population_size=4", "training.epochs=6", "name=tiny"]
    overrides += ["split.train_images=240", "split.validation_images=80", f"runs_dir={tmp_path / 'runs'}"]
    assert main(["search", "--config", "lines", "execution=serial", *overrides]) == 0
    assert main(["pareto", "--format", "json"]) == 0
    front = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))["front"]
    command = ["debug", "--arch-id", front[0]["arch_id"][:6], "--out", str(tmp_path / "out")]
    assert main([*command, "--plant", "--repair", "vertical", "diagonal", "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert f"{100 * front[0]['error']:.4g} % (" in out  # the rebuilt network has the same error as after training
    assert "Verdict: the repair" in out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "suspects.csv").read_text())))
    assert len({row["image"] for row in rows}) == 240 + 80
