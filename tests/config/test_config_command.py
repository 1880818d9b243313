"""`nasx config show` and `nasx config list`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.text import Text
from typer.testing import CliRunner

from nasx.cli.config import app
from nasx.config.auto import DERIVABLE
from nasx.config.compose import compose
from nasx.config.find import packaged_directory
from nasx.config.plain import get
from nasx.config.render import insert_comments, setting_comments
from nasx.errors import ConfigError

EXPERIMENTS = sorted(p.stem for p in packaged_directory().glob("*.yaml") if p.stem != "base")


def shown(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = CliRunner().invoke(app, ["show", *arguments], env=env)
    assert done.exit_code == 0, done.output
    return done.stdout


def comments_of(text: str) -> dict[str, str]:
    """Key at the start of a line -> its trailing comment; keys of the same name: the last one."""
    return dict(re.findall(r"^ *(\w+):.*  # (.*)$", text, re.MULTILINE))


def test_show_prints_what_compose_returns(elsewhere: Path) -> None:
    printed = shown("lines.yaml", "seed=3", "algorithm=random")

    assert yaml.safe_load(printed) == compose("lines", ["seed=3", "algorithm=random"])
    assert "\x1b" not in printed


@pytest.mark.parametrize(
    ("key", "comment"),
    [
        ("seed", "an integer, at least 0"),
        ("runs_dir", "a path"),
        ("objectives", "a list of one or more of error, macro_error, introspectability, parameters, macs, latency"),
        ("constraints", "a mapping whose values have the keys min, max"),
        ("finetune_front", "a number or null, more than 0"),
        ("validation_fraction", "a number, more than 0 and less than 1"),
        ("patience", "an integer or null, at least 1"),
        ("max_failure_share", "a number, more than 0 and at most 1"),
        ("noise", "a number, at least 0 and at most 1"),
        ("horizontal_flip", "true or false"),
        ("cutout", "a number, at least 0 and at most 1"),
        ("epochs", "an integer, at least 1"),
        ("label_smoothing", "a number, at least 0 and less than 1"),
        ("keep", "best or last"),
        ("evaluations", "an integer, at least 1"),
        ("early_stopping", "true or false"),
        ("device", "auto, cpu or cuda"),
    ],
)
def test_type_and_range_are_next_to_each_key(elsewhere: Path, key: str, comment: str) -> None:
    assert comments_of(shown("lines"))[key] == comment


def test_a_bound_of_a_metric_has_its_type(elsewhere: Path) -> None:
    assert comments_of(shown("lines", "constraints.error.max=0.5"))["max"] == "a number or null"


def test_an_empty_group_shows_its_choices(elsewhere: Path) -> None:
    assert dict(setting_comments({"logger": None}))["logger"] == "mlflow, tensorboard, wandb or null"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_setting_of_a_packaged_experiment_has_a_comment(elsewhere: Path, name: str) -> None:
    config = compose(name, allow_missing=True)
    comments = dict(setting_comments(config))

    def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for name, value in node.items():
            if isinstance(value, dict) and value and f"{prefix}{name}" not in comments:
                yield from leaves(value, f"{prefix}{name}.")
            elif name != "_target_":
                yield f"{prefix}{name}"

    assert set(leaves(config)) - {"also_scored"} <= comments.keys()
    of_classes = {key for key in comments if key.endswith("_target_")}  # an error, or a class that is chosen later
    assert of_classes == {key for key in DERIVABLE if get(config, key) == "auto"} & of_classes


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_shown_can_be_given_as_a_config(elsewhere: Path, name: str) -> None:
    (elsewhere / "again.yaml").write_text(shown(name), encoding="utf-8")

    assert compose("again.yaml", allow_missing=True) == compose(name, allow_missing=True)


def test_a_terminal_shows_the_same_yaml_in_color_without_breaking_lines(elsewhere: Path) -> None:
    colored = shown("lines", env={"FORCE_COLOR": "1", "COLUMNS": "30", "TERM": "xterm-256color"})

    assert "\x1b" in colored
    assert Text.from_ansi(colored).plain.rstrip("\n") == shown("lines").rstrip("\n")


def test_plain_is_yaml_without_comments(elsewhere: Path) -> None:
    printed = shown("lines", "--plain")

    assert "#" not in printed
    assert yaml.safe_load(printed) == compose("lines")


def test_json_is_for_programs(elsewhere: Path) -> None:
    assert json.loads(shown("lines", "--format", "json")) == compose("lines")


def test_a_component_that_cannot_be_imported_is_shown_with_the_reason(elsewhere: Path) -> None:
    (elsewhere / "own.yaml").write_text("defaults: [lines, _self_]\nscorer:\n  _target_: no_module_here.Scorer\n")

    assert comments_of(shown("own"))["_target_"].startswith("scorer._target_: there is no module 'no_module_here'.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\n", "a: 1  # note\n"),
        ("a: []\n", "a: []  # note\n"),
        ("a:\n- 1\n", "a:  # note\n- 1\n"),
        ("a:\n  b: 1\n", "a:  # note\n  b: 1\n"),
        ("a: 'x\n\n  y'\n", "# note\na: 'x\n\n  y'\n"),
        ("a: |\n  x\n  y\n", "# note\na: |\n  x\n  y\n"),
        ("a: '# no comment'\n", "a: '# no comment'  # note\n"),
    ],
)
def test_a_comment_never_changes_the_value(text: str, expected: str) -> None:
    commented = insert_comments(text, {"a": "note"})

    assert re.sub(r" {3,}#", "  #", commented) == expected
    assert yaml.safe_load(commented) == yaml.safe_load(text)


def test_show_keeps_values_that_the_user_has_to_set(elsewhere: Path) -> None:
    assert re.search(r"^  table: \?\?\? +# a path$", shown("nats_bench"), re.MULTILINE)


def test_an_error_of_the_user_is_a_config_error(elsewhere: Path) -> None:
    done = CliRunner().invoke(app, ["show", "lines", "seed=x"])

    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("line", ["  digits", "scorer: scorer=NAME", "  nsga2_paper"])
def test_list_names_experiments_and_choices(elsewhere: Path, line: str) -> None:
    done = CliRunner().invoke(app, ["list"])

    assert done.exit_code == 0
    assert any(printed.startswith(line) for printed in done.stdout.splitlines())


@pytest.mark.parametrize("key", ["image_size", "epochs", "evaluations"])
def test_a_derived_setting_is_shown_as_auto_with_what_it_is_derived_from(elsewhere: Path, key: str) -> None:
    printed = shown("folder")

    assert re.search(rf"^  {key}: auto +#", printed, re.MULTILINE)
    assert comments_of(printed)[key].endswith("; auto: derived from the images and the budget")
    assert comments_of(shown("folder", "training.epochs=5"))["epochs"] == "an integer, at least 1"
