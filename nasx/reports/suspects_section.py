"""Section of the debug page about suspect labels, and suspects.csv."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nasx.diagnostics.suspects import Judgement
from nasx.escaping import to_csv
from nasx.reports.page import Section, count
from nasx.reports.text import clean, format_probability

if TYPE_CHECKING:
    from nasx.diagnostics.suspects import Suspects

SUSPECTS: Final = "suspects.png"
SHOWN_SUSPECTS: Final = 8
SUREST: Final = 0.9  # largest expected share of wrong labels that is stated: the estimate is no surer
PathOf = Callable[[str], Path]  # from the name of a file in `LabeledImages.files` to its path


def suspects_section(suspects: Suspects, *, path_of: PathOf | None = None) -> Section:
    """Return the section with the verdict and the first suspects.

    Args:
        suspects: all images, ranked.
        path_of: returns the path of a file of the dataset, to link to it; None: the images have no files.
    """
    names, predicted, labels = suspects.class_names, suspects.predicted, suspects.labels
    rows, links = [], {}
    for i in suspects.ranking()[:SHOWN_SUSPECTS].tolist():
        name = suspects.name(i)
        if path_of is not None:
            links[clean(name)] = path_of(name).absolute().as_uri()
        rows.append(
            (
                clean(name),
                clean(names[labels[i]]),
                clean(names[predicted[i]]),
                format_probability(suspects.probabilities[i, predicted[i]]),
                format_probability(suspects.probabilities[i, labels[i]]),
                f"{suspects.distance[i]:+.3f}",
            )
        )
    header = ("image", "label", "predicted", "confidence", "of the label", "distance")
    return Section(
        "Which labels look wrong?",
        (verdict(suspects), _meaning(suspects), _source(suspects)),
        table=(header, *rows),
        figure=SUSPECTS,
        alt="the images with the most suspect labels: file, label and predicted class",
        links=links,
    )


def verdict(suspects: Suspects) -> str:
    """Return in words how many labels are probably wrong, and whether the list means anything."""
    found, n = suspects.estimate, len(suspects)
    images = count(n, "image")
    if suspects.judgement is Judgement.WEAK:
        return (
            f"Verdict: the predictions are too weak to find wrong labels: {format_percent(suspects.error)} of {images} "
            "are predicted as another class than their label, and hard images look like wrong labels. Debug a better "
            "network, or search with more epochs, before acting on the list."
        )
    if suspects.judgement is Judgement.UNKNOWN:
        wrong, held_out = suspects.held_out
        few = f"It errs on {wrong:,} of {count(held_out, 'other image')}: at most about {found.high:,} of {images} "
        return (
            "Verdict: unknown. The network may have learned wrong labels of its training images by heart: then it "
            f"confirms them. {few}({format_percent(found.high / n)}) could be wrong. Look at the first suspects below: "
            "they may be wrong even if there are few."
        )
    if suspects.judgement is Judgement.CLEAN:
        return (
            f"Verdict: no more suspects than expected. At most about {found.high:,} of {images} "
            f"({format_percent(found.high / n)}) could be wrong, as many as images that are hard to tell apart."
        )
    return (
        f"Verdict: about {found.number:,} of {images} ({format_percent(found.number / n)}) probably have a wrong label "
        f"({found.low:,} to {found.high:,}). Review the first {found.high:,} suspects: of the first {found.low:,}, "
        f"about {format_percent(min(round(suspects.precision, 1), SUREST))} are expected to be wrong, later ones less "
        "often."
    )


def _meaning(suspects: Suspects) -> str:
    parts = "training and validation images" if suspects.validation is not None else "training images"
    return (
        f"All {len(suspects):,} {parts} are ranked by the probability of their label, relative to its mean over the "
        "images with that label (confident learning); a suspect may also be a correct, but hard image. Distance: how "
        "much farther the image is from the mean activations of its class than from those of the nearest other class; "
        "above 0 that one is nearer. suspects.csv ranks all images."
    )


def _source(suspects: Suspects) -> str:
    if suspects.out_of_sample.all():
        return "All probabilities are out-of-sample: each image is predicted by a network that was not trained on it."
    hint = "" if suspects.validation is None else ", as would `nasx debug --folds 4`, which trains 4 more networks"
    return (
        "The training images are predicted by the network that was trained on them, which may have learned wrong "
        f"labels by heart. Networks that were not trained on an image judge it more strictly{hint}."
    )


def suspects_csv(suspects: Suspects) -> str:
    """Return all images, the most suspect first."""
    rows: list[list[object]] = [
        [
            "rank",
            "image",
            "part",
            "label",
            "predicted",
            "confidence",
            "label_probability",
            "relative_probability",
            "distance",
            "out_of_sample",
            "likely_error",
        ]
    ]
    names, labels, predicted = suspects.class_names, suspects.labels, suspects.predicted
    for rank, i in enumerate(suspects.ranking().tolist(), start=1):
        rows.append(
            [
                rank,
                suspects.name(i),
                "training" if i < len(suspects.train) else "validation",
                names[labels[i]],
                names[predicted[i]],
                f"{suspects.probabilities[i, predicted[i]]:.6f}",
                f"{suspects.probabilities[i, labels[i]]:.6f}",
                f"{suspects.confidence[i]:.6f}",
                f"{suspects.distance[i]:.6f}",
                "yes" if suspects.out_of_sample[i] else "no",
                "yes" if rank <= suspects.estimate.number else "no",
            ]
        )
    return to_csv(rows)


def format_percent(share: float) -> str:
    """Return a share in percent with up to one decimal.

    >>> format_percent(0.2), format_percent(0.0214)
    ('20 %', '2.1 %')
    """
    return f"{round(100 * share, 1):g} %"
