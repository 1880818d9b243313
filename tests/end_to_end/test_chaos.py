"""A short version of scripts/chaos."""

from __future__ import annotations

from scripts import chaos_searches


def test_a_search_killed_at_random_moments_loses_nothing():
    assert chaos_searches.main(["--searches", "1", "--seed", "5", "--faults"]) == 0


def test_a_full_disk_stops_a_search_that_can_be_resumed():
    assert chaos_searches.main(["--searches", "0", "--faults", "disk"]) == 0


def test_a_miss_is_an_exit_status_of_1(monkeypatch):
    monkeypatch.setattr(chaos_searches, "suffer", lambda case, cwd: "something is wrong")

    assert chaos_searches.main(["--searches", "0", "--faults", "raise"]) == 1
