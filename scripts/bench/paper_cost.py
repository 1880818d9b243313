"""What the paper's three searches would cost with nasx, from measured seconds a candidate on CIFAR-10.

    python -m scripts.bench.paper_cost --seconds 6.0    # a candidate, amortised, on one GPU (scripts.bench.gpu_check)
    python -m scripts.bench.paper_cost --seconds 2300 --device core   # without a GPU: hours of one core

The paper states 720 GPU-hours for all its searches. Other datasets are scaled from the measured one in two ways,
between which the truth lies: by images times pixels (the device is busy with arithmetic), and by images alone (it waits
for launches, which cost the same for small images).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

PAPER_HOURS = 720.0  # GPU-hours, of all searches of the paper
MEASURED = "CIFAR-10"


@dataclass(frozen=True)
class Search:
    """One of the paper's searches."""

    name: str
    evaluations: int  # 64 a generation
    images: int  # trained on in an epoch, after a validation split of a fifth
    side: int  # pixels
    epochs: int

    @property
    def passes(self) -> int:
        """Images trained on by one candidate."""
        return self.images * self.epochs


SEARCHES = (
    Search("MNIST", 18 * 64, 48_000, 28, 5),
    Search(MEASURED, 34 * 64, 40_000, 32, 12),
    Search("ImageNet-16-120", 11 * 64, 121_360, 16, 200),
)


def hours(search: Search, seconds: float, *, by_pixels: bool) -> float:
    """GPU-hours of a search, where a candidate on CIFAR-10 takes `seconds`.

    >>> round(hours(SEARCHES[1], 6.0, by_pixels=True), 3)  # 2,176 candidates
    3.627
    """
    measured = next(s for s in SEARCHES if s.name == MEASURED)
    share = search.passes / measured.passes
    if by_pixels:
        share *= (search.side / measured.side) ** 2
    return search.evaluations * seconds * share / 3600


def cost_table(seconds: float, overhead: float, device: Literal["GPU", "core"] = "GPU") -> Table:
    """All searches and their sum; `overhead`: seconds a candidate beside training and scoring."""
    drawn = Table(title=f"{device}-hours at {seconds:g} s a candidate on {MEASURED}, {1000 * overhead:g} ms beside it")
    for heading in ("search", "candidates", "epochs", "by pixels", "by images"):
        drawn.add_column(heading, justify="left" if heading == "search" else "right")
    totals = [0.0, 0.0]
    for search in SEARCHES:
        beside = search.evaluations * overhead / 3600
        both = [hours(search, seconds, by_pixels=by_pixels) + beside for by_pixels in (True, False)]
        totals = [total + one for total, one in zip(totals, both, strict=True)]
        drawn.add_row(search.name, f"{search.evaluations:,}", str(search.epochs), *(f"{h:,.1f}" for h in both))
    drawn.add_row("all three", "", "", *(f"{h:,.1f}" for h in totals))
    if device == "GPU":  # as the paper's are
        drawn.add_row(
            f"times fewer than the paper's {PAPER_HOURS:g}", "", "", *(f"{PAPER_HOURS / h:,.1f}" for h in totals)
        )
    return drawn


ASSUMPTIONS = """
Assumed: the paper's generations of 64, epochs and batches of 512; each candidate trained once; the median cell by
multiply-accumulates stands for all, at C=16, N=5; a fifth of the training images validates; seconds include scoring;
one GPU, shared where candidates were measured several at once. The paper's figure is of older GPUs (P100) and, stated
for all that it ran, holds more than these three searches: the ratio says what a user pays, not how fast equal hardware
would be."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.paper_cost")
    parser.add_argument(
        "--seconds", type=float, required=True, help="of a candidate on CIFAR-10: 12 epochs, trained and scored"
    )
    parser.add_argument("--overhead", type=float, default=0.015, help="seconds a candidate beside training and scoring")
    parser.add_argument("--device", choices=("GPU", "core"), default="GPU", help="what the seconds are of")
    chosen = parser.parse_args()
    if not chosen.seconds > 0 or chosen.overhead < 0:
        parser.error("seconds must be more than 0, the overhead at least 0")
    Console().print(cost_table(chosen.seconds, chosen.overhead, chosen.device))
    print(ASSUMPTIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
