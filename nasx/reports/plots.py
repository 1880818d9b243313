"""Pictures of a run and of the classes as a network separates them: plain data in, matplotlib figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, FuncFormatter
from numpy.typing import NDArray

from nasx.reports.canvas import styled
from nasx.reports.paper import PaperFront
from nasx.reports.style import BLUE, CLOUD, GREEN, INK, MUTED, SEQUENTIAL, VERMILLION, WIDTH
from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.reports.wording import (
    COUNTS,
    certainty_sentence,
    format_value,
    hypervolume_sentence,
    shorten,
    trials_sentence,
)
from nasx.trial import OBJECTIVES, Direction, Objective

CROWD = 0.9  # share of the trials that the axes are sure to hold; stragglers are counted, not shown


@styled
def front_figure(summary: FrontSummary, *, title: str = "", paper: PaperFront | None = None) -> Figure:
    """All networks of a run in gray, its front in color with intervals, the knee named, hypervolume below.

    The axes are the first two objectives, the first one upright; a single objective is drawn against the metric
    that the method pairs it with. Better is always below and to the right, or as the arrows say.
    """
    upright, across = _axes_objectives(summary)
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "Pareto front", pad=26)  # the legend is between title and axes
    if summary.front:
        _draw_points(axes, summary, across, upright)
    if paper is not None:
        _draw_paper(axes, paper)
    label_axis(axes, "x", across)
    label_axis(axes, "y", upright)
    if not summary.front:
        axes.text(0.5, 0.5, "no network on the front yet", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    _draw_knee(axes, summary, across, upright)
    hidden = _focus(axes, summary, across, upright, paper)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.995), ncols=4, columnspacing=1.4, handletextpad=0.4)
    figure.supxlabel(_caption(summary, hidden, paper), x=0.015, ha="left", fontsize=8, color=MUTED, linespacing=1.6)
    return figure


def _axes_objectives(summary: FrontSummary) -> tuple[Objective, Objective]:
    if len(summary.objectives) > 1:
        return summary.objectives[0], summary.objectives[1]
    only = summary.objectives[0]
    return only, OBJECTIVES["error" if only.name == "introspectability" else "introspectability"]


def _columns(results: Sequence[ArchitectureResult], *objectives: Objective) -> list[NDArray[np.float64]]:
    """The values of the objectives, one array each, over the results that have them all."""
    names = [o.name for o in objectives]
    rows = [[r.metrics[n] for n in names] for r in results if all(n in r.metrics for n in names)]
    return list(np.array(rows, dtype=float).reshape(-1, len(names)).T)


def _draw_points(axes: Axes, summary: FrontSummary, across: Objective, upright: Objective) -> None:
    members = {m.arch_id for m in summary.front}
    others = [a for a in summary.architectures if a.arch_id not in members]
    x, y = _columns(others, across, upright)
    axes.scatter(x, y, s=22, color=CLOUD, alpha=0.75, linewidths=0, label="other networks")
    x, y = _columns(summary.front, across, upright)
    _draw_intervals(axes, summary, across, upright)
    if len(summary.objectives) == 2:
        order = np.argsort(x, kind="stable")
        # the best that is reached at x: of the next member if more is better, of the last one if less is
        axes.step(x[order], y[order], where="pre" if across.sign < 0 else "post", color=BLUE, linewidth=1.4, zorder=3)
    once = [m for m in summary.front if _is_trained_once(m, summary)]
    often = [m for m in summary.front if m not in once]
    if often:
        x, y = _columns(often, across, upright)
        axes.scatter(x, y, s=46, color=BLUE, edgecolors="white", linewidths=0.8, zorder=4, label="front")
    if once:
        x, y = _columns(once, across, upright)
        label = "front, trained once"
        axes.scatter(x, y, s=40, facecolors="white", edgecolors=BLUE, linewidths=1.4, zorder=4, label=label)


def _is_trained_once(member: ArchitectureResult, summary: FrontSummary) -> bool:
    return summary.is_estimated and member.trainings == 1


def _draw_intervals(axes: Axes, summary: FrontSummary, across: Objective, upright: Objective) -> None:
    """Bars of one standard deviation to either side of the estimates; none for values that are exact or not known."""
    for member in summary.front:
        if not any(member.std.get(o.name) for o in (across, upright)):
            continue
        (x,), (y,) = _columns([member], across, upright)
        color = VERMILLION if member.arch_id == summary.knee else BLUE
        dx, dy = member.std.get(across.name), member.std.get(upright.name)
        axes.errorbar(x, y, xerr=dx, yerr=dy, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.55, zorder=3)


def _draw_paper(axes: Axes, paper: PaperFront) -> None:
    axes.plot(
        paper.introspectability,
        paper.error,
        drawstyle="steps-pre",
        color=GREEN,
        linewidth=1.2,
        linestyle=(0, (4, 2)),
        marker="^",
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=2,
        label="the paper's front",
    )


def _draw_knee(axes: Axes, summary: FrontSummary, across: Objective, upright: Objective) -> None:
    member = next(m for m in summary.front if m.arch_id == summary.knee)
    (x,), (y,) = _columns([member], across, upright)
    values = ", ".join(format_value(o, member.metrics[o.name]) for o in (upright, across))
    label = f"knee {member.arch_id} ({values})"  # in the legend: next to the point it would cover other points
    inside, line = ("white", VERMILLION) if _is_trained_once(member, summary) else (VERMILLION, "white")
    axes.scatter([x], [y], s=80, marker="D", facecolors=inside, edgecolors=line, linewidths=1.2, zorder=5, label=label)


def _focus(axes: Axes, summary: FrontSummary, across: Objective, upright: Objective, paper: PaperFront | None) -> int:
    """Set the limits so that the front and most networks fill the axes; return how many networks are outside."""
    overlay = _learned(summary, paper) if paper else {}
    ranges = []
    for objective in (across, upright):
        (front,), (everything,) = _columns(summary.front, objective), _columns(summary.architectures, objective)
        crowd = objective.sign * np.quantile(objective.sign * everything, [0, CROWD])
        std = np.array([m.std.get(objective.name, 0.0) for m in summary.front if objective.name in m.metrics])
        shown = np.concatenate([front - std, front + std, crowd, overlay.get(objective.name, [])])
        low, high = shown.min(), shown.max()
        margin = 0.07 * ((high - low) or abs(high) or 1.0)
        ranges.append((low - margin, high + margin))
    axes.set_xlim(ranges[0])
    axes.set_ylim(ranges[1])
    points = _columns(summary.architectures, across, upright)
    inside = [(low <= values) & (values <= high) for values, (low, high) in zip(points, ranges, strict=True)]
    return int((~(inside[0] & inside[1])).sum())


def _learned(summary: FrontSummary, paper: PaperFront) -> dict[str, NDArray[np.float64]]:
    """The paper's points without those at chance level, which its fronts hold and which say nothing."""
    chance = next(r for o, r in zip(summary.objectives, summary.reference, strict=True) if o.name == "error")
    kept = paper.error < 0.95 * (chance or 1.0)
    return {"error": paper.error[kept], "introspectability": paper.introspectability[kept]}


