"""Figures class by class: rows, notes, facts led by the objective."""

import io

import numpy as np
import pytest
from rich.console import Console

from nasx.diagnostics.class_report import ClassReport, class_report
from nasx.reports.class_section import class_section
from nasx.reports.class_tables import class_lines, class_records, classes_csv, confusion_lines, quality_facts
from nasx.reports.page import Page, as_terminal
from nasx.reports.summary import summarize
from nasx.reports.tables import front_table
from tests.factories.trials import make_trial

REPORT = ClassReport(("cat", "dog", "ship"), np.array([[15, 5, 0], [1, 2, 0], [0, 0, 0]]))


def test_each_class_has_its_recall_with_interval_and_number_of_images():
    header, *rows = class_section(REPORT).table
    assert header == ("class", "images", "recall", "95 % interval", "precision", "most often taken for")
    assert rows == [
        ("dog", "3 †", "66.7 % (2 of 3)", "21 to 94 %", "28.6 %", "cat (1)"),
        ("cat", "20", "75.0 % (15 of 20)", "53 to 89 %", "93.8 %", "dog (5)"),
        ("ship", "0", "-", "-", "-", "-"),
    ]


def test_small_and_empty_classes_are_marked_and_explained():
    notes = " ".join(class_section(REPORT).paragraphs)
    assert "† fewer than 10 images (1 class)" in notes
    assert "1 class without images here" in notes
    assert "Error 26.09 % (6 of 23 validation images); macro error, the mean over the classes, 29.17 %" in notes


def test_a_run_with_macro_error_heads_with_macro_error():
    recorded = {"error": 6 / 23, "macro_error": REPORT.macro_error}
    assert [name for name, _ in quality_facts(REPORT, recorded, ["macro_error"])] == ["macro error", "validation error"]


def test_unbalanced_data_have_a_macro_error_after_the_error_and_balanced_data_none():
    recorded = {"error": 6 / 23}
    assert [name for name, _ in quality_facts(REPORT, recorded, ["error"])] == ["validation error", "macro error"]
    balanced = class_report([0, 1], [0, 0], ["cat", "dog"])
    assert [name for name, _ in quality_facts(balanced, {"error": 0.5}, ["error"])] == ["validation error"]


def test_a_macro_error_computed_again_with_another_result_is_named_as_such():
    facts = dict(quality_facts(REPORT, {"error": 6 / 23, "macro_error": 0.5}, ["macro_error"], "in float32"))
    assert facts["macro error"].startswith("50.00 %")
    assert facts["macro error, computed again here"] == "29.17 %, in float32"


def test_a_class_that_no_font_can_draw_is_explained_by_its_number():
    report = ClassReport(("cat", "\U00012000"), np.eye(2, dtype=np.int64))
    assert any("#1 is \U00012000" in line for line in class_section(report).paragraphs)


def test_lines_and_confusions_for_cards_say_how_many_images_they_rest_on():
    labels, predicted = [0] * 20 + [1] * 3, [0] * 15 + [1] * 5 + [0, 1, 1]
    assert class_lines(labels, predicted, REPORT.class_names) == [
        "dog: recall 66.7 % (2 of 3; 95 % interval 21 to 94 %), precision 28.6 %; fewer than 10 images",
        "cat: recall 75.0 % (15 of 20; 95 % interval 53 to 89 %), precision 93.8 %",
        "ship: no images",
    ]
    assert confusion_lines(REPORT, 1) == ["5 of 20 images of cat predicted as dog"]


def test_records_and_csv_leave_undefined_figures_empty():
    assert class_records(REPORT)[2]["recall"] is None
    header, *rows = classes_csv(REPORT)
    assert header[-3:] == ["predicted as cat", "predicted as dog", "predicted as ship"]
    assert [row[-3:] for row in rows] == REPORT.confusion.tolist()


@pytest.mark.parametrize(("macro", "shown"), [(0.3, True), (0.1, False)])
def test_the_front_shows_the_macro_error_next_to_the_error_if_they_differ(macro, shown):
    trials = [make_trial(i, error=0.1, macro_error=macro, introspectability=0.5) for i in range(2)]
    console = Console(file=io.StringIO(), width=200)
    console.print(front_table(summarize(trials, ("error", "introspectability"), n_classes=2)))
    assert ("30.00 %" in console.file.getvalue()) is shown


def test_numbers_of_a_page_are_not_broken_on_a_narrow_terminal():
    names = ("a class name of forty letters, all of them", "dog", "ship")
    page = Page("page", (), (class_section(ClassReport(names, REPORT.confusion)),))
    console = Console(file=io.StringIO(), width=80)
    console.print(as_terminal(page))
    text = console.file.getvalue()
    assert all(number in text for number in ("75.0 % (15 of 20)", "53 to 89 %", "93.8 %"))
