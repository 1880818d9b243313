"""`nasx data cache`: what it lists, what it removes, and what it leaves alone."""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from nasx.backbones.store_folder import list_stores, use_store
from nasx.cli.main import main
from tests.factories.backbones import FLIPS, Cache, TinySpace, pictures

HOSTILE = "\x1b[2J[bold red]\u202e<b>"


@pytest.fixture(autouse=True)
def unlimited_width(monkeypatch) -> None:
    """Print tables as into a file, also if COLUMNS is set where the tests run."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def stores(tmp_path) -> dict[str, Path]:
    """Directories of three stores by the name of their dataset; "old" was not used for ten days."""
    cache = Cache(tmp_path / "features")
    cache.source(TinySpace(seed=1), dataset="cats").at("third", pictures(10), views=2, augmentation=FLIPS)
    cache.source(TinySpace(seed=2), dataset="dogs").prepare(pictures(5), ("first", "second"))
    cache.source(TinySpace(seed=3), dataset="old").at("third", pictures(4, channels=1))
    gc.collect()  # the pictures, and with them the locks
    found = {each.about.datasets[0]: each.directory for each in list_stores(tmp_path / "features")}
    before = time.time() - 10 * 86_400
    os.utime(found["old"] / "used", (before, before))
    return found


def nasx(capsys, *words: str, place: Path) -> tuple[int, str, str]:
    status = main(["data", "cache", "--cache", str(place), *words])
    return (status, *capsys.readouterr())


def test_the_list_has_backbone_images_datasets_maps_size_and_time(stores, tmp_path, capsys):
    status, out, err = nasx(capsys, place=tmp_path)
    assert status == 0
    lines = [line.split("  ") for line in out.splitlines()]
    (cats,) = ([cell.strip() for cell in line if cell.strip()] for line in lines if "cats" in " ".join(line))
    assert cats[:5] == [stores["cats"].name, "tiny", "3 x 16 x 16", "cats", "third 20"]
    assert cats[5] == "0.0 MB"
    assert cats[6].startswith(time.strftime("%Y-%m-%d"))
    assert "first 5, second 5" in out
    assert f"{tmp_path}/features: 0.0 MB, at most 20.0 GB; the oldest are removed first." in err


def test_json_has_every_fact(stores, tmp_path, capsys):
    status, out, _ = nasx(capsys, "--format", "json", place=tmp_path)
    record = json.loads(out)
    assert status == 0
    assert [each["datasets"] for each in record["stores"]][-1] == ["old"]  # the last used first
    (dogs,) = (each for each in record["stores"] if each["datasets"] == ["dogs"])
    assert dogs["maps"] == {"first": 5, "second": 5}
    assert dogs["bytes"] > 5 * 2 * (4 * 64 + 6 * 16)
    assert (dogs["backbone"], dogs["image_shape"]) == ("tiny", [3, 16, 16])
    assert record["total_bytes"] == sum(each["bytes"] for each in record["stores"])
    assert record["limit_bytes"] == 20_000_000_000


def test_an_empty_cache_is_no_error(tmp_path, capsys):
    assert nasx(capsys, place=tmp_path)[:2] == (0, f"no cached features in {tmp_path}/features\n")
    assert nasx(capsys, "--clear", place=tmp_path)[0] == 0
    assert json.loads(nasx(capsys, "--format", "json", place=tmp_path)[1])["stores"] == []


def test_clear_removes_all_and_reports_what_was_freed(stores, tmp_path, capsys):
    status, out, err = nasx(capsys, "--clear", place=tmp_path)
    assert (status, err) == (0, "")
    assert out == f"removed 3 sets of features in {tmp_path}/features: 0.0 MB freed\n"
    assert not list((tmp_path / "features").iterdir())


@pytest.mark.parametrize(
    ("words", "removed"),
    [
        (("cats",), {"cats"}),
        (("tiny",), {"cats", "dogs", "old"}),
        (("ID",), {"dogs"}),
        (("--older-than", "7"), {"old"}),
        (("--older-than", "30"), set()),
        (("cats", "--older-than", "7"), set()),
    ],
)
def test_clear_removes_only_those_that_are_named_and_old_enough(stores, tmp_path, capsys, words, removed):
    words = [stores["dogs"].name[:6] if word == "ID" else word for word in words]
    assert nasx(capsys, "--clear", *words, place=tmp_path)[0] == 0
    assert {name for name, each in stores.items() if not each.exists()} == removed


def test_names_and_age_choose_what_is_listed_too(stores, tmp_path, capsys):
    _, out, _ = nasx(capsys, "--older-than", "7", "--format", "json", place=tmp_path)
    assert [each["datasets"] for each in json.loads(out)["stores"]] == [["old"]]
    assert all(each.exists() for each in stores.values())


@pytest.mark.parametrize("output", ["table", "json"])
def test_features_in_use_are_refused_in_one_line_and_the_others_are_removed(stores, tmp_path, capsys, output):
    use = use_store(stores["dogs"])
    status, out, err = nasx(capsys, "--clear", "--format", output, place=tmp_path)
    assert status == 2
    reason = f"{stores['dogs'].name} is in use by another process"
    assert err == f"nasx: 1 set of features not removed: {reason}. Try again when no search uses them.\n"
    assert [name for name, each in stores.items() if each.exists()] == ["dogs"]
    if output == "json":
        assert json.loads(out)["kept"] == {stores["dogs"].name: "is in use by another process"}
    del use
    assert nasx(capsys, "--clear", place=tmp_path)[0] == 0
    assert not stores["dogs"].exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("cat",), "NAME must be in the list of `nasx data cache`, got 'cat'. Did you mean cats?"),
        (("--older-than", "nan"), "--older-than must be at least 0.0, got nan"),
    ],
)
def test_a_wrong_name_or_age_removes_nothing(stores, tmp_path, capsys, words, problem):
    status, out, err = nasx(capsys, "--clear", *words, place=tmp_path)
    assert (status, out) == (2, "")
    assert problem in err
    assert err.count("\n") == 1
    assert all(each.exists() for each in stores.values())


def test_a_place_that_is_no_directory_is_one_line(tmp_path, capsys):
    (tmp_path / "features").write_text("a file")
    status, _, err = nasx(capsys, place=tmp_path)
    assert status == 2
    assert err.count("\n") == 1
    assert "cannot be read" in err


def test_other_directories_are_neither_listed_nor_removed(stores, tmp_path, capsys):
    mine = tmp_path / "features" / "mine"
    mine.mkdir()
    assert nasx(capsys, "--clear", place=tmp_path)[0] == 0
    assert list((tmp_path / "features").iterdir()) == [mine]


def test_names_cannot_control_the_terminal(tmp_path, capsys):
    Cache(tmp_path / "features").source(dataset=HOSTILE).at("third", pictures(3))
    for output in ("table", "json"):
        _, out, err = nasx(capsys, "--format", output, place=tmp_path)
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        assert "[bold red]" in out


def test_resized_pictures_in_the_same_directory_are_counted_and_kept(tmp_path, capsys):
    np.save(tmp_path / "images-0123.npy", np.zeros(1_000_000, np.uint8))
    (tmp_path / "images-4567.npy").symlink_to("nowhere")
    _, _, err = nasx(capsys, place=tmp_path)
    assert f"{tmp_path}: 1 file of resized pictures, 1.0 MB; --clear keeps them." in err
    nasx(capsys, "--clear", place=tmp_path)
    assert (tmp_path / "images-0123.npy").exists()
