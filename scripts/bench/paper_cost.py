"""Estimated cost of the paper's three searches with nasx, from measured seconds per candidate on CIFAR-10.

    python -m scripts.bench.paper_cost --seconds 6.0    # amortized, on one GPU (scripts.bench.gpu_check)
    python -m scripts.bench.paper_cost --seconds 2300 --device core   # without a GPU: hours of one core

The paper states 720 GPU-hours for all its searches. Other datasets are scaled from the measured one in two ways, which
bound the true cost: by images times pixels (arithmetic limits the device), and only by images (launches limit it, and
they cost the same for small images).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

PAPER_HOURS = 720.0  # GPU-hours of all searches of the paper
MEASURED = "CIFAR-10"


@dataclass(frozen=True)
class Search:
    """One of the paper's searches."""

    name: str
    evaluations: int  # 64 per generation
    images: int  # training images, after a validation split of a fifth
    side: int  # pixels
    epochs: int

    @property
    def passes(self) -> int:
        """Training images of one candidate, summed over the epochs."""
        return self.images * self.epochs


SEARCHES = (
    Search("MNIST", 18 * 64, 48_000, 28, 5),
    Search(MEASURED, 34 * 64, 40_000, 32, 12),
    Search("ImageNet-16-120", 11 * 64, 121_360, 16, 200),
)


def hours(search: Search, seconds: float, *, by_pixels: bool) -> float:
    """Return the GPU-hours of a search.

    Args:
        search: of the paper.
        seconds: of a candidate on CIFAR-10.
        by_pixels: scale by images times pixels, rather than only by images.

    >>> round(hours(SEARCHES[1], 6.0, by_pixels=True), 3)  # 2,176 candidates
    3.627
    """
    measured = next(s for s in SEARCHES if s.name == MEASURED)
    share = search.passes / measured.passes
    if by_pixels:
        share *= (search.side / measured.side) ** 2
    return search.evaluations * seconds * share / 3600


def cost_table(seconds: float, overhead: float, device: Literal["GPU", "core"] = "GPU") -> Table:
    """Draw all searches and their sum.

    Args:
        seconds: of a candidate on CIFAR-10.
        overhead: seconds per candidate in addition to training and scoring.
        device: unit of the seconds.
    """
    title = f"{device}-hours at {seconds:g} s per candidate on {MEASURED}, plus {1000 * overhead:g} ms of overhead"
    drawn = Table(title=title)
    for heading in ("search", "candidates", "epochs", "by pixels", "by images"):
        drawn.add_column(heading, justify="left" if heading == "search" else "right")
    totals = [0.0, 0.0]
    for search in SEARCHES:
        extra = search.evaluations * overhead / 3600
        both = [hours(search, seconds, by_pixels=by_pixels) + extra for by_pixels in (True, False)]
        totals = [total + one for total, one in zip(totals, both, strict=True)]
        drawn.add_row(search.name, f"{search.evaluations:,}", str(search.epochs), *(f"{h:,.1f}" for h in both))
    drawn.add_row("all three", "", "", *(f"{h:,.1f}" for h in totals))
    if device == "GPU":  # the unit of the paper
        drawn.add_row(
            f"times fewer than the paper's {PAPER_HOURS:g}", "", "", *(f"{PAPER_HOURS / h:,.1f}" for h in totals)
        )
    return drawn


ASSUMPTIONS = """
Assumptions: the paper's generations of 64, epochs and batches of 512; each candidate trained once; the median cell by
multiply-accumulates represents all, at C=16, N=5; a fifth of the training images is for validation; seconds include
scoring; one GPU, shared if several candidates were measured at the same time. The paper's figure is for older GPUs
(P100) and for all its experiments, which are more than these three searches: the ratio compares what a user pays, not
the speed on equal hardware."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.paper_cost")
    parser.add_argument(
        "--seconds", type=float, required=True, help="of a candidate on CIFAR-10: 12 epochs, trained and scored"
    )
    parser.add_argument(
        "--overhead", type=float, default=0.015, help="seconds per candidate in addition to training and scoring"
    )
    parser.add_argument("--device", choices=("GPU", "core"), default="GPU", help="device of the seconds")
    chosen = parser.parse_args()
    if not chosen.seconds > 0 or chosen.overhead < 0:
        parser.error("seconds must be more than 0, the overhead at least 0")
    Console().print(cost_table(chosen.seconds, chosen.overhead, chosen.device))
    print(ASSUMPTIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
