"""Formatted numbers and sentences shared by tables, captions and pages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nasx.escaping import printable
from nasx.reports.summary import CERTAIN, FrontSummary
from nasx.trial import Objective

COUNTS = frozenset({"parameters", "macs"})  # metrics that are whole numbers unless they are means
LARGE_VOLUME = 100.0  # hypervolumes from here on are shown without decimals


def format_value(objective: Objective, value: float | None) -> str:
    """Return a value of an objective with its unit.

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


def format_estimate(objective: Objective, value: float | None, std: float | None) -> str:
    """Return a value with its uncertainty and unit.

    Args:
        objective: determines unit and digits.
        value: None: unknown.
        std: standard deviation; not shown if it is None (unknown) or 0 (exact).

    >>> from nasx.trial import OBJECTIVES
    >>> format_estimate(OBJECTIVES["error"], 0.0213, 0.0031), format_estimate(OBJECTIVES["parameters"], 802426.0, 0.0)
    ('2.13 ± 0.31 %', '802,426')
    """
    text = format_value(objective, value)
    if value is None or not std:
        return text
    number, _, unit = text.partition(" ")
    return f"{number} ± {format_value(objective, std).partition(' ')[0]} {unit}".rstrip()


def format_share(share: float) -> str:
    """Return a share or a probability in whole percent; "-" for NaN.

    >>> format_share(0.938), format_share(float("nan"))
    ('94 %', '-')
    """
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def duration(seconds: float | None) -> str:
    """Return a time in words.

    >>> duration(5.2), duration(75), duration(3 * 3600 + 60), duration(None)
    ('5 s', '1 min 15 s', '3 h 01 min', '-')
    """
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_volume(value: float) -> str:
    """Return a hypervolume as text.

    >>> format_volume(0.30791), format_volume(123456.7)
    ('0.3079', '123,457')
    """
    return f"{value:.4f}" if value < LARGE_VOLUME else f"{value:,.0f}"


