"""Errors can be pickled, because workers send them to the search, and are printed on one line."""

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


def test_control_characters_are_escaped():
    assert str(NasxError("a\nb\x1b[0m")) == "a\\nb\\x1b[0m"
