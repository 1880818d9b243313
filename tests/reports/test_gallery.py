"""Every figure with names of all lengths and scripts, for 2 and 100 classes: no text is cut, covered or missing."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text

from nasx.data.check import DataReport, PartReport
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.class_pairs import class_map, class_tree
from nasx.diagnostics.class_report import class_report
from nasx.diagnostics.confident_learning import ErrorEstimate
from nasx.diagnostics.debug import ConfidenceMeasure
from nasx.diagnostics.explanation import ExplainedSample, Explanation, SampleKind
from nasx.diagnostics.suspects import Suspects
from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, SKIP, Edge
from nasx.reports.figures import classes
from nasx.reports.figures.cell import cell_figure
from nasx.reports.figures.confidence import reliability_figure, risk_coverage_figure
from nasx.reports.figures.confusion import confusion_figure
from nasx.reports.figures.front import front_figure
from nasx.reports.figures.image_grid import contact_sheet, shap_figure, suspects_figure
from nasx.reports.figures.names import class_labels, font_families, is_drawable
from nasx.reports.paper import paper_front
from nasx.reports.summary import summarize
from tests.factories.trials import make_noisy_run, make_score

TOUCH = 1.0  # pixels by which boxes may overlap: their edges are rounded

SCRIPTS = {
    "1 letter": lambda c: chr(ord("a") + c % 26),
    "12 letters": lambda c: f"classname{c:03}",
    "40 letters": lambda c: f"WWW photographs of slides and of scans {c:03}"[-40:],
    "40 equal letters but the middle": lambda c: f"{'m' * 19}{c:02}{'m' * 19}",
    "Arabic": lambda c: f"قطة سوداء كبيرة {c}",
    "Hebrew": lambda c: f"חתול שחור {c}",
    "Chinese": lambda c: f"黑色的大猫 {c}",
    "emoji": lambda c: f"\U0001f408\u200d\u2b1b cat {c}",
    "accents": lambda c: "e\u0301" * 30 + str(c),
}


def distances_of(n, rng):
    upper = np.triu(rng.uniform(0.05, 1, (n, n)), 1)
    return upper + upper.T


def draw_confusion(names, rng):
    labels = rng.integers(0, len(names), 20 * len(names))
    predicted = np.where(rng.random(len(labels)) < 0.8, labels, rng.integers(0, len(names), len(labels)))
    return confusion_figure(class_report(labels, predicted, names), title=names[-1] * 9)


def draw_distances(names, rng):
    return classes.distances_figure(distances_of(len(names), rng), names, title=names[-1] * 9)


def draw_profile(names, rng):
    layers = {name: float(rng.random()) for name in names}
    return classes.profile_figure({"shap": layers, names[0]: {"stem": 0.123}}, title=names[-1] * 9)


def draw_maps(names, rng):
    n = len(names)
    labels = np.arange(4 * n) % n
    maps = [class_map(f"{names[0]}{i}", rng.normal(size=(4 * n, 5)), labels, n) for i in range(3)]
    return classes.map_figure(maps, names, title=names[-1] * 9)


def draw_tree(names, rng):
    more = names if len(names) > 2 else (*names, "third")
    return classes.tree_figure(class_tree(distances_of(len(more), rng)), more, title=names[-1] * 9)


def draw_activity(names, rng):
    blocks = {f"{names[0]}.{i}": rng.normal(size=len(names)) for i in range(12)}
    return classes.activity_figure(blocks, names, title=names[-1] * 9)


def draw_cell(names, rng):
    operations = [CONV_3X3, CONV_1X1, AVG_POOL, SKIP, names[0], names[-1]]
    pairs = itertools.combinations(range(4), 2)
    edges = [Edge(a, b, operation) for (a, b), operation in zip(pairs, operations, strict=True)]
    return cell_figure(edges, title=names[-1] * 9, shares=dict.fromkeys(edges, 0.167))


def draw_front(names, rng):
    objectives = ("error", "introspectability", "parameters") if len(names) > 2 else ("error", "introspectability")
    summary = summarize(make_noisy_run(), objectives, n_classes=len(names))
    return front_figure(summary, title=f"Pareto front of {names[-1] * 9}", paper=paper_front("cifar10"))


def pictures(n, rng):
    return rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)


def draw_sheet(names, rng):
    samples = tuple(tuple(pictures(3, rng)) for _ in names)
    part = {"class_names": names, "counts": (12_345,) * len(names), "shape": (1, 8, 8)}
    made = PartReport(**part, damaged=(), samples=samples)
    return contact_sheet(DataReport(names[-1] * 9, made, made, leaks=()))


def draw_shap(names, rng):
    n = min(len(names), 20)

    def sample(kind, c, *shown):
        values = {s: rng.normal(size=(8, 8)) for s in shown}
        return ExplainedSample(kind, c, pictures(1, rng)[0], shown[-1], shown[0], 1.0, values)

    right = [sample(SampleKind.CORRECT, c, c) for c in range(n) for _ in range(2)]
    others = [sample(k, 0, 1, 0) for k in (SampleKind.INCORRECT, SampleKind.UNCERTAIN) for _ in range(4)]
    distances = distances_of(len(names), rng)
    score = make_score(distances, {"stem": distances})
    confusion = np.eye(len(names), dtype=np.int64)
    return shap_figure(Explanation(names, confusion, score, {}, (*right, *others)), title=names[-1] * 9)


def draw_suspects(names, rng):
    labels = np.arange(80) % len(names)
    files = tuple(f"{names[label]}/{names[0]} {i}.jpg" for i, label in enumerate(labels))
    probabilities = rng.dirichlet(np.ones(len(names)), 80)
    return suspects_figure(
        Suspects(
            train=LabeledImages(pictures(80, rng), labels, names, files=files, indices=np.arange(80) + 1_234_500),
            validation=None,
            probabilities=probabilities,
            out_of_sample=np.zeros(80, dtype=bool),
            confidence=rng.random(80),
            distance=rng.normal(size=80),
            estimate=ErrorEstimate(10, 5, 20),
        )
    )


def make_measures(names, rng, n=400):
    values = rng.random(n)
    measures = [ConfidenceMeasure(m, values, values, m == "softmax") for m in ("softmax", names[0], names[1])]
    return measures, rng.random(n) < values


def draw_reliability(names, rng):
    return reliability_figure(*make_measures(names, rng))


def draw_risk(names, rng):
    measures, is_correct = make_measures(names, rng)
    return risk_coverage_figure({c.name: c.values for c in measures}, is_correct)


DRAWINGS = {name.removeprefix("draw_"): draw for name, draw in list(globals().items()) if name.startswith("draw_")}
# a sparse design: every figure with the shortest and the longest names, 2 and 100 classes; the scripts in turn
CASES = [
    (figure, script, 100 if script in ("40 letters", "Chinese") else 2)
    for i, figure in enumerate(DRAWINGS)
    for j, script in enumerate(SCRIPTS)
    if script in ("40 letters", "1 letter") or (i + j) % 5 == 0
]


def boxes(figure):
    """Return the texts that are drawn, with their boxes in pixels, and the boxes of the legends."""
    renderer, drawn = FigureCanvasAgg(figure).get_renderer(), []

    def draw(text, *args, **kwargs):
        drawn.append(text)
        return original(text, *args, **kwargs)

    original = Text.draw
    with pytest.MonkeyPatch.context() as patch:
        figure.draw_without_rendering()  # the layout
        patch.setattr(Text, "draw", draw)
        figure.draw_without_rendering()
    texts = [(t.get_text(), t.get_window_extent(renderer)) for t in drawn if t.get_visible() and t.get_text().strip()]
    return texts, [legend.get_window_extent(renderer) for legend in figure.findobj(Legend)]


def overlap(a, b):
    """Return whether two boxes overlap by more than `TOUCH`."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > TOUCH and height > TOUCH


