import os
from pathlib import Path

import pytest

import nasx
from nasx.config.find import description, find_config, known_choices, known_configs, known_groups, packaged_directory
from nasx.errors import ConfigError


@pytest.mark.parametrize("name", ["digits", "digits.yaml"])
def test_a_name_finds_the_packaged_config(elsewhere: Path, name: str) -> None:
    assert find_config(name) == packaged_directory() / "digits.yaml"


def test_a_path_takes_precedence_over_own_configs_and_these_over_packaged_ones(
    elsewhere: Path,
) -> None:
    (elsewhere / "configs").mkdir()
    (elsewhere / "configs" / "digits.yaml").write_text("seed: 1\n")
    assert find_config("digits") == elsewhere / "configs" / "digits.yaml"

    (elsewhere / "digits.yaml").write_text("seed: 2\n")
    assert find_config("digits") == elsewhere / "digits.yaml"


@pytest.mark.parametrize("given", ["a/b/exp.v2.yaml", "a/b/exp.v2", "./a/b/../b/exp.v2.yaml"])
def test_a_path_is_found_with_or_without_its_ending(elsewhere: Path, given: str) -> None:
    (elsewhere / "a" / "b").mkdir(parents=True)
    file = elsewhere / "a" / "b" / "exp.v2.yaml"
    file.touch()

    assert find_config(given) == file == find_config(file)


def test_home_is_expanded(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(elsewhere))
    (elsewhere / "exp.yaml").touch()

    assert find_config("~/exp.yaml") == elsewhere / "exp.yaml"


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_a_name_that_is_no_file_is_reported(elsewhere: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"is a directory, not a config|there is no config"):
        find_config(name)


def test_a_file_of_another_kind_is_reported(elsewhere: Path) -> None:
    (elsewhere / "exp.yml").touch()

    with pytest.raises(ConfigError, match=r"^exp\.yml is not a config: the name of a config ends in \.yaml\.$"):
        find_config("exp.yml")


def test_the_users_own_are_known_next_to_the_packaged_ones(elsewhere: Path) -> None:
    (elsewhere / "configs" / "scorer").mkdir(parents=True)
    (elsewhere / "configs" / "mine.yaml").touch()
    (elsewhere / "configs" / "scorer" / "pixels.yaml").touch()

    assert {"mine", "digits"} <= set(known_configs())
    assert "base" not in known_configs()
    assert {"pixels", "shap"} <= set(known_choices("scorer"))
    groups = ["algorithm", "dataset", "evaluation", "execution", "logger", "scorer", "space", "training"]
    assert known_groups() == groups


def test_the_packaged_configs_of_a_wheel_are_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nasx" / "configs").mkdir(parents=True)
    monkeypatch.setattr(nasx, "__file__", os.fspath(tmp_path / "nasx" / "__init__.py"))

    assert packaged_directory() == tmp_path / "nasx" / "configs"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# nasx search --config x.yaml\n# What it is.\na: 1\n# Later.\n", "What it is."),
        ("# nasx search --config x.yaml: what it is\na: 1\n", "what it is"),
        ("# What it is.\n# More.\n", "What it is."),
        ("a: 1\n# Later.\n", ""),
        ("", ""),
    ],
)
def test_description_is_the_first_comment_that_is_not_the_command(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "x.yaml").write_text(text)

    assert description(tmp_path / "x.yaml") == expected
