"""Fine-tuned networks below their front: the effect of the regularizer, and that of as much training without it."""

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
from nasx.trial import Objective, costs

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
    with_all = _hypervolume(summary, {r.arch_id: _change_of(r.before, r.after) for r in records})
    with_twins = _hypervolume(summary, {r.arch_id: _change_of(r.before, r.twin) for r in records})
    return f" Hypervolume of the front {summary.hypervolume:.4f}, with them {with_all:.4f} ({with_twins:.4f})."


def _change_of(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {name: after[name] - before[name] for name in before if name in after}


def _hypervolume(summary: FrontSummary, changes: Mapping[str, Mapping[str, float]]) -> float:
    """Of the front, and next to it the same networks after some changes of their metrics.

    The changes are added to the estimates: one training before and one after share most of their luck.
    """
    points = [costs(member.metrics, summary.objectives) for member in summary.front]
    for member in summary.front:
        if member.arch_id in changes:
            change = changes[member.arch_id]
            shifted = {o.name: _shifted(o, member.metrics[o.name], change.get(o.name, 0.0)) for o in summary.objectives}
            points.append(costs(shifted, summary.objectives))
    reference = [o.sign * float(r) for o, r in zip(summary.objectives, summary.reference, strict=True) if r is not None]
    return pareto.hypervolume(np.array(points), reference)


def _shifted(objective: Objective, value: float, change: float) -> float:
    return min(max(value + change, objective.low), objective.high)
