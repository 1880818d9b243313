"""Failed trials: which are worth another try, and when there are too many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nasx.errors import RunError
from nasx.execution.limits import SearchLimits
from nasx.trial import Reason, Trial, TrialStatus

# what may be the machine's fault and is tried again; the others would come out the same from the same seed
WORTH_RETRYING = frozenset({Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.ERROR})

MIN_WATCHED = 4  # trials before a share of them says something


def check_failures(trials: Sequence[Trial], limits: SearchLimits, run_dir: Path) -> None:
    """Raise RunError when too many of the first trials of a session have failed for one reason."""
    first = trials[: limits.failure_window]
    reasons = Counter(t.evaluation.reason for t in first if t.status is TrialStatus.FAILED)
    if len(trials) > len(first) or len(first) < MIN_WATCHED or not reasons:
        return
    reason, n = reasons.most_common(1)[0]
    if n / len(first) > limits.max_failure_share:
        last = next(t for t in reversed(first) if t.evaluation.reason is reason)
        raise RunError(
            f"{n} of the first {len(first)} trials failed for the same reason, {reason}: "
            f"{last_line(last.evaluation.detail)}. The search stops; what has finished is kept in {run_dir}. "
            f"`nasx runs show` prints every failure."
        )


def last_line(text: str) -> str:
    """Of a traceback, what was raised."""
    return text.strip().splitlines()[-1]
