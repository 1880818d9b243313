from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from nasx.cli.config import app
from nasx.config.compose import compose
from nasx.errors import ConfigError


def test_show_prints_what_compose_gives(elsewhere: Path) -> None:
    done = CliRunner().invoke(app, ["show", "lines.yaml", "seed=3", "algorithm=random"])

    assert done.exit_code == 0
    assert yaml.safe_load(done.stdout) == compose("lines", ["seed=3", "algorithm=random"])
    assert "\x1b" not in done.stdout


def test_show_leaves_open_what_the_user_still_has_to_give(elsewhere: Path) -> None:
    (elsewhere / "open.yaml").write_text("defaults: [lines, _self_]\ndataset:\n  root: ???\n")

    assert "root: ???" in CliRunner().invoke(app, ["show", "open"]).stdout


def test_mistakes_reach_the_error_border(elsewhere: Path) -> None:
    done = CliRunner().invoke(app, ["show", "lines", "seed=x"])

    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("line", ["  digits", "scorer: scorer=NAME", "  nsga2_paper"])
def test_list_names_experiments_and_choices(elsewhere: Path, line: str) -> None:
    done = CliRunner().invoke(app, ["list"])

    assert done.exit_code == 0
    assert any(printed.startswith(line) for printed in done.stdout.splitlines())