def _with_prefix(value: float) -> str:
    """Return a large count with the prefix k, M, G or T."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f} {prefix}"
    return f"{value:.0f}"


def format_reference(objective: Objective, value: float | None) -> str:
    """Return a reference value without trailing zeros: 90 %, 0, 12,345."""
    if value is None or objective.name in COUNTS:
        return format_value(objective, value)
    return f"{100 * value:.4g} %" if objective.unit == "%" else f"{value:.4g} {objective.unit}".rstrip()


def hypervolume_sentence(summary: FrontSummary) -> str:
    """Return the hypervolume and its reference point in one line."""
    pairs = zip(summary.objectives, summary.reference, strict=True)
    corner = ", ".join(f"{o.label} {format_reference(o, r)}" for o, r in pairs)
    return f"hypervolume {format_volume(summary.hypervolume)}, reference point: {corner}"


def certainty_sentence(summary: FrontSummary) -> str:
    """Return which part of the hypervolume is certain; empty if that is unknown."""
    certain, estimated = summary.certain_hypervolume, summary.hypervolume
    if certain is None or not estimated:
        return ""
    if certain >= estimated:  # possible, since the best of several uncertain values can exceed every estimate
        return f"all of it is certain: the true values reach it with a probability of at least {format_share(CERTAIN)}"
    return (
        f"{format_volume(certain)} ({format_share(certain / estimated)}) of it is certain: "
        f"the true values reach it with probability {format_share(CERTAIN)}"
    )


def latency_sentence(summary: FrontSummary) -> str:
    """Return on which devices the objective latency was measured; empty if it was not measured."""
    if not summary.latency_devices:
        return ""
    sentence = f"latency of one image in float32, measured on {clean('; '.join(summary.latency_devices))}"
    several = len(summary.latency_devices) > 1
    return f"{sentence}: times on different devices cannot be compared" if several else sentence


def noise_sentence(summary: FrontSummary) -> str:
    """Return the noise of one training and its source; without a model, the reason why values are observed means."""
    if not summary.is_estimated:
        return _observed_sentence(summary)
    units = {o.name: o for o in summary.objectives}
    parts = [f"{units[n.objective].label} {format_value(units[n.objective], n.std)}" for n in summary.noise if n.std]
    first = summary.noise[0]
    source = f"from {first.repeated} networks trained more than once, {first.trainings:,} trainings in all"
    if not parts:
        return f"noise of one training: none found, {source}"
    return f"noise of one training (standard deviation): {', '.join(parts)}; estimated {source}"


def network_facts(summary: FrontSummary, arch_id: str) -> tuple[tuple[str, str], ...]:
    """Return the values of a network over all trainings of the run as a fact (name, value).

    Empty if the network was trained once and there is no model: its page shows these values already.
    """
    result = next((a for a in summary.architectures if a.arch_id == arch_id), None)
    if result is None or (result.trainings == 1 and not summary.is_estimated):
        return ()
    values = ", ".join(
        f"{o.label} {format_estimate(o, result.metrics[o.name], result.std.get(o.name))}"
        for o in summary.objectives
        if not o.is_exact
    )
    of_it = f"{result.trainings} training{'s' * (result.trainings > 1)} of it"
    source = f"estimates from {of_it} and from similar networks" if summary.is_estimated else f"means of {of_it}"
    return (("over all trainings", f"{values}: {source}"),) if values else ()


def error_facts(recorded: float, wrong: int, n: int, again: str) -> tuple[tuple[str, str], ...]:
    """Return the validation error of a training as the journal has it, and as computed again if it differs.

    Args:
        recorded: in the journal.
        wrong: number of images misclassified when computed again.
        n: number of images.
        again: how it was computed again, in words.

    >>> error_facts(0.25, 1, 4, "in float32")
    (('validation error', '25.00 % (1 of 4 images)'),)
    >>> error_facts(0.5, 1, 4, "in float32")[1]
    ('computed again here', '25.00 % (1 of 4 images), in float32')
    """
    before = round(recorded * n)
    facts = [("validation error", f"{100 * recorded:.2f} % ({before:,} of {n:,} images)")]
    if abs(recorded * n - before) > 1e-3:  # of another number of images
        facts = [("validation error", f"{100 * recorded:.2f} % in the search")]
    if abs(recorded * n - wrong) > 1e-3:
        facts.append(("computed again here", f"{100 * wrong / n:.2f} % ({wrong:,} of {n:,} images), {again}"))
    return tuple(facts)


def _observed_sentence(summary: FrontSummary) -> str:
    if summary.is_exact:
        return f"values are exact: {summary.why_observed}"
    return (
        f"values are means of each network's trainings, not estimates: {summary.why_observed}. They are optimistic: "
        "the best of many noisy values is partly luck"
    )


def trials_sentence(summary: FrontSummary) -> str:
    """Return the number of trials by outcome, in one line."""
    parts = ", ".join(f"{n} {status}" for status, n in sorted(summary.statuses.items()))
    reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in sorted(summary.reasons.items()))
    return f"trials: {parts or 'none'}" + (f" ({reasons})" if reasons else "")


def clean(name: str) -> str:
    """Return a name from outside on one line, without unprintable characters, which could control a terminal.

    >>> clean("cat\\x1b[2J\\n  dog")
    'cat [2J dog'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())


def shorten(name: str, width: int = 16) -> str:
    """Return a name shortened to `width` characters by cutting its middle.

    >>> shorten("stage1.0.operations.2.1", 15)
    'stage1.…ons.2.1'
    """
    name = clean(name)
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"


def describe_warm_start(config: Mapping[str, Any]) -> str:
    """Return from which run a search was started, from its config; "" if it was not warm-started.

    >>> describe_warm_start({"warm_start": {"run": "runs/digits/1", "genotypes": [[0], [1]]}})
    '2 networks of the front of runs/digits/1'
    """
    found = config.get("warm_start")
    if not isinstance(found, Mapping) or not isinstance(found.get("genotypes"), list):
        return ""
    count = len(found["genotypes"])
    return f"{count} network{'s' * (count != 1)} of the front of {printable(str(found.get('run')))}"


def format_probability(share: float) -> str:
    """Return a probability in percent, never rounded to 0 or 100 %.

    >>> format_probability(0.934), format_probability(0.9999), format_probability(0.0001)
    ('93.4 %', 'over 99.9 %', 'under 0.1 %')
    """
    if share > 0.999:
        return "over 99.9 %"
    return "under 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
