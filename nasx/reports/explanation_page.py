"""Page of `nasx explain`: classes that a network separates or confuses, and evidence for its decisions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from nasx.diagnostics.class_pairs import ClassPair, class_tree, most_confused, separated_at
from nasx.diagnostics.explanation import Explanation
from nasx.files import write_atomically
from nasx.networks.edge import Edge
from nasx.reports.class_section import CONFUSION, class_section
from nasx.reports.class_tables import quality_facts
from nasx.reports.figures.cell import cell_figure
from nasx.reports.figures.classes import activity_figure, distances_figure, map_figure, profile_figure, tree_figure
from nasx.reports.figures.confusion import confusion_figure
from nasx.reports.figures.image_grid import shap_figure, squares_in_words
from nasx.reports.figures.style import as_png
from nasx.reports.page import CELL_HEADING, SHAP_HEADING, Page, Section, as_html, as_markdown, count, ordinal
from nasx.reports.text import clean, format_value
from nasx.trial import OBJECTIVES, Trial

SHOWN_PAIRS: Final = 5
CELL, DISTANCES, PROFILE, SHAP = "cell.png", "distances.png", "profile.png", "shap.png"
ACTIVITY, MAPS, TREE = "activity.png", "maps.png", "tree.png"


def explanation_page(
    explanation: Explanation,
    trial: Trial,
    *,
    has_cell: bool,
    known: Sequence[tuple[str, str]] = (),
    again: str = "in float32",
    objectives: Sequence[str] = (),
) -> Page:
    """Return the texts and tables of an explanation.

    Args:
        explanation: of the trained network.
        trial: its training.
        has_cell: whether the figures include the network's cell.
        known: further facts about the architecture, e.g. over all its trainings.
        again: how its predictions were computed again, in words.
        objectives: names of the objectives of the run: its errors are shown in their order.
    """
    pairs = explanation.pairs()
    sections = [
        class_section(explanation.report()),
        _distances(explanation, pairs),
        _confused(explanation, pairs, trial),
        *([_similar()] if class_tree(explanation.score.distances) is not None else []),
        _separated(explanation, pairs),
        *([_maps(explanation)] if explanation.maps else []),
        *([_activity(explanation)] if explanation.activity else []),
        _evidence(explanation),
    ]
    return Page(
        title=f"Network {trial.arch_id}",
        facts=_facts(explanation, trial, known, again, objectives),
        sections=(*([_cell(explanation)] if has_cell else []), *sections),
    )


def _facts(
    explanation: Explanation,
    trial: Trial,
    known: Sequence[tuple[str, str]],
    again: str,
    objectives: Sequence[str],
) -> tuple[tuple[str, str], ...]:
    facts = [
        *quality_facts(explanation.report(), trial.metrics, objectives, again),
        ("introspectability", f"{explanation.score.value:.3f} by {explanation.score.scorer}"),
        *known,
    ]
    costs = [OBJECTIVES[name] for name in ("parameters", "macs") if name in trial.metrics]
    facts += [(cost.label, format_value(cost, trial.metrics[cost.name])) for cost in costs]
    return (*facts, ("architecture", trial.architecture))


def _cell(explanation: Explanation) -> Section:
    cells = [each.layer for each in explanation.maps if each.layer.startswith("cell")] or ["a stage"]
    place = "repeated in every stage of the network"
    if explanation.has_backbone:
        place = f"on top of the backbone, as {' and '.join(cells)}"
    text = f"The cell, {place}. Operations that do not reach its output are omitted."
    alt = "the operations on the edges of the cell"
    if not explanation.edge_shares:
        return Section(CELL_HEADING, (text,), figure=CELL, alt=alt)
    last = max(edge.target for edge in explanation.edge_shares)
    (source, target, operation), share = max(explanation.edge_shares.items(), key=lambda item: item[1])
    ends = [{0: "the input", last: "the output"}.get(node, f"node {node}") for node in (source, target)]
    shares = (
        "Percentages: share of the decision that passes through each edge, measured by its SHAP mass and averaged over "
        f"the cells. The largest share, {100 * share:.0f} %, passes through {operation} from {ends[0]} to {ends[1]}."
    )
    return Section(CELL_HEADING, (text, shares), figure=CELL, alt=f"{alt}, with their share of the decision")


def _similar() -> Section:
    text = (
        "Hierarchical clustering of the classes by distance: the farther right two branches meet, the farther apart "
        "their classes are inside the network."
    )
    return Section("Which classes are similar", (text,), figure=TREE, alt="dendrogram of the classes")


def _maps(explanation: Explanation) -> Section:
    last = explanation.maps[-1]
    text = (
        "Each dot is a validation image, each name the mean of a class, by the channel means of a stage. The plane is "
        "spanned by the first two principal components of the class means; "
        f"at {last.layer} it contains {100 * last.shown:.0f} % of their variance."
    )
    return Section("Classes after each stage", (text,), figure=MAPS, alt="the classes in a plane after each stage")


def _activity(explanation: Explanation) -> Section:
    activity = explanation.activity
    block = max(activity, key=lambda name: float(np.ptp(activity[name])))
    most, least = (clean(explanation.class_names[int(i)]) for i in (activity[block].argmax(), activity[block].argmin()))
    text = (
        "Mean activation of each block for each class, relative to the average class: orange is higher, blue lower. "
        f"The block that differs most between classes is {block}: highest for {most}, lowest for {least}."
    )
    return Section(
        "Which classes activate which blocks", (text,), figure=ACTIVITY, alt="activations by class and block"
    )


def _distances(explanation: Explanation, pairs: Sequence[ClassPair]) -> Section:
    pairs = [p for p in pairs if not math.isnan(p.distance)]
    names = explanation.class_names
    meaning = (
        "Two classes are far apart if the network's decisions for them rest on different evidence, measured by cosine "
        "distance: 0 is the same evidence, 1 unrelated, 2 opposite. "
        f"The mean over {count(len(pairs), 'pair')} of classes is {explanation.score.value:.3f}."
    )
    ends = (("Farthest apart", pairs[: -SHOWN_PAIRS - 1 : -1]), ("Closest together", pairs[:SHOWN_PAIRS]))
    bullets = tuple(
        f"{end}: {'; '.join(f'{_both(p, names)} ({p.distance:.2f})' for p in chosen)}." for end, chosen in ends
    )
    return Section(
        "Which classes it separates",
        (meaning,),
        bullets,
        figure=DISTANCES,
        alt="cosine distances between all pairs of classes",
    )


def _confused(explanation: Explanation, pairs: Sequence[ClassPair], trial: Trial) -> Section:
    heading = "Which classes it confuses"
    n = explanation.n_images
    if not explanation.n_errors:
        return Section(heading, (f"None: all {count(n, 'validation image')} are classified correctly.",))
    worst = most_confused(pairs, SHOWN_PAIRS)
    share = 100 * explanation.n_errors / n
    differs = abs(trial.metrics["error"] * n - explanation.n_errors) > 1e-3
    here = " when computed again here" if differs else ""
    images = f"{explanation.n_errors:,} of {count(n, 'validation image')} ({share:.2f} %)"
    text = f"{images} are misclassified{here}. Most often:"
    return Section(heading, (text,), tuple(_confusion(p, pairs, explanation) for p in worst))


def _confusion(pair: ClassPair, pairs: Sequence[ClassPair], explanation: Explanation) -> str:
    """Return how often the two classes of a pair are confused, in either direction, and how close they are."""
    totals = explanation.confusion.sum(axis=1)
    ways = [(pair.first, pair.second, pair.first_as_second), (pair.second, pair.first, pair.second_as_first)]
    taken = [
        f"{times:,} of {count(int(totals[a]), 'image')} of {_name(a, explanation)} predicted as {_name(b, explanation)}"
        for a, b, times in ways
        if times
    ]
    rank = pairs.index(pair)
    nth = f"{ordinal(rank + 1)} " if rank else ""
    place = f"; distance {pair.distance:.2f}, the {nth}closest of {count(len(pairs), 'pair')}"
    return f"{_both(pair, explanation.class_names)}: {' and '.join(taken)}{'' if math.isnan(pair.distance) else place}."


def _separated(explanation: Explanation, pairs: Sequence[ClassPair]) -> Section:
    threshold = explanation.score.value
    counts = Counter(separated_at(p, threshold) for p in pairs)
    layers = list(explanation.layer_distances)
    parts = [f"{counts[layer]:,} at {layer}" for layer in layers] + [f"{counts[None]:,} at none of these layers"]
    rule = (
        "A pair counts as separated at the first layer at which its distance exceeds the mean over all pairs "
        f"({threshold:.3f}). Of {count(len(pairs), 'pair')}: {', '.join(parts)}."
    )
    followed = list(dict.fromkeys([*most_confused(pairs, SHOWN_PAIRS), *pairs[:SHOWN_PAIRS]]))
    rows = [
        (
            _both(p, explanation.class_names),
            *(f"{p.by_layer[layer]:.2f}" for layer in layers),
            separated_at(p, threshold) or "none",
        )
        for p in followed
    ]
    return Section(
        "At which layer it separates the classes",
        (rule, "Distances of the most confused and of the closest pairs, from the input to the output:"),
        table=(("pair", *layers, "separated at"), *rows),
        figure=PROFILE,
        alt="introspectability at each layer",
    )


def _evidence(explanation: Explanation) -> Section:
    text = (
        "SHAP values of validation images: an orange pixel is evidence for the class, a blue one evidence against it, "
        "with training images as the background. Incorrect predictions are also explained for the true class, "
        "uncertain ones for the runner-up."
    )
    if explanation.samples:
        text += squares_in_words(*explanation.samples[0].image.shape[1:])
    estimate = (
        f"Each map is estimated from {count(explanation.draws, 'gradient')}. The values of a map should sum to the "
        "logit of the class minus its mean over the background: they miss it by "
        f"{100 * explanation.completeness:.0f} % of this difference, on average."
    )
    return Section(
        SHAP_HEADING,
        (text, *([estimate] if explanation.draws else [])),
        figure=SHAP,
        alt="sample images of each class with their SHAP values",
    )


def _name(label: int, explanation: Explanation) -> str:
    return clean(explanation.class_names[label])


def _both(pair: ClassPair, names: Sequence[str]) -> str:
    return f"{clean(names[pair.first])} and {clean(names[pair.second])}"


MARKDOWN, HTML = "explanation.md", "explanation.html"


def write_explanation(
    explanation: Explanation,
    trial: Trial,
    directory: Path,
    *,
    edges: Sequence[Edge] | None = None,
    known: Sequence[tuple[str, str]] = (),
    again: str = "in float32",
    objectives: Sequence[str] = (),
) -> tuple[Page, list[Path]]:
    """Write the page and its figures into `directory`; return the page and the files.

    Args:
        explanation: of the trained network.
        trial: its training.
        directory: created if it does not exist.
        edges: of the cell; None: the search space has no cells.
        known: further facts about the architecture, e.g. over all its trainings.
        again: how its predictions were computed again, in words.
        objectives: names of the objectives of the run.

    Raises:
        ResourceError: the disk is full.
    """
    page = explanation_page(
        explanation, trial, has_cell=edges is not None, known=known, again=again, objectives=objectives
    )
    profiles = {s.scorer: s.profile for s in (explanation.score, *trial.evaluation.scores)}
    figures = {} if edges is None else {CELL: cell_figure(edges, shares=explanation.edge_shares)}
    figures |= {
        CONFUSION: confusion_figure(explanation.report()),
        SHAP: shap_figure(explanation),
        DISTANCES: distances_figure(explanation.score.distances, explanation.class_names),
        PROFILE: profile_figure(profiles),
    }
    if (tree := class_tree(explanation.score.distances)) is not None:
        figures[TREE] = tree_figure(tree, explanation.class_names)
    if explanation.maps:
        figures[MAPS] = map_figure(explanation.maps, explanation.class_names)
    if explanation.activity:
        figures[ACTIVITY] = activity_figure(explanation.activity, explanation.class_names)
    contents = {name: as_png(figure) for name, figure in figures.items()}
    contents |= {MARKDOWN: as_markdown(page).encode(), HTML: as_html(page, contents).encode()}
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return page, [directory / name for name in contents]
