"""The page about one network in plain words: what it holds apart, what it confuses, where it separates it.

`tell` puts an explanation into words; templates set them as Markdown and as one HTML file with its pictures inside.
"""

from __future__ import annotations

import base64
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nasx.diagnostics.class_map import class_tree
from nasx.diagnostics.class_pairs import ClassPair, most_confused, separated_at
from nasx.diagnostics.explanation import Explanation
from nasx.reports.jinja import render
from nasx.reports.wording import clean, format_value
from nasx.trial import OBJECTIVES, Trial

SHOWN_PAIRS: Final = 5
CELL_HEADING, SHAP_HEADING = "The cell", "What its decisions rest on"
CELL, DISTANCES, PROFILE, SHAP = "cell.png", "distances.png", "profile.png", "shap.png"
ACTIVITY, MAPS, TREE = "activity.png", "maps.png", "tree.png"


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; all text is plain, to be escaped by whoever sets it."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # rows, the first one the header; empty: no table
    picture: str = ""  # file name
    alt: str = ""  # the picture in words


@dataclass(frozen=True)
class Page:
    """The whole page in words."""

    title: str
    facts: tuple[tuple[str, str], ...]  # (name, value with unit)
    sections: tuple[Section, ...]


def tell(explanation: Explanation, trial: Trial, *, has_cell: bool, known: Sequence[tuple[str, str]] = ()) -> Page:
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


def count(n: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "image"), count(1797, "image")
    ('1 image', '1,797 images')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def ordinal(n: int) -> str:
    """A place in words.

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 103)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '103rd']
    """
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _name(label: int, explanation: Explanation) -> str:
    return clean(explanation.class_names[label])


def _both(pair: ClassPair, names: Sequence[str]) -> str:
    return f"{clean(names[pair.first])} and {clean(names[pair.second])}"


def as_markdown(page: Page) -> str:
    """The page as Markdown beside its pictures; names that look like Markdown stay text."""
    return render("explanation.md.jinja", escape=escape_markdown, page=page)


def escape_markdown(text: str) -> str:
    r"""Text with every character escaped that Markdown gives a meaning within a line.

    >>> print(escape_markdown("<b> *x* | a_b"))
    \<b\> \*x\* \| a\_b
    """
    return re.sub(r"([\\`*_{}\[\]<>|~&#$])", r"\\\1", text)


def as_html(page: Page, pictures: Mapping[str, bytes]) -> str:
    """The page as one HTML file that needs no other: `pictures` maps each picture's file name to its PNG."""
    sources = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in pictures.items()}
    return render("explanation.html.jinja", page=page, sources=sources)
