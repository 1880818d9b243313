"""Figures and sentences for people, the same in tables, captions and pages: units, references, counts."""

from __future__ import annotations

from nasx.reports.summary import FrontSummary
from nasx.trial import Objective

COUNTS = frozenset({"parameters", "macs"})  # metrics that are whole numbers unless they are means


def format_value(objective: Objective, value: float | None) -> str:
    """A value of an objective with its unit.

    >>> from nasx.trial import OBJECTIVES
    >>> format_value(OBJECTIVES["error"], 0.0213), format_value(OBJECTIVES["parameters"], 802426.0)
    ('2.13 %', '802,426')
    >>> format_value(OBJECTIVES["macs"], 113950000), format_value(OBJECTIVES["introspectability"], None)
    ('113.95 M', '-')
    """
    if value is None:
        return "-"
    if objective.unit == "%":
        return f"{100 * value:.2f} %"
    if objective.name == "macs":
        return _with_prefix(value)
    if objective.name in COUNTS:
        return f"{value:,.0f}"
    return f"{value:.3f} {objective.unit}".rstrip()


def _with_prefix(value: float) -> str:
    """A large count in k, M, G or T."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f} {prefix}"
    return f"{value:.0f}"


def format_reference(objective: Objective, value: float | None) -> str:
    """A reference value without the decimals that say nothing: 90 %, 0, 12,345."""
    if value is None or objective.name in COUNTS:
        return format_value(objective, value)
    return f"{100 * value:.4g} %" if objective.unit == "%" else f"{value:.4g} {objective.unit}".rstrip()


def hypervolume_sentence(summary: FrontSummary) -> str:
    """Hypervolume and the point that it is measured from, in one line."""
    pairs = zip(summary.objectives, summary.reference, strict=True)
    corner = ", ".join(f"{o.label} {format_reference(o, r)}" for o, r in pairs)
    volume = summary.hypervolume
    return f"hypervolume {volume:{'.4f' if volume < 100 else ',.0f'}}, measured from {corner}"


def trials_sentence(summary: FrontSummary) -> str:
    """How many trials ended how, in one line."""
    parts = ", ".join(f"{n} {status}" for status, n in sorted(summary.statuses.items()))
    reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(summary.reasons.items()))
    return f"trials: {parts or 'none'}" + (f" ({reasons})" if reasons else "")


def clean(name: str) -> str:
    """A name from outside on one line, without what does not print: terminals obey escape sequences, pages break.

    >>> clean("cat\\x1b[2J\\n  dog")
    'cat [2J dog'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def shorten(name: str, width: int = 16) -> str:
    """A name cut in its middle to what an axis or a table can carry: the beginning and the end tell most.

    >>> shorten("stage1.0.operations.2.1", 15)
    'stage1.…ons.2.1'
    """
    name = clean(name)
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"
