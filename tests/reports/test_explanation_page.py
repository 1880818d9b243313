import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nasx.networks.edge import CONV_3X3, Edge
from nasx.reports.explanation_page import explanation_page, write_explanation
from nasx.reports.page import as_html, as_markdown, as_terminal
from tests.factories.trials import make_explanation, make_trial

GOLD = Path(__file__).parent / "gold"
FIGURES = dict.fromkeys(("cell.png", "confusion.png", "distances.png", "profile.png", "shap.png", "tree.png"), b"png")
HOSTILE = ("<script>alert(1)</script>", "**bold** [link](http://x) `code` | cell", "a\x1b[2J\nb{{ 7 * 7 }}")


@pytest.fixture
def trial():
    return make_trial(7, genotype=(3, 1, 4, 0, 2, 3), error=0.1, parameters=12_345, macs=2_200_000)


def page_of(trial, **changes):
    return explanation_page(make_explanation(**changes), trial, has_cell=True)


def section(page, heading):
    return next(s for s in page.sections if s.heading == heading)


def test_the_page_equals_the_golden_file(trial):
    assert as_markdown(page_of(trial)) == (GOLD / "explanation.md").read_text()


def test_the_facts_have_units_and_counts(trial):
    facts = dict(page_of(trial).facts)
    assert facts["validation error"] == "10.00 % (3 of 30 images)"
    assert facts["introspectability"] == "0.533 by shap"
    assert facts["multiply-accumulates"] == "2.20 M"


def test_the_error_is_that_of_the_journal_and_one_computed_again_is_named_as_such(trial):
    evaluation = replace(trial.evaluation, metrics={**trial.metrics, "error": 4 / 30})

    page = explanation_page(
        make_explanation(),
        replace(trial, evaluation=evaluation),
        has_cell=True,
        again="in float32, not as in the search",
    )

    assert dict(page.facts)["validation error"] == "13.33 % (4 of 30 images)"
    assert dict(page.facts)["computed again here"] == "10.00 % (3 of 30 images), in float32, not as in the search"
    (text,) = section(page, "Which classes it confuses").paragraphs
    assert text.startswith("3 of 30 validation images (10.00 %) are misclassified when computed again here. ")


def test_facts_over_all_trainings_follow_those_of_this_training(trial):
    page = explanation_page(
        make_explanation(), trial, has_cell=True, known=[("over all trainings", "validation error 9 ± 1 %")]
    )
    assert page.facts[1:3] == (
        ("introspectability", "0.533 by shap"),
        ("over all trainings", "validation error 9 ± 1 %"),
    )


def test_the_closest_and_farthest_pairs_are_listed_with_their_distances(trial):
    farthest, closest = section(page_of(trial), "Which classes it separates").bullets
    assert farthest == "Farthest apart: cat and ship (0.80); dog and ship (0.60); cat and dog (0.20)."
    assert closest == "Closest together: cat and dog (0.20); dog and ship (0.60); cat and ship (0.80)."


def test_a_confusion_is_listed_in_both_directions_with_the_rank_of_its_pair(trial):
    (bullet,) = section(page_of(trial), "Which classes it confuses").bullets
    assert bullet == (
        "cat and dog: 2 of 10 images of cat predicted as dog and 1 of 10 images of dog predicted as cat; "
        "distance 0.20, the closest of 3 pairs."
    )


def test_a_network_without_errors_confuses_nothing(trial):
    found = section(page_of(trial, confusion=np.diag([10, 10, 10])), "Which classes it confuses")
    assert found.paragraphs == ("None: all 30 validation images are classified correctly.",)


def test_each_layer_is_listed_with_the_number_of_pairs_that_it_separates(trial):
    found = section(page_of(trial), "At which layer it separates the classes")
    counts = "the mean over all pairs (0.533). Of 3 pairs: 1 at stem, 1 at stage1, 1 at none of these layers."
    assert counts in found.paragraphs[0]
    assert found.table == (
        ("pair", "stem", "stage1", "separated at"),
        ("cat and dog", "0.10", "0.30", "none"),
        ("dog and ship", "0.20", "1.00", "stage1"),
        ("cat and ship", "0.70", "0.90", "stem"),
    )


class Reader(HTMLParser):
    """Collects the tags, the sources and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.sources, self.texts = set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_the_html_page_needs_no_other_file(trial):
    reader = Reader(as_html(page_of(trial), FIGURES))
    assert len(reader.sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)


def test_hostile_class_names_stay_text_in_html(trial):
    reader = Reader(as_html(page_of(trial, class_names=HOSTILE), FIGURES))
    assert "script" not in reader.tags
    text = "".join(reader.texts)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert "\x1b" not in text


def test_hostile_class_names_stay_text_in_markdown(trial):
    text = as_markdown(page_of(trial, class_names=HOSTILE))
    assert not re.search(r"(?<!\\)(<script|\*\*bold|\[link\]\(|`code)", text)
    assert "{{ 7" not in text.replace("\\", "") or r"\{\{ 7 \* 7 \}\}" in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5, 7}


def test_hostile_class_names_stay_text_on_screen(trial):
    names = ("[red]cat[/red]", "[/]", "\x1b[31mship")
    console = Console(width=80, file=io.StringIO())
    console.print(as_terminal(page_of(trial, class_names=names)))
    text = console.file.getvalue()
    assert "[red]cat[/red] and [/]" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_files_are_the_figures_and_the_pages(trial, tmp_path):
    _, files = write_explanation(make_explanation(), trial, tmp_path / "new", edges=[Edge(0, 1, CONV_3X3)])
    assert sorted(f.name for f in files) == [
        "cell.png",
        "confusion.png",
        "distances.png",
        "explanation.html",
        "explanation.md",
        "profile.png",
        "shap.png",
        "tree.png",
    ]
    assert all(f.stat().st_size > 500 for f in files)
    for name in re.findall(r"\]\((\S+)\)", (tmp_path / "new" / "explanation.md").read_text()):
        assert (tmp_path / "new" / name).is_file()


def test_a_space_without_cells_has_no_figure_of_one(trial, tmp_path):
    page, files = write_explanation(make_explanation(), trial, tmp_path)
    assert "cell.png" not in {f.name for f in files}
    assert "The cell" not in {s.heading for s in page.sections}
