"""Fine-tuned networks below their front: what the regulariser changed, and what as much training alone would have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nasx import pareto
from nasx.finetuned import Finetuned
from nasx.reports.summary import FrontSummary
from nasx.trial import costs

SCORE = "introspectability_"  # a metric's name begins so, the scorer's follows


def finetuned_table(records: Sequence[Finetuned], summary: FrontSummary) -> Group:
    """Error and each scorer's introspectability of each fine-tuned network: before, after, and of its twin."""
    scorers = [name.removeprefix(SCORE) for name in records[0].after if name.startswith(SCORE)]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))  # two scorers fit into 80 columns
    table.add_column("fine-tuned", no_wrap=True)
    for name in ("error, %", *scorers):
        table.add_column(Text(name), justify="right")
    for record in records:
        scores = [_change(record, f"{SCORE}{scorer}", 1, 3) for scorer in scorers]
        table.add_row(record.arch_id, _change(record, "error", 100, 2), *scores)
    first = records[0]
    how = (
        f"Trained on for {first.epochs} epochs with the regulariser at {first.regulariser:g}, which acts on "
        f"activations; in brackets: as long without it.{_growth(records, summary)}"
    )
    return Group(table, Text(how))


def _change(record: Finetuned, name: str, factor: float, digits: int) -> str:
    states = (record.before, record.after, record.twin)
    before, after, twin = (f"{factor * m[name]:.{digits}f}" if name in m else "-" for m in states)
    return f"{before} → {after} ({twin})"


def _growth(records: Sequence[Finetuned], summary: FrontSummary) -> str:
    """The hypervolume of the front with the fine-tuned networks, and with their twins in their place."""
    if None in summary.reference:
        return ""
    with_all = _hypervolume(summary, {r.arch_id: r.after for r in records})
    with_twins = _hypervolume(summary, {r.arch_id: r.twin for r in records})
    return f" Hypervolume of the front {summary.hypervolume:.4f}, with them {with_all:.4f} ({with_twins:.4f})."


def _hypervolume(summary: FrontSummary, further: Mapping[str, Mapping[str, float]]) -> float:
    """Of the front, and beside it the same networks with other metrics."""
    own = {member.arch_id: dict(member.metrics) for member in summary.front}
    metrics = [*own.values(), *({**own[i], **changed} for i, changed in further.items() if i in own)]
    points = np.array([costs(m, summary.objectives) for m in metrics])
    reference = [o.sign * float(r) for o, r in zip(summary.objectives, summary.reference, strict=True) if r is not None]
    return pareto.hypervolume(points, reference)
