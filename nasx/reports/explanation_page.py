"""Page of `nasx explain`: which classes a network separates, which it confuses, and on what its decisions rest."""

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
from nasx.reports.figures.cell import cell_figure
from nasx.reports.figures.classes import activity_figure, distances_figure, map_figure, profile_figure, tree_figure
from nasx.reports.figures.image_grid import shap_figure
from nasx.reports.figures.style import as_png
from nasx.reports.page import CELL_HEADING, SHAP_HEADING, Page, Section, as_html, as_markdown, count, ordinal
from nasx.reports.text import clean, format_value
from nasx.trial import OBJECTIVES, Trial

SHOWN_PAIRS: Final = 5
CELL, DISTANCES, PROFILE, SHAP = "cell.png", "distances.png", "profile.png", "shap.png"
ACTIVITY, MAPS, TREE = "activity.png", "maps.png", "tree.png"


def explanation_page(
    explanation: Explanation, trial: Trial, *, has_cell: bool, known: Sequence[tuple[str, str]] = ()
) -> Page:
    """Return an explanation in words; `known`: further facts, of the network rather than of this training."""
    pairs = explanation.pairs()
    sections = [
        _held_apart(explanation, pairs),
        _confused(explanation, pairs),
        *([_alike()] if class_tree(explanation.score.distances) is not None else []),
        _separated(explanation, pairs),
        *([_mapped(explanation)] if explanation.maps else []),
        *([_driven(explanation)] if explanation.activity else []),
        _rests_on(),
    ]
    return Page(
        title=f"Network {trial.arch_id}",
        facts=_facts(explanation, trial, known),
        sections=(*([_cell(explanation)] if has_cell else []), *sections),
    )


