"""Figure of a cell: nodes in a row from input to output, an arc per edge, a color per operation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, PathPatch, Polygon
from matplotlib.path import Path
from numpy.typing import NDArray

from nasx.networks.edge import AVG_POOL, CONV_1X1, CONV_3X3, NONE, SKIP, Edge
from nasx.reports.figures.names import fit
from nasx.reports.figures.style import WIDTH, set_title, styled
from nasx.reports.palette import BLUE, CLOUD, INK, MUTED, ORANGE, PURPLE, SKY


class OperationStyle(NamedTuple):
    """Label and line style of an operation."""

    label: str
    color: str
    width: float  # points
    dashes: tuple[float, tuple[float, ...]] | None = None  # distinguishes operations without color; None: solid


OPERATION_STYLES: Final = {
    CONV_3X3: OperationStyle("3×3 convolution", BLUE, 3.4),
    CONV_1X1: OperationStyle("1×1 convolution", SKY, 3.4),
    AVG_POOL: OperationStyle("3×3 average pooling", ORANGE, 3.0, (0, (2.2, 0.9))),
    SKIP: OperationStyle("skip connection", MUTED, 1.2),
}
NODE_RADIUS: Final = 0.15  # in units of the distance between neighboring nodes
HEAD: Final = 0.15  # length of an arrow head
RISE: Final = 0.62  # height of the curve's control point per node that the curve passes


@styled
def cell_figure(edges: Iterable[Edge], *, title: str = "", shares: Mapping[Edge, float] | None = None) -> Figure:
    """Draw the edges of a cell. Arcs over one node alternate above and below: none cross in a cell of four nodes.

    Args:
        edges: node 0 is the input, the highest node the output; edges with the operation "none" are left out.
        title: of the figure.
        shares: share of the decision that passes through each edge, in [0, 1], shown on the edge.
    """
    edges = [e for e in edges if e.operation != NONE]
    output = max((e.target for e in edges), default=1)
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    set_title(figure, title or "The cell")
    axes = figure.add_subplot()
    for edge in edges:
        _draw_edge(axes, edge, (shares or {}).get(edge))
    used = {n for e in edges for n in (e.source, e.target)}
    for node in range(output + 1):
        _draw_node(axes, node, {0: "in", output: "out"}.get(node, str(node)), is_used=node in used)
    operations = {e.operation for e in edges}
    styles = [_style(o) for o in (*OPERATION_STYLES, *sorted(operations - set(OPERATION_STYLES))) if o in operations]
    handles = [
        Line2D([], [], color=s.color, linewidth=s.width, linestyle=s.dashes or "-", label=fit(s.label, 1.35, 8.5))
        for s in styles
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=2.6)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(-0.3, output + 0.3)
    axes.set_ylim(-RISE * 0.75, RISE * max(1.1, 0.5 * output - 0.3))
    return figure


def _style(operation: str) -> OperationStyle:
    """Return the style of an operation; unknown operations have one style and their own names."""
    return OPERATION_STYLES.get(operation, OperationStyle(operation, PURPLE, 2.4))


def _legend_line(style: OperationStyle) -> Line2D:
    return Line2D([], [], color=style.color, linewidth=style.width, linestyle=style.dashes or "-", label=style.label)


def _draw_edge(axes: Axes, edge: Edge, share: float | None) -> None:
    span = edge.target - edge.source
    side = -1 if span == 2 and edge.source % 2 else 1
    source, target = np.array([edge.source, 0.0]), np.array([edge.target, 0.0])
    control = np.array([(edge.source + edge.target) / 2, side * RISE * (span - 1)])
    start = source + _towards(source, control, NODE_RADIUS)
    tip = target + _towards(target, control, NODE_RADIUS + 0.02)
    neck = target + _towards(target, control, NODE_RADIUS + HEAD)
    style = _style(edge.operation)
    curve = Path([start, control, neck], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
    line = PathPatch(
        curve, fill=False, edgecolor=style.color, linewidth=style.width, linestyle=style.dashes or "-", capstyle="butt"
    )
    line.set_label(f"{edge.source}→{edge.target} {edge.operation}")
    axes.add_patch(line)
    if share is not None:
        x, y = (start + 2 * control + neck) / 4  # midpoint of the curve
        box = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none"}
        axes.text(x, y, f"{100 * share:.0f} %", ha="center", va="center", color=INK, bbox=box, zorder=4)
    across = 0.45 * (neck - tip)[::-1] * [1, -1]
    axes.add_patch(Polygon([tip, neck + across, neck - across], closed=True, facecolor=style.color, linewidth=0))


def _towards(point: NDArray[np.float64], goal: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    step = goal - point
    scaled: NDArray[np.float64] = length * step / np.linalg.norm(step)
    return scaled


def _draw_node(axes: Axes, node: int, name: str, *, is_used: bool) -> None:
    """Draw a circle with the node's name, in gray if no edge ends there."""
    color = INK if is_used else CLOUD
    circle = Circle((node, 0), NODE_RADIUS, facecolor="white", edgecolor=color, linewidth=1.4, zorder=3)
    axes.add_patch(circle)
    axes.text(node, 0, name, ha="center", va="center", color=color, fontweight="bold", zorder=4)