def label_axis(axes: Axes, which: str, objective: Objective) -> None:
    """Name, unit and direction of an objective on its axis; the arrow points to the better end."""
    unit = f" ({objective.unit})" if objective.unit else ""
    axis = axes.xaxis if which == "x" else axes.yaxis
    name = f"{objective.label}{unit}"
    lower = objective.direction is Direction.MINIMIZE
    axis.set_label_text(f"← {name}, lower is better" if lower else f"{name}, higher is better →")
    if objective.unit == "%":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    elif objective.name in COUNTS:
        axis.set_major_formatter(EngFormatter(sep=" "))


def _caption(summary: FrontSummary, hidden: int, paper: PaperFront | None) -> str:
    trials = trials_sentence(summary)
    if hidden:
        trials += f"; {hidden} network{'s' if hidden > 1 else ''} beyond the axes"
    lines = [hypervolume_sentence(summary), certainty_sentence(summary), _meaning(summary), trials]
    if paper is not None:
        lines.append("the paper's front: Carmichael, Moon, Jacobs, AutoML 2023 workshop, Figure 2, CC BY 4.0")
    return "\n".join(filter(None, lines))


def _meaning(summary: FrontSummary) -> str:
    """The meaning of points and bars; empty if every value is exact."""
    if summary.is_estimated:
        meaning = "points: estimates; bars: ± one standard deviation"
        return (
            f"{meaning}; hollow: trained once" if any(_is_trained_once(m, summary) for m in summary.front) else meaning
        )
    if summary.is_exact:
        return ""
    return "points: means of each network's trainings; the best of many noisy values is partly luck"