def _facts(explanation: Explanation, trial: Trial, known: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    wrong, n = explanation.n_errors, explanation.n_images
    facts = [
        ("validation error", f"{100 * wrong / n:.2f} % ({wrong:,} of {n:,} images)"),
        ("introspectability", f"{explanation.score.value:.3f} by {explanation.score.scorer}"),
        *known,
    ]
    costs = [OBJECTIVES[name] for name in ("parameters", "macs") if name in trial.metrics]
    facts += [(cost.label, format_value(cost, trial.metrics[cost.name])) for cost in costs]
    return (*facts, ("architecture", trial.architecture))


def _cell(explanation: Explanation) -> Section:
    text = "The cell that every stage of the network repeats. Operations that do not reach its output are left out."
    alt = "the operations on the edges of the cell"
    if not explanation.edge_shares:
        return Section(CELL_HEADING, (text,), picture=CELL, alt=alt)
    last = max(edge.target for edge in explanation.edge_shares)
    (source, target, operation), share = max(explanation.edge_shares.items(), key=lambda item: item[1])
    ends = [{0: "the input", last: "the output"}.get(node, f"node {node}") for node in (source, target)]
    carried = (
        "Percentages say how much of the decision each edge carries: its share of the SHAP mass that runs through all "
        f"edges, averaged over the cells. Most goes through {operation} from {ends[0]} to {ends[1]}: "
        f"{100 * share:.0f} %."
    )
    return Section(CELL_HEADING, (text, carried), picture=CELL, alt=f"{alt}, with their share of the decision")


def _alike() -> Section:
    text = (
        "Classes joined from the closest pair on: the farther right two branches meet, the farther apart the network "
        "holds the classes on them."
    )
    return Section("Which classes are alike", (text,), picture=TREE, alt="a tree of the classes by their distance")


def _mapped(explanation: Explanation) -> Section:
    last = explanation.maps[-1]
    text = (
        "Each dot is a validation image, each name the mean image of a class, by the means of a stage's channels, on "
        "the plane that shows most of how the classes spread (principal components). "
        f"At {last.layer} it shows {100 * last.shown:.0f} %."
    )
    return Section("Where the classes lie", (text,), picture=MAPS, alt="the classes on a plane after each stage")


def _driven(explanation: Explanation) -> Section:
    activity = explanation.activity
    block = max(activity, key=lambda name: float(np.ptp(activity[name])))
    most, least = (clean(explanation.class_names[int(i)]) for i in (activity[block].argmax(), activity[block].argmin()))
    text = (
        "Mean activations of each class, block by block, beside those of the other classes: orange is more than the "
        f"average class, blue less. The block that differs most is {block}: {most} drives it most, {least} least."
    )
    return Section("Which classes drive which blocks", (text,), picture=ACTIVITY, alt="activations by class and block")


def _held_apart(explanation: Explanation, pairs: Sequence[ClassPair]) -> Section:
    pairs = [p for p in pairs if not math.isnan(p.distance)]
    names = explanation.class_names
    meaning = (
        "Two classes are far apart where the network's decisions for them rest on different evidence. Cosine distance "
        "says how far: 0 is the same evidence, 1 unrelated, 2 opposite. "
        f"On average over {count(len(pairs), 'pair')} of classes it is {explanation.score.value:.3f}."
    )
    ends = (("Farthest apart", pairs[: -SHOWN_PAIRS - 1 : -1]), ("Closest together", pairs[:SHOWN_PAIRS]))
    bullets = tuple(
        f"{what}: {'; '.join(f'{_both(p, names)} ({p.distance:.2f})' for p in chosen)}." for what, chosen in ends
    )
    return Section(
        "Which classes it holds apart",
        (meaning,),
        bullets,
        picture=DISTANCES,
        alt="cosine distances between all pairs of classes",
    )


def _confused(explanation: Explanation, pairs: Sequence[ClassPair]) -> Section:
    heading = "Which classes it confuses"
    n = explanation.n_images
    if not explanation.n_errors:
        return Section(heading, (f"None: all {count(n, 'validation image')} are classified rightly.",))
    worst = most_confused(pairs, SHOWN_PAIRS)
    share = 100 * explanation.n_errors / n
    told = (
        f"Of {count(n, 'validation image')} {explanation.n_errors:,} ({share:.2f} %) go into a wrong class. Most often:"
    )
    return Section(heading, (told,), tuple(_confusion(p, pairs, explanation) for p in worst))


def _confusion(pair: ClassPair, pairs: Sequence[ClassPair], explanation: Explanation) -> str:
    """One confused pair: who is taken for whom how often, and how close the two lie."""
    totals = explanation.confusion.sum(axis=1)
    ways = [(pair.first, pair.second, pair.first_as_second), (pair.second, pair.first, pair.second_as_first)]
    taken = [
        f"{times:,} of {count(int(totals[a]), 'image')} of {_name(a, explanation)} taken for {_name(b, explanation)}"
        for a, b, times in ways
        if times
    ]
    rank = pairs.index(pair)
    nth = f"{ordinal(rank + 1)} " if rank else ""
    place = f"; the {nth}closest of {count(len(pairs), 'pair')}, at {pair.distance:.2f}"
    return f"{_both(pair, explanation.class_names)}: {' and '.join(taken)}{'' if math.isnan(pair.distance) else place}."


def _separated(explanation: Explanation, pairs: Sequence[ClassPair]) -> Section:
    threshold = explanation.score.value
    where = Counter(separated_at(p, threshold) for p in pairs)
    layers = list(explanation.layer_distances)
    parts = [f"{where[layer]:,} at {layer}" for layer in layers] + [f"{where[None]:,} at none of these layers"]
    rule = (
        "A pair counts as separated at the first layer where it lies farther apart than the network's average pair "
        f"({threshold:.3f}). Of {count(len(pairs), 'pair')}: {', '.join(parts)}."
    )
    followed = list(dict.fromkeys([*most_confused(pairs, SHOWN_PAIRS), *pairs[:SHOWN_PAIRS]]))
    rows = [
        (
            _both(p, explanation.class_names),
            *(f"{p.by_layer[layer]:.2f}" for layer in layers),
            separated_at(p, threshold) or "nowhere",
        )
        for p in followed
    ]
    return Section(
        "At which layer it separates them",
        (rule, "The pairs that it confuses most and those that lie closest, from the input to the output:"),
        table=(("pair", *layers, "separated at"), *rows),
        picture=PROFILE,
        alt="introspectability at each layer",
    )


def _rests_on() -> Section:
    text = (
        "SHAP images of validation images: a pixel in orange speaks for the class, one in blue against it, measured "
        "against training images as the background. Beside a wrong decision stands the true class, beside a doubtful "
        "one the runner-up."
    )
    return Section(SHAP_HEADING, (text,), picture=SHAP, alt="sample images of each class with their SHAP images")


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
) -> tuple[Page, list[Path]]:
    """Draw and write everything into `directory`; return the page and the files written.

    Args:
        explanation: of the trained network.
        trial: its training.
        directory: is created if it does not exist.
        edges: those of the cell; None: the space has no cell to draw.
        known: further facts, of the network rather than of this training.

    Raises:
        ResourceError: the disk is full.
    """
    page = explanation_page(explanation, trial, has_cell=edges is not None, known=known)
    profiles = {s.scorer: s.profile for s in (explanation.score, *trial.evaluation.scores)}
    figures = {} if edges is None else {CELL: cell_figure(edges, shares=explanation.edge_shares)}
    figures |= {
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
