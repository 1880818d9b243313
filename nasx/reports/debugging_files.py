"""The files of `nasx debug`: three pictures, two CSVs, and the page as Markdown and as one HTML file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasx.diagnostics.calibration import reliability
from nasx.files import write_atomically
from nasx.reports.canvas import as_png
from nasx.reports.debugging import N_BINS, RELIABILITY, RISK, SUSPECTS
from nasx.reports.explanation import Page, as_html, as_markdown
from nasx.reports.suspects import suspects_csv, suspects_figure
from nasx.reports.trust_plots import reliability_figure, risk_coverage_figure

if TYPE_CHECKING:
    from nasx.diagnostics.debugging import Debugging


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
