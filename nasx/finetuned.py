"""What fine-tuning made of a network of the front, as `archs/<arch_id>/finetuned.json` holds it.

It is no trial: the search did not choose it, and one training more is behind it. So it never enters the journal or the
front; `nasx pareto` tells of it below the front.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from nasx.errors import RunError
from nasx.files import write_atomically
from nasx.rundir import arch_dir

RECORD = "finetuned.json"
WEIGHTS = "finetuned.safetensors"  # beside the record: after fine-tuning with the regulariser


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A network trained on with the regulariser, and its twin, trained as long without."""

    arch_id: str
    replicate: int  # whose weights it began from
    regulariser: float  # weight of the classes' similarity in the loss
    epochs: int
    learning_rate: float  # the highest
    before: Mapping[str, float]  # error, introspectability, introspectability_<scorer>: as the trial recorded them
    after: Mapping[str, float]  # the same metrics, with the regulariser
    twin: Mapping[str, float]  # the same metrics, without it
    seconds: float  # of both trainings and their scores


def weights_path(run_dir: Path, arch_id: str) -> Path:
    """Where the fine-tuned weights of a network lie."""
    return arch_dir(run_dir, arch_id) / WEIGHTS


def write_finetuned(record: Finetuned, run_dir: Path) -> None:
    """Write the record: last, once the weights are there."""
    write_atomically(arch_dir(run_dir, record.arch_id) / RECORD, (json.dumps(asdict(record), indent=1) + "\n").encode())


def read_finetuned(run_dir: Path, arch_id: str) -> Finetuned | None:
    """The record of a network; None where it was not fine-tuned. Raises RunError where the file is damaged."""
    file = arch_dir(run_dir, arch_id) / RECORD
    if not file.is_file():
        return None
    try:
        return Finetuned(**json.loads(file.read_bytes()))
    except (ValueError, TypeError) as exc:
        raise RunError(f"{file} is damaged ({type(exc).__name__}: {exc}). Remove it to fine-tune anew.") from exc