def _contains(outer, box):
    return outer.x0 <= box.x0 and outer.y0 <= box.y0 and box.x1 <= outer.x1 and box.y1 <= outer.y1


def problems(figure):
    texts, legends = boxes(figure)
    inside = figure.bbox.padded(TOUCH)
    found = [f"outside the figure: {text!r}" for text, box in texts if not _contains(inside, box)]
    found += [f"{a!r} covers {b!r}" for (a, x), (b, y) in itertools.combinations(texts, 2) if overlap(x, y)]
    panels = [axes.get_window_extent() for axes in figure.axes]
    return found + ["a legend covers the axes" for x, y in itertools.product(legends, panels) if overlap(x, y)]


@pytest.mark.parametrize(("figure", "script", "n"), CASES)
def test_no_text_is_cut_or_covered_or_missing(figure, script, n):
    names = tuple(SCRIPTS[script](c) for c in range(n))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # e.g. a glyph that no font has, or a layout that does not fit
        drawn = DRAWINGS[figure](names, np.random.default_rng(0))
        assert problems(drawn) == []


def test_the_check_finds_texts_that_overlap_or_leave_the_figure():
    from matplotlib.figure import Figure

    figure = Figure()
    figure.text(0.5, 0.5, "first")
    figure.text(0.5, 0.5, "second")
    figure.text(0.9, 0.1, "much too long" * 3)
    assert problems(figure) == [f"outside the figure: {'much too long' * 3!r}", "'first' covers 'second'"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_labels_of_a_hundred_classes_differ(script):
    names = [SCRIPTS[script](c) if script != "1 letter" else chr(0x4E00 + c) for c in range(100)]
    labels = class_labels(names, 1.0, 8)
    assert len(set(labels)) == 100
    assert all(map(is_drawable, labels))
    assert font_families()[0] == "DejaVu Sans"
