"""Corrections of a run: its own copy against the file of its config, which may have been edited since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nasx.errors import DataError, NasxError
from nasx.protocols import Dataset
from nasx.runs.stored_run import ReadOptions

if TYPE_CHECKING:
    from nasx.data.corrected import Applied

CORRECTIONS_KEY: Final = "dataset.corrections"


def report_edit(
    config: Mapping[str, Any], copy: Path, dataset: Dataset, applied: Applied, options: ReadOptions
) -> None:
    """Report that the file of the corrections has been edited since the run was started.

    Args:
        config: of the dataset, which names the file.
        copy: the run's own copy of the corrections; it may be missing.
        dataset: whose images are corrected.
        applied: corrections in use.
        options: receive the notice.

    Raises:
        DataError: if the search is resumed.
    """
    difference = _find_edit(config, copy, dataset, applied)
    if not difference:
        return
    file = config.get("corrections")
    if options.resumes:
        raise DataError(
            f"{file} has changed since the run was started: {difference}. Start a new search with it, or resume "
            f"with the run's copy: {CORRECTIONS_KEY}={copy}."
        )
    options.notify(f"{file} has changed since the run was started ({difference}): the run's copy is used.")


def _find_edit(config: Mapping[str, Any], copy: Path, dataset: Dataset, applied: Applied) -> str:
    """Return how the file of the corrections differs from those in use, in words; "": it does not, or is gone."""
    from nasx.data.corrected import apply, configured_file  # numpy takes time to load
    from nasx.data.corrections import read_corrections
    from nasx.data.digest import CORRECTIONS, find_difference

    if not copy.exists():
        return ""
    try:
        original = configured_file(config)
        if original is None or not original.exists():  # another machine, or tidied up: the copy suffices
            return ""
        now = apply(read_corrections(original), dataset, applied.original).content
        difference = find_difference({CORRECTIONS: applied.content}, {CORRECTIONS: now})
    except NasxError as error:
        difference = str(error).rstrip(".")
    return difference.removeprefix("the corrections differ ").strip("()")
