"""Page of `nasx debug`: calibration, suspect labels, confusion, repair; with its pictures and CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nasx.diagnostics.calibration import accuracy_gain, error_auroc, expected_calibration_error, reliability
from nasx.diagnostics.class_pairs import closeness_and_confusion, folded_confusion
from nasx.files import write_atomically
from nasx.reports.figures.confidence import reliability_figure, risk_coverage_figure
from nasx.reports.figures.image_grid import suspects_figure
from nasx.reports.figures.style import as_png
from nasx.reports.page import Page, Section, as_html, as_markdown, count
from nasx.reports.text import clean
from nasx.trial import Trial

if TYPE_CHECKING:
    from nasx.diagnostics.debug import Confidence, Debugging
    from nasx.diagnostics.label_errors import Planted
    from nasx.diagnostics.repair import Outcome, Repair

RELIABILITY, RISK, SUSPECTS = "reliability.png", "risk_coverage.png", "suspects.png"
N_BINS: Final = 50
DROPPED: Final = 0.2  # share of images left unanswered
SHOWN_SUSPECTS: Final = 8
SHOWN_PAIRS: Final = 5


def tell_debugging(
    debugging: Debugging,
    trial: Trial,
    images: NDArray[np.int64],
    *,
    planted: Planted | None = None,
    repair: Repair | None = None,
    known: Sequence[tuple[str, str]] = (),
) -> Page:
    """Return everything found in words.

    Args:
        debugging: of the trained network.
        trial: its training.
        images: (n_train,) the training images' indices in the dataset's own order.
        planted: how many corrupted labels were found; None: none were planted.
        repair: of a pair of classes; None: none was tried.
        known: further facts, of the network rather than of this training.
    """
    scores = {s.scorer: s.value for s in trial.evaluation.scores}
    facts = (*facts_of(debugging, scores), *known, ("architecture", trial.architecture))
    title = f"Network {trial.arch_id}: debugging"
    return Page(title, facts, debugging_sections(debugging, images, planted=planted, repair=repair))


def facts_of(debugging: Debugging, introspectability: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    """Error and introspectability, by scorer, of the network that was looked over."""
    n, right = len(debugging.is_right), int(debugging.is_right.sum())
    return (
        ("validation error", f"{percent(1 - right / n)} ({n - right:,} of {n:,} images)"),
        ("introspectability", ", ".join(f"{v:.3f} by {scorer}" for scorer, v in introspectability.items()) or "-"),
    )


def debugging_sections(
    debugging: Debugging,
    images: NDArray[np.int64],
    *,
    planted: Planted | None = None,
    repair: Repair | None = None,
) -> tuple[Section, ...]:
    """What was found, question by question; `images` as in `tell_debugging`."""
    names = debugging.train.class_names
    return (
        _trust(debugging),
        _doubt(debugging),
        _suspects(debugging, images),
        *([_planted(planted)] if planted else []),
        _confused(debugging),
        *([_repair(repair, clean(names[repair.pair[0]]), clean(names[repair.pair[1]]))] if repair else []),
    )


def _trust(debugging: Debugging) -> Section:
    n_bins = min(N_BINS, len(debugging.is_right))
    meaning = (
        "Three ways to tell how sure the network is: softmax; by activations, how near an image lies to the mean "
        "training image of the class it is taken for; by margin, how much nearer than to any other class. "
        f"Trustworthy is what rises with the share of right answers (correlation over {n_bins} bins of validation "
        "images, 1 is best) and, once calibrated, equals it (the error is the mean gap)."
    )
    rows = [_trust_row(c, debugging.is_right) for c in debugging.confidences]
    header = ("confidence", "Spearman", "Pearson", "calibration error", "once calibrated")
    return Section(
        "Can its confidence be trusted?",
        (meaning,),
        table=(header, *rows),
        picture=RELIABILITY,
        alt="accuracy against confidence in bins",
    )


def _trust_row(confidence: Confidence, is_right: NDArray[np.bool_]) -> tuple[str, ...]:
    found = reliability(confidence.values, is_right, N_BINS)
    raw = expected_calibration_error(confidence.values, is_right) if confidence.is_probability else None
    calibrated = expected_calibration_error(confidence.probability, is_right)
    return (confidence.name, figure(found.spearman), figure(found.pearson), percent(raw), percent(calibrated))


def _doubt(debugging: Debugging) -> Section:
    is_right = debugging.is_right
    heading = "Does its doubt find the errors?"
    if is_right.all():
        return Section(heading, ("There is none to find among the validation images.",))
    meaning = (
        "AUROC is the chance that a wrong answer is less confident than a right one (0.5: no better than guessing). "
        f"The last column leaves the least confident {percent(DROPPED)} of the validation images unanswered."
    )
    error = float(1 - is_right.mean())
    rows = []
    for confidence in debugging.confidences:
        gain = accuracy_gain(confidence.values, is_right, DROPPED)
        auroc = figure(error_auroc(confidence.values, is_right))
        rows.append((confidence.name, auroc, f"{percent(error)} to {percent(error - gain)}"))
    return Section(
        heading,
        (meaning,),
        table=(("confidence", "AUROC", "error falls from"), *rows),
        picture=RISK,
        alt="errors among the images answered, against how many are answered",
    )


def _suspects(debugging: Debugging, images: NDArray[np.int64]) -> Section:
    found, train = debugging.suspicion, debugging.train
    n_suspect, n = int((found.values > 0).sum()), len(train)
    meaning = (
        f"Of {count(n, 'training image')} {n_suspect:,} ({percent(n_suspect / n)}) lie nearer to the mean of another "
        "class than to that of their own, by activations and without vouching for themselves. Look at the first ones: "
        "a wrong label, or an image that is hard for this network. suspects.csv ranks all of them. They are numbered "
        "as the training images of the dataset, from 0."
    )
    rows = [
        (
            f"{images[i]:,}",
            clean(train.class_names[train.labels[i]]),
            clean(train.class_names[found.nearest[i]]),
            f"{found.values[i]:+.3f}",
            percent(float(debugging.train_probabilities[i, train.labels[i]])),
        )
        for i in found.ranking()[:SHOWN_SUSPECTS]
    ]
    return Section(
        "Which labels look wrong?",
        (meaning,),
        table=(("image", "label", "nearest other", "suspicion", "softmax for the label"), *rows),
        picture=SUSPECTS,
        alt="the training images with the most suspect labels",
    )


def _planted(planted: Planted) -> Section:
    meaning = (
        f"To see how well this finds wrong labels, {percent(planted.share)} of the training labels were corrupted and "
        "the network trained anew on them, by its own recipe "
        f"(validation error {percent(planted.validation_error)}). Found among the most suspect images:"
    )
    shares = list(planted.by_distance.found)
    header = ("ranked by", *(f"first {percent(share)}" for share in shares), "AUROC")
    rankings = (("distance to its label's mean", planted.by_distance), ("loss", planted.by_loss))
    rows = [(name, *(percent(d.found[s]) for s in shares), figure(d.auroc)) for name, d in rankings]
    return Section("Would it find wrong labels?", (meaning,), table=(header, *rows))


def _confused(debugging: Debugging) -> Section:
    heading = "Which classes does it confuse?"
    folded = np.triu(folded_confusion(debugging.confusion), k=1)
    if not folded.any():
        return Section(heading, ("None: all validation images are classified rightly.",))
    order = np.argsort(-folded, axis=None, kind="stable")[:SHOWN_PAIRS]
    worst = [divmod(int(i), len(folded)) for i in order if folded.flat[i]]
    scorers, names = list(debugging.distances), debugging.train.class_names
    rows = [
        (
            f"{clean(names[a])} and {clean(names[b])}",
            *(figure(float(debugging.distances[scorer][a, b])) for scorer in scorers),
            f"{folded[a, b]:,}",
        )
        for a, b in worst
    ]
    bullets = []
    for scorer in scorers:
        spearman, pearson = closeness_and_confusion(debugging.distances[scorer], debugging.confusion)
        bullets.append(f"distance by {scorer}: Spearman {figure(spearman)}, Pearson {figure(pearson)}")
    meaning = (
        "If closeness inside explains confusion, then the closer a pair of classes, the more often one is taken for "
        "the other. Correlation over all pairs, 1 is best:"
    )
    header = ("pair", *(f"distance, {scorer}" for scorer in scorers), "times confused")
    return Section(heading, (meaning,), tuple(bullets), table=(header, *rows))


def _repair(repair: Repair, first: str, second: str) -> Section:
    seeds = len(repair.repaired)
    meaning = (
        f"{first} and {second} were pushed apart for a few more epochs, with {count(seeds, 'seed')}; beside each "
        f"repair stands a twin, trained as long without. On {count(repair.n_images, 'validation image')}, means over "
        "the seeds with their range:"
    )
    told = f"Verdict: the repair {VERDICTS[str(repair.verdict)]}"
    header = ("", "pair confused", "errors in all", "distance of the pair")
    states = (("before", (repair.before,)), ("repaired", repair.repaired), ("twins", repair.twins))
    rows = [(name, *_outcomes(outcomes)) for name, outcomes in states]
    return Section(f"Repair of {first} and {second}", (meaning, told), table=(header, *rows))


VERDICTS: Final = {
    "helped": "helped: with every seed the pair is confused less often than before and than by the twin.",
    "moved errors elsewhere": "moved errors elsewhere: the pair is confused less often with every seed, but there are "
    "more errors in all than without.",
    "did not help": "did not help: not with every seed is the pair confused less often than before and than by the "
    "twin. Keep the network as it is.",
}


def _outcomes(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    return (
        spread([o.confusions for o in outcomes], digits=1),
        spread([o.errors for o in outcomes], digits=1),
        spread([o.distance for o in outcomes], digits=3),
    )


def spread(values: Sequence[float], digits: int) -> str:
    """The mean with the range, or the only value.

    >>> spread([3, 5, 5], digits=1), spread([0.25], digits=3)
    ('4.3 (3 to 5)', '0.25')
    """
    mean, low, high = (f"{round(float(v), digits):g}" for v in (np.mean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def figure(value: float | None) -> str:
    """A correlation or a distance, if there is one.

    >>> figure(0.98765), figure(None), figure(math.nan)
    ('0.988', '-', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share with its unit, without decimals that say nothing.

    >>> percent(0.2), percent(0.02134), percent(-1e-17), percent(None)
    ('20 %', '2.13 %', '0 %', '-')
    """
    return "-" if share is None else f"{round(100 * share, 2) + 0.0:g} %"  # + 0.0: zero has no sign


def write_debugging(page: Page, debugging: Debugging, images: NDArray[np.int64], directory: Path) -> list[Path]:
    """Draw and write everything into `directory`; returns the files. Raises ResourceError where the disk is full.

    `images`, (n_train,): the training images' indices in the dataset's own order.
    """
    values = {c.name: c.values for c in debugging.confidences}
    figures = {
        RELIABILITY: reliability_figure(debugging.confidences, debugging.is_right, n_bins=N_BINS),
        RISK: risk_coverage_figure(values, debugging.is_right),
        SUSPECTS: suspects_figure(debugging, images),
    }
    contents = {name: as_png(figure) for name, figure in figures.items()}
    contents |= {
        "debug.md": as_markdown(page).encode(),
        "debug.html": as_html(page, contents).encode(),
        "reliability.csv": reliability_csv(debugging).encode(),
        "suspects.csv": suspects_csv(debugging, images).encode(),
    }
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


def reliability_csv(debugging: Debugging) -> str:
    """Every bin of every confidence: its mean confidence and its share of right answers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["confidence", "bin", "mean_confidence", "accuracy"])
    for confidence in debugging.confidences:
        found = reliability(confidence.values, debugging.is_right, N_BINS)
        bins = zip(found.confidence, found.accuracy, strict=True)
        writer.writerows([confidence.name, i, f"{c:.6f}", f"{a:.6f}"] for i, (c, a) in enumerate(bins, start=1))
    return out.getvalue()


def suspects_csv(debugging: Debugging, images: NDArray[np.int64]) -> str:
    """All training images, the most suspect first. `images`, (n_train,): their indices in the dataset's own order."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["rank", "image", "label", "nearest_other", "suspicion", "predicted", "label_probability"])
    names, suspicion, probabilities = debugging.train.class_names, debugging.suspicion, debugging.train_probabilities
    for rank, i in enumerate(suspicion.ranking(), start=1):
        label, predicted = debugging.train.labels[i], probabilities[i].argmax()
        writer.writerow(
            [
                rank,
                images[i],
                names[label],
                names[suspicion.nearest[i]],
                f"{suspicion.values[i]:.6f}",
                names[predicted],
                f"{probabilities[i, label]:.6f}",
            ]
        )
    return out.getvalue()
