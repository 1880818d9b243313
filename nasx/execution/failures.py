"""Failed trials: which are worth another try, and when there are too many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from nasx.errors import RunError
from nasx.trial import Reason, Trial, TrialStatus

# what may be the machine's fault and is tried again; the others would come out the same from the same seed
WORTH_RETRYING = frozenset({Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.ERROR})

MIN_WATCHED = 4  # trials before a share of them says something


def check_failures(latest: Collection[Trial], max_share: float, run_dir: Path) -> None:
    """Raise RunError if more than `max_share` of the latest trials of a session have failed for one reason."""
    failed = [trial for trial in latest if trial.status is TrialStatus.FAILED]
    if len(latest) < MIN_WATCHED or not failed:
        return
    reason, n = Counter(trial.evaluation.reason for trial in failed).most_common(1)[0]
    if n / len(latest) > max_share:
        last = next(trial for trial in reversed(failed) if trial.evaluation.reason is reason)
        raise RunError(
            f"{n} of the last {len(latest)} trials failed for the same reason, {reason}: "
            f"{last_line(last.evaluation.detail)}. The search stops; what has finished is kept in {run_dir}. "
            f"`nasx runs show` prints every failure."
        )


def last_line(text: str) -> str:
    """Return the last line of a traceback: the exception. Empty for an empty text."""
    return next(reversed(text.strip().splitlines()), "")
