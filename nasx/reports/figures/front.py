"""Figure of the front of a run, with intervals, knee and the paper's front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter
from numpy.typing import NDArray

from nasx.reports.figures.names import fit, wrap
from nasx.reports.figures.style import WIDTH, styled
from nasx.reports.palette import BLUE, CLOUD, GREEN, MUTED, VERMILLION
from nasx.reports.paper import PaperFront
from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.reports.text import (
    COUNTS,
    certainty_sentence,
    format_value,
    hypervolume_sentence,
    latency_sentence,
    trials_sentence,
)
from nasx.trial import OBJECTIVES, Direction, Objective

VISIBLE_SHARE = 0.9  # of the networks, that the axes include at least; the others are counted in the caption


@styled
def front_figure(summary: FrontSummary, *, title: str = "", paper: PaperFront | None = None) -> Figure:
    """Draw all networks of a run, in gray, and its front, in color with intervals; name the knee and the hypervolume.

    The first objective is the y axis, the second the x axis. A single objective is drawn against introspectability, or
    against the error if it is introspectability. Arrows at the axes point to the better end.

    Args:
        summary: of the run.
        title: of the figure.
        paper: the paper's front, drawn as well.
    """
    y_objective, x_objective = _axes_objectives(summary)
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    axes = figure.add_subplot()
    if summary.front:
        _draw_points(axes, summary, x_objective, y_objective)
    if paper is not None:
        _draw_paper(axes, paper)
    label_axis(axes, "x", x_objective)
    label_axis(axes, "y", y_objective)
    rows = -(-len(axes.get_legend_handles_labels()[0]) // 2) if summary.front else 0
    heading = fit(title or "Pareto front", WIDTH - 1.2, 11.5, "bold")
    axes.set_title(heading, pad=12 + 15 * (rows + 1))  # the legend is between title and axes
    if not summary.front:
        axes.text(0.5, 0.5, "no network on the front yet", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    _draw_knee(axes, summary, x_objective, y_objective)
    hidden = _focus(axes, summary, x_objective, y_objective, paper)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.995), ncols=2, columnspacing=1.4, handletextpad=0.4)
    caption = wrap(_caption(summary, hidden, paper), WIDTH - 0.3, 8)
    figure.supxlabel(caption, x=0.015, ha="left", fontsize=8, color=MUTED, linespacing=1.6)
    return figure


def _axes_objectives(summary: FrontSummary) -> tuple[Objective, Objective]:
    if len(summary.objectives) > 1:
        return summary.objectives[0], summary.objectives[1]
    only = summary.objectives[0]
    return only, OBJECTIVES["error" if only.name == "introspectability" else "introspectability"]


def _columns(results: Sequence[ArchitectureResult], *objectives: Objective) -> list[NDArray[np.float64]]:
    """Return one array per objective, over the results that have all of the objectives."""
    names = [o.name for o in objectives]
    rows = [[r.metrics[n] for n in names] for r in results if all(n in r.metrics for n in names)]
    return list(np.array(rows, dtype=float).reshape(-1, len(names)).T)


def _draw_points(axes: Axes, summary: FrontSummary, x_objective: Objective, y_objective: Objective) -> None:
    members = {m.arch_id for m in summary.front}
    others = [a for a in summary.architectures if a.arch_id not in members]
    x, y = _columns(others, x_objective, y_objective)
    axes.scatter(x, y, s=22, color=CLOUD, alpha=0.75, linewidths=0, label="other networks")
    x, y = _columns(summary.front, x_objective, y_objective)
    _draw_intervals(axes, summary, x_objective, y_objective)
    if len(summary.objectives) == 2:
        order = np.argsort(x, kind="stable")
        # the best value reached at x: that of the next member if more is better, of the last one if less is
        axes.step(
            x[order], y[order], where="pre" if x_objective.sign < 0 else "post", color=BLUE, linewidth=1.4, zorder=3
        )
    once = [m for m in summary.front if _is_trained_once(m, summary)]
    often = [m for m in summary.front if m not in once]
    if often:
        x, y = _columns(often, x_objective, y_objective)
        axes.scatter(x, y, s=46, color=BLUE, edgecolors="white", linewidths=0.8, zorder=4, label="front")
    if once:
        x, y = _columns(once, x_objective, y_objective)
        label = "front, trained once"
        axes.scatter(x, y, s=40, facecolors="white", edgecolors=BLUE, linewidths=1.4, zorder=4, label=label)


def _is_trained_once(member: ArchitectureResult, summary: FrontSummary) -> bool:
    return summary.is_estimated and member.trainings == 1


def _draw_intervals(axes: Axes, summary: FrontSummary, x_objective: Objective, y_objective: Objective) -> None:
    """Draw error bars of ± one standard deviation, except for values that are exact or have no estimate."""
    for member in summary.front:
        if not any(member.std.get(o.name) for o in (x_objective, y_objective)):
            continue
        (x,), (y,) = _columns([member], x_objective, y_objective)
        color = VERMILLION if member.arch_id == summary.knee else BLUE
        dx, dy = member.std.get(x_objective.name), member.std.get(y_objective.name)
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


def _draw_knee(axes: Axes, summary: FrontSummary, x_objective: Objective, y_objective: Objective) -> None:
    member = next(m for m in summary.front if m.arch_id == summary.knee)
    (x,), (y,) = _columns([member], x_objective, y_objective)
    values = ", ".join(format_value(o, member.metrics[o.name]) for o in (y_objective, x_objective))
    label = f"knee {member.arch_id} ({values})"  # in the legend, since a label at the point would cover others
    inside, line = ("white", VERMILLION) if _is_trained_once(member, summary) else (VERMILLION, "white")
    axes.scatter([x], [y], s=80, marker="D", facecolors=inside, edgecolors=line, linewidths=1.2, zorder=5, label=label)


def _focus(
    axes: Axes, summary: FrontSummary, x_objective: Objective, y_objective: Objective, paper: PaperFront | None
) -> int:
    """Set the limits so that the front and most networks fill the axes; return how many networks are outside."""
    overlay = _above_chance(summary, paper) if paper else {}
    ranges = []
    for objective in (x_objective, y_objective):
        (front,), (everything,) = _columns(summary.front, objective), _columns(summary.architectures, objective)
        bulk = objective.sign * np.quantile(objective.sign * everything, [0, VISIBLE_SHARE])
        std = np.array([m.std.get(objective.name, 0.0) for m in summary.front if objective.name in m.metrics])
        shown = np.concatenate([front - std, front + std, bulk, overlay.get(objective.name, [])])
        low, high = shown.min(), shown.max()
        margin = 0.07 * ((high - low) or abs(high) or 1.0)
        ranges.append((low - margin, high + margin))
    axes.set_xlim(ranges[0])
    axes.set_ylim(ranges[1])
    points = _columns(summary.architectures, x_objective, y_objective)
    inside = [(low <= values) & (values <= high) for values, (low, high) in zip(points, ranges, strict=True)]
    return int((~(inside[0] & inside[1])).sum())


def _above_chance(summary: FrontSummary, paper: PaperFront) -> dict[str, NDArray[np.float64]]:
    """Return the paper's points without those at chance level, which its fronts include."""
    chance = next(r for o, r in zip(summary.objectives, summary.reference, strict=True) if o.name == "error")
    kept = paper.error < 0.95 * (chance or 1.0)
    return {"error": paper.error[kept], "introspectability": paper.introspectability[kept]}


def label_axis(axes: Axes, which: str, objective: Objective) -> None:
    """Label an axis with name, unit and direction of an objective; the arrow points to the better end.

    Args:
        axes: of the figure.
        which: "x" or "y".
        objective: determines the label and the tick format, e.g. percent for shares.
    """
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
        trials += f"; {hidden} network{'s' if hidden > 1 else ''} outside the axes"
    lines = [hypervolume_sentence(summary), certainty_sentence(summary), latency_sentence(summary), _meaning(summary)]
    lines.append(trials)
    if paper is not None:
        lines.append("the paper's front: Carmichael, Moon, Jacobs, AutoML 2023 workshop, Figure 2, CC BY 4.0")
    return "\n".join(filter(None, lines))


def _meaning(summary: FrontSummary) -> str:
    """Return the meaning of points and bars; empty if every value is exact."""
    if summary.is_estimated:
        meaning = "points: estimates; bars: ± one standard deviation"
        return (
            f"{meaning}; hollow: trained once" if any(_is_trained_once(m, summary) for m in summary.front) else meaning
        )
    if summary.is_exact:
        return ""
    return "points: means of each network's trainings; the best of many noisy values is partly luck"
