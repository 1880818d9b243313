"""Advice on optional packages: it names packages that pip finds, for nasx itself is on no index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from nasx.extras import EXTRAS, install_command

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = sorted(
    file
    for folder in ("nasx", "configs", "scripts")
    for file in (ROOT / folder).rglob("*")
    if file.suffix in (".py", ".yaml", ".ipynb", ".html", ".sh") or (file.is_file() and not file.suffix)
)


def packages_of(extra: str) -> list[str]:
    """Return the names of the packages of an extra, with those of the extras that it contains."""
    found = []
    for requirement in PYPROJECT[extra]:
        other = re.match(r"nasx\[(\w+)\]", requirement)
        found += packages_of(other[1]) if other else [re.match(r"[\w-]+", requirement)[0]]
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_names_every_package_of_the_extra(extra):
    packages = packages_of(extra)

    assert install_command(extra) == f"pip install {' '.join(packages)}"


def test_no_text_advises_to_install_an_extra_of_nasx_from_an_index():
    advice = re.compile(r"pip3? install[^\n]*\bnasx\b(?!\.)")
    wrong = [str(file.relative_to(ROOT)) for file in [*SOURCES, ROOT / "README.md"] if advice.search(file.read_text())]

    assert wrong in ([], ["nasx/extras.py"])  # a comment there says why


def test_the_quickstart_installs_what_export_needs():
    assert re.search(r"^use_environment onnx\b", (ROOT / "scripts/quickstart").read_text(), re.MULTILINE)
