"""Page of `nasx debug`: calibration, suspect labels, confusion, repair; with its figures and CSV files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nasx.diagnostics.calibration import (
    ECE_BINS,
    accuracy_gain,
    count_bins,
    error_auroc,
    expected_calibration_error,
    reliability,
)
from nasx.diagnostics.class_pairs import closeness_and_confusion, symmetric_confusion
from nasx.escaping import to_csv
from nasx.files import write_atomically
from nasx.reports.class_section import CONFUSION, class_section
from nasx.reports.class_tables import classes_csv, quality_facts
from nasx.reports.figures.confidence import reliability_figure, risk_coverage_figure
from nasx.reports.figures.confusion import confusion_figure
from nasx.reports.figures.image_grid import suspects_figure
from nasx.reports.figures.style import as_png
from nasx.reports.page import Page, Section, as_html, as_markdown, count
from nasx.reports.suspects_section import SUSPECTS, PathOf, suspects_csv, suspects_section
from nasx.reports.text import clean
from nasx.trial import Trial

if TYPE_CHECKING:
    from nasx.diagnostics.debug import ConfidenceMeasure, Diagnosis
    from nasx.diagnostics.label_errors import PlantedErrors
    from nasx.diagnostics.repair import Outcome, Repair

RELIABILITY, RISK = "reliability.png", "risk_coverage.png"
REJECTED: Final = 0.2  # share of validation images rejected, the least confident first
SHOWN_PAIRS: Final = 5


def debugging_page(
    debugging: Diagnosis,
    trial: Trial,
    *,
    path_of: PathOf | None = None,
    planted: PlantedErrors | None = None,
    repair: Repair | None = None,
    known: Sequence[tuple[str, str]] = (),
    again: str = "in float32",
    objectives: Sequence[str] = (),
) -> Page:
    """Return the texts and tables of the results.

    Args:
        debugging: of the trained network.
        trial: its training.
        path_of: returns the path of a file of the dataset; None: its images have no files.
        planted: how many planted label errors were found; None: none were planted.
        repair: of one pair of classes; None: not tried.
        known: further facts about the architecture, e.g. over all its trainings.
        again: how its predictions were computed again, in words.
        objectives: names of the objectives of the run: its errors are shown in their order.
    """
    scores = {s.scorer: s.value for s in trial.evaluation.scores}
    own = debugging_facts(debugging, scores, recorded=trial.metrics, again=again, objectives=objectives)
    facts = (*own, *known, ("architecture", trial.architecture))
    title = f"Network {trial.arch_id}: debugging"
    return Page(title, facts, debugging_sections(debugging, path_of=path_of, planted=planted, repair=repair))


def debugging_facts(
    debugging: Diagnosis,
    introspectability: Mapping[str, float],
    *,
    recorded: Mapping[str, float] | None = None,
    again: str = "",
    objectives: Sequence[str] = (),
) -> tuple[tuple[str, str], ...]:
    """Return the validation error and the introspectability by scorer as facts (name, value).

    Args:
        debugging: of a trained network.
        introspectability: by scorer.
        recorded: metrics in the journal of its run; None: it is of no run.
        again: how its predictions were computed again, in words.
        objectives: names of the objectives of the run.
    """
    return (
        *quality_facts(debugging.report(), recorded or {}, objectives, again),
        ("introspectability", ", ".join(f"{v:.3f} by {scorer}" for scorer, v in introspectability.items()) or "-"),
    )


def debugging_sections(
    debugging: Diagnosis,
    *,
    path_of: PathOf | None = None,
    planted: PlantedErrors | None = None,
    repair: Repair | None = None,
) -> tuple[Section, ...]:
    """Return the sections of the page, one per question.

    Args:
        debugging: of the trained network.
        path_of: returns the path of a file of the dataset; None: its images have no files.
        planted: how many planted label errors were found; None: none were planted.
        repair: of one pair of classes; None: not tried.
    """
    names = debugging.train.class_names
    return (
        class_section(debugging.report()),
        _reliability(debugging),
        _confidence_of_errors(debugging),
        suspects_section(debugging.suspects, path_of=path_of),
        *([_planted(planted)] if planted else []),
        _confused(debugging),
        *([_repair(repair, clean(names[repair.pair[0]]), clean(names[repair.pair[1]]))] if repair else []),
    )


def _reliability(debugging: Diagnosis) -> Section:
    n = len(debugging.is_correct)
    n_bins = count_bins(n)
    meaning = (
        "Three measures of confidence: softmax; activations, the similarity of an image to the mean training image of "
        "its predicted class; activation margin, how much closer it is to that class than to any other. "
        f"A trustworthy confidence rises with accuracy (correlation over {count(n_bins, 'bin')} of {n // n_bins:,} or "
        f"more of the {count(n, 'validation image')}, 1 is best) and equals it after calibration (calibration error: "
        f"mean gap between confidence and accuracy in {ECE_BINS} bins of equal width, weighted by their images). Bars "
        "in the picture: 95 % interval of the accuracy of a bin."
    )
    rows = [_reliability_row(c, debugging.is_correct) for c in debugging.confidences]
    header = ("confidence", "Spearman", "Pearson", "calibration error", "after calibration")
    return Section(
        "Can its confidence be trusted?",
        (meaning,),
        table=(header, *rows),
        figure=RELIABILITY,
        alt="accuracy against confidence in bins",
    )


def _reliability_row(confidence: ConfidenceMeasure, is_correct: NDArray[np.bool_]) -> tuple[str, ...]:
    found = reliability(confidence.values, is_correct)
    raw = expected_calibration_error(confidence.values, is_correct) if confidence.is_probability else None
    calibrated = expected_calibration_error(confidence.probability, is_correct)
    correlations = map(format_correlation, (found.spearman, found.pearson))
    return (confidence.name, *correlations, format_percent(raw), format_percent(calibrated))


def _confidence_of_errors(debugging: Diagnosis) -> Section:
    is_correct = debugging.is_correct
    heading = "Is it less confident about errors?"
    if is_correct.all():
        return Section(heading, ("There are no errors among the validation images.",))
    meaning = (
        "AUROC is the probability that an incorrect prediction is less confident than a correct one (0.5: no better "
        f"than guessing). Last column: error before and after the least confident {format_percent(REJECTED)} of the "
        "validation images are rejected."
    )
    error = float(1 - is_correct.mean())
    rows = []
    for confidence in debugging.confidences:
        gain = accuracy_gain(confidence.values, is_correct, REJECTED)
        auroc = format_correlation(error_auroc(confidence.values, is_correct))
        rows.append((confidence.name, auroc, f"{format_percent(error)} to {format_percent(error - gain)}"))
    return Section(
        heading,
        (meaning,),
        table=(("confidence", "AUROC", "error with rejection"), *rows),
        figure=RISK,
        alt="error against coverage",
    )


def _planted(planted: PlantedErrors) -> Section:
    meaning = (
        f"As a test, {format_percent(planted.share)} of the training labels were corrupted and the network was trained "
        f"again with its own recipe (validation error {format_percent(planted.validation_error)}). Share of the "
        "corrupted labels found among the most suspect images:"
    )
    shares = list(planted.by_distance.found)
    header = ("ranked by", *(f"first {format_percent(share)}" for share in shares), "AUROC")
    rankings = (
        ("probability of its class", planted.by_confidence),
        ("distance to the mean of its class", planted.by_distance),
        ("loss", planted.by_loss),
    )
    rows = [(name, *(format_percent(d.found[s]) for s in shares), format_correlation(d.auroc)) for name, d in rankings]
    return Section("Does it find planted label errors?", (meaning,), table=(header, *rows))


def _confused(debugging: Diagnosis) -> Section:
    heading = "Which classes does it confuse?"
    folded = np.triu(symmetric_confusion(debugging.confusion), k=1)
    if not folded.any():
        return Section(heading, ("None: all validation images are classified correctly.",))
    order = np.argsort(-folded, axis=None, kind="stable")[:SHOWN_PAIRS]
    worst = [divmod(int(i), len(folded)) for i in order if folded.flat[i]]
    scorers, names = list(debugging.distances), debugging.train.class_names
    rows = [
        (
            f"{clean(names[a])} and {clean(names[b])}",
            *(format_correlation(float(debugging.distances[scorer][a, b])) for scorer in scorers),
            f"{folded[a, b]:,}",
        )
        for a, b in worst
    ]
    bullets = []
    for scorer in scorers:
        spearman, pearson = closeness_and_confusion(debugging.distances[scorer], debugging.confusion)
        bullets.append(
            f"distance by {scorer}: Spearman {format_correlation(spearman)}, Pearson {format_correlation(pearson)}"
        )
    meaning = (
        "If closeness inside the network explains confusion, close pairs of classes are confused more often. "
        "Correlation over all pairs, 1 is best:"
    )
    header = ("pair", *(f"distance, {scorer}" for scorer in scorers), "confusions")
    return Section(heading, (meaning,), tuple(bullets), table=(header, *rows))


def _repair(repair: Repair, first: str, second: str) -> Section:
    seeds = len(repair.repaired)
    meaning = (
        f"{first} and {second} were pushed apart in a few more epochs, with {count(seeds, 'seed')}. Each repair has a "
        f"control, trained as long without. Results on {count(repair.n_images, 'validation image')}, mean over the "
        "seeds with range:"
    )
    verdict = f"Verdict: the repair {VERDICTS[str(repair.verdict)]}"
    header = ("", "confusions of the pair", "errors in total", "distance of the pair")
    states = (("before", (repair.before,)), ("repaired", repair.repaired), ("controls", repair.controls))
    rows = [(name, *_outcomes(outcomes)) for name, outcomes in states]
    return Section(f"Repair of {first} and {second}", (meaning, verdict), table=(header, *rows))


VERDICTS: Final = {
    "helped": "helped: with every seed, the pair is confused less often than before and than by the control.",
    "moved errors elsewhere": "moved errors elsewhere: with every seed, the pair is confused less often, but there are "
    "more errors in total than in the controls.",
    "did not help": "did not help: the pair is not confused less often with every seed than before and than by the "
    "control. Keep the network as it is.",
}


def _outcomes(outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    return (
        format_mean_range([o.confusions for o in outcomes], digits=1),
        format_mean_range([o.errors for o in outcomes], digits=1),
        format_mean_range([o.distance for o in outcomes], digits=3),
    )


def format_mean_range(values: Sequence[float], digits: int) -> str:
    """Return the mean with the range, or the only value.

    >>> format_mean_range([3, 5, 5], digits=1), format_mean_range([0.25], digits=3)
    ('4.3 (3 to 5)', '0.25')
    """
    mean, low, high = (f"{round(float(v), digits):g}" for v in (np.mean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


def format_correlation(value: float | None) -> str:
    """Return a correlation or a distance; "-" if it is undefined.

    >>> format_correlation(0.98765), format_correlation(None), format_correlation(math.nan)
    ('0.988', '-', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def format_percent(share: float | None) -> str:
    """Return a share in percent without trailing zeros; "-" for None.

    >>> [format_percent(share) for share in (0.2, 0.02134, -1e-17, None)]
    ['20 %', '2.13 %', '0 %', '-']
    """
    return "-" if share is None else f"{round(100 * share, 2) + 0.0:g} %"  # + 0.0: no negative zero


def write_debugging(page: Page, debugging: Diagnosis, directory: Path) -> list[Path]:
    """Write the page, its figures and the CSV files into `directory`; return the files.

    Args:
        page: of `debugging`.
        debugging: of the trained network.
        directory: created if it does not exist.

    Raises:
        ResourceError: the disk is full.
    """
    values = {c.name: c.values for c in debugging.confidences}
    figures = {
        CONFUSION: confusion_figure(debugging.report()),
        RELIABILITY: reliability_figure(debugging.confidences, debugging.is_correct),
        RISK: risk_coverage_figure(values, debugging.is_correct),
        SUSPECTS: suspects_figure(debugging.suspects),
    }
    contents = {name: as_png(figure) for name, figure in figures.items()}
    contents |= {
        "debug.md": as_markdown(page).encode(),
        "debug.html": as_html(page, contents).encode(),
        "classes.csv": to_csv(classes_csv(debugging.report())).encode(),
        "reliability.csv": reliability_csv(debugging).encode(),
        "suspects.csv": suspects_csv(debugging.suspects).encode(),
    }
    for name, content in contents.items():
        write_atomically(directory / name, content)
    return [directory / name for name in contents]


def reliability_csv(debugging: Diagnosis) -> str:
    """Return mean confidence, accuracy with its 95 % interval, and images of every bin of every confidence measure."""
    rows: list[list[object]] = [
        ["confidence", "bin", "images", "mean_confidence", "accuracy", "accuracy_low", "accuracy_high"]
    ]
    for confidence in debugging.confidences:
        found = reliability(confidence.values, debugging.is_correct)
        values = np.stack([found.confidence, found.accuracy, found.low, found.high], axis=1)
        bins = enumerate(zip(found.images, values, strict=True), start=1)
        rows += [[confidence.name, i, int(n), *(f"{value:.6f}" for value in row)] for i, (n, row) in bins]
    return to_csv(rows)
