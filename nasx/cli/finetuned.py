"""What `nasx search` and `nasx pareto` say of fine-tuned networks."""

from __future__ import annotations

from pathlib import Path

from nasx.cli.output import answers
from nasx.finetuned import read_finetuned
from nasx.reports.finetuned import finetuned_table
from nasx.reports.summary import summarise_run
from nasx.store import RunStore


def print_finetuned(run_dir: Path) -> None:
    """Print the fine-tuned networks of a run's front on stdout; nothing if there is none."""
    with RunStore.open(run_dir, read_only=True) as store:
        trials, info = store.trials(), store.info
    summary = summarise_run(trials, info)
    records = [record for member in summary.front if (record := read_finetuned(run_dir, member.arch_id))]
    if records:
        answers().print(finetuned_table(records, summary))
