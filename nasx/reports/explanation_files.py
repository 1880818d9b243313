"""The files of an explanation: its pictures, and the page as Markdown and as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nasx.diagnostics.class_map import class_tree
from nasx.diagnostics.explanation import Explanation
from nasx.files import write_atomically
from nasx.networks.edge import Edge
from nasx.reports.canvas import as_png
from nasx.reports.cell_drawing import cell_figure
from nasx.reports.explanation import (
    ACTIVITY,
    CELL,
    DISTANCES,
    MAPS,
    PROFILE,
    SHAP,
    TREE,
    Page,
    as_html,
    as_markdown,
    tell,
)
from nasx.reports.inside_plots import activity_figure, map_figure, tree_figure
from nasx.reports.plots import distances_figure, profile_figure
from nasx.reports.shap_sheet import shap_figure
from nasx.trial import Trial

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
    page = tell(explanation, trial, has_cell=edges is not None, known=known)
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
