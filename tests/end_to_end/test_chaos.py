"""Short version of scripts/chaos."""

from __future__ import annotations

import json
import tempfile

from scripts import chaos_searches
from scripts.chaos_faults import Fault


def test_a_search_killed_at_random_times_loses_nothing():
    assert chaos_searches.main(["--searches", "1", "--seed", "5", "--faults"]) == 0


def test_a_full_disk_stops_a_search_that_can_be_resumed():
    assert chaos_searches.main(["--searches", "0", "--faults", "disk"]) == 0


def test_a_failed_case_sets_exit_status_1_and_its_folder_is_kept_and_reported(monkeypatch, tmp_path, capsys):
    wrong = Fault("raise", "nothing", lambda table, cwd: "something is wrong")
    monkeypatch.setattr(chaos_searches, "FAULTS", (wrong,))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    status = chaos_searches.main(["--searches", "0", "--faults", "raise", "--json", str(tmp_path / "chaos.json")])

    assert status == 1
    (folder,) = tmp_path.glob("nasx-chaos-*/case0")
    assert f"BAD: raise: something is wrong; kept in {folder}" in capsys.readouterr().err
    (fault,) = json.loads((tmp_path / "chaos.json").read_text())["faults"]
    assert (fault["fault"], fault["wrong"]) == ("raise", "something is wrong")