@styled
def distances_figure(distances: NDArray[np.float64], class_names: Sequence[str], *, title: str = "") -> Figure:
    """The distances between classes as a heat map, the closest and the farthest pair framed.

    `distances`, (n_classes, n_classes), symmetric; a pair without a distance stays blank. Numbers are written where
    there are few classes.
    """
    n = len(class_names)
    side = float(np.clip(0.5 * n + 1.6, 4.4, 9.0))
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title or "How far apart the network holds its classes")
    lower = np.where(np.tri(n, k=-1, dtype=bool), distances, np.nan)  # symmetric: half of it says all
    top = max(1.0, float(np.nanmax(lower)))
    image = axes.imshow(lower[1:, :-1], cmap=SEQUENTIAL, vmin=0, vmax=top)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)
    bar.set_label("cosine distance (0: the same)", color=INK)
    bar.outline.set_visible(False)
    _name_classes(axes, class_names)
    if n <= 14:
        _write_values(axes, lower[1:, :-1], dark=0.6 * top)
    _frame_pair(axes, np.unravel_index(np.nanargmin(lower), lower.shape), VERMILLION, "closest")
    _frame_pair(axes, np.unravel_index(np.nanargmax(lower), lower.shape), INK, "farthest")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, 1.0))
    return figure


def _name_classes(axes: Axes, class_names: Sequence[str]) -> None:
    names = [shorten(name) for name in class_names]
    step = 1 + (len(names) - 1) // 40  # more than forty names cannot be read
    ticks = np.arange(0, len(names) - 1, step)
    long = max(map(len, names)) > 3
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(ticks, [names[i + 1] for i in ticks])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _write_values(axes: Axes, values: NDArray[np.float64], dark: float) -> None:
    """The values in their fields, white on fields above `dark`."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if value > dark else INK
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=color)


def _frame_pair(axes: Axes, pair: Sequence[Any], color: str, label: str) -> None:
    row, column = int(pair[0]), int(pair[1])
    axes.add_patch(Rectangle((column - 0.5, row - 1.5), 1, 1, fill=False, edgecolor=color, linewidth=2.0, label=label))


@styled
def profile_figure(profiles: Mapping[str, Mapping[str, float]], *, title: str = "") -> Figure:
    """Introspectability layer by layer, from the input (top) to the output, one panel a scorer.

    `profiles`: scorer -> layer -> introspectability.
    """
    lengths = [len(profile) for profile in profiles.values()]
    height = float(np.clip(1.0 + 0.7 * len(profiles) + 0.26 * sum(min(n, 16 + n // 3) for n in lengths), 2.4, 10.0))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title or "Introspectability, layer by layer", x=0.015, ha="left", fontsize=11.5, fontweight="bold")
    ratios = [1.0 + n for n in lengths]
    panels = figure.subplots(len(profiles), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, (scorer, profile) in zip(panels, profiles.items(), strict=True):
        _draw_profile(axes, scorer, profile)
    highest = max(value for profile in profiles.values() for value in profile.values())
    panels[-1].set_xlim(0, 1.12 * highest)
    panels[-1].set_xlabel("mean cosine distance between classes")
    return figure


def _draw_profile(axes: Axes, scorer: str, profile: Mapping[str, float]) -> None:
    layers, values = list(profile), np.array(list(profile.values()))
    rows = np.arange(len(layers))
    axes.hlines(rows, 0, values, color=BLUE, linewidth=2.2, alpha=0.35)
    axes.plot(values, rows, "o", color=BLUE, markersize=6, clip_on=False)
    if len(layers) <= 20:
        for row, value in zip(rows, values, strict=True):
            axes.annotate(
                f"{value:.3f}", (value, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8
            )
    step = 1 + (len(layers) - 1) // 24
    axes.set_yticks(rows[::step], [shorten(layers[i], 24) for i in rows[::step]])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_title(f"by {scorer}", fontsize=9.5, fontweight="normal", color=MUTED, pad=4)
