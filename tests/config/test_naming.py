"""Names of runs and datasets with the user's own images."""

from pathlib import Path

import pytest

from nasx.config.components import dataset_name, published_name
from nasx.config.compose import compose
from nasx.config.naming import place_title, run_name
from nasx.config.schema import read_config
from nasx.data.folder import ImageFolder
from nasx.data.npz import NumpyArrays
from nasx.runs.directory import new_run_dir


def composed_name(root: object, config: str = "cifar10", *overrides: str) -> str:
    return str(compose(config, ["dataset=folder", f"dataset.root={root}", *overrides])["name"])


def test_runs_on_a_folder_have_its_name(elsewhere: Path) -> None:
    assert composed_name("/data/leaves") == "leaves"
    assert composed_name("/data/leaves/") == "leaves"


def test_a_name_that_the_user_chooses_is_kept(elsewhere: Path) -> None:
    assert composed_name("/data/leaves", "cifar10", "name=first") == "first"


def test_a_config_of_the_user_has_its_own_name(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("defaults: [digits, _self_]\n")

    assert composed_name("/data/leaves", "mine.yaml") == "mine"


def test_the_current_directory_and_links_have_the_names_that_the_user_sees(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = elsewhere / "disk-7f3a"
    target.mkdir()
    (elsewhere / "leaves").symlink_to(target)

    assert composed_name(elsewhere / "leaves") == "leaves"
    monkeypatch.chdir(target)
    assert composed_name(".") == "disk-7f3a"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("my photos", "my_photos"),
        (".hidden", "hidden"),
        ("🍃 leaves 🍂", "leaves"),
        ("a\x1b[2Jb\nc", "a_2Jb_c"),
        ("con", "con_runs"),
        ("latest", "latest_runs"),
        ("${oc.env:HOME}", "oc.env_HOME"),
        ("葉っぱ", "葉っぱ"),
        ("x" * 300, "x" * 60),
        ("🍃", ""),
        ("__", ""),
    ],
)
def test_a_title_becomes_a_name_that_every_system_accepts(tmp_path: Path, title: str, name: str) -> None:
    from datetime import datetime

    assert run_name(title) == name
    if name:
        assert new_run_dir(tmp_path, name, datetime(2024, 1, 1)).is_dir()


def test_a_folder_without_a_usable_name_leaves_the_name_of_the_config(elsewhere: Path) -> None:
    (elsewhere / "🍃").mkdir()

    assert composed_name("🍃") == "cifar10"
    assert composed_name("/") == "cifar10"


def test_a_folder_named_like_an_interpolation_is_only_a_name(elsewhere: Path) -> None:
    (elsewhere / "${seed}").mkdir()

    assert composed_name(elsewhere / "${seed}") == "seed"


def test_a_dataset_of_the_users_own_has_the_name_of_its_place() -> None:
    assert ImageFolder(root="/data/my photos/").name == "my photos"
    assert ImageFolder().name == "folder"
    assert NumpyArrays(file="scans.npz").name == "scans"
    assert place_title("café") == "caf\xe9"


def test_a_folder_called_like_a_published_dataset_is_not_that_dataset(elsewhere: Path) -> None:
    own = compose("digits", ["dataset=folder", "dataset.root=/data/cifar10"])

    assert (dataset_name(own), published_name(own)) == ("cifar10", "")
    assert published_name(compose("cifar10")) == "cifar10"
    assert read_config(own).name == "cifar10"
