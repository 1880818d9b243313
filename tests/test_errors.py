"""Errors travel between processes: a worker sends them to the search."""

from __future__ import annotations

import pickle

import pytest

from nasx.errors import DataError, NasxError, SettingError, TrialFailure
from nasx.trial import Reason


@pytest.mark.parametrize(
    "error",
    [SettingError("epochs", "must be at least 1, got 0"), TrialFailure(Reason.DIVERGED, "NaN"), DataError("no file")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_what_a_terminal_would_obey_is_escaped():
    assert str(NasxError("a\nb\x1b[0m")) == "a\\nb\\x1b[0m"
