"""What `nasx search` and `nasx pareto` say of fine-tuned networks."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from nasx.finetuned import read_finetuned
from nasx.reports.finetuned import finetuned_table
from nasx.reports.summary import summarise_run
from nasx.store import RunStore


def print_finetuned(run_dir: Path) -> None:
    """The fine-tuned networks of a run's front, on stdout; nothing where there is none."""
    with RunStore.open(run_dir, read_only=True) as store:
        trials, info = store.trials(), store.info
    summary = summarise_run(trials, info)
    records = [record for member in summary.front if (record := read_finetuned(run_dir, member.arch_id))]
    if records:
        Console().print(finetuned_table(records, summary))
